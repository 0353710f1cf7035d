"""Scores a data set: every image under every condition, in order, resumable, in bounded memory.

Images go through the same service as in `d3 detect`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import msgspec

from d3.domain.detections import Detection, Failure
from d3.domain.files import Progress, no_progress
from d3.domain.formats import is_no_image
from d3.domain.models import Manifest
from d3.domain.panels import Opinion, PanelRule, check_complete, decide
from d3.domain.ports.images import ImageDecoder
from d3.domain.services.detection import DetectionService
from d3.domain.services.model_host import ModelHost
from d3.evaluation.dataset import Dataset, Item
from d3.evaluation.files import claim_folder
from d3.evaluation.perturbations import ORIGINAL, Perturbation, PerturbingDecoder
from d3.evaluation.scores import Known, Row, Said, ScoreFile

RUN = "run.json"
_SHOWN_FAILURES = 100


@dataclass(slots=True)
class Unreadable:
    """The images that could not be judged.

    Attributes:
        first: (path, code) of the first hundred.
        passed_over: files in folders that are no images by content or name.
    """

    count: int = 0
    first: list[tuple[str, str]] = field(default_factory=list)
    passed_over: int = 0

    def add(self, path: str, code: str) -> None:
        self.count += 1
        if len(self.first) < _SHOWN_FAILURES:
            self.first.append((path, code))


class Scorer:
    """Scores data sets with a model or a panel."""

    def __init__(
        self,
        host: ModelHost,
        detection: DetectionService,
        decoder: ImageDecoder,
        batch_size: int,
    ) -> None:
        self._host = host
        self._decoder = decoder
        self._detection = detection
        self._batch_size = batch_size

    def score(
        self,
        dataset: Dataset,
        folder: Path,
        conditions: Sequence[Perturbation],
        *,
        members: Sequence[Manifest],
        total: int,
        threshold: float | None = None,
        views: int = 1,
        progress: Progress = no_progress,
    ) -> tuple[ScoreFile, Unreadable]:
        """Score what has no row yet, and leave a complete ``scores.csv`` in the folder.

        Args:
            dataset: what is scored.
            folder: for the rows; an unfinished run in it is resumed.
            conditions: each image is scored under each of them.
            members: one model, or a panel, the chief first; each image is decoded once for all.
            total: files in the data set, for the progress.
            threshold: in [0, 1], of the first; its own unless given.
            views: 1 to 16 permutations to average, or as many as a member has.
            progress: called with the condition after each image.

        Raises:
            PanelIncomplete: a member cannot be loaded.
            RequestInvalid: the folder holds the scores of something else.
            StorageFailed: it cannot be written; the same call resumes later.
        """
        names = [one.name for one in members]
        with self._host.panel(names, load=True) as panel:
            check_complete(panel.missing)
            detector = panel.chief.queue.detector
            identity = {
                **_identity(members[0], threshold),
                "views": views,
                "engine": f"{detector.engine} {detector.precision}",
                "dataset": [str(Path(one).resolve()) for one in dataset.sources],
            }
            if len(members) > 1:
                identity["panel"] = [_identity(one) for one in members[1:]]
        claim_folder(folder, RUN, identity, "run")
        file = ScoreFile(folder, names[1:])
        unreadable = Unreadable()
        known = file.known()
        complete = False
        try:
            for condition in conditions:
                decoder = PerturbingDecoder(self._decoder, condition)
                service = self._detection.decoding_with(decoder)
                detect = partial(
                    service.detect_many,
                    threshold=threshold,
                    views=views,
                    panel=names,
                    batch_size=self._batch_size,
                    errors="return",
                )
                outcomes = _outcomes(detect, dataset, condition.name, known)
                for done, (item, outcome, passed) in enumerate(outcomes, start=1):
                    self._keep(file, condition.name, item, outcome, names[1:], unreadable)
                    progress(condition.name, done + passed, total)
            complete = True
        finally:
            file.close(complete=complete)
        for row in file.rows():
            if row.error and row.condition == ORIGINAL:
                unreadable.add(row.path, row.error)
        return file, unreadable

    @staticmethod
    def _keep(  # noqa: PLR0917  what a row is made of, and where it goes
        file: ScoreFile,
        condition: str,
        item: Item,
        outcome: Detection | Failure,
        others: Sequence[str],
        unreadable: Unreadable,
    ) -> None:
        label = "fake" if item.fake else "real"
        row = Row(condition=condition, path=item.path, label=label, generator=item.generator)
        if isinstance(outcome, Failure):
            if not item.named and is_no_image(item.path, outcome.error):
                unreadable.passed_over += condition == ORIGINAL
            else:
                file.append(replace(row, error=outcome.error.code))
            return
        image = outcome.image
        verdict = outcome.panel_verdict
        if verdict is not None and others:
            chief, *rest = verdict.opinions
            said = {one.model.name: _said(one) for one in rest}
            row = replace(
                row,
                agreement=verdict.agreement or "",
                by_rule=tuple(decide(rule, verdict.opinions)[0].value for rule in PanelRule),
                others=tuple(said.get(name, Said()) for name in others),
            )
            own = chief.verdict, chief.reason
        else:
            own = outcome.verdict, outcome.reason
        file.append(
            replace(
                row,
                prediction=outcome.prediction,
                logit=outcome.logit,
                spread=outcome.spread,
                verdict=own[0].value,
                reason=own[1] or "",
                notice=outcome.notice,
                format=image.format,
                width=image.width,
                height=image.height,
                bytes=image.size_bytes,
                sha256=image.sha256,
            )
        )


def _identity(model: Manifest, threshold: float | None = None) -> dict[str, object]:
    """All of a model that decides a row."""
    return {
        "model": f"{model.name} version {model.version}",
        "weights": model.sha256,
        "calibration": msgspec.to_builtins(model.calibration),
        "abstain_band": msgspec.to_builtins(model.abstain_band),
        "threshold": model.threshold if threshold is None else threshold,
    }


def _said(opinion: Opinion) -> Said:
    return Said(
        prediction=opinion.prediction,
        logit=opinion.logit,
        spread=opinion.spread,
        verdict=opinion.verdict.value,
        reason=opinion.reason or "",
    )


def _outcomes(
    detect: Callable[[Iterable[Path]], Iterable[Detection | Failure]],
    dataset: Dataset,
    condition: str,
    known: Known,
) -> Iterator[tuple[Item, Detection | Failure, int]]:
    """What has no row yet, with its outcome and how many were skipped because they have one."""
    waiting: deque[Item] = deque()
    passed = 0

    def sources() -> Iterator[Path]:
        nonlocal passed
        for item in dataset.items():
            if known.has(condition, item.path):
                passed += 1
            else:
                waiting.append(item)
                yield Path(item.path)

    for outcome in detect(sources()):
        yield waiting.popleft(), outcome, passed
