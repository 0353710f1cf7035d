"""Scores on disk: one CSV row for each image and condition, written as they come.

A row is whole or not there: a torn one is cut off before writing resumes. While the work is
unfinished the file is called ``scores.partial.csv``. Where a panel judged, a row is the chief's,
with five more columns for each other member and one for what each rule makes of them.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d3.domain.panels import PanelRule
from d3.evaluation.files import writing
from d3.evaluation.metrics import Numbers

FINISHED, UNFINISHED = "scores.csv", "scores.partial.csv"


@dataclass(frozen=True, slots=True)
class Said:
    """What another member of a panel said of an image; all empty where it gave no opinion.

    Attributes:
        prediction: probability in [0, 1] that it is generated.
        logit: mean over the views, before calibration.
        spread: largest minus smallest probability of the views.
        verdict: its own: ``real``, ``fake`` or ``uncertain``.
        reason: why it is ``uncertain``.
    """

    prediction: float | None = None
    logit: float | None = None
    spread: float | None = None
    verdict: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One image under one condition, as one model judged it: the only one, or a panel's chief.

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
        agreement: of a panel, a word of :class:`d3.domain.panels.Agreement`; empty where fewer
            than two members gave an opinion.
        by_rule: the panel's verdict by each :class:`d3.domain.panels.PanelRule`, in its order.
        others: what the panel's other members said, in their order.
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
    agreement: str = ""
    by_rule: tuple[str, ...] = ()
    others: tuple[Said, ...] = ()


_TYPES, _OF_MEMBER = (
    {one.name: str(one.type).removesuffix(" | None") for one in fields(record)}
    for record in (Row, Said)
)
_OF_PANEL = {"agreement", "by_rule", "others"}
_OF_ROW = {name: kind for name, kind in _TYPES.items() if name not in _OF_PANEL}
_READ = {"float": float, "int": int, "str": str}


class ScoreFile:
    """The rows of one evaluation, in a folder.

    Args:
        folder: made if it is not there.
        others: names of a panel's members besides the chief.

    Attributes:
        columns: their types by their names, for :func:`d3.evaluation.files.write_parquet`.

    Raises:
        StorageFailed: it cannot be written.
    """

    def __init__(self, folder: Path, others: Sequence[str] = ()) -> None:
        self._others = len(others)
        self.columns = dict(_OF_ROW)
        if others:
            self.columns["agreement"] = "str"
            self.columns |= {f"by {rule}": "str" for rule in PanelRule}
            self.columns |= {
                f"{name} {field}": kind for name in others for field, kind in _OF_MEMBER.items()
            }
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
        for row, end in self._read(self.unfinished):  # noqa: B007
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
            csv.writer(self._stream, lineterminator="\n").writerow(self._values(row))
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
        return (row for row, _ in self._read(file))

    def records(self) -> Iterator[SimpleNamespace]:
        """Every row with an attribute for each column."""
        for row in self.rows():
            yield SimpleNamespace(**dict(zip(self.columns, self._values(row), strict=True)))

    def _start(self) -> None:
        self.unfinished.write_text(",".join(self.columns) + "\n", encoding="utf-8")

    def _values(self, row: Row) -> list[object]:
        """A row's values in the order of the columns."""
        values: list[object] = [getattr(row, name) for name in _OF_ROW]
        if self._others:
            others = row.others or (Said(),) * self._others
            values += [row.agreement, *(row.by_rule or ("",) * len(PanelRule))]
            values += [getattr(one, name) for one in others for name in _OF_MEMBER]
        return values

    def _row(self, values: list[str]) -> Row:
        found: list[Any] = [
            None if kind != "str" and not text else _READ[kind](text)
            for text, kind in zip(values, self.columns.values(), strict=True)
        ]
        own = len(_OF_ROW)
        row = Row(**dict(zip(self.columns, found[:own], strict=False)))
        if not self._others or row.error:
            return row
        rules, size = own + 1 + len(PanelRule), len(_OF_MEMBER)
        return replace(
            row,
            agreement=found[own],
            by_rule=tuple(found[own + 1 : rules]),
            others=tuple(
                Said(*found[start : start + size]) for start in range(rules, len(found), size)
            ),
        )

    def _read(self, file: Path) -> Iterator[tuple[Row, int]]:
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
            if next(reader, None) != list(self.columns):
                return
            for values in reader:
                if len(values) != len(self.columns):
                    return
                yield self._row(values), read


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


def of_member(rows: Iterable[Row], number: int) -> Iterator[Row]:
    """The rows as one member of the panel judged them; those without its opinion are left out.

    Args:
        rows: of a panel.
        number: of the member; 0 is the chief.
    """
    for row in rows:
        if not number or row.error:
            yield row
            continue
        said = row.others[number - 1]
        if said.logit is not None:
            yield replace(row, **{name: getattr(said, name) for name in _OF_MEMBER})


def hash_of(condition: str, path: str) -> int:
    """64 bits for an image under a condition."""
    text = f"{condition}\0{path}".encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest())
