"""The models in use: held while somebody scores with them, and swapped in one step.

Work in flight ends with the models it began with. A model that was replaced or unloaded is closed
when the last work with it ends.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from d3.domain.errors import (
    DetectorFailed,
    ForkUnsupported,
    ModelNotLoaded,
    ModelNotServed,
    ScoreUndefined,
)
from d3.domain.inputs import PixelsWanted
from d3.domain.models import Manifest, ModelReference
from d3.domain.panels import Missing, PanelRule
from d3.domain.ports.detector import Explainer, Logits
from d3.domain.ports.queue import DetectionQueue

_process: int | None = None
"""The process in which models work."""


def refuse_forked() -> None:
    """Refuse to work after a fork: torch's threads do not survive it, and a forward would hang.

    Raises:
        ForkUnsupported: models worked in the process that this one was forked from.
    """
    if _process not in (None, os.getpid()):
        raise ForkUnsupported(
            "D3 was used before this process was forked, so its models do not work here.",
            "Use D3 in the child processes only, or start them with spawn: see docs/embedding.md.",
        )


def models_work_here() -> None:
    """Note that models work in this process from now on; before anything of theirs is imported.

    Raises:
        ForkUnsupported: see :func:`refuse_forked`.
    """
    global _process  # noqa: PLW0603  the engine's threads are the process's, not a host's
    refuse_forked()
    _process = os.getpid()


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model ready to answer.

    Attributes:
        manifest: of the model.
        queue: in front of its detector.
        together: all models that this detector scores in one pass, in the order of their logits'
            columns; empty where it is this one alone.
        reference: the manifest's, kept because its hash takes as long as a small image.
        pixels: that it takes.
        key: stands for all that decides the detector's logits.
    """

    manifest: Manifest
    queue: DetectionQueue
    together: tuple[Manifest, ...] = ()
    reference: ModelReference = field(init=False)
    pixels: PixelsWanted = field(init=False)
    key: str = field(init=False)
    _seat: int = field(init=False)

    def __post_init__(self) -> None:
        reference = self.manifest.reference
        all_of_pass = self.together or (self.manifest,)
        hashes = [one.sha256 for one in self.together] or [reference.sha256]
        key = hashlib.sha256(":".join(hashes).encode()).hexdigest()
        found = {
            "reference": reference,
            "pixels": self.manifest.input_spec.pixels,
            "key": key if len(hashes) > 1 else reference.sha256,
            "_seat": [one.name for one in all_of_pass].index(self.manifest.name),
        }
        for name, value in found.items():
            object.__setattr__(self, name, value)

    @property
    def explains(self) -> bool:
        """Whether its scores can be explained: a detector explains its first model's."""
        return self._seat == 0 and isinstance(self.queue.detector, Explainer)

    def undefined(self) -> ScoreUndefined:
        """The error for a score of this model that is no number."""
        manifest, precision = self.manifest, self.queue.detector.precision
        package = f" of the package {manifest.package}" if manifest.package else ""
        return ScoreUndefined(
            f"The model {manifest.name!r} (architecture {manifest.architecture!r}{package}) gave a "
            "score that is not a finite number.",
            "Use another model."
            if precision == "fp32"
            else f"Its weights may be too large for {precision}. Try D3_PRECISION=fp32, or another "
            "model.",
        )

    def own(self, logits: Logits, views: int, pass_views: int) -> list[float]:
        """This model's raw logits of the first image, one per view, out of a pass's.

        Args:
            logits: (n, models of the pass * ``pass_views``).
            views: that are wanted of this model, at most ``pass_views``.
            pass_views: that were asked of the detector.

        Raises:
            DetectorFailed: there are too few or too many columns.
        """
        expected = max(1, len(self.together)) * pass_views
        if logits.shape[1] != expected:
            raise DetectorFailed(
                f"The model {self.manifest.name!r} gave {logits.shape[1]} logits for an image, not "
                f"{expected}.",
                "Ask whoever made its architecture.",
            )
        first = self._seat * pass_views
        found: list[float] = logits[0, first : first + views].tolist()
        return found


