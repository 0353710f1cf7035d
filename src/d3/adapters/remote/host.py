"""The model in use where engine processes run it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

from d3.adapters.remote.link import EngineLink
from d3.adapters.remote.queue import RemoteQueue
from d3.adapters.remote.wire import Announced
from d3.domain.errors import EngineAway, ModelNotLoaded
from d3.domain.ports.clock import Clock
from d3.domain.ports.queue import QueueEvents
from d3.domain.services.model_host import LoadedModel, ModelHost

_LOAD_SECONDS = 1800.0
_START_SECONDS = 0.5


class RemoteModelHost(ModelHost):
    """Follows what the first engine process has loaded; the others load the same.

    Args:
        links: to the engine processes, the main one first.
        chosen: the name of the model to use when no other is named.
        images: most that wait in a lane of one engine process.
        size_bytes: likewise.
        clock: for deadlines.
        events: of the queue.
    """

    def __init__(  # noqa: PLR0917  made in one place
        self,
        links: Sequence[EngineLink],
        chosen: Callable[[], str],
        images: int,
        size_bytes: int,
        clock: Clock,
        events: QueueEvents | None = None,
    ) -> None:
        super().__init__()
        self._links = links
        self._chosen = chosen
        self._bounds = images, size_bytes
        self._clock = clock
        self._events = events
        self._announcing = threading.Lock()
        self._queue: RemoteQueue | None = None
        self._told: dict[EngineLink, Announced] = {}
        for link in links:
            link.announced = partial(self._announced, link)
            link.lost = partial(self._lost, link)

    def start(self) -> LoadedModel:
        """Meet the engine processes; one that is not there yet is awaited in the background."""
        for link in self._links:
            link.start(_START_SECONDS)
        if (trouble := self._links[0].trouble) is not None:
            self.trouble = trouble
        with self.held() as model:
            return model

    def chosen(self) -> str:
        return self._chosen()

    def load(self, name: str | None = None, version: int | None = None) -> LoadedModel:
        loaded = self._links[0].call("load", name, version, seconds=_LOAD_SECONDS)
        for link in self._links[1:]:
            link.call("load", *loaded, seconds=_LOAD_SECONDS)
        model = self.loaded()
        if model is None:
            raise ModelNotLoaded("The model was unloaded again.", "Load it once more.")
        return model

    def unload(self) -> bool:
        was_there = False
        for link in self._links:
            was_there |= bool(link.call("unload", seconds=_LOAD_SECONDS))
        return was_there

    @contextmanager
    def using(self) -> Iterator[LoadedModel]:
        with ExitStack() as stack:
            try:
                model = stack.enter_context(self.held())
            except ModelNotLoaded:
                self.load()
                model = stack.enter_context(self.held())
            yield model

    def close(self, patience: float = 0.0) -> bool:
        ended = super().close(patience)
        for link in self._links:
            link.close()
        return ended

    def _announced(self, link: EngineLink, model: Announced | None, why: str | None) -> None:
        """An engine process has loaded a model, or has none."""
        with self._announcing:
            if model is None:
                self._told.pop(link, None)
            else:
                self._told[link] = model
            if link is self._links[0]:
                self._follow(model, why)
            elif self._queue is not None and (
                model is None or not self._queue.take_seat(link, model)
            ):
                self._queue.leave_seat(link)
            queue = self._queue
        if link.is_new:
            self._ask_again(link, queue)

    def _follow(self, model: Announced | None, why: str | None) -> None:
        """Use what the main engine process uses."""
        main = self._links[0]
        if model is None:
            self._queue = None
            self._replace(None)
            self.trouble = why or None
        elif self._queue is None or not self._queue.take_seat(main, model):
            self._queue = RemoteQueue(model, main, *self._bounds, self._clock, self._events)
            for link, theirs in self._told.items():
                if link is not main:
                    self._queue.take_seat(link, theirs)
            self._replace(LoadedModel(model.manifest, self._queue))

    def _lost(self, link: EngineLink) -> None:
        """An engine process has ended; another may do what it has not answered."""
        with self._announcing:
            self._told.pop(link, None)
            queue = self._queue
            if queue is None:
                return
            queue.leave_seat(link)
        if queue.trouble is None:
            self._ask_again(link, queue)

    @staticmethod
    def _ask_again(link: EngineLink, queue: RemoteQueue | None) -> None:
        """Do what an engine process that ended has not answered."""
        for asked in link.take_orphans():
            if queue is not None:
                queue.again(asked)
            else:
                asked.fail(EngineAway("The engine process has no model now.", "Try again."))
