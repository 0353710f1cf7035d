"""Panels without weights: an engine whose models say what they are told to."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from threading import Event, Lock, Semaphore
from typing import Any

import numpy as np

from d3.adapters.batching import Bounds, ThreadedQueue
from d3.domain.images import Pixels
from d3.domain.models import Manifest, StoredModel, file_of
from d3.domain.ports.clock import Clock
from d3.domain.ports.detector import Detector, Logits
from d3.domain.ports.models import ModelRegistry
from d3.domain.ports.queue import DetectionQueue
from d3.domain.services.model_host import LoadedModel
from d3.testing import FakeClock
from d3.testing.models import tiny_manifest
from tests.support.contracts.registries import RegistryFiles
from tests.support.memory import MemoryRegistry

SECONDS = 20


class PanelDetector:
    """Implements ``Detector``: each of its models has a logit of its own.

    Attributes:
        names: of the models that it scores in one pass.
        shapes: (images, side, views) of each pass so far.
    """

    engine = "fake"
    device = "cpu"
    precision = "fp32"
    weights_bytes = 0

    def __init__(self, engine: PanelEngine, names: tuple[str, ...]) -> None:
        self._engine = engine
        self.names = names
        self.shapes: list[tuple[int, int, int]] = []
        self.closed = False

    def score(self, pixels: Pixels, views: int) -> Logits:
        """View ``k`` of a model has its logit and ``k / 8`` more."""
        self._engine.scoring.release()
        assert self._engine.may_score.wait(SECONDS)
        self.shapes.append((len(pixels), pixels.shape[1], views))
        said = [self._engine.logits.get(name, 0.0) for name in self.names]
        for one in said:
            if isinstance(one, Exception):
                raise one
        row = np.concatenate([one + np.arange(views) / 8 for one in said])
        return np.tile(row, (len(pixels), 1))

    def close(self) -> None:
        self.closed = True


class PanelEngine:
    """Implements ``Engine``.

    Attributes:
        logits: what each model says, or the error that it raises; 0 unless told.
        failures: what a load raises, by the names of the models that are loaded together.
        may_load: cleared, a load of more than the first detector waits.
        loading: released once for each load that has begun.
        may_score: cleared, scoring waits.
        scoring: released once for each forward pass that has begun.
        detectors: every one that was made.
    """

    def __init__(self) -> None:
        self.logits: dict[str, float | Exception] = {}
        self.failures: dict[tuple[str, ...], Exception] = {}
        self.may_load, self.may_score = Event(), Event()
        self.loading = Semaphore(0)
        self.scoring = Semaphore(0)
        self.may_load.set()
        self.may_score.set()
        self.detectors: list[PanelDetector] = []
        self._lock = Lock()

    @property
    def loads(self) -> list[tuple[str, ...]]:
        """The names of the models of each detector."""
        return [one.names for one in self.detectors]

    @property
    def open(self) -> list[tuple[str, ...]]:
        """Likewise of those that are not closed."""
        return [one.names for one in self.detectors if not one.closed]

    def load(self, model: StoredModel) -> Detector:
        names = tuple(one.manifest.name for one in (model, *model.beside))
        self.loading.release()
        if self.detectors:
            assert self.may_load.wait(SECONDS)
        if (error := self.failures.get(names)) is not None:
            raise error
        with self._lock:
            self.detectors.append(PanelDetector(self, names))
        return self.detectors[-1]


def queue_of(clock: Clock | None = None, **bounds: Any) -> Callable[[Detector], DetectionQueue]:
    """Makes the queue in front of a detector."""
    return lambda one: ThreadedQueue(one, clock or FakeClock(), Bounds(linger=0, **bounds))


class Shelf:
    """Models in a registry, whose files are a few bytes.

    Args:
        folder: for the files.
        registry: one in memory unless given.
    """

    def __init__(self, folder: Path, registry: ModelRegistry | None = None) -> None:
        self.registry = registry or MemoryRegistry()
        self._files = RegistryFiles(self.registry, folder)

    def put(
        self, name: str, encoder: str | None = None, head: str | None = None, **changed: Any
    ) -> Manifest:
        """Store a model, on an encoder of its own unless another is named."""
        paths = {
            "encoder": self._files.file(encoder or f"the encoder of {name}"),
            "head": self._files.file(head or f"the head of {name}"),
        }
        manifest = tiny_manifest(file_of(paths["encoder"]), file_of(paths["head"]), name)
        return self.registry.put(StoredModel(replace(manifest, **changed), paths))


def names_of(models: Iterable[LoadedModel]) -> list[str]:
    """Of loaded models, in their order."""
    return [one.manifest.name for one in models]