@dataclass(frozen=True, slots=True)
class Panel:
    """The models that judge an image.

    Attributes:
        chief: whose verdict counts first; the model in use, unless another was asked for.
        others: members beside it.
        missing: members that were asked for and are not loaded.
        rule: how the verdicts become one, unless a question says otherwise.
    """

    chief: LoadedModel
    others: tuple[LoadedModel, ...] = ()
    missing: tuple[Missing, ...] = ()
    rule: PanelRule = PanelRule.CHIEF

    @property
    def members(self) -> tuple[LoadedModel, ...]:
        """All that are loaded, the chief first."""
        return (self.chief, *self.others)

    @property
    def queues(self) -> list[DetectionQueue]:
        """In front of the members' detectors, the chief's first; some share one."""
        return list(dict.fromkeys(one.queue for one in self.members))

    @property
    def silent(self) -> dict[str, str]:
        """Members beside the chief that give no opinion now, by name, and why."""
        failing = {one.manifest.name: one.queue.trouble for one in self.others}
        return {one.model: one.error for one in self.missing} | {
            name: trouble for name, trouble in failing.items() if trouble is not None
        }


@dataclass(frozen=True, slots=True)
class Loaded:
    """All models that are loaded at a time.

    Attributes:
        panel: that judges where no other is asked for; None where no model is in use.
        spare: further models, by name, which only some questions name.
        missing: further models that cannot be loaded, by name.
    """

    panel: Panel | None = None
    spare: Mapping[str, LoadedModel] = field(default_factory=dict)
    missing: Mapping[str, Missing] = field(default_factory=dict)

    @property
    def models(self) -> dict[str, LoadedModel]:
        """By name."""
        members = self.panel.members if self.panel is not None else ()
        return {one.manifest.name: one for one in members} | dict(self.spare)

    def panel_of(self, names: Sequence[str], rule: PanelRule) -> Panel:
        """The panel of these models, the chief first.

        Raises:
            ModelNotServed: nobody has asked the host to load the chief.
            ModelNotLoaded: the chief could not be loaded.
        """
        models = self.models
        missing = {one.model: one for one in self.panel.missing} if self.panel is not None else {}
        missing |= self.missing
        chief, *others = names
        if chief in missing:
            raise ModelNotLoaded(f"The model {chief!r} is not loaded.", missing[chief].error)
        if chief not in models:
            raise self._not_served(chief)
        return Panel(
            models[chief],
            tuple(models[one] for one in others if one in models),
            tuple(
                missing.get(one) or Missing.of(one, self._not_served(one))
                for one in others
                if one not in models
            ),
            rule,
        )

    def _not_served(self, name: str) -> ModelNotServed:
        loaded = ", ".join(map(repr, self.models)) or "none"
        return ModelNotServed(
            f"The model {name!r} is not loaded here. Loaded are: {loaded}.",
            "Name those. POST /api/model/load puts it in the place of the first; D3_PANEL says "
            "which are beside that one when the service starts.",
        )


class _Held:
    """A detector's queue and the number of its users; the host counts as one."""

    def __init__(self, queue: DetectionQueue) -> None:
        self.queue = queue
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
                self.queue.close()
            finally:
                self.closed.set()


