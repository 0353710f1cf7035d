"""The service as its users meet it: behind a real socket, in this process or in one of its own."""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import uvicorn

from d3.entrypoints.http.problem_types import problem_types
from d3.entrypoints.http.protocol import limited_http
from d3.settings import Settings

WORKERS = int(os.environ.get("D3_TEST_WORKERS") or 1)
"""How many fronts a service has; see tests/machines.py."""
PROBLEM = "application/problem+json"
AS_D3_SERVES = {"proxy_headers": False, "access_log": False, "ws": "none"}
PROBLEM_FIELDS = {"success", "error", "code", "type", "title", "status", "detail", "request_id"}


@contextmanager
def serving(application: Any, **config: Any) -> Iterator[str]:
    """The base URL of an ASGI application served by uvicorn in a thread."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    ours = getattr(application, "d3", None)
    settings = {
        "http": limited_http(Settings() if ours is None else ours.settings),
        "log_config": None,
        "lifespan": "on",
        **AS_D3_SERVES,
        "timeout_graceful_shutdown": 10,
    } | config
    server = uvicorn.Server(uvicorn.Config(application, **settings))
    failure: list[BaseException] = []

    def run() -> None:
        try:
            asyncio.run(server.serve(sockets=[listener]))
        except BaseException as error:  # noqa: BLE001  raised again below
            failure.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        wait_until(lambda: server.started or bool(failure))
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)
        listener.close()
    if failure:
        raise failure[0]


def client(*urls: str) -> httpx.Client:
    """A client of what answers in this process: patient, and without certificates to read."""
    return httpx.Client(base_url=urls[0], timeout=30, transport=InTurns(urls))


class InTurns(httpx.HTTPTransport):
    """Sends requests to one address after the other."""

    def __init__(self, urls: Sequence[str]) -> None:
        super().__init__(verify=False)
        self._ports = itertools.cycle([urlsplit(url).port for url in urls])

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send it to the next one."""
        request.url = request.url.copy_with(port=next(self._ports))
        return super().handle_request(request)


class Served:
    """A ``d3 serve`` in a process of its own."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self.log = log

    @property
    def text(self) -> str:
        """What it said so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def url(self) -> str:
        """Where it listens; waits until it does."""
        wait_until(lambda: "D3 listens on" in self.text or self.process.poll() is not None, 120)
        found = re.search(r"D3 listens on (\S+)", self.text)
        assert found, f"d3 serve ended with {self.process.poll()}:\n{self.text}"
        return found[1]

    def pid(self, name: str) -> int:
        """The latest process of this name, such as ``front-1``."""
        return int(re.findall(rf"{name} is process (\d+)", self.text)[-1])

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit status."""
        self.process.send_signal(number)
        return self.process.wait(60)


def clean_environment(**changes: str) -> dict[str, str]:
    """This process's environment without any setting of D3, and with these."""
    ours = re.compile(r"D3_|POSTGRES_|MINIO_|CUDA_DEVICE|USE_FP16|SECRET_KEY")
    inherited = {name: value for name, value in os.environ.items() if not ours.match(name)}
    return inherited | changes


@contextmanager
def d3_serve(folder: Path, *arguments: str, **environ: str) -> Iterator[Served]:
    """Run ``d3 serve`` in a folder, with so many workers; it is killed in the end if it still runs.

    Arguments that begin with ``-c`` are the interpreter's own, for a service with a difference.
    """
    log = folder / "serve.log"
    asked = arguments or ("--port", "0")
    command = asked if asked[0] == "-c" else ("-m", "d3", "serve", *asked)
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=folder,
            env=clean_environment(**{"D3_WORKERS": str(WORKERS), **environ}),
            stdout=stream,
            stderr=stream,
        )
        served = Served(process, log)
        try:
            yield served
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()


def is_there(pid: int) -> bool:
    """Whether the process has not ended, though nobody may have waited for it."""
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except FileNotFoundError:
        return False


def wait_until(true: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait until something is so."""
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "it never came to be"
        time.sleep(0.02)


KNOWN_PROBLEMS = {one.code for one in problem_types()}


def assert_problem(response: Any, status: int, code: str | None = None) -> dict[str, Any]:
    """The response is an error in the one body of DESIGN.md, section 6; returns the body."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == PROBLEM
    body: dict[str, Any] = response.json()
    assert set(body) == PROBLEM_FIELDS
    assert body["success"] is False
    assert body["status"] == status
    assert body["detail"] == body["error"]
    assert body["title"] == httpx.codes.get_reason_phrase(status)
    assert body["request_id"] == response.headers["x-request-id"] != ""
    assert body["code"].replace("_", "").isalpha()
    assert body["type"].endswith(f"/problems#{body['code']}")
    assert body["code"] in KNOWN_PROBLEMS
    assert body["error"].endswith((".", "?", "'"))
    assert "Traceback" not in body["error"]
    assert tempfile.gettempdir() not in body["error"]
    if code is not None:
        assert body["code"] == code
    return body
