"""A server that the tests cannot have is an error that says what to do, never a skip."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from d3.testing import servers, stores
from d3.testing.servers import ServerMissing, docker_wanted
from d3.testing.stores import s3_server


@pytest.mark.parametrize(
    ("choice", "answers", "wanted"),
    [
        ("", False, False),
        ("auto", True, True),
        ("local", True, False),
        ("docker", True, True),
    ],
)
def test_one_variable_chooses(
    choice: str, *, answers: bool, wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("D3_TEST_SERVERS", choice)
    monkeypatch.setattr(servers, "docker_answers", lambda: answers)
    assert docker_wanted() is wanted


@pytest.mark.parametrize("choice", ["docker", "podman"])
def test_what_was_asked_for_and_is_not_there_fails(
    choice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("D3_TEST_SERVERS", choice)
    monkeypatch.setattr(servers, "docker_answers", lambda: False)
    with pytest.raises(ServerMissing, match=choice), s3_server("first"):
        pass


def test_without_npms_registry_the_second_server_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(stores, "user_cache_path", lambda name: tmp_path / name)
    failed = subprocess.CompletedProcess([], 1, "", "no way to the registry")
    monkeypatch.setattr(stores.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(ServerMissing, match="no way to the registry"), s3_server("second"):
        pass


def test_a_program_that_does_not_start_shows_its_log() -> None:
    with (
        pytest.raises(ServerMissing, match=r"No such file|cannot open|can't open"),
        stores._running(["sh", "/no/such/script"], stores.free_port()),
    ):
        pass
