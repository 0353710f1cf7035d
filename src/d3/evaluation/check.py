"""`d3 dataset check`: is a data set fit to measure a detector on?

The classic leak of this field is that both kinds differ by how their files were stored, for
instance real ones as JPEG and generated ones as PNG: whatever learns or is measured on them
learns the format. So a trivial classifier is tried that sees simple facts of the files alone.
"""

from __future__ import annotations

from array import array
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from d3.domain.errors import ImageError
from d3.domain.formats import is_no_image
from d3.domain.ports.images import ImageDecoder
from d3.domain.scoring import Share
from d3.evaluation.bootstrap import folds, interval, replicates_at_once, replicates_for, resample
from d3.evaluation.dataset import Dataset, Item
from d3.evaluation.facts import FACTS, FileFacts, facts_of
from d3.evaluation.metrics import Numbers, Sample

Verdict = Literal["sound", "usable", "unfit"]

LEAK, SUSPICION = 0.75, 0.6
"""Lower ends of the trivial classifier's AUROC from which a data set leaks, or may."""

FOLDS = 5
_BINS = 16
_SHOWN = 20
_AHEAD = 64
_COMMON = 3


@dataclass(slots=True)
class Checked:
    """The findings.

    Attributes:
        unreadable: (path, code) of the first few.
        duplicates: superfluous copies of the same file within a kind.
        across: paths of files that are in both kinds.
        across_count: how many files of a kind are in the other as well.
        alike: generated images that look like a real one (small differences aside).
        leaks: the trivial classifier's AUROC by each fact, and by all together under ``"all"``.
        common: of each fact, the commonest values of both kinds.
    """

    real: int = 0
    fake: int = 0
    generators: dict[str, int] = field(default_factory=dict)
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    unreadable_count: int = 0
    passed_over: int = 0
    duplicates: int = 0
    across: list[str] = field(default_factory=list)
    across_count: int = 0
    alike: int = 0
    leaks: dict[str, Share] = field(default_factory=dict)
    common: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> Verdict:
        if self.problems:
            return "unfit"
        return "usable" if self.warnings else "sound"


class _Table:
    """The facts of many files in little memory."""

    def __init__(self) -> None:
        self.values = array("d")
        self.fake = array("b")
        self.sha256 = array("Q")
        self.look = array("Q")
        self.texts: dict[str, tuple[Counter[str], Counter[str]]] = {
            name: (Counter(), Counter()) for name in FACTS
        }

    def add(self, item: Item, facts: FileFacts) -> None:
        self.values.extend(facts.values)
        self.fake.append(item.fake)
        self.sha256.append(facts.sha256)
        self.look.append(facts.look)
        for name, text in zip(FACTS, facts.texts, strict=True):
            counter = self.texts[name][item.fake]
            if text in counter or len(counter) < 1000:
                counter[text] += 1


def check(
    dataset: Dataset,
    decoder: ImageDecoder,
    *,
    threads: int,
    seed: int = 0,
    progress: Callable[[int], None] = lambda _done: None,
) -> Checked:
    """Read every file of the data set and judge the whole.

    Raises:
        DatasetInvalid: there is nothing to check.
    """
    result, table = Checked(), _Table()
    generators: Counter[str] = Counter()
    for done, (item, facts) in enumerate(_read(dataset, decoder, threads), start=1):
        progress(done)
        if isinstance(facts, FileFacts):
            table.add(item, facts)
            if item.fake:
                generators[item.generator] += 1
        elif not item.named and is_no_image(item.path, facts):
            result.passed_over += 1
        else:
            result.unreadable_count += 1
            if len(result.unreadable) < _SHOWN:
                result.unreadable.append((item.path, facts.code))
    fake = np.array(table.fake, dtype=bool)
    result.fake, result.real = int(fake.sum()), int((~fake).sum())
    result.generators = dict(sorted(generators.items()))
    _find_duplicates(result, table, fake)
    if result.across_count:
        shared = np.intersect1d(_hashes(table.sha256)[fake], _hashes(table.sha256)[~fake])
        result.across = _paths_of(dataset, decoder, threads, set(shared[:_SHOWN].tolist()))
    result.common = {
        name: {
            kind: [text for text, _ in counter.most_common(_COMMON)]
            for kind, counter in zip(("real", "fake"), counters, strict=True)
        }
        for name, counters in table.texts.items()
    }
    values = np.array(table.values).reshape(-1, len(FACTS))
    if min(result.real, result.fake) >= 2 * FOLDS:
        result.leaks = leaks(values, fake, seed)
    _judge(result)
    return result


