"""Rows as Parquet, where pyarrow is installed (``pip install '.[parquet]'``)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path

from d3.evaluation.files import replacing

_ROWS_AT_ONCE = 10_000


def write_parquet(rows: Iterable[object], target: Path, columns: Mapping[str, str]) -> bool:
    """Write the rows, a few thousand in memory at a time; whether pyarrow was there to do it.

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
    """Parquet holds UTF-8 only: names that are none are shown with escapes."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return value
