"""An engine process's end and a front's end in one process, joined by a real socket."""

from __future__ import annotations

import shutil
import socket
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from d3.adapters.batching import ThreadedQueue
from d3.adapters.in_process import SystemClock
from d3.adapters.limits import CountingLimiter
from d3.adapters.remote import EngineLink, EngineServer, RemoteModelHost
from d3.domain.errors import D3Error
from d3.domain.ports.detector import Detector, Engine
from d3.domain.ports.models import ModelRegistry
from d3.domain.ports.queue import DetectionQueue
from d3.domain.services.detection import SingleFlight
from d3.domain.services.local_host import LocalModelHost
from tests.support.contracts.registries import RegistryFiles
from tests.support.memory import MemoryRegistry

VERSION = "1"


class OneDetector:
    """Implements ``Engine`` with a detector made elsewhere."""

    def __init__(self, detector: Detector) -> None:
        self._detector = detector

    def load(self, _: Any) -> Detector:
        return self._detector


def _queue(detector: Detector) -> DetectionQueue:
    return ThreadedQueue(detector, SystemClock())


class EngineProcess:
    """An engine process's end, with two models named ``tiny`` and ``other``.

    Args:
        engine: loads them.
        path: of its socket, in a folder with a short name.
        queue: makes the queue in front of a detector.
        flights: for all fronts.
        registry: with other models than those two.
        members: of a panel.
    """

    def __init__(
        self,
        engine: Engine,
        path: Path,
        queue: Callable[[Detector], DetectionQueue] = _queue,
        *,
        flights: SingleFlight | None = None,
        registry: ModelRegistry | None = None,
        members: tuple[str, ...] = (),
    ) -> None:
        if registry is None:
            registry = MemoryRegistry()
            files = RegistryFiles(registry, path.parent)
            for name in ("tiny", "other"):
                # One that comes back has the same models, not some of another second.
                files.put(name, head=f"the head of {name}", created_at="2026-01-01T00:00:00Z")
        choice = members[0] if members else "tiny"
        self.host = LocalModelHost(
            *(registry, lambda: engine, queue, choice), members=members, on_demand=False
        )
        limiter = CountingLimiter(b"")
        self.server = EngineServer(self.host, flights or SingleFlight(), limiter, VERSION)
        self.host.changed = self.server.tell_all
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(str(path))
        self.listener.listen(16)

    def start(self) -> EngineProcess:
        """Load the model and answer."""
        self.host.load()
        self.server.serve(self.listener)
        return self

    def close(self) -> None:
        """End as a process would."""
        self.server.close()
        self.host.close()


def front_of(*paths: Path, version: str = VERSION, images: int = 1000) -> RemoteModelHost:
    """A front's model host, joined to engine processes."""
    links = [EngineLink(path, "front-1", version) for path in paths]
    host = RemoteModelHost(links, lambda: "tiny", images, 256 * 2**20, SystemClock())
    with suppress(D3Error):
        host.start()
    return host


def remote_queue(detector: Detector) -> DetectionQueue:
    """A queue whose detector is behind a socket."""
    folder = tempfile.mkdtemp(prefix="d3-")
    engine = EngineProcess(OneDetector(detector), Path(folder) / "engine.sock").start()
    host = front_of(Path(folder) / "engine.sock")
    model = host.loaded()
    assert model is not None
    queue = model.queue
    close = queue.close
    done = threading.Event()

    def close_all() -> None:
        """Let the engine process go with its only front."""
        if not done.is_set():
            done.set()
            close()
            host.close()
            engine.close()
            shutil.rmtree(folder)

    queue.close = close_all  # type: ignore[method-assign]
    return queue
