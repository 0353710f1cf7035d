"""What a scan found, from one pass over its rows in bounded memory."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import count

from d3.domain.scans import ScanRow

BINS = 50
_PREFIXES = 10_000
_SHOWN_ERRORS = 100
OTHERS = "(others)"


@dataclass(slots=True)
class PrefixCounts:
    """How the images below one prefix ended.

    Attributes:
        kinds: images by verdict, and ``error``.
        total: sum of the predictions.
    """

    kinds: Counter[str] = field(default_factory=Counter)
    total: float = 0.0

    @property
    def images(self) -> int:
        """With a row."""
        return self.kinds.total()

    @property
    def mean(self) -> float:
        """Prediction of those that were judged; NaN where none was."""
        judged = self.images - self.kinds["error"]
        return self.total / judged if judged else float("nan")

    @property
    def fake_share(self) -> float:
        """Of those that were judged; NaN where none was."""
        judged = self.images - self.kinds["error"]
        return self.kinds["fake"] / judged if judged else float("nan")


@dataclass(slots=True)
class Summary:
    """A scan's rows, summed up.

    Attributes:
        histogram: images by prediction, :data:`BINS` bins of [0, 1].
        prefixes: by the first folder below the source; the largest ten thousand and the others.
        suspects: of the rows called fake those with the highest predictions, highest first.
        reasons: verdicts left open, by reason.
        errors: images by code.
        first_errors: some rows that could not be judged.
    """

    histogram: list[int] = field(default_factory=lambda: [0] * BINS)
    prefixes: dict[str, PrefixCounts] = field(default_factory=dict)
    suspects: list[ScanRow] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    first_errors: list[ScanRow] = field(default_factory=list)


def summarise(rows: Iterable[ScanRow], source: str, top: int) -> Summary:
    """Sum up the rows.

    Args:
        rows: of one scan.
        source: the scan's, below which prefixes begin.
        top: suspects that are kept.
    """
    summary = Summary()
    worst: list[tuple[float, int, ScanRow]] = []
    root = root_of(source)
    order = count()
    for row in rows:
        prefix = prefix_of(row.uri, root)
        if prefix not in summary.prefixes and len(summary.prefixes) >= _PREFIXES:
            prefix = OTHERS
        below = summary.prefixes.setdefault(prefix, PrefixCounts())
        below.kinds[row.kind] += 1
        if row.prediction is None:
            summary.errors[row.error or "error"] += 1
            if len(summary.first_errors) < _SHOWN_ERRORS:
                summary.first_errors.append(row)
            continue
        below.total += row.prediction
        if row.reason:
            summary.reasons[row.reason] += 1
        summary.histogram[min(int(row.prediction * BINS), BINS - 1)] += 1
        if top and row.verdict == "fake":
            # Of equal predictions the first stay, and rows themselves are never compared.
            entry = (row.prediction, -next(order), row)
            (heapq.heappush if len(worst) < top else heapq.heappushpop)(worst, entry)
    summary.suspects = [row for _, _, row in sorted(worst, reverse=True)]
    return summary


def root_of(source: str) -> str:
    """What the URIs of a source have in common, up to a slash."""
    stem = source
    for sign in "*?[":
        stem = stem.partition(sign)[0]
    if stem != source or source.lower().endswith((".txt", ".csv", ".parquet", ".lst", ".list")):
        return stem[: stem.rfind("/") + 1]
    return stem if stem.endswith("/") else f"{stem}/"


def prefix_of(uri: str, root: str) -> str:
    """The first folder below the root, ``./`` for what lies in it, else the URI's own folder."""
    if uri.startswith(root):
        folder, slash, _ = uri[len(root) :].partition("/")
        return f"{folder}/" if slash else "./"
    return uri[: uri.rfind("/") + 1] or "./"
