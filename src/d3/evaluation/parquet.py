"""Scores as Parquet, where pyarrow is installed (``pip install 'd3-deepfake[parquet]'``)."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from pathlib import Path

from d3.evaluation.scores import COLUMNS, Row

_ROWS_AT_ONCE = 10_000


def write_parquet(rows: Iterable[Row], target: Path) -> bool:
    """Write the rows, a few thousand in memory at a time; whether pyarrow was there to do it."""
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        return False
    kinds = {"float": pa.float64(), "int": pa.int64(), "str": pa.string()}
    schema = pa.schema([(name, kinds[Row.__annotations__[name]]) for name in COLUMNS])
    partial = target.with_name(f".{target.name}")
    iterator = iter(rows)
    try:
        with parquet.ParquetWriter(partial, schema) as writer:
            while chunk := list(islice(iterator, _ROWS_AT_ONCE)):
                columns = {name: [_text(getattr(row, name)) for row in chunk] for name in COLUMNS}
                writer.write_table(pa.table(columns, schema=schema))
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return True


def _text(value: object) -> object:
    """Parquet holds UTF-8 only: names that are none are shown with escapes."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return value