class ModelHost(ABC):
    """Holds the model in use and the other members of its panel. Safe to call from many threads.

    Args:
        rule: of the panel.

    Attributes:
        trouble: why no model is loaded; None if nobody knows of a reason.
    """

    def __init__(self, rule: PanelRule = PanelRule.CHIEF) -> None:
        self.trouble: str | None = None
        self.rule = rule
        self._now = Loaded()
        self._held: dict[DetectionQueue, _Held] = {}
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

        The other members of the panel stay. Those that are missing, or of which there is a newer
        version, are loaded too.

        Args:
            name: of a model in the registry; the chosen one by default.
            version: the newest by default.

        Raises:
            LoadInProgress: another load is running.
            D3Error: the model is not there, is damaged, or does not fit; the old one stays.
        """

    @abstractmethod
    def unload(self) -> bool:
        """Unload all models; says whether one was in use."""

    @abstractmethod
    def _have(self, names: Sequence[str] | None) -> None:
        """Load what is not loaded of these models, the model in use for None.

        Raises:
            D3Error: the first of them cannot be loaded.
        """

    @abstractmethod
    def refresh(self) -> None:
        """Try once more to load members that are missing or outdated, where that is done here."""

    def pin(self, versions: Mapping[str, int]) -> None:  # noqa: B027  most hosts load nothing here
        """Where models are loaded here, load these versions from now on, and not the newest."""

    def panel_in_use(self) -> Panel | None:
        """The model in use and those beside it, if any; to look at, not to score with."""
        with self._swap:
            return self._now.panel

    def queues(self) -> list[DetectionQueue]:
        """Of the models in use; to look at, not to score with."""
        panel = self.panel_in_use()
        return [] if panel is None else panel.queues

    def loaded(self) -> LoadedModel | None:
        """The model in use, if any; to look at, not to score with."""
        panel = self.panel_in_use()
        return None if panel is None else panel.chief

    @contextmanager
    def panel(self, names: Sequence[str] | None = None, *, load: bool = False) -> Iterator[Panel]:
        """The models that judge. They stay open until the block ends; any thread may end it.

        Args:
            names: of the models, the chief's first; those in use by default.
            load: whether to load first what is not loaded.

        Raises:
            ModelNotLoaded: none is in use, or the chief could not be loaded.
            ModelNotServed: nobody has asked this service to load the chief.
            ForkUnsupported: see :func:`refuse_forked`.
            D3Error: the chief cannot be loaded.
        """
        refuse_forked()
        if load:
            panel, held = self._load_and_hold(names)
        else:
            panel, held = self._hold(names)
        try:
            yield panel
        finally:
            for one in held:
                one.release()

    @contextmanager
    def held(self) -> Iterator[LoadedModel]:
        """The model in use alone; see :meth:`panel`.

        Raises:
            ModelNotLoaded: there is none.
            ForkUnsupported: see :func:`refuse_forked`.
        """
        with self.panel() as panel:
            yield panel.chief

    @contextmanager
    def using(self) -> Iterator[LoadedModel]:
        """The model in use, loaded first if necessary. It stays open until the block ends.

        Raises:
            D3Error: it is not there, is damaged, or does not fit the device.
        """
        with self.panel(load=True) as panel:
            yield panel.chief

    @contextmanager
    def holding(self, model: LoadedModel) -> Iterator[None]:
        """Keep one model open that somebody else keeps open now."""
        with self._swap:
            # Among all that are open: this one may have been replaced meanwhile.
            held = next(one for one in self._open if one.queue is model.queue)
            held.hold()
        try:
            yield
        finally:
            held.release()

    def close(self, patience: float = 0.0) -> bool:
        """Let go of all models. :meth:`using` loads one again.

        Args:
            patience: seconds to wait for work in flight.

        Returns:
            Whether all models are closed. A process that exits during a forward pass is aborted.
        """
        self._replace(Loaded())
        until = time.monotonic() + patience
        with self._swap:
            open_queues = list(self._open)
        for one in open_queues:
            if not one.closed.wait(max(0.0, until - time.monotonic())):
                return False
            one.queue.close()  # if it began on another thread, wait for it
        return True

    def _hold(self, names: Sequence[str] | None) -> tuple[Panel, list[_Held]]:
        with self._swap:
            if names is not None and self._now.models:
                panel = self._now.panel_of(names, self.rule)
            elif names is not None or self._now.panel is None:
                why = f" {self.trouble}" if self.trouble else ""
                raise ModelNotLoaded(
                    f"No model is loaded.{why}",
                    "Load one with POST /api/model/load. GET /api/model/list shows all models.",
                )
            else:
                panel = self._now.panel
            held = [self._held[one] for one in panel.queues]
            for one in held:
                one.hold()
        return panel, held

    def _load_and_hold(self, names: Sequence[str] | None) -> tuple[Panel, list[_Held]]:
        while True:
            self._have(names)
            try:
                return self._hold(names)
            except ModelNotLoaded:
                continue  # another thread has unloaded it meanwhile

    def _replace(self, new: Loaded) -> bool:
        """Put other models in the place of those loaded; says whether one was in use."""
        queues = {one.queue for one in new.models.values()}
        with self._swap:
            old, self._now = self._now, new
            before = self._held
            self._held = {one: before.get(one) or _Held(one) for one in queues}
            self._open = {one for one in self._open if not one.closed.is_set()}
            self._open.update(self._held.values())
            if new.panel is not None:
                self.trouble = None
        for queue, held in before.items():
            if queue not in queues:
                held.release()
        return old.panel is not None
