"""Which model answers: chosen, loaded beside the old one, swapped in one step, used by many.

Whoever works with a model holds a lease on it. A model that was replaced or unloaded is closed when
its last lease ends, so work in flight ends with the model it began with.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from d3.domain.errors import (
    D3Error,
    LoadInProgress,
    ModelForked,
    ModelNotFound,
    ModelNotLoaded,
)
from d3.domain.models import PUBLISHED, STARTER, Manifest, ModelReference
from d3.domain.ports.detector import Detector, Engine
from d3.domain.ports.models import ModelRegistry
from d3.domain.ports.queue import DetectionQueue

_process: int | None = None
"""The process in which a model was first loaded."""


def _refuse_forked() -> None:
    """The threads that multiply matrices do not survive a fork: whoever asks waits for ever."""
    if _process not in (None, os.getpid()):
        raise ModelForked(
            "A model was loaded before this process was forked, and none works in it any more.",
            "Load models in the child processes alone (gunicorn without --preload, Celery's tasks "
            "and not its module), or start processes by spawn.",
        )


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model ready to answer.

    Attributes:
        manifest: the model's.
        queue: owns its detector.
        reference: the manifest's, whose hash takes as long as a small image.
    """

    manifest: Manifest
    queue: DetectionQueue
    reference: ModelReference = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "reference", self.manifest.reference)


class Lease:
    """A hold on a loaded model; end it exactly once, on any thread."""

    def __init__(self, place: _Place) -> None:
        self._place = place
        self.model = place.model

    def end(self) -> None:
        """Let the model go."""
        self._place.release()


class _Place:
    """A loaded model and how many hold it; the host's own hold is one of them."""

    def __init__(self, model: LoadedModel) -> None:
        self.model = model
        self.closed = threading.Event()
        self._holders = 1
        self._lock = threading.Lock()

    def hold(self) -> Lease:
        with self._lock:
            self._holders += 1
        return Lease(self)

    def release(self) -> None:
        with self._lock:
            self._holders -= 1
            last = self._holders == 0
        if last:
            try:
                self.model.queue.close()
            finally:
                self.closed.set()


class ModelHost:
    """Holds the model in use. Safe to call from many threads.

    Args:
        registry: where models are kept.
        engine: gives what makes detectors; called when the first model is loaded.
        queue: wraps a detector for use from many threads.
        choice: the model's name; else the registry's active one, else the published detector if
            it is there, else the starter.
        warm_up: whether a model is timed, and so tried, before it takes the old one's place.
    """

    def __init__(
        self,
        registry: ModelRegistry,
        engine: Callable[[], Engine],
        queue: Callable[[Detector], DetectionQueue],
        choice: str | None = None,
        *,
        warm_up: bool = False,
    ) -> None:
        self._warm_up = warm_up
        self._registry = registry
        self._engine = engine
        self._queue = queue
        self._choice = choice
        self._place: _Place | None = None
        self._places: set[_Place] = set()
        self._swap = threading.Lock()
        self._loading = threading.Lock()

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

    def loaded(self) -> LoadedModel | None:
        """The model that would answer now, if one is loaded; for looking at, not for scoring."""
        with self._swap:
            return self._place.model if self._place else None

    def lease(self) -> Lease:
        """Hold the loaded model.

        Raises:
            ModelNotLoaded: none is loaded.
            ModelForked: it was loaded by the process that this one was forked from.
        """
        _refuse_forked()
        with self._swap:
            if self._place is None:
                raise ModelNotLoaded(
                    "No model is loaded.",
                    "Load one with POST /api/model/load; GET /api/model/list shows them.",
                )
            return self._place.hold()

    @contextmanager
    def using(self) -> Iterator[LoadedModel]:
        """The model in use, loaded if need be, held for the length of the block.

        Raises:
            D3Error: it is not there, is damaged, or does not fit the device.
        """
        lease = None
        while lease is None:
            try:
                lease = self.lease()
            except ModelNotLoaded:
                with self._loading:
                    if self.loaded() is None:
                        self._load(self.chosen())
        try:
            yield lease.model
        finally:
            lease.end()

    def load(self, name: str | None = None, version: int | None = None) -> LoadedModel:
        """Load a model beside the old one, which serves until the new one takes its place.

        Args:
            name: of :meth:`ModelRegistry.list`; the chosen one unless said.
            version: the newest unless said.

        Raises:
            LoadInProgress: another load has not ended.
            D3Error: the model is not there, is damaged, or does not fit; the old one stays.
        """
        if not self._loading.acquire(blocking=False):
            raise LoadInProgress(
                "Another model is being loaded.", "Try again when it is done.", retry_after=5
            )
        try:
            return self._load(name if name is not None else self.chosen(), version)
        finally:
            self._loading.release()

    def unload(self) -> bool:
        """Let the model go, if one is loaded; whether there was one."""
        return self._replace(None)

    def close(self, patience: float = 0.0) -> bool:
        """Unload the model; :meth:`using` loads one again.

        Args:
            patience: seconds to wait for models that somebody still works with.

        Returns:
            Whether all have ended: a process that ends beside a forward pass would be aborted.
        """
        self.unload()
        until = time.monotonic() + patience
        with self._swap:
            places = list(self._places)
        for place in places:
            if not place.closed.wait(max(0.0, until - time.monotonic())):
                return False
            place.model.queue.close()  # where that began on a thread of its own, wait for it
        return True

    def _load(self, name: str, version: int | None = None) -> LoadedModel:
        global _process  # noqa: PLW0603  the engine's threads are the process's, not this host's
        _refuse_forked()
        _process = os.getpid()
        stored = self._registry.open(name, version)
        model = LoadedModel(stored.manifest, self._queue(self._engine().load(stored)))
        if self._warm_up:
            try:
                model.queue.warm_up(stored.manifest.spec.image_size)
            except D3Error:
                model.queue.close()
                raise
        self._replace(_Place(model))
        return model

    def _replace(self, place: _Place | None) -> bool:
        with self._swap:
            old, self._place = self._place, place
            self._places = {one for one in self._places if not one.closed.is_set()}
            if place is not None:
                self._places.add(place)
        if old is not None:
            old.release()
        return old is not None
