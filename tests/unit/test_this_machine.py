"""Which hosts mean the machine we run on: they are never asked through a proxy."""

from __future__ import annotations

import socket

import pytest

from d3.adapters.web.clients import is_this_machine


@pytest.mark.parametrize(
    "host",
    [
        *(
            "localhost",
            "LOCALHOST",
            "localhost.",
            "d3.localhost",
            "127.0.0.1",
            "127.0.0.2",
            "127.1",
        ),
        *("2130706433", "0x7f000001", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1"),
        socket.gethostname(),
    ],
)
def test_it_is_this_machine(host: str) -> None:
    assert is_this_machine(host)


@pytest.mark.parametrize(
    "host",
    ["", "d3.example.org", "10.0.0.7", "192.168.1.1", "::2", "localhost.example.org", "126.1"],
)
def test_it_is_another(host: str) -> None:
    assert not is_this_machine(host)
