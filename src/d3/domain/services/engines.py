"""Which engine runs a model: the preferred one, or the quickest one, measured on this machine."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from d3.domain.errors import D3Error, EngineUnavailable
from d3.domain.models import HEADS_ON_CLIP, Manifest, StoredModel
from d3.domain.ports.detector import Detector, Engine, Timing, Timings

if TYPE_CHECKING:
    from d3.domain.images import Pixels
    from d3.domain.ports.clock import Clock
    from d3.domain.ports.detector import Logits

_LOG = logging.getLogger(__name__)
_WORTH_PREPARING = 2e9
_VIEWS = 2
_ROUNDS = 3
_SECONDS = 8.0
"""After which a candidate is not timed again."""
_ALL_SECONDS = 120.0
"""After which no further candidate is begun; the next load goes on."""
_NOTICEABLE = 0.95
"""Of the time of the engine that runs everywhere: less of a gain is noise."""
_FAR = 1e9
_STEEPEST = 0.25
"""The most that a probability can change when its logit changes by 1."""

ALLOWED_DRIFT = {"auto": 1e-4, "fast": 1e-2}
"""What an engine may change a probability by, for each setting that leaves the choice to D3."""


def runs_on_openvino(model: Manifest) -> bool:
    """Whether OpenVINO can run models of this architecture: heads on CLIP's encoder."""
    return model.architecture in HEADS_ON_CLIP


def worth_preparing(model: Manifest) -> bool:
    """Whether a model's encoder is large enough to be worth compiling; the starter's is not."""
    return runs_on_openvino(model) and model.encoder_spec.operations >= _WORTH_PREPARING


class PreferredEngine:
    """Implements ``Engine`` with one of two.

    Args:
        suits: whether to try the preferred one with this model.
    """

    def __init__(
        self,
        preferred: Callable[[], Engine],
        fallback: Callable[[], Engine],
        suits: Callable[[Manifest], bool] = lambda _model: True,
    ) -> None:
        self._preferred = preferred
        self._fallback = fallback
        self._suits = suits

    def load(self, model: StoredModel) -> Detector:
        """Load with the preferred engine; if it cannot, warn and use the other."""
        if self._suits(model.manifest):
            try:
                return self._preferred().load(model)
            except EngineUnavailable as error:
                warnings.warn(
                    (
                        f"{error.problem} D3 uses the fallback engine instead, which is slower but "
                        f"gives the same scores. {error.remedy}"
                    ).rstrip(),
                    RuntimeWarning,
                    stacklevel=2,
                )
        return self._fallback().load(model)


class Int8Engine:
    """Implements ``Engine``: a model's int8 form, where it has one that runs here.

    Args:
        int8: makes the engine of int8 forms; raises EngineUnavailable where there can be none.
        plain: makes the engine of all other models.
    """

    def __init__(self, int8: Callable[[], Engine], plain: Callable[[], Engine]) -> None:
        self._int8 = int8
        self._plain = plain

    def load(self, model: StoredModel) -> Detector:
        """Load the int8 form; without one, or if it cannot run, load the model as any other."""
        if model.int8 is not None:
            try:
                return self._int8().load(model)
            except EngineUnavailable as error:
                warnings.warn(
                    f"{error.problem} D3 uses the model {model.manifest.name!r} without its int8 "
                    "form, so its scores differ slightly. Set D3_PRECISION to hide this warning.",
                    RuntimeWarning,
                    stacklevel=2,
                )
        return self._plain().load(model)


@dataclass(frozen=True, slots=True)
class Candidate:
    """An engine with one precision."""

    engine: str
    precision: str
    make: Callable[[], Engine]

    @property
    def name(self) -> str:
        """As that of its :class:`Timing`."""
        return f"{self.engine} {self.precision}"