def leaks(values: Numbers, fake: NDArray[np.bool_], seed: int) -> dict[str, Share]:
    """How well each fact alone, and all together, tell the kinds apart: cross-validated AUROC.

    A naive Bayes classifier over the facts' quantile bins, with both kinds weighing the same.

    Args:
        values: [n, facts].
        fake: [n] truth.
        seed: of the folds and of the intervals.
    """
    fold = folds(fake, FOLDS, seed)
    evidence = np.stack([_evidence(column, fake, fold) for column in values.T], axis=1)
    scored = {"all": evidence.sum(axis=1)} | dict(zip(FACTS, evidence.T, strict=True))
    found = {}
    for name, scores in scored.items():
        sample = Sample(fake, scores)
        drawn = resample(
            sample,
            fake.astype(np.int64),
            seed=seed,
            replicates=replicates_for(len(fake)),
            at_once=replicates_at_once(len(fake)),
        )["auroc"]
        found[name] = Share(float(sample.measure()["auroc"]), *interval(drawn))
    return found


def _evidence(column: Numbers, fake: NDArray[np.bool_], fold: NDArray[np.int64]) -> Numbers:
    """The log odds of each value, learned on the other folds."""
    distinct = np.unique(column)
    if len(distinct) > _BINS:
        edges = np.unique(np.quantile(column, np.linspace(0, 1, _BINS + 1)[1:-1]))
        bins = np.searchsorted(edges, column, side="right")
    else:
        bins = np.searchsorted(distinct, column)
    count = int(bins.max()) + 1
    odds = np.empty(len(column))
    for number in range(FOLDS):
        seen = fold != number
        counts = [
            np.bincount(bins[seen & (fake == kind)], minlength=count) + 0.5
            for kind in (False, True)
        ]
        learned = np.log(counts[1] / counts[1].sum()) - np.log(counts[0] / counts[0].sum())
        odds[~seen] = learned[bins[~seen]]
    return odds


def _read(
    dataset: Dataset, decoder: ImageDecoder, threads: int
) -> Iterator[tuple[Item, FileFacts | ImageError]]:
    """Facts of every file, in order, a bounded number read ahead."""

    def read(item: Item) -> FileFacts | ImageError:
        try:
            return facts_of(Path(item.path), decoder)
        except ImageError as error:
            return error

    waiting: deque[tuple[Item, Future[FileFacts | ImageError]]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="d3-check") as pool:
        try:
            for item in dataset.items():
                waiting.append((item, pool.submit(read, item)))
                if len(waiting) >= _AHEAD:
                    first, future = waiting.popleft()
                    yield first, future.result()
            while waiting:
                first, future = waiting.popleft()
                yield first, future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _find_duplicates(result: Checked, table: _Table, fake: NDArray[np.bool_]) -> None:
    hashes, looks = _hashes(table.sha256), _hashes(table.look)
    for kind in (False, True):
        result.duplicates += int((fake == kind).sum() - len(np.unique(hashes[fake == kind])))
    result.across_count = int(np.isin(hashes[fake], hashes[~fake]).sum())
    blank = np.isin(looks, [0])  # a plain picture looks like every other
    result.alike = int(np.isin(looks[fake & ~blank], looks[~fake]).sum()) - result.across_count
    result.alike = max(result.alike, 0)


def _hashes(values: array[int]) -> NDArray[np.uint64]:
    return np.frombuffer(values, dtype=np.uint64) if len(values) else np.empty(0, np.uint64)


def _paths_of(dataset: Dataset, decoder: ImageDecoder, threads: int, wanted: set[int]) -> list[str]:
    """The files with these hashes; read again, as no paths were kept."""
    found = (
        item.path
        for item, facts in _read(dataset, decoder, threads)
        if isinstance(facts, FileFacts) and facts.sha256 in wanted
    )
    return [path for path, _ in zip(found, range(_SHOWN), strict=False)]


def _judge(result: Checked) -> None:
    together = result.leaks.get("all")
    if together is not None and together.low >= LEAK:
        alone = max(FACTS, key=lambda name: result.leaks[name].value)
        result.problems.append(
            "A simple classifier that never sees the images can separate real from generated ones "
            f"(AUROC {together.value:.2f}); {alone} alone reaches {result.leaks[alone].value:.2f}. "
            "A detector measured or trained on this data set may only recognise how the files "
            "were stored. Store real and generated images in the same way."
        )
    elif together is not None and together.low >= SUSPICION:
        result.warnings.append(
            "A simple classifier that never sees the images does better than chance (AUROC "
            f"{together.value:.2f})."
        )
    if result.across_count:
        result.problems.append(
            f"{result.across_count:,} files are labelled both real and generated. One of the two "
            "labels is wrong."
        )
    if not result.real and not result.fake:
        result.problems.append("None of the images can be read.")
    elif not result.real or not result.fake:
        kind = "generated" if result.fake else "real"
        result.warnings.append(f"There are only {kind} images, so nothing can be compared.")
    elif not result.leaks:
        result.warnings.append("There are too few images to compare real and generated ones.")
    if result.unreadable_count:
        result.warnings.append(f"{result.unreadable_count:,} images cannot be read.")
    if result.duplicates:
        result.warnings.append(f"{result.duplicates:,} files are duplicates.")
