"""``d3 serve --workers N``: what a supervisor needs before it starts, and the work of a front."""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from litestar import Litestar

from d3.container import Container, import_for_fronts
from d3.domain.errors import D3Error
from d3.domain.files import storage_errors
from d3.entrypoints.http.machine_metrics import share_metrics
from d3.entrypoints.http.services import make_database_ready
from d3.entrypoints.logs import configure_logs
from d3.entrypoints.serving import server
from d3.entrypoints.serving.capacity import check_room, devices
from d3.entrypoints.serving.children import Child, become_engine, forked
from d3.entrypoints.serving.control import Channel, Control
from d3.entrypoints.serving.listening import Listeners, check_length, listen_at
from d3.entrypoints.serving.shares import for_engine, for_front
from d3.entrypoints.serving.supervisor import ENGINE_SECONDS, FRONT_SECONDS, Post, Supervisor
from d3.settings import Settings

_COULD_NOT = 2


class HomeInUse(D3Error):
    """Another service with workers uses the same home."""

    code = "home_in_use"


@dataclass
class Service:
    """A service of several processes.

    Attributes:
        settings: read again on SIGHUP; then fronts that start have the new ones.
        read: reads them.
        listeners: a socket for each front.
        tls: certificate and key; gives new ones if the files changed.
        prepare: called once, when the database is ready, before anything else uses it.
        ready: called when the service answers.
        application: makes what a front serves, of its settings and the engines' sockets.
    """

    settings: Settings
    read: Callable[[], Settings]
    listeners: Listeners
    tls: Callable[[Settings], tuple[Path, Path] | None]
    prepare: Callable[[Container], None]
    ready: Callable[[], None]
    application: Callable[[Settings, list[Path]], Any]


def serve(service: Service, workers: int) -> int:
    """Serve with so many fronts and an engine for each device until told to stop.

    Returns:
        The exit status.

    Raises:
        HomeInUse: there is such a service in this home.
        WorkersTooMany: the system has no room for so many processes.
        AddressUnavailable: an engine cannot listen.
        StorageFailed: the database or the home cannot be used.
        ServiceFailed: a front could not start.
    """
    settings = service.settings
    engines = devices(settings)
    check_room(workers, len(engines))
    run, remedy = settings.home / "run", "Set D3_HOME to another folder, with a short path."
    places = [run / f"engine-{number}.sock" for number in range(len(engines))]
    for place in places:
        check_length(place, remedy)
    lock = _locked(run)
    opened: list[socket.socket] = []
    try:
        opened += [listen_at(place, remedy) for place in places]
        _make_ready(settings, service.prepare)
        return _Processes(service, workers, engines, places, opened).run()
    finally:
        for listener in opened:
            listener.close()
        for place in places:
            place.unlink(missing_ok=True)
        lock.release()


class _Processes:
    """Starts the processes of a service."""

    def __init__(
        self,
        service: Service,
        workers: int,
        devices: list[int | None],
        places: list[Path],
        engine_listeners: list[socket.socket],
    ) -> None:
        self._service = service
        self._before = service.settings
        self._workers = workers
        self._devices = devices
        self._places = places
        self._engine_listeners = engine_listeners
        self._supervisor = Supervisor(
            [
                Post(f"engine-{number}", partial(self._start_engine, number), ENGINE_SECONDS)
                for number in range(len(devices))
            ],
            [
                Post(f"front-{number + 1}", partial(self._start_front, number), FRONT_SECONDS)
                for number in range(workers)
            ],
            ready=service.ready,
            reload=self._reload,
            undo=self._undo_reload,
            stopping=service.listeners.close,
        )

    def run(self) -> int:
        # What fronts share with this process must not be moved or counted anew by each of them.
        _import_for_fronts()
        gc.collect()
        gc.freeze()
        return self._supervisor.run()

    def _reload(self) -> None:
        settings = self._service.read()
        self._service.tls(settings)
        self._before, self._service.settings = self._service.settings, settings

    def _undo_reload(self) -> None:
        self._service.settings = self._before

    def _start_engine(self, number: int) -> Child:
        listener, device = self._engine_listeners[number], self._devices[number]
        settings = for_engine(self._service.settings)
        if device is not None:
            settings = replace(settings, cuda_device=device)

        def become(channel: Channel) -> int:
            become_engine(settings, number, listener, channel)

        return forked(become, lambda: self._release(listener))

    def _start_front(self, number: int) -> Child:
        listener = self._service.listeners.sockets[number]
        return forked(partial(self._be_front, number, listener), lambda: self._release(listener))

    def _release(self, kept: socket.socket) -> None:
        """Close what a process must not have: it would keep it open when the owner is gone."""
        self._supervisor.release()
        for one in (*self._engine_listeners, *self._service.listeners.sockets):
            if one is not kept:
                one.close()

    def _be_front(self, number: int, listener: socket.socket, channel: Channel) -> int:
        service, control = self._service, Control(channel)
        settings = for_front(service.settings, self._workers)
        configure_logs(settings.log_format, settings.log_level, process=f"front-{number + 1}")
        try:
            share_metrics(settings.home / "run" / "metrics")
            tls = service.tls(settings)
            application = service.application(settings, self._places)
            application.d3.start()
        except D3Error as error:
            control.failed(str(error))
            return _COULD_NOT

        def ready() -> None:
            control.answer_on(asyncio.get_running_loop())
            gc.collect()
            gc.freeze()
            control.ready()

        return server.run(application, settings, listener, tls, ready=ready)


def _locked(run: Path) -> FileLock:
    """Make the folder of a running service anew; it is ours until the lock is released.

    Raises:
        HomeInUse: it is another one's.
        StorageFailed: it cannot be made.
    """
    lock, number = FileLock(run / "lock"), run / "pid"
    with storage_errors("The folder of the running service cannot be created", "Check D3_HOME."):
        run.mkdir(mode=0o700, parents=True, exist_ok=True)
        run.chmod(0o700)
        try:
            lock.acquire(blocking=False)
        except Timeout as error:
            who = ""
            with suppress(OSError):
                who = f" (process {number.read_text(encoding='ascii').strip()})"
            raise HomeInUse(
                f"Another `d3 serve --workers`{who} uses {run.parent}.",
                "Stop it, or set another D3_HOME.",
            ) from error
        for old in run.iterdir():
            if old.name == "lock":
                continue
            if old.is_dir():
                shutil.rmtree(old)
            else:
                old.unlink()
        number.write_text(f"{os.getpid()}\n", encoding="ascii")
    return lock


def _make_ready(settings: Settings, prepare: Callable[[Container], None]) -> None:
    """Upgrade the database once, not in each process, and close it: a fork must not share it."""
    container = Container(settings=settings)
    try:
        make_database_ready(container)
        prepare(container)
    finally:
        container.database().close()


def _import_for_fronts() -> None:
    """Import what a front would have to import, which takes longer than everything else it does."""
    import_for_fronts()
    for name in ("anyio._backends._asyncio", "uvicorn.lifespan.on", "uvloop"):
        import_module(name)
    Litestar(logging_config=None, openapi_config=None)  # has its plugins imported
