"""``d3 serve --workers N``: what a supervisor needs before it starts, and the work of a front."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import resource
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from d3.container import Container
from d3.domain.errors import D3Error, SettingsInvalid
from d3.domain.files import storage_errors
from d3.entrypoints.serving import server
from d3.entrypoints.serving.children import ENGINE, Child, become_engine, forked
from d3.entrypoints.serving.control import Channel, Control
from d3.entrypoints.serving.listening import Listeners, listen_at
from d3.entrypoints.serving.shares import for_engine, for_front
from d3.entrypoints.serving.supervisor import ENGINE_SECONDS, FRONT_SECONDS, Post, Supervisor
from d3.settings import Settings

LATE_SECONDS = 0.5
"""How long a front that is replaced answers requests that were on their way to it."""
FRONT_BYTES = 64 * 2**20
"""Memory of a front that is its own alone, while it does nothing."""
_DESCRIPTORS = 64
_DESCRIPTORS_OF_ONE = 4
_COUNT = "import torch; print(torch.cuda.device_count())"
_LOG = logging.getLogger("d3.serving")


class HomeInUse(D3Error):
    """Another service with workers uses the same home."""

    code = "home_in_use"


class WorkersTooMany(D3Error):
    """The system has no room for so many processes."""

    code = "too_many_workers"


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
        engine: the interpreter's arguments for an engine.
    """

    settings: Settings
    read: Callable[[], Settings]
    listeners: Listeners
    tls: Callable[[Settings], tuple[Path, Path] | None]
    prepare: Callable[[Container], None]
    ready: Callable[[], None]
    application: Callable[[Settings, list[Path]], Any]
    engine: Sequence[str] = ENGINE
