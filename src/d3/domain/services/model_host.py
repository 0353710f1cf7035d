"""The model in use: chosen, loaded beside the old one, and swapped in one step.

Work in flight ends with the model it began with. A model that was replaced or unloaded is closed
when the last work with it ends.
"""

from __future__ import annotations

import os
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
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
    """Refuse to work after a fork: torch's threads do not survive it, and a forward would hang."""
    if _process not in (None, os.getpid()):
        raise ModelForked(
            "A model was loaded before this process was forked, so models do not work in this "
            "process.",
            "Load models only in the child processes (gunicorn without --preload; in Celery's "
            "tasks, not at import), or start processes with spawn.",
        )


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model ready to answer.

    Attributes:
        manifest: of the model.
        queue: in front of its detector.
        reference: the manifest's, kept because its hash takes as long as a small image.
    """

    manifest: Manifest
    queue: DetectionQueue
    reference: ModelReference = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "reference", self.manifest.reference)


class _Held:
    """A loaded model and the number of its users; the host counts as one."""

    def __init__(self, model: LoadedModel) -> None:
        self.model = model
        self.closed = threading.Event()
        self._holders = 1
        self._lock = threading.Lock()

    def hold(self) -> None:
        with self._lock:
            self._holders += 1

    def release(self) -> None:
        with self._lock:
            self._holders -= 1
            last = self._holders == 0
        if last:
            try:
                self.model.queue.close()
            finally:
                self.closed.set()


class ModelHost(ABC):
    """Holds the model in use. Safe to call from many threads.

    Attributes:
        trouble: why no model is loaded; None if nobody knows of a reason.
    """

    def __init__(self) -> None:
        self.trouble: str | None = None
        self._current: _Held | None = None
        self._open: set[_Held] = set()
        self._swap = threading.Lock()

    @abstractmethod
    def chosen(self) -> str:
        """The name of the model to use when no other is named."""

    @abstractmethod
    def start(self) -> LoadedModel:
        """Have a model in use from the start.

        Raises:
            D3Error: there is none yet; :attr:`trouble` says why.
        """

    @abstractmethod
    def load(self, name: str | None = None, version: int | None = None) -> LoadedModel:
        """Load a model while the old one serves, then replace the old one.

        Args:
            name: of a model in the registry; the chosen one by default.
            version: the newest by default.

        Raises:
            LoadInProgress: another load is running.
            D3Error: the model is not there, is damaged, or does not fit; the old one stays.
        """

    @abstractmethod
    def unload(self) -> bool:
        """Unload the model; says whether one was loaded."""

    @abstractmethod
    def using(self) -> AbstractContextManager[LoadedModel]:
        """The loaded model, loaded first if necessary. It stays open until the block ends.

        Raises:
            D3Error: it is not there, is damaged, or does not fit the device.
        """

    def loaded(self) -> LoadedModel | None:
        """The loaded model, if any; to look at, not to score with."""
        with self._swap:
            return self._current.model if self._current else None

    @contextmanager
    def held(self) -> Iterator[LoadedModel]:
        """The loaded model. It stays open until the block ends; any thread may end it.

        Raises:
            ModelNotLoaded: none is loaded.
            ModelForked: it was loaded by the process that this one was forked from.
        """
        _refuse_forked()
        with self._swap:
            if (current := self._current) is None:
                why = f" {self.trouble}" if self.trouble else ""
                raise ModelNotLoaded(
                    f"No model is loaded.{why}",
                    "Load one with POST /api/model/load. GET /api/model/list shows all models.",
                )
            current.hold()
        try:
            yield current.model
        finally:
            current.release()

    def close(self, patience: float = 0.0) -> bool:
        """Let go of the model. :meth:`using` loads one again.

        Args:
            patience: seconds to wait for work in flight.

        Returns:
            Whether all models are closed. A process that exits during a forward pass is aborted.
        """
        self._replace(None)
        until = time.monotonic() + patience
        with self._swap:
            open_models = list(self._open)
        for one in open_models:
            if not one.closed.wait(max(0.0, until - time.monotonic())):
                return False
            one.model.queue.close()  # if it began on another thread, wait for it
        return True

    def _replace(self, new: LoadedModel | None) -> bool:
        """Put another model in the place of the one in use; says whether there was one."""
        held = None if new is None else _Held(new)
        with self._swap:
            old, self._current = self._current, held
            self._open = {one for one in self._open if not one.closed.is_set()}
            if held is not None:
                self._open.add(held)
                self.trouble = None
        if old is not None:
            old.release()
        return old is not None


class LocalModelHost(ModelHost):
    """Loads models on this process's device, and holds the one in use.

    Args:
        registry: where models are kept.
        engine: makes the engine; called when the first model is loaded.
        queue: makes the queue in front of a detector.
        choice: a model's name. Otherwise the registry's active model is used, else the published
            detector if it is there, else the starter.
        warm_up: whether a new model is run and timed before it replaces the old one.

    Attributes:
        changed: called after another model, or none, is in use, and after a failed load that leaves
            none.
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
        super().__init__()
        self._warm_up = warm_up
        self._registry = registry
        self._engine = engine
        self._queue = queue
        self._choice = choice
        self._loading = threading.Lock()
        self.changed: Callable[[], None] = lambda: None

    def chosen(self) -> str:
        return chosen(self._registry, self._choice)

    def start(self) -> LoadedModel:
        return self.load()

    @contextmanager
    def using(self) -> Iterator[LoadedModel]:
        with ExitStack() as stack:
            while True:
                try:
                    model = stack.enter_context(self.held())
                    break
                except ModelNotLoaded:
                    with self._loading:
                        if self.loaded() is None:
                            self._load(self.chosen())
            yield model

    def load(self, name: str | None = None, version: int | None = None) -> LoadedModel:
        if not self._loading.acquire(blocking=False):
            raise LoadInProgress(
                "Another model is being loaded.", "Try again when it is loaded.", retry_after=5
            )
        try:
            return self._load(name if name is not None else self.chosen(), version)
        finally:
            self._loading.release()

    def unload(self) -> bool:
        return self._replace(None)

    def _load(self, name: str, version: int | None = None) -> LoadedModel:
        global _process  # noqa: PLW0603  the engine's threads are the process's, not this host's
        _refuse_forked()
        _process = os.getpid()
        try:
            stored = self._registry.open(name, version)
            model = LoadedModel(stored.manifest, self._queue(self._engine().load(stored)))
            if self._warm_up:
                try:
                    model.queue.warm_up(stored.manifest.input_spec.size)
                except D3Error:
                    model.queue.close()
                    raise
        except D3Error as error:
            if self.loaded() is None:
                self.trouble = error.problem
                self.changed()
            raise
        self._replace(model)
        return model

    def _replace(self, new: LoadedModel | None) -> bool:
        was_there = super()._replace(new)
        self.changed()
        return was_there


def chosen(registry: ModelRegistry, choice: str | None) -> str:
    """The name of the model to use when no other is named.

    Args:
        registry: where models are kept.
        choice: of the settings; else the registry's active one, the published one, the starter.
    """
    if choice is not None:
        return choice
    if (active := registry.active()) is not None:
        return active
    try:
        return registry.describe(PUBLISHED).name
    except ModelNotFound:
        return STARTER
