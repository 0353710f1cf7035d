"""Scores on disk: one CSV row for each image and condition, written as they come.

A row is whole or not there: a torn one is cut off before writing resumes. While the work is
unfinished the file is called ``scores.partial.csv``.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
from array import array
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d3.evaluation.files import writing
from d3.evaluation.metrics import Numbers

FINISHED, UNFINISHED = "scores.csv", "scores.partial.csv"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One image under one condition.

    Attributes:
        condition: a perturbation's name; ``original`` for the image as it is.
        label: ``real`` or ``fake``: the truth.
        generator: see :class:`d3.evaluation.dataset.Item`.
        prediction: probability in [0, 1] that it is generated.
        logit: mean over the views, before calibration.
        spread: largest minus smallest probability of the views.
        verdict: ``real``, ``fake`` or ``uncertain``.
        format: of the original; so are width, height, bytes and sha256.
        error: why it could not be judged, a stable word; then what is not known is empty.
        reason: why the verdict is ``uncertain``, a word of :class:`d3.domain.scoring.Reason`.
        notice: what must be said beside the verdict, from the model's manifest.
    """

    condition: str
    path: str
    label: str
    generator: str
    prediction: float | None = None
    logit: float | None = None
    spread: float | None = None
    verdict: str = ""
    format: str = ""
    width: int | None = None
    height: int | None = None
    bytes: int | None = None
    sha256: str = ""
    error: str = ""
    reason: str = ""
    notice: str = ""


COLUMNS = tuple(one.name for one in fields(Row))
PARQUET = {one.name: str(one.type).removesuffix(" | None") for one in fields(Row)}
"""The columns' types, for :func:`d3.evaluation.files.write_parquet`."""

_KINDS = {"prediction": float, "logit": float, "spread": float} | dict.fromkeys(
    ("width", "height", "bytes"), int
)


class ScoreFile:
    """The rows of one evaluation, in a folder.

    Args:
        folder: made if it is not there.

    Raises:
        StorageFailed: it cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.finished, self.unfinished = folder / FINISHED, folder / UNFINISHED
        self._stream: io.TextIOWrapper | None = None
        self._since_flush = 0
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            if self.finished.exists() and not self.unfinished.exists():
                self.finished.replace(self.unfinished)
            if not self.unfinished.exists():
                self._start()

    def known(self) -> Known:
        """Which rows are there; a torn one is cut off first."""
        hashes, end = array("Q"), 0
        for row, end in _rows(self.unfinished):  # noqa: B007
            hashes.append(hash_of(row.condition, row.path))
        with writing(self.unfinished.parent):
            if not end:
                self._start()
            elif end < self.unfinished.stat().st_size:
                os.truncate(self.unfinished, end)
        return Known(np.sort(np.frombuffer(hashes, dtype=np.uint64)))

    def append(self, row: Row) -> None:
        """Add a row; rows are flushed every few."""
        with writing(self.unfinished.parent):
            if self._stream is None:
                self._stream = self.unfinished.open(
                    "a", encoding="utf-8", errors="surrogateescape", newline=""
                )
            csv.writer(self._stream, lineterminator="\n").writerow(
                [getattr(row, name) for name in COLUMNS]
            )
            self._since_flush += 1
            if self._since_flush >= 32:
                self._since_flush = 0
                self._stream.flush()

    def close(self, *, complete: bool) -> None:
        """Flush everything; a complete file gets its final name."""
        with writing(self.unfinished.parent):
            stream, self._stream = self._stream, None
            if stream is not None:
                try:
                    stream.flush()
                    os.fsync(stream.fileno())
                finally:
                    with suppress(OSError):  # the flush has failed already, and said so
                        stream.close()
            if complete:
                self.unfinished.replace(self.finished)

    def rows(self) -> Iterator[Row]:
        """Every row, in the order of writing."""
        file = self.finished if self.finished.exists() else self.unfinished
        return (row for row, _ in _rows(file))

    def _start(self) -> None:
        self.unfinished.write_text(",".join(COLUMNS) + "\n", encoding="utf-8")


class Known:
    """The images that have a row already."""

    def __init__(self, hashes: NDArray[np.uint64]) -> None:
        self._hashes = hashes

    def __len__(self) -> int:
        return len(self._hashes)

    def has(self, condition: str, path: str) -> bool:
        """Whether this image has a row under this condition."""
        sought = np.uint64(hash_of(condition, path))
        place = np.searchsorted(self._hashes, sought)
        return bool(place < len(self._hashes) and self._hashes[place] == sought)


@dataclass(frozen=True, slots=True)
class Scores:
    """The scores of one condition as arrays [n], rows with errors left out.

    Attributes:
        generator: positions in ``names``.
        logit: mean over the views, before calibration.
        names: the generators, and the empty name of real images without one.
    """

    fake: NDArray[np.bool_]
    generator: NDArray[np.int64]
    logit: Numbers
    prediction: Numbers
    spread: Numbers
    uncertain: NDArray[np.bool_]
    names: tuple[str, ...]


@dataclass(slots=True)
class _Columns:
    fake: array[int] = field(default_factory=lambda: array("b"))
    generator: array[int] = field(default_factory=lambda: array("q"))
    logit: array[float] = field(default_factory=lambda: array("d"))
    prediction: array[float] = field(default_factory=lambda: array("d"))
    spread: array[float] = field(default_factory=lambda: array("d"))
    uncertain: array[int] = field(default_factory=lambda: array("b"))


def gather(rows: Iterable[Row]) -> dict[str, Scores]:
    """Rows as arrays, by condition."""
    conditions: dict[str, _Columns] = {}
    names: dict[str, int] = {}
    for row in rows:
        if row.error:
            continue
        assert row.logit is not None
        assert row.prediction is not None
        assert row.spread is not None
        columns = conditions.setdefault(row.condition, _Columns())
        columns.fake.append(row.label == "fake")
        columns.generator.append(names.setdefault(row.generator, len(names)))
        columns.logit.append(row.logit)
        columns.prediction.append(row.prediction)
        columns.spread.append(row.spread)
        columns.uncertain.append(row.verdict == "uncertain")
    return {
        name: Scores(
            fake=np.array(columns.fake, dtype=bool),
            generator=np.array(columns.generator, dtype=np.int64),
            logit=np.array(columns.logit),
            prediction=np.array(columns.prediction),
            spread=np.array(columns.spread),
            uncertain=np.array(columns.uncertain, dtype=bool),
            names=tuple(names),
        )
        for name, columns in conditions.items()
    }


def hash_of(condition: str, path: str) -> int:
    """64 bits for an image under a condition."""
    text = f"{condition}\0{path}".encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest())


def _rows(file: Path) -> Iterator[tuple[Row, int]]:
    """Whole rows, each with the number of bytes up to its end; stops at an invalid one."""
    read = 0

    def lines(stream: io.BufferedReader) -> Iterator[str]:
        nonlocal read
        for line in stream:
            if not line.endswith(b"\n"):
                return  # torn off
            read += len(line)
            yield line.decode("utf-8", "surrogateescape")

    with file.open("rb") as stream, suppress(csv.Error):
        reader = csv.reader(lines(stream), strict=True)
        if next(reader, None) != list(COLUMNS):
            return
        for values in reader:
            if len(values) != len(COLUMNS):
                return
            yield _row(values), read


def _row(values: list[str]) -> Row:
    given: dict[str, Any] = {
        name: None if name in _KINDS and not value else _KINDS.get(name, str)(value)
        for name, value in zip(COLUMNS, values, strict=True)
    }
    return Row(**given)