class MeasuredEngine:
    """Implements ``Engine`` with the quickest of several that agrees with the first.

    A model is measured when it is first loaded on a machine. The first engine is measured in every
    precision, another one, which may have to prepare the model, only in the quickest of these.

    Args:
        candidates: the first runs everywhere, in float32.
        allowed: what another one may change a probability by.
        timings: what was measured before.
        suits: whether this model is worth it; for others the first serves.
    """

    def __init__(
        self,
        candidates: Sequence[Candidate],
        allowed: float,
        timings: Timings,
        clock: Clock,
        suits: Callable[[Manifest], bool] = worth_preparing,
    ) -> None:
        self._candidates = candidates
        self._allowed = allowed
        self._timings = timings
        self._clock = clock
        self._suits = suits

    def load(self, model: StoredModel) -> Detector:
        """Load with the quickest engine, which is measured first if it is not known."""
        first, best = self._candidates[0], self._candidates[0]
        if self._suits(model.manifest):
            best = self._quickest(replace(model, beside=()))  # whose time is next to nothing
        if best is first:
            return first.make().load(model)
        return PreferredEngine(best.make, first.make).load(model)

    def _quickest(self, model: StoredModel) -> Candidate:
        known = dict(self._timings.read(model))
        if self._unknown(known, model) is None:
            return self._best(known, model, self._candidates)
        _LOG.warning(
            "Measuring which engine is quickest for the model %r. This happens once on each "
            "machine and takes a minute or two.",
            model.manifest.name,
        )
        with self._timings.alone(model):
            known = dict(self._timings.read(model))  # another process may have measured it
            failed, until = set[str](), self._clock.monotonic() + _ALL_SECONDS
            while (
                candidate := self._unknown(known, model, failed)
            ) is not None and self._clock.monotonic() < until:
                try:
                    known[candidate.name] = self._measured(candidate, model)
                except D3Error as error:
                    if candidate is self._candidates[0]:
                        raise
                    failed.add(candidate.name)
                    warnings.warn(
                        f"{candidate.name} was not measured: {error.problem}",
                        RuntimeWarning,
                        stacklevel=2,
                    )
                else:
                    self._timings.keep(model, known.values())
        return self._best(known, model, self._candidates)

    def _unknown(
        self, known: Mapping[str, Timing], model: StoredModel, failed: Collection[str] = ()
    ) -> Candidate | None:
        """The next candidate to measure."""
        first = self._candidates[0].engine
        own = [one for one in self._candidates if one.engine == first]
        quickest = self._best(known, model, own).precision
        others = [
            one
            for one in self._candidates
            if one.engine != first and one.precision == quickest and one.name not in failed
        ]
        return next((one for one in own + others if one.name not in known), None)

    def _best(
        self, known: Mapping[str, Timing], model: StoredModel, candidates: Sequence[Candidate]
    ) -> Candidate:
        """The quickest of those that are measured and agree with the first."""
        best = self._candidates[0]
        if (reference := known.get(best.name)) is None:
            return best
        limit = _NOTICEABLE * reference.seconds
        for candidate in candidates:
            timing = known.get(candidate.name)
            if timing is None or timing.seconds >= limit:
                continue
            if drift(timing, reference, model) <= self._allowed:
                best, limit = candidate, timing.seconds
        return best

    def _measured(self, candidate: Candidate, model: StoredModel) -> Timing:
        manifest = model.manifest
        pixels, views = _pictures(manifest.input_spec.size), min(_VIEWS, manifest.views)
        detector = candidate.make().load(model)
        try:
            logits = detector.score(pixels, views)  # the first pass also allocates memory
            alone, together = list[float](), list[float]()
            until = self._clock.monotonic() + _SECONDS
            while not alone or (len(alone) < _ROUNDS and self._clock.monotonic() < until):
                alone.append(self._seconds(detector, pixels[:1]))
                together.append(self._seconds(detector, pixels) / len(pixels))
        finally:
            detector.close()
        # The least: what else the machine does only adds to it.
        return Timing(
            candidate.engine, candidate.precision, min(alone), min(together), _finite(logits)
        )

    def _seconds(self, detector: Detector, pixels: Pixels) -> float:
        begun = self._clock.monotonic()
        detector.score(pixels, 1)
        return self._clock.monotonic() - begun


def drift(timing: Timing, reference: Timing, model: StoredModel) -> float:
    """What an engine may change a probability by at most, going by the logits of a few images.

    A probability near 0 or 1 changes less than this, so the images' own are of no matter.
    """
    apart = max(
        (abs(one - other) for one, other in zip(timing.logits, reference.logits, strict=True)),
        default=0.0,
    )
    return _STEEPEST * model.manifest.calibration.scale * apart


@dataclass(frozen=True, slots=True)
class Compared:
    """A line of the table of what was measured.

    Attributes:
        drift: see :func:`drift`.
        used: whether it is the one that runs the model.
    """

    timing: Timing
    drift: float
    used: bool

    @property
    def note(self) -> str:
        """What it changes, for people."""
        used = ", in use" if self.used else ""
        return f"changes a probability by at most {self.drift:.1g}{used}"


def compared(timings: Timings, model: StoredModel, used: Detector) -> list[Compared]:
    """What is known of a model's engines, the quickest first; ``used`` runs the model."""
    known = timings.read(model)
    exact = known.get("torch fp32") or known.get("openvino fp32")
    if exact is None:
        return []
    name = f"{used.engine} {used.precision}"
    quickest = sorted(known.values(), key=lambda one: one.seconds)
    return [Compared(one, drift(one, exact, model), one.name == name) for one in quickest]


def _finite(logits: Logits) -> tuple[float, ...]:
    """Each logit, with something far from all others for what is none: JSON has no NaN."""
    return tuple(one if math.isfinite(one) else _FAR for one in logits.ravel().tolist())


def _pictures(side: int) -> Pixels:
    """Slopes with squares, waves with grain, and noise: uint8 (3, side, side, 3)."""
    import numpy as np

    y, x = np.mgrid[0:side, 0:side]
    slopes = [x * 255 // side, y * 255 // side, (x * 8 // side + y * 8 // side) % 2 * 200]
    waves = [np.sin(x / 9) * np.cos(y / period) for period in (7, 11, 5)]
    source = np.random.default_rng(0)
    grain = source.normal(0, 6, (side, side, 3))
    return np.stack(
        [
            np.stack(slopes, axis=-1).astype(np.uint8),
            np.clip(128 + 90 * np.stack(waves, axis=-1) + grain, 0, 255).astype(np.uint8),
            source.integers(0, 256, (side, side, 3), dtype=np.uint8),
        ]
    )
