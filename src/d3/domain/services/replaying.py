"""Replaying a case: the same image and the same model, scored again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from statistics import fmean

import numpy as np

from d3.domain.errors import D3Error, ReplayImpossible
from d3.domain.evidence import Case, Means, Replayed, differences
from d3.domain.inputs import Change
from d3.domain.machine import libraries_of
from d3.domain.models import Manifest
from d3.domain.panels import Opinion
from d3.domain.ports.detector import Engine
from d3.domain.ports.images import ImageDecoder
from d3.domain.ports.models import ModelRegistry
from d3.domain.scoring import Score
from d3.domain.services.evidence import find_model
from d3.domain.services.pulling import PullService

SAME_DRIFT = 1e-5
"""Of a probability, with the same engine in fp32: only the order of additions differs."""
FP32_DRIFT = 1e-4
"""Of a probability, with another engine or device in fp32."""
REDUCED_DRIFT = {"fp16": 0.01, "bf16": 0.05}
"""Of a probability from fp32. bf16 moved one by up to 0.043 on real photographs."""
INT8_DRIFT = 0.1
"""Of a probability from fp32, where the model's manifest does not say what was measured."""


def check_replayable(case: Case) -> None:
    """See whether a case is of a kind that can be scored again.

    Raises:
        ReplayImpossible: it is about a clip.
    """
    if case.result.clip:
        raise ReplayImpossible(
            "The case is about a clip, which cannot be replayed yet.",
            "`d3 evidence verify` checks that its verdict follows from its frames. Judge the "
            "clip again with `d3 detect` and compare the frames.",
        )


class ReplayService:
    """Scores cases again.

    Args:
        registry: of the models.
        engine: loads models.
        decoder: of images.
        pulling: fetches published models.
    """

    def __init__(
        self,
        *,
        registry: ModelRegistry,
        engine: Callable[[], Engine],
        decoder: ImageDecoder,
        pulling: Callable[[], PullService],
    ) -> None:
        self._registry = registry
        self._engine = engine
        self._decoder = decoder
        self._pulling = pulling

    def model_of(self, case: Case) -> Manifest:
        """The model of a case, which is fetched if it is a published one and not here.

        Raises:
            ReplayImpossible: it is not here, under any name.
            D3Error: it cannot be fetched.
        """
        wanted = case.result.model
        if wanted is None:
            raise ReplayImpossible("The case does not say which model judged.")
        found = find_model(self._registry, wanted)
        if found is None and wanted.name in self._pulling().sources():
            self._pulling().pull(wanted.name)
            found = find_model(self._registry, wanted)
        if found is None:
            raise ReplayImpossible(
                f"The model of the case, {wanted.name!r} version {wanted.version} with SHA-256 "
                f"{wanted.sha256}, is not here under any name.",
                "Where it is, `d3 models bundle` writes it to a file. `d3 models import` reads "
                "that file here.",
            )
        return found

    def replay(self, case: Case, image: bytes) -> Replayed:
        """Score an image again as in a case, with the engine and precision of this machine.

        Args:
            case: what to repeat.
            image: the case's image, see :func:`d3.adapters.evidence.bundles.check_image`.

        Raises:
            ReplayImpossible: the case does not hold what is needed, or is about a clip.
            D3Error: the image or the model cannot be used.
        """
        check_replayable(case)
        opinions = case.result.opinions
        found = self._replay(case, image, opinions[0] if opinions else None, is_chief=True)
        members = {one.model.name: self._member(case, one, image) for one in opinions[1:]}
        return replace(found, members=members)

    def _member(self, case: Case, opinion: Opinion, image: bytes) -> Replayed | str:
        try:
            return self._replay(case.of_member(opinion), image, opinion, is_chief=False)
        except D3Error as error:
            return str(error)

    def _replay(
        self, case: Case, image: bytes, opinion: Opinion | None, *, is_chief: bool
    ) -> Replayed:
        """Score again what one model says; its opinion where a panel judged."""
        manifest = self.model_of(case)
        before, wanted = Means.of(case.result), manifest.input_spec.pixels
        changes = [Change(one) for one in case.result.stability]
        detector = self._engine().load(self._registry.open(manifest.name, manifest.version))
        try:
            also = [replace(wanted, change=one) for one in changes]
            decoded = self._decoder.decode(image, wanted, also)
            scored = detector.score(np.stack([decoded.pixels, *decoded.also]), case.result.views)
            now = Means(
                detector.engine,
                detector.precision,
                detector.device,
                libraries_of(detector.engine),
            )
        finally:
            detector.close()
        logits, *others = (tuple(map(float, one)) for one in scored)
        lack, probability = decoded.facts.lack, case.calibration.probability
        stability = {
            one: probability(fmean(each)) for one, each in zip(changes, others, strict=True)
        }
        again = replace(
            case.result,
            reason=lack,
            stability_probabilities=json.dumps(stability) if stability else "",
        )
        score = replace(case, result=again).assess(logits)
        allowed = allowed_drift(before, now, manifest)
        return Replayed(
            before=before,
            now=now,
            logits=logits,
            score=score,
            drift=_drift(case, logits, score.prediction, stability),
            allowed=allowed,
            verdict_changed=score.verdict is not case.result.verdict,
            close=lack is case.lack and _is_close(case, logits, score, allowed, stability.values()),
            differs=() if opinion is None else differences(opinion, manifest, chief=is_chief),
            same_version=manifest.reference == case.result.model,
        )


def allowed_drift(before: Means, now: Means, manifest: Manifest) -> float:
    """How much a probability may differ between two means of computing it."""
    reduced = max(_from_fp32(one.precision, manifest) for one in (before, now))
    same = (before.engine, before.precision, _kind(before)) == (
        now.engine,
        now.precision,
        _kind(now),
    )
    return max(reduced, SAME_DRIFT if same else FP32_DRIFT)


def _kind(means: Means) -> str:
    """A device without its number."""
    return means.device.partition(":")[0]


def _from_fp32(precision: str, manifest: Manifest) -> float:
    if precision != "int8":
        return REDUCED_DRIFT.get(precision, 0.0)
    form = manifest.int8
    kept = [one for one in form.candidates if one.name == form.kept] if form is not None else []
    return max((one.max_drift for one in kept), default=INT8_DRIFT)


def _is_close(
    case: Case,
    logits: tuple[float, ...],
    score: Score,
    allowed: float,
    changed: Iterable[float],
) -> bool:
    """Whether a drift that is allowed can change the verdict: see :func:`assess`."""
    edges = (0.0, -case.band.below, case.band.above)
    apart = [score.prediction - score.threshold - edge for edge in edges]
    apart += [case.calibration.probability(logit) - score.threshold for logit in logits]
    apart += [one - score.threshold for one in changed]
    return min(map(abs, apart)) <= allowed


def _drift(
    case: Case, logits: tuple[float, ...], prediction: float, stability: Mapping[Change, float]
) -> float:
    """The largest difference of a probability: of the mean, of each view and of each change."""
    probability, before = case.calibration.probability, case.result.logits
    views = zip(before, logits, strict=True) if len(before) == len(logits) else ()
    apart = [abs(probability(old) - probability(new)) for old, new in views]
    changed = case.result.stability
    apart += [abs(changed[one] - now) for one, now in stability.items()]
    return max([abs(case.result.prediction - prediction), *apart])
