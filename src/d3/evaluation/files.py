"""The output folder of an evaluation, scan or training, and rows as Parquet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from d3.domain.errors import RequestInvalid
from d3.domain.files import put, replacing, storage_errors

_ROWS_AT_ONCE = 10_000
_ANOTHER = "Choose another folder with --out."


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Translate errors of writing to a folder whose finished parts are kept.

    Raises:
        StorageFailed: it cannot be written.
    """
    with storage_errors(
        f"{folder} cannot be written. Finished results are kept",
        "Free some space or choose another folder. Run the same command again to continue.",
    ):
        yield


def claim_folder(folder: Path, record: str, identity: Mapping[str, Any], what: str) -> None:
    """Start work in a new or empty folder, or resume the same work in its own.

    Args:
        folder: created if missing.
        record: the name of the file in it that identifies the work.
        identity: the file's content.
        what: the kind of work, such as ``run``.

    Raises:
        RequestInvalid: it holds something else.
        StorageFailed: it cannot be written.
    """
    file, text = folder / record, msgspec.json.encode(identity)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if file.exists():
            ours: dict[str, Any] = msgspec.json.decode(text)
            found: dict[str, Any] = {}
            with suppress(msgspec.DecodeError):
                found = msgspec.json.decode(file.read_bytes(), type=dict[str, Any])
            if found != ours:
                others = [name for name in ours if found.get(name) != ours[name]]
                raise RequestInvalid(
                    f"{folder} holds another {what} (different {', '.join(others)}).", _ANOTHER
                )
        elif any(folder.iterdir()):
            raise RequestInvalid(
                f"{folder} is not empty and does not hold a {what} of D3.", _ANOTHER
            )
        else:
            put(file, msgspec.json.format(text, indent=1) + b"\n")


def write_parquet(rows: Iterable[object], target: Path, columns: Mapping[str, str]) -> bool:
    """Write the rows, a few thousand in memory at a time; False without pyarrow.

    Args:
        rows: objects with an attribute for each column.
        target: appears when it is whole.
        columns: by name, ``float``, ``int``, ``str`` or ``datetime``.
    """
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        return False
    kinds = {
        "float": pa.float64(),
        "int": pa.int64(),
        "str": pa.string(),
        "datetime": pa.timestamp("us", tz="UTC"),
    }
    schema = pa.schema([(name, kinds[kind]) for name, kind in columns.items()])
    iterator = iter(rows)
    with replacing(target) as partial, parquet.ParquetWriter(partial, schema) as writer:
        while chunk := list(islice(iterator, _ROWS_AT_ONCE)):
            values = {name: [_text(getattr(row, name)) for row in chunk] for name in columns}
            writer.write_table(pa.table(values, schema=schema))
    return True


def _text(value: object) -> object:
    """Parquet holds UTF-8 only: invalid names are shown with escapes."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return value
