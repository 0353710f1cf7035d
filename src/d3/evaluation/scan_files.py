"""A scan's rows as files: a part for each shard, or all of them in one.

The rows of the database are what holds; a part is written from them when its shard is finished, and
again at the end if it is missing. Its name is the shard's and it appears whole or not at all, so
after any number of interruptions each row stands in exactly one part.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path

import msgspec

from d3.domain.errors import RequestInvalid
from d3.domain.files import replacing
from d3.domain.ports.scans import ScanLedger
from d3.domain.records import fields_of
from d3.domain.scans import ROW_FIELDS, Scan, ScanRow, stored_uri
from d3.evaluation.files import claim_folder, write_parquet, writing

FORMATS = ("csv", "jsonl", "parquet")
_OF = "scan.json"
_TYPES = dict.fromkeys(ROW_FIELDS, "str") | {
    name: one.kind.__name__ for name, one in fields_of(ScanRow).items() if one.length is None
}


def best_format() -> str:
    """``parquet`` where pyarrow is installed, else ``csv``."""
    return "parquet" if find_spec("pyarrow") is not None else "csv"


def rows_of(
    ledger: ScanLedger, scan_id: int, *, shard: int | None = None, page: int = 5000
) -> Iterator[ScanRow]:
    """Every row of a scan, or of one shard, in the database's order, a page in memory at a time."""
    after: str | None = None
    while rows := ledger.rows(scan_id, after=after, shard=shard, limit=page):
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
        RequestInvalid: Parquet is wanted, and pyarrow is not installed.
        StorageFailed: it cannot be written.
    """
    with writing(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
        if form == "parquet":
            if not write_parquet(rows, target, _TYPES):
                raise RequestInvalid("Parquet needs an extra package.", "pip install '.[parquet]'")
            return
        with replacing(target) as partial:
            (_write_csv if form == "csv" else _write_jsonl)(rows, partial)


class Parts:
    """The folder of a scan's parts.

    Args:
        folder: made if it is not there; one that holds another scan's parts is refused.
        scan: whose rows they are.
        ledger: holds the rows.
        form: ``csv`` or ``parquet``.

    Raises:
        RequestInvalid: the folder holds something else.
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
        """Write what is missing of a finished scan; how many parts there are."""
        for shard in range(shards):
            if not self._file(shard).exists():
                self.write(shard)
        return shards

    def _file(self, shard: int) -> Path:
        return self.folder / f"part-{shard:06d}.{self._form}"


def _write_csv(rows: Iterable[ScanRow], file: Path) -> None:
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(ROW_FIELDS)
        writer.writerows([_text(getattr(row, one)) for one in ROW_FIELDS] for row in rows)


def _write_jsonl(rows: Iterable[ScanRow], file: Path) -> None:
    with file.open("wb") as stream:
        for row in rows:
            stream.write(msgspec.json.encode({one: getattr(row, one) for one in ROW_FIELDS}))
            stream.write(b"\n")


def _text(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else value
