"""A server that the tests cannot have is an error that says what to do, never a skip."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sites import Answering, web_server
from tests.support import servers, stores
from tests.support.servers import ServerMissing, docker_image
from tests.support.stores import s3_server


@pytest.mark.parametrize(
    ("choice", "has", "image"),
    [
        ("", False, None),
        ("auto", True, "postgres"),
        ("local", True, None),
        ("docker", True, "postgres"),
    ],
)
def test_one_variable_chooses(
    choice: str, *, has: bool, image: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("D3_TEST_SERVERS", choice)
    monkeypatch.delenv("D3_TEST_POSTGRES_IMAGE", raising=False)
    monkeypatch.setattr(servers, "docker_has", lambda _: has)
    assert docker_image("D3_TEST_POSTGRES_IMAGE", "postgres") == image


@pytest.mark.parametrize("choice", ["docker", "podman"])
def test_what_was_asked_for_and_is_not_there_fails(
    choice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("D3_TEST_SERVERS", choice)
    monkeypatch.setattr(servers, "docker_has", lambda _: False)
    with pytest.raises(ServerMissing, match=choice), s3_server("first"):
        pass


class Daemon(Answering):
    """Docker's API as far as it is asked: an image that is there, and no registry for others."""

    def answer(self) -> None:
        status = 500 if self.command == "POST" else 404 if "other" in self.path else 200
        reported = {"ApiVersion": "1.41", "Id": "sha256:0", "message": "no route to the registry"}
        body = json.dumps(reported).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = Answering.do_GET  # noqa: N815


@pytest.fixture
def docker_unknown() -> Iterator[None]:
    """Nothing was asked of a daemon yet, and what this test hears is forgotten."""
    servers.docker_answers.cache_clear()
    servers.docker_has.cache_clear()
    yield
    servers.docker_answers.cache_clear()
    servers.docker_has.cache_clear()


@pytest.mark.usefixtures("docker_unknown")
def test_a_daemon_that_cannot_get_an_image_is_as_good_as_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with web_server(Daemon) as port:
        monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{port}")
        found = servers.docker_has("postgres:1"), servers.docker_has("other:1")
    assert found == (True, False)


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
