"""What a front serves: the application, with the model in engine processes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from d3.entrypoints.http.app import Application, application_of
from d3.entrypoints.http.services import new
from d3.settings import Settings


def application(settings: Settings, sockets: Sequence[Path]) -> Application:
    """The application of one front.

    Args:
        settings: this front's share of the machine's.
        sockets: of the engine processes, the main one first.
    """
    return application_of(new(settings, sockets))
