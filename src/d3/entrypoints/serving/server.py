"""uvicorn as D3 runs it: its limits, its logs, how it stops."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn

from d3.entrypoints.http.connections import descriptors_for
from d3.entrypoints.http.protocol import limited_http
from d3.entrypoints.serving.listening import unavailable
from d3.settings import Settings

if TYPE_CHECKING:
    from d3.entrypoints.http.app import Application

GRACE_SECONDS = 30
"""For requests in flight when the service stops."""
LATE_SECONDS = 0.5
"""How long a service that stops answers requests that were on their way to it."""
FORCED = 128 + signal.SIGINT
"""The exit status of a service that was told to stop twice."""


class _Server(uvicorn.Server):
    """Says when it answers, and loses no connection when it stops."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # The system would reset connections that nobody has accepted yet. The first turn of the
        # loop finds them, and the second accepts them.
        for _ in range(2):
            await asyncio.sleep(0)
        await super().shutdown(sockets)


def run(
    application: Application,
    settings: Settings,
    listener: socket.socket,
    tls: tuple[Path, Path] | None,
    *,
    ready: Callable[[], None] = lambda: None,
) -> int:
    """Serve until SIGTERM or SIGINT, then stop when all requests in flight are answered.

    A second signal ends this process at once.

    Args:
        application: its services are started.
        settings: hold the limits.
        listener: where clients connect, which may not listen yet; closed in the end.
        tls: certificate and key.
        ready: called on the event loop when the service answers.

    Returns:
        The exit status.

    Raises:
        AddressUnavailable: another program has listened there meanwhile.
    """
    config = uvicorn.Config(
        application,
        http=limited_http(settings, descriptors_for(settings.max_connections), LATE_SECONDS),
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # uvicorn would trust every local proxy; the access middleware checks
        timeout_graceful_shutdown=GRACE_SECONDS,
        lifespan="on",
        ssl_certfile=tls and tls[0],
        ssl_keyfile=tls and tls[1],
    )
    # When uvicorn has stopped it raises the signal that stopped it once more: all is done by then.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    server = _Server(config, ready)
    try:
        listener.listen(config.backlog)  # uvloop would not say that it failed
    except OSError as error:
        application.d3.stop()
        raise unavailable("{}:{}".format(*listener.getsockname()[:2]), error) from error
    server.run(sockets=[listener])
    if server.force_exit or not application.d3.stop():
        # Beside a forward pass an ordinary end would be an abort.
        logging.shutdown()
        os._exit(FORCED if server.force_exit else 0)
    return 0
