"""Which model answers: chosen once, loaded when first needed, one for all threads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from d3.domain.errors import ModelNotFound
from d3.domain.models import PUBLISHED, STARTER, Manifest
from d3.domain.ports import DetectionQueue, Detector, Engine, ModelRegistry


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model ready to answer.

    Attributes:
        manifest: the model's.
        queue: owns its detector.
    """

    manifest: Manifest
    queue: DetectionQueue


class ModelHost:
    """Holds the model in use.

    Args:
        registry: where models are kept.
        engine: gives what makes detectors; called when the first model is loaded.
        queue: wraps a detector for use from many threads.
        choice: the model's name; else the registry's active one, else the published detector if
            it is there, else the starter.
    """

    def __init__(
        self,
        registry: ModelRegistry,
        engine: Callable[[], Engine],
        queue: Callable[[Detector], DetectionQueue],
        choice: str | None = None,
    ) -> None:
        self._registry = registry
        self._engine = engine
        self._queue = queue
        self._choice = choice
        self._loaded: LoadedModel | None = None
        self._lock = threading.Lock()

    def chosen(self) -> str:
        """The name of the model that answers when none is named."""
        if self._choice is not None:
            return self._choice
        if (active := self._registry.active()) is not None:
            return active
        try:
            return self._registry.describe(PUBLISHED).name
        except ModelNotFound:
            return STARTER

    def current(self) -> LoadedModel:
        """The model in use, loaded on the first call.

        Raises:
            D3Error: it is not there, is damaged, or does not fit the device.
        """
        with self._lock:
            if self._loaded is None:
                model = self._registry.open(self.chosen())
                self._loaded = LoadedModel(model.manifest, self._queue(self._engine().load(model)))
            return self._loaded

    def close(self) -> None:
        """Unload the model; the next :meth:`current` loads one again."""
        with self._lock:
            loaded, self._loaded = self._loaded, None
        if loaded is not None:
            loaded.queue.close()
