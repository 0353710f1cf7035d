"""A service of several fronts and an engine, all in this process, joined by the real socket.

``D3_TEST_WORKERS=2`` runs the tests of the service so, and their requests go to the fronts in
turns; ``d3 serve`` has two workers then: ``nox -s full``. What needs real processes all the time is
in tests/service/test_workers.py.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from d3.container import Container
from d3.domain.ports.detector import Engine
from d3.domain.services.model_host import ModelHost
from d3.entrypoints.http import create_app
from d3.entrypoints.http.app import Application
from d3.entrypoints.http.services import make_database_ready
from d3.entrypoints.serving.engine import EngineService
from d3.entrypoints.serving.front import application
from d3.entrypoints.serving.listening import listen_at
from d3.entrypoints.serving.shares import for_engine, for_front
from d3.settings import Settings
from tests.serving import WORKERS


@dataclass(frozen=True)
class Machine:
    """What serves.

    Attributes:
        fronts: one application, or several.
        host: holds the model.
        engine: the engine service, if it is not in the application.
    """

    fronts: list[Application]
    host: ModelHost
    engine: EngineService | None = None


@contextmanager
def machine(settings: Settings, engine: Engine) -> Iterator[Machine]:
    """One application, or several fronts and an engine service."""
    if WORKERS == 1:
        alone = create_app(settings, engine=engine)
        yield Machine([alone], alone.d3.host)
        return
    with tempfile.TemporaryDirectory(prefix="d3-") as folder:
        socket = Path(folder) / "engine-0.sock"
        container = Container(settings=for_engine(settings))
        container.engine.override(engine)
        make_database_ready(container)
        service = EngineService(container, 0)
        service.start(listen_at(socket, ""))
        try:
            fronts = [application(for_front(settings, WORKERS), [socket]) for _ in range(WORKERS)]
            yield Machine(fronts, container.local_host(), service)
        finally:
            service.stop()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With several workers, leave out what concerns one process."""
    if WORKERS > 1:
        kept = [one for one in items if one.get_closest_marker("one_process") is None]
        config.hook.pytest_deselected(items=[*{*items} - {*kept}])
        items[:] = kept
