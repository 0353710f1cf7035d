"""An engine process: it owns a device, its model and its queue, and answers the fronts.

The main one, number 0, also counts the rate limits and does what is done once for the machine. The
supervisor starts it::

    python -P -m d3.entrypoints.serving.engine
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from d3.container import Container
from d3.domain.errors import D3Error
from d3.domain.files import replacing
from d3.domain.services.local_host import LocalModelHost
from d3.entrypoints.http.background import BackgroundJob, JobThreads, LocalBackground
from d3.entrypoints.http.machine_metrics import share_metrics
from d3.entrypoints.http.metrics import Metrics, QueueMetrics
from d3.entrypoints.http.services import LoadedLog
from d3.entrypoints.logs import configure_logs
from d3.entrypoints.serving.control import EngineStart
from d3.entrypoints.serving.server import GRACE_SECONDS

_LOG = logging.getLogger("d3.serving")
_PASS_SECONDS = 120.0
_LOOK_SECONDS = 0.5


class InUse(msgspec.Struct, frozen=True):
    """Which model an engine process had, for the one that follows it.

    Attributes:
        name: None for none.
        version: of the model.
    """

    name: str | None = None
    version: int | None = None


class EngineService:
    """What an engine process does for the fronts. It does nothing before :meth:`start`.

    Args:
        container: makes the parts.
        number: of the engine process.

    Attributes:
        metrics: of its queue and its jobs.
    """

    def __init__(self, container: Container, number: int) -> None:
        container.serving.override(True)
        self._container = container
        self.metrics = metrics = Metrics()
        queue_metrics = QueueMetrics(metrics.registry)
        container.queue_events.override(queue_metrics)
        self._host = container.local_host()
        self._server = container.engine_server()
        queue_metrics.watch(self._host.queues)
        if number == 0:
            background = LocalBackground(container)
            background.register_gauges(metrics)
            methods: dict[str, Callable[..., Any]] = {
                "wake_scans": background.wake_scans,
                "wake_jobs": background.wake_jobs,
                "troubles": background.troubles,
            }
            self._server.methods |= methods
            self._server.quick |= set(methods)
            self._jobs: LocalBackground | JobThreads = background
        else:
            self._jobs = JobThreads([BackgroundJob(container.follower().run)])

    def start(self, listener: socket.socket) -> None:
        """Load the model and answer fronts that connect to this socket."""
        record = Path(listener.getsockname()).with_suffix(".json")
        changed, log = self._host.changed, LoadedLog(self._host)
        self._host.changed = log.tell
        load(self._host, record)

        def remember_and_tell() -> None:
            remember(self._host, record)
            log.tell()
            changed()

        self._host.changed = remember_and_tell
        self._server.serve(listener)
        self._jobs.start()

    def wait_for_fronts(self) -> None:
        """Wait until the fronts have answered what is in flight."""
        self._server.wait_for_fronts(GRACE_SECONDS)

    def stop(self) -> bool:
        """Let the fronts go and end the pass that runs; says whether it ended in time."""
        self._jobs.stop()
        self._server.close()
        self._host.changed = lambda: None  # the next engine process is to load the model
        ended = self._host.close(_PASS_SECONDS)
        self._container.history().close()
        if (cache := self._container.cache()) is not None:
            cache.close()
        self._container.tracer().close()
        return bool(ended)


def main() -> int:
    """Run until SIGTERM, or until the supervisor is gone."""
    given = EngineStart.receive()
    settings, name = given.settings, f"engine-{given.number}"
    configure_logs(settings.log_format, settings.log_level, process=name)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    try:
        share_metrics(settings.home / "run" / "metrics")
        service = EngineService(Container(settings=settings), given.number)
    except D3Error as error:
        given.control.failed(str(error))
        return 1
    # A long load or forward pass is no reason to be killed: only a process that cannot run threads
    # is stuck.
    given.control.answer_in_thread()
    service.start(given.listener)
    given.control.ready()
    while not stopping.wait(_LOOK_SECONDS):
        pass  # a signal that another thread took does not wake this one, which acts on it
    # The fronts may have been told to end at the same moment, by systemd or a dead supervisor.
    service.wait_for_fronts()
    ended = service.stop()
    logging.shutdown()
    # Beside a forward pass an ordinary end would be an abort.
    return 0 if ended else os._exit(0)


def load(host: LocalModelHost, record: Path) -> None:
    """Load what the process before this one had, else the chosen model.

    A model that cannot be loaded is logged; the fronts say so, and the follower tries again.
    """
    try:
        before = msgspec.json.decode(record.read_bytes(), type=InUse)
    except (OSError, ValueError):
        before = None
    if before is not None and before.name is None:
        return
    try:
        host.load(*((before.name, before.version) if before is not None else ()))
    except D3Error as error:
        _LOG.error("no model is loaded: %s", error)


def remember(host: LocalModelHost, record: Path) -> None:
    """Write down which model is in use."""
    model = host.loaded()
    if model is None:
        if host.trouble is not None:
            return  # it was not unloaded, but could not be loaded
        in_use = InUse()
    else:
        in_use = InUse(model.manifest.name, model.manifest.version)
    try:
        with replacing(record) as file:
            file.write_bytes(msgspec.json.encode(in_use))
    except OSError as error:
        _LOG.warning("%s cannot be written (%s)", record.name, error.strerror)


if __name__ == "__main__":
    sys.exit(main())
