"""Models on this process's device: which are loaded, together or apart, and when again."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from d3.domain.backoff import pause_after
from d3.domain.errors import (
    D3Error,
    DetectorFailed,
    DeviceOutOfMemory,
    LoadInProgress,
    ModelNotFound,
    ModelNotLoaded,
)
from d3.domain.models import (
    PUBLISHED,
    STARTER,
    ModelReference,
    StoredModel,
)
from d3.domain.panels import Missing, PanelRule
from d3.domain.ports.detector import Detector, Engine
from d3.domain.ports.models import ModelRegistry
from d3.domain.ports.queue import DetectionQueue
from d3.domain.services.grouping import Group, grouped
from d3.domain.services.model_host import (
    Loaded,
    LoadedModel,
    ModelHost,
    Panel,
    models_work_here,
)

_LOG = logging.getLogger(__name__)
_FIRST_PAUSE = 5.0
_LONGEST_PAUSE = 600.0


@dataclass(frozen=True, slots=True)
class _Refused:
    """A model that could not be loaded.

    Attributes:
        error: why not.
        times: in a row.
        until: on the monotonic clock, before which it is not tried again unasked.
    """

    error: D3Error
    times: int
    until: float


class LocalModelHost(ModelHost):
    """Loads models on this process's device, and holds them.

    Args:
        registry: where models are kept.
        engine: makes the engine; called when the first model is loaded.
        queue: makes the queue in front of a detector.
        choice: a model's name. Otherwise the registry's active model is used, else the published
            detector if it is there, else the starter.
        warm_up: whether a new model is run and timed before it replaces the old one.
        members: names of a panel's models, the chief's first; empty for no panel.
        rule: of the panel.
        on_demand: whether a question may name models that are not loaded yet.
        in_use: called with the queues that are going to be used together.
        free_memory: bytes that are left for another member's weights; None where that is not known
            or the device says so itself.
        monotonic: tells the time between attempts.

    Attributes:
        changed: called after other models, or none, are in use, and after a failed load that leaves
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
        members: Sequence[str] = (),
        rule: PanelRule = PanelRule.CHIEF,
        on_demand: bool = True,
        in_use: Callable[[Collection[DetectionQueue]], None] = lambda _: None,
        free_memory: Callable[[], int | None] = lambda: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(rule)
        self._warm_up = warm_up
        self._registry = registry
        self._engine = engine
        self._queue = queue
        self._choice = choice
        self._members = tuple(members)
        self._on_demand = on_demand
        self._in_use = in_use
        self._free_memory = free_memory
        self._pinned: dict[str, int] = {}
        self._monotonic = monotonic
        self._loading = threading.Lock()
        self._publishing = threading.RLock()  # ``changed`` may unload
        self._stored: dict[ModelReference, StoredModel] = {}
        self._refused: dict[str, _Refused] = {}
        self.changed: Callable[[], None] = lambda: None

    def chosen(self) -> str:
        return chosen(self._registry, self._choice)

    def start(self) -> LoadedModel:
        return self.load()

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
        with self._publishing:
            return self._replace(Loaded())

    def refresh(self) -> None:
        # A look takes nothing from a load that comes meanwhile and would be refused.
        if not self._stale() or not self._loading.acquire(blocking=False):
            return
        try:
            if names := self._stale():
                self._settle(None, names)
        finally:
            self._loading.release()

    def pin(self, versions: Mapping[str, int]) -> None:
        self._pinned = dict(versions)

    def _have(self, names: Sequence[str] | None) -> None:
        if names is None or not self._on_demand:
            self._have_one_in_use()
            if names is not None:
                self._now.panel_of(names[:1], self.rule)  # or an error says how to have it
            return
        if not self._lacking(names):
            return
        with self._loading:
            lacking = self._lacking(names)
            lacking = [one for one in lacking if one == names[0] or self._may_try(one)]
            if lacking:
                self._settle(None, lacking)
            refused = self._refused.get(names[0])
            if refused is not None and names[0] not in self._now.models:
                raise refused.error

    def _lacking(self, names: Sequence[str]) -> list[str]:
        """Those that are not loaded, or not in the version that they are pinned to."""
        there = {name: one.manifest.version for name, one in self._now.models.items()}
        return [
            one
            for one in names
            if one not in there or self._pinned.get(one, there[one]) != there[one]
        ]

    def _have_one_in_use(self) -> None:
        if self.loaded() is None:
            with self._loading:
                if self.loaded() is None:
                    self._load(self.chosen())

    def _load(self, name: str, version: int | None = None) -> LoadedModel:
        """Load a model to be the one in use, and the members that belong beside it."""
        try:
            return self._settle(self._open_chief(name, version), self._beside(name))[name]
        except D3Error as error:
            if self.loaded() is None:
                self.trouble = error.problem
                self.changed()
            raise

    def _open_chief(self, name: str, version: int | None) -> StoredModel:
        try:
            return self._registry.open(name, version)
        except ModelNotFound as error:
            if name not in self._members[:1]:
                raise
            raise ModelNotFound(
                f"{error.problem} It is the panel's first, whose verdict leads.",
                f"{error.remedy} Or put another one first, in --panel or D3_PANEL.",
            ) from error

    def _replace(self, new: Loaded) -> bool:
        self._in_use({one.queue for one in new.models.values()})
        was_there = super()._replace(new)
        self.changed()
        return was_there

    def _beside(self, chief: str) -> list[str]:
        """The other members of the panel where this model is in use.

        A model that is no member takes the first one's place.
        """
        there = self._members if chief in self._members else self._members[1:]
        return [one for one in there if one != chief]

    def _stale(self) -> list[str]:
        """Members that are not loaded, or not in their newest version, and may be tried again."""
        if (panel := self.panel_in_use()) is None:
            return []
        known = {one.manifest.name: one.reference for one in panel.members}
        return [
            one
            for one in self._beside(panel.chief.manifest.name)
            if self._may_try(one) and self._newest(one, known.get(one)) != known.get(one)
        ]

    def _newest(self, name: str, otherwise: ModelReference | None) -> ModelReference | None:
        try:
            return self._registry.describe(name, self._pinned.get(name)).reference
        except D3Error:
            return otherwise

    def _may_try(self, name: str) -> bool:
        refused = self._refused.get(name)
        return refused is None or self._monotonic() >= refused.until

    def _refuse(self, name: str, error: Exception) -> None:
        """Remember why a model could not be loaded."""
        if not isinstance(error, D3Error):
            _LOG.exception("the model %r could not be loaded", name, exc_info=error)
            error = DetectorFailed(
                f"The model {name!r} could not be loaded ({error!r:.200}).",
                "Leave it out, or ask whoever made its architecture.",
            )
        times = self._refused[name].times + 1 if name in self._refused else 1
        until = self._monotonic() + pause_after(times, _FIRST_PAUSE, _LONGEST_PAUSE)
        self._refused[name] = _Refused(error, times, until)

    def _settle(self, new: StoredModel | None, wanted: Sequence[str]) -> Mapping[str, LoadedModel]:
        """Load models beside those that are loaded, and put all in use in one step.

        Models that can be scored in one pass are loaded together. What cannot be loaded is missing.

        Args:
            new: the model to be in use; None where that stays as it is.
            wanted: names of others, of which the newest version is wanted.

        Returns:
            The models that were put in use, by name; another thread may unload them at any time.

        Raises:
            D3Error: the new model cannot be loaded; all stays as it was.
        """
        models_work_here()
        before = self._now
        chief = new
        if chief is None and before.panel is not None:
            chief = self._stored[before.panel.chief.reference]
        beside = self._beside(chief.manifest.name) if chief is not None else []
        names = dict.fromkeys((*beside, *before.spare, *wanted))
        stored = {} if chief is None else {chief.manifest.name: chief}
        for name in names:
            if name not in stored and (found := self._opened(name, name in wanted)) is not None:
                stored[name] = found
        ready, loading = self._sorted(stored.values(), new)
        opened = set[DetectionQueue]()

        def publish() -> Mapping[str, LoadedModel]:
            """Use what is loaded, and what was loaded before in place of what is not yet."""
            with self._publishing:
                # Queues that another thread unloaded meanwhile are closed.
                usable = opened | {one.queue for one in self._now.models.values()}
                models = {
                    name: one
                    for name, one in (before.models | ready).items()
                    if one.queue in usable
                }
                lead = chief.manifest.name if chief is not None else None
                lead = lead if lead in models else None
                shown = {one: models.get(one) for one in (*stored, *names)}
                self._publish(lead, beside if lead is not None else [], shown)
                return models

        for group in loading:
            essential = new is not None and new in group
            loaded = self._load_what_can_be(group, new if essential else None)
            ready |= loaded
            opened.update(one.queue for one in loaded.values())
            self._stored |= {one.manifest.reference: one for one in group}
            if essential and group is not loading[-1]:
                publish()
        return publish()

    def _opened(self, name: str, newest: bool) -> StoredModel | None:  # noqa: FBT001  as in _settle
        """The files of a model, whose loaded version stays where no newer one can be had."""
        loaded = self._now.models.get(name)
        there = None if loaded is None else self._stored[loaded.reference]
        if there is not None and not newest:
            return there
        try:
            if there is not None:
                newer = self._registry.describe(name, self._pinned.get(name)).reference
                if newer == there.manifest.reference:
                    return there
            found = self._registry.open(name, self._pinned.get(name))
        except D3Error as error:
            self._refuse(name, error)
            return there
        return found

    def _sorted(
        self, stored: Iterable[StoredModel], new: StoredModel | None
    ) -> tuple[dict[str, LoadedModel], list[Group]]:
        """What is loaded already as it should be, and the groups to load, the new model's first."""
        now = self._now.models.values()
        ready, loading = dict[str, LoadedModel](), list[Group]()
        for group in grouped(stored):
            references = [one.manifest.reference for one in group]
            there = [one for one in now if _references(one) == references]
            if there and new not in group:
                ready |= {one.manifest.name: one for one in there}
            else:
                loading.insert(0 if new in group else len(loading), group)
        return ready, loading

    def _load_what_can_be(
        self, group: Group, essential: StoredModel | None
    ) -> dict[str, LoadedModel]:
        """Load models together, or those that can be loaded one by one.

        Raises:
            Exception: the essential one cannot be loaded.
        """
        try:
            return self._load_group(group, checked=essential is not None)
        except Exception as error:
            if len(group) == 1:
                if essential is not None:
                    raise
                self._refuse(group[0].manifest.name, error)
                return {}
        found: dict[str, LoadedModel] = {}
        for one in sorted(group, key=lambda one: one is not essential):
            found |= self._load_what_can_be((one,), one if one is essential else None)
        return found

    def _load_group(self, group: Group, *, checked: bool) -> dict[str, LoadedModel]:
        if not checked:
            self._check_memory(group)
        first, *rest = group
        queue = self._queue(self._engine().load(replace(first, beside=tuple(rest))))
        if self._warm_up:
            try:
                queue.warm_up(first.manifest.input_spec.size)
            except BaseException:
                queue.close()
                raise
        together = tuple(one.manifest for one in group) if rest else ()
        for one in group:
            self._refused.pop(one.manifest.name, None)
        return {one.manifest.name: LoadedModel(one.manifest, queue, together) for one in group}

    def _check_memory(self, group: Group) -> None:
        """Refuse a member for whose weights there is no room, before the system ends the process.

        Raises:
            DeviceOutOfMemory: there is none.
        """
        free = self._free_memory()
        if free is None:
            return
        loaded = {
            file
            for one in self._now.models.values()
            for file in self._stored[one.reference].manifest.files.values()
        }
        files = {
            file
            for one in group
            for role, file in one.manifest.files.items()
            if role != "int8" and file not in loaded
        }
        if (size := sum(one.size_bytes for one in files)) > free:
            name = group[0].manifest.name
            raise DeviceOutOfMemory(
                f"The model {name!r} takes {size / 2**20:,.0f} MiB of memory, and "
                f"{free / 2**20:,.0f} MiB are free.",
                "Leave it out of the panel, or give this machine more memory.",
            )

    def _publish(
        self, chief: str | None, others: Sequence[str], models: Mapping[str, LoadedModel | None]
    ) -> None:
        loaded = {name: one for name, one in models.items() if one is not None}
        missing = {name: self._missing(name) for name, one in models.items() if one is None}
        panel = None
        if chief is not None:
            panel = Panel(
                loaded[chief],
                tuple(loaded[one] for one in others if one in loaded),
                tuple(missing[one] for one in others if one in missing),
                self.rule,
            )
        in_panel = {chief, *others}
        self._stored = {one.reference: self._stored[one.reference] for one in loaded.values()}
        self._replace(
            Loaded(
                panel,
                {name: one for name, one in loaded.items() if name not in in_panel},
                {name: one for name, one in missing.items() if name not in in_panel},
            )
        )

    def _missing(self, name: str) -> Missing:
        refused = self._refused.get(name)
        if refused is not None:
            return Missing.of(name, refused.error)
        return Missing.of(
            name,
            ModelNotLoaded(f"The model {name!r} is being loaded.", "Try again in a moment."),
        )


def _references(loaded: LoadedModel) -> list[ModelReference]:
    """Of the models of a detector, in their order."""
    return [one.reference for one in loaded.together] or [loaded.reference]


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
