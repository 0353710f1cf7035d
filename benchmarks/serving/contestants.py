"""The servers that are measured, each started by itself: `contestants.py NAME PORT`.

All decode the JPEG with D3's decoder and ask the same device, one at a time, 32 images at most.
LitServe and mosec batch as their documentation says: LitServe with `max_batch_size` and a short
`batch_timeout`, mosec with decoding in a stage of its own before the batching one. Both are told
the time a request has. Neither keeps results; D3 answers when the row is committed, and so does
the prototype's procedure, which asks the device for one image at a time.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from devices import BATCH, DEADLINE, SPEC, decoded, device

from d3.domain.images import Pixels
from d3.domain.models import Manifest, ModelFile, StoredModel
from d3.domain.ports.detector import Detector

WAIT_MS = 2
"""For how long LitServe and mosec gather."""


def seconds_allowed() -> int:
    """What a request has."""
    return int(os.environ.get("BENCHMARK_SECONDS", DEADLINE))


def d3(port: int) -> None:
    """D3, its cache off."""
    import uvicorn

    from d3.entrypoints.http import create_app
    from d3.settings import Settings

    file = ModelFile("0" * 64, 1)
    manifest = Manifest("device", 1, SPEC, file, file, (tuple(range(SPEC.patches)),))

    class Engine:
        def load(self, model: StoredModel) -> Detector:
            return device()

    class OneModel:
        trouble = None

        def active(self) -> str | None:
            return "device"

        def open(self, name: str, version: int | None = None) -> StoredModel:
            return StoredModel(manifest, {})

        def describe(self, name: str, version: int | None = None) -> Manifest:
            return manifest

    folder = Path(os.environ["BENCHMARK_FOLDER"])
    settings = Settings(
        home=folder,
        database_url=f"sqlite:///{folder}/d3-{port}.db",
        cache_entries=0,
        batch_size=BATCH,
        request_seconds=seconds_allowed(),
    )
    application = create_app(settings, engine=Engine(), registry=OneModel())
    uvicorn.run(application, port=port, log_level="warning", access_log=False)


def litserve(port: int) -> None:
    """LitServe: decoding and device in one worker."""
    from lit import serve

    serve(port, WAIT_MS / 1000, seconds_allowed())


def mosec(port: int) -> None:
    """Mosec: two processes decode, one asks the device."""
    import mosec as m

    class Decode(m.Worker):
        def deserialize(self, data: bytes) -> bytes:
            return data

        def forward(self, data: bytes) -> Pixels:
            return decoded(data)

    class Infer(m.Worker):
        def __init__(self) -> None:
            self.detector = device()

        def forward(self, data: list[Pixels]) -> list[dict[str, Any]]:
            logits = self.detector.score(np.stack(data), 1)[:, 0].tolist()
            return [{"success": True, "logit": logit} for logit in logits]

    sys.argv = ["mosec", "--port", str(port), "--timeout", str(1000 * seconds_allowed())]
    sys.argv += ["--address", "127.0.0.1", "--log-level", "error"]
    server = m.Server()
    server.append_worker(Decode, num=2, start_method="fork")
    server.append_worker(
        Infer, num=1, max_batch_size=BATCH, max_wait_time=WAIT_MS, start_method="fork"
    )
    server.run()


def flask(port: int) -> None:
    """The prototype's procedure: one image at a time, a session and a commit for each request."""
    from gunicorn.app.base import BaseApplication

    sys.path.insert(0, str(Path(__file__).parent.parent / "http"))
    from flask import request

    import prototype

    detector, turn = device(), threading.Lock()

    @prototype.app.before_request
    def judge() -> None:
        pixels = decoded(request.files["file"].read())
        with turn:
            detector.score(pixels[None], 1)

    class Server(BaseApplication):
        def load_config(self) -> None:
            settings = {"bind": f"127.0.0.1:{port}", "threads": 32, "loglevel": "warning"}
            for name, value in settings.items():
                self.cfg.set(name, value)

        def load(self) -> Any:
            return prototype.app

    Server().run()


SERVERS: dict[str, Callable[[int], None]] = {
    "d3": d3,
    "litserve": litserve,
    "mosec": mosec,
    "flask": flask,
}

if __name__ == "__main__":
    SERVERS[sys.argv[1]](int(sys.argv[2]))
