"""``d3 serve --workers`` with processes that start at once: fronts without D3, empty engines.

The supervisor, its command and the sockets are the real ones.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from d3.domain.errors import StorageFailed
from d3.entrypoints.serving.control import EngineStart
from d3.settings import Settings

SERVE = """
import os, sys
import tests.support.toys as toys
from d3.entrypoints.cli import main
from d3.entrypoints.serving import children, supervisor, workers
sys.modules["d3.entrypoints.serving.front"] = toys
children.ENGINE = ("-m", "tests.support.toys")
supervisor.PING_SECONDS = 0.2
workers.ENGINE_SECONDS = 1000
if "TOY_GPUS" in os.environ:
    workers.devices = lambda _: list(range(int(os.environ["TOY_GPUS"])))
main(["serve", "--port", "0", *sys.argv[1:]])
"""
"""The program of such a service, for ``python -c``."""


class Services:
    """What a front starts and stops."""

    def __init__(self, settings: Settings) -> None:
        self._fails = settings.model == "that-fails"

    def start(self) -> None:
        if self._fails:
            raise StorageFailed("The front has no room.", "Make some.")

    def stop(self) -> bool:
        return True


class Application:
    """Tells which process answers, and does what is asked of it."""

    def __init__(self, settings: Settings, engines: list[Path]) -> None:
        self.d3 = Services(settings)
        self._engines = engines
        self._born = {"threads": threading.active_count(), "torch": "torch" in sys.modules}
        self._model = settings.model

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        asked = {name: one[0] for name, one in parse_qs(scope["query_string"].decode()).items()}
        await asyncio.sleep(float(asked.get("wait", 0)))
        time.sleep(float(asked.get("block", 0)))  # noqa: ASYNC251  it is what a stuck loop does
        answer: dict[str, Any] = {"pid": os.getpid(), "model": self._model, **self._born}
        if "engine" in asked:
            answer["engine"] = await self._ask_engine(int(asked["engine"]))
        body = json.dumps(answer).encode()
        start = {"type": "http.response.start", "status": 200}
        await send(start | {"headers": [(b"content-length", str(len(body)).encode())]})
        await send({"type": "http.response.body", "body": body})

    async def _live(self, receive: Any, send: Any) -> None:
        for stage in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{stage}.complete"})

    async def _ask_engine(self, number: int) -> Any:
        reader, writer = await asyncio.open_unix_connection(self._engines[number])
        try:
            return json.loads(await reader.readline())
        finally:
            writer.close()


def application(settings: Settings, engines: list[Path]) -> Application:
    return Application(settings, engines)


def main() -> None:
    """An engine: tells everybody who it is. ``TOY_ENGINE`` says what it cannot do."""
    start, wish = EngineStart.receive(), os.environ.get("TOY_ENGINE", "")
    if wish == "dies":
        sys.exit(3)
    if wish == "loads for ever":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        threading.Event().wait()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    start.control.answer_in_thread()
    if wish == "has no model":
        start.control.failed("No model can be loaded.")
    else:
        start.control.ready()
    about = {"pid": os.getpid(), "number": start.number, "device": start.settings.cuda_device}
    while True:
        connection, _ = start.listener.accept()
        with connection:
            connection.sendall(json.dumps(about).encode() + b"\n")


if __name__ == "__main__":
    main()
