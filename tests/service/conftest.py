"""The service on a home with the reference pack's model, and an engine without weights."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from d3.domain.services.model_host import ModelHost
from d3.entrypoints.http.app import Application
from tests.homes import Home
from tests.machines import Machine, machine
from tests.serving import client, serving
from tests.support.engines import FakeEngine


@dataclass(frozen=True)
class Service:
    """The service in this process, behind a socket.

    Attributes:
        url: its address.
        http: a client for it.
        machine: what answers.
        engine: makes its detectors.
    """

    url: str
    http: httpx.Client
    machine: Machine
    engine: FakeEngine

    @property
    def application(self) -> Application:
        """What answers; the first front, if there are several."""
        return self.machine.fronts[0]

    @property
    def host(self) -> ModelHost:
        """What holds the model."""
        return self.machine.host

    def metrics(self) -> str:
        """A scrape. Several fronts in this process do not share files, so it is added up here."""
        if self.machine.engine is None:
            scraped: str = self.http.get("/metrics").text
            return scraped
        parts = [*(one.d3 for one in self.machine.fronts), self.machine.engine]
        texts = [one.metrics.render()[0].decode() for one in parts]
        texts.append("d3_http_requests_in_flight 1")  # as a scrape counts itself
        series: Counter[str] = Counter()
        for line in "\n".join(texts).splitlines():
            if line and not line.startswith("#"):
                name, _, number = line.rpartition(" ")
                series[name] += float(number)  # type: ignore[assignment]
        return "\n".join(f"{name} {number}" for name, number in series.items())

    def rows(self) -> int:
        """How many results the history holds."""
        total: int = self.http.get("/api/inference/history").json()["total"]
        return total

    def predict(self, image: bytes, **fields: Any) -> httpx.Response:
        """Judge one image."""
        return self.http.post(
            "/api/inference/predict", files={"file": ("a.png", image)}, data=fields
        )


@contextmanager
def running(home: Home, engine: FakeEngine | None = None, **settings: Any) -> Iterator[Service]:
    """A service on a home; takes settings by their field's name.

    It does not warm up unless told, so that the engine's passes are the test's own, and decodes in
    this process; those of :func:`tests.serving.d3_serve` are as they come.
    """
    engine = engine or FakeEngine()
    settings = {"warm_up": False, "isolate_decoding": False} | settings
    with ExitStack() as stack:
        all_of_it = stack.enter_context(machine(home.settings(**settings), engine))
        urls = [stack.enter_context(serving(front)) for front in all_of_it.fronts]
        http = stack.enter_context(client(*urls))
        try:
            yield Service(urls[0], http, all_of_it, engine)
        finally:  # what a test held and then failed would keep the service from its end
            engine.may_load.set()
            engine.may_score.set()


@pytest.fixture
def start(home: Home) -> Iterator[Callable[..., Service]]:
    """Starts services that stop with the test; see :func:`running`."""
    with ExitStack() as stack:
        yield lambda *engine, **settings: stack.enter_context(running(home, *engine, **settings))


@pytest.fixture
def service(start: Callable[..., Service]) -> Service:
    """The service with its defaults."""
    return start()


@pytest.fixture
def image(pack: Path) -> bytes:
    """An image that can be judged."""
    return (pack / "images/rgb_224.png").read_bytes()


def painted(shade: int, form: str = "PNG") -> bytes:
    """An image of one shade of grey; each shade is another image."""
    stream = io.BytesIO()
    Image.fromarray(np.full((16, 16, 3), shade, np.uint8)).save(stream, form)
    return stream.getvalue()
