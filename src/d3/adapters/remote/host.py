"""The models in use where engine processes run them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial

from d3.adapters.remote.link import EngineLink
from d3.adapters.remote.queue import RemoteQueue, ended_meanwhile
from d3.adapters.remote.wire import Announced, AnnouncedPanel
from d3.domain.errors import ModelNotLoaded
from d3.domain.panels import PanelRule
from d3.domain.ports.clock import Clock
from d3.domain.ports.queue import QueueEvents
from d3.domain.services.model_host import Loaded, LoadedModel, ModelHost, Panel

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
        events: of the queues.
        rule: of the panel.
    """

    def __init__(  # noqa: PLR0917  made in one place
        self,
        links: Sequence[EngineLink],
        chosen: Callable[[], str],
        images: int,
        size_bytes: int,
        clock: Clock,
        events: QueueEvents | None = None,
        rule: PanelRule = PanelRule.CHIEF,
    ) -> None:
        super().__init__(rule)
        self._links = links
        self._chosen = chosen
        self._bounds = images, size_bytes
        self._clock = clock
        self._events = events
        self._announcing = threading.Lock()
        self._queues: list[RemoteQueue] = []
        self._told: dict[EngineLink, AnnouncedPanel] = {}
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

    def refresh(self) -> None:
        """The engine processes do that by themselves."""

    def _have(self, names: Sequence[str] | None) -> None:
        if self.loaded() is None:
            self.load()
        if names is not None:
            self._now.panel_of(names[:1], self.rule)  # or an error says how to have it

    def close(self, patience: float = 0.0) -> bool:
        ended = super().close(patience)
        for link in self._links:
            link.close()
        return ended

    def _announced(self, link: EngineLink, told: AnnouncedPanel | None, why: str | None) -> None:
        """An engine process has loaded models, or has none."""
        with self._announcing:
            if told is None:
                self._told.pop(link, None)
            else:
                self._told[link] = told
            if link is self._links[0]:
                self._follow(told, why)
            else:
                for queue in self._queues:
                    if told is None or not queue.take_seat(link, told):
                        queue.leave_seat(link)
            queues = self._queues
        if link.is_new:
            self._ask_again(link, queues)

    def _follow(self, told: AnnouncedPanel | None, why: str | None) -> None:
        """Use what the main engine process uses."""
        if told is None:
            self._queues = []
            self._replace(Loaded())
            self.trouble = why or None
            return
        models: dict[str, LoadedModel] = {}
        before, self._queues = self._queues, []
        for detector in told.detectors:
            queue = self._queue_of(detector, told, before)
            self._queues.append(queue)
            together = detector.manifests if len(detector.manifests) > 1 else ()
            models |= {
                one.name: LoadedModel(one, queue, together)
                for one in detector.manifests
                if one.name in told.members
            }
        chief, *others = (models[one] for one in told.members)
        self._replace(Loaded(Panel(chief, tuple(others), told.missing, self.rule)))

    def _queue_of(
        self, detector: Announced, told: AnnouncedPanel, before: Sequence[RemoteQueue]
    ) -> RemoteQueue:
        """The queue of a detector of the main engine process, and of the others that have it."""
        main = self._links[0]
        for queue in before:
            if queue.scores(detector.manifests) and queue.take_seat(main, told):
                return queue
        queue = RemoteQueue(detector, main, *self._bounds, self._clock, self._events)
        for link, theirs in self._told.items():
            if link is not main:
                queue.take_seat(link, theirs)
        return queue

    def _lost(self, link: EngineLink) -> None:
        """An engine process has ended; another may do what it has not answered."""
        with self._announcing:
            self._told.pop(link, None)
            queues = self._queues
            for queue in queues:
                queue.leave_seat(link)
        if queues and not any(queue.trouble for queue in queues):
            self._ask_again(link, queues)

    @staticmethod
    def _ask_again(link: EngineLink, queues: Sequence[RemoteQueue]) -> None:
        """Do what an engine process that ended has not answered."""
        for asked in link.take_orphans():
            queue = next((one for one in queues if one.scores(asked.manifests)), None)
            if queue is not None:
                queue.again(asked)
            else:
                asked.fail(ended_meanwhile())
