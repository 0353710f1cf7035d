"""What a scan leaves: its rows as files, and a summary.

The database is authoritative. A part is written from it when its shard is finished, and again
at the end if it is missing. It is named by its shard and appears whole or not at all, so after
any number of interruptions each row is in exactly one part.
"""

from __future__ import annotations

import csv
import heapq
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from importlib.util import find_spec
from itertools import count, islice
from pathlib import Path

import msgspec

from d3.domain.errors import RequestInvalid
from d3.domain.files import replacing
from d3.domain.installation import extra_missing
from d3.domain.ports.scans import ScanLedger
from d3.domain.records import fields_of
from d3.domain.scans import ROW_FIELDS, Scan, ScanRow, stored_uri
from d3.evaluation.files import claim_folder, write_parquet, writing

FORMATS = ("csv", "jsonl", "parquet")
_OF = "scan.json"
_CHUNK_ROWS = 500
_TYPES = dict.fromkeys(ROW_FIELDS, "str") | {
    name: one.kind.__name__ for name, one in fields_of(ScanRow).items() if one.length is None
}


def best_format() -> str:
    """``parquet`` if pyarrow is installed, else ``csv``."""
    return "parquet" if find_spec("pyarrow") is not None else "csv"


def check_form(form: str | None) -> None:
    """See, before work begins, that files of this format can be written.

    Raises:
        RequestInvalid: Parquet without pyarrow.
    """
    if form == "parquet" and best_format() != form:
        raise extra_missing(RequestInvalid, "Parquet", "parquet")


def rows_of(
    ledger: ScanLedger,
    scan_id: int,
    *,
    shard: int | None = None,
    kind: str | None = None,
    disagree: bool | None = None,
    page: int = 5000,
) -> Iterator[ScanRow]:
    """Rows of a scan, a page at a time; see :meth:`ScanLedger.rows`."""
    after: str | None = None
    ask = partial(ledger.rows, scan_id, shard=shard, kind=kind, disagree=disagree, limit=page)
    while rows := ask(after=after):
        yield from rows
        after = rows[-1].uri
        if len(rows) < page:
            return


def write_rows(rows: Iterable[ScanRow], target: Path, form: str) -> None:
    """Write a file that appears whole or not at all.

    Args:
        rows: of the scan.
        target: is overwritten.
        form: one of :data:`FORMATS`.

    Raises:
        RequestInvalid: Parquet without pyarrow.
        StorageFailed: it cannot be written.
    """
    with writing(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
        if form == "parquet":
            if not write_parquet(rows, target, _TYPES):
                raise extra_missing(RequestInvalid, "Parquet", "parquet")
            return
        with replacing(target) as partial, partial.open("wb") as stream:
            stream.writelines(chunks_of(rows, form))


def chunks_of(rows: Iterable[ScanRow], form: str) -> Iterator[bytes]:
    """The rows as ``csv`` with a header or as ``jsonl``, in UTF-8, some hundred at a time."""
    if form == "csv":
        yield _csv_of([ROW_FIELDS])
    left = iter(rows)
    while some := list(islice(left, _CHUNK_ROWS)):
        values = ([getattr(row, one) for one in ROW_FIELDS] for row in some)
        if form == "csv":
            yield _csv_of([_text(value) for value in one] for one in values)
        else:
            lines = (msgspec.json.encode(dict(zip(ROW_FIELDS, one, strict=True))) for one in values)
            yield b"".join(line + b"\n" for line in lines)


class Parts:
    """The folder of a scan's parts.

    Args:
        folder: created if missing.
        form: ``csv`` or ``parquet``.

    Raises:
        RequestInvalid: the folder holds something else, such as another scan's parts.
        StorageFailed: it cannot be written.
    """

    def __init__(self, folder: Path, scan: Scan, ledger: ScanLedger, form: str) -> None:
        self.folder = folder
        self._scan = scan
        self._ledger = ledger
        self._form = form
        identity = {"scan": scan.name, "source": stored_uri(scan.source), "format": form}
        claim_folder(folder, _OF, identity, "scan")

    def write(self, shard: int) -> None:
        """Write the part of a finished shard."""
        rows = rows_of(self._ledger, self._scan.id, shard=shard)
        write_rows(rows, self._file(shard), self._form)

    def complete(self, shards: int) -> int:
        """Write the missing parts of a finished scan; how many parts there are."""
        for shard in range(shards):
            if not self._file(shard).exists():
                self.write(shard)
        return shards

    def _file(self, shard: int) -> Path:
        return self.folder / f"part-{shard:06d}.{self._form}"


def _csv_of(rows: Iterable[Sequence[object]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def _text(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else value


BINS = 50
_PREFIXES = 10_000
_SHOWN_ERRORS = 100
OTHERS = "(others)"


@dataclass(slots=True)
class PrefixCounts:
    """Counts below one prefix.

    Attributes:
        kinds: images by verdict, and ``error``.
        total: sum of the predictions.
    """

    kinds: Counter[str] = field(default_factory=Counter)
    total: float = 0.0

    @property
    def images(self) -> int:
        """Images with a row."""
        return self.kinds.total()

    @property
    def mean(self) -> float:
        """Mean prediction of those that were judged; NaN if none was."""
        judged = self.images - self.kinds["error"]
        return self.total / judged if judged else float("nan")

    @property
    def fake_share(self) -> float:
        """Of those that were judged; NaN if none was."""
        judged = self.images - self.kinds["error"]
        return self.kinds["fake"] / judged if judged else float("nan")


@dataclass(slots=True)
class Summary:
    """A summary of a scan's rows, from one pass in bounded memory.

    Attributes:
        histogram: images by prediction, :data:`BINS` bins of [0, 1].
        prefixes: by the first folder below the source; the largest ten thousand and the others.
        suspects: the highest predictions called fake, highest first.
        first_errors: some rows that could not be judged.
    """

    histogram: list[int] = field(default_factory=lambda: [0] * BINS)
    prefixes: dict[str, PrefixCounts] = field(default_factory=dict)
    suspects: list[ScanRow] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    first_errors: list[ScanRow] = field(default_factory=list)


def summarise(rows: Iterable[ScanRow], source: str, top: int) -> Summary:
    """Summarise the rows.

    Args:
        rows: of one scan.
        source: the scan's; prefixes are below it.
        top: how many suspects are kept.
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
