"""Data sets: folders in the field's layouts or a CSV, read one image at a time.

A folder tells the kind of an image by the folders on the way to it that are called ``real``,
``0_real`` or ``nature`` (a camera's), or ``fake``, ``1_fake`` or ``ai`` (generated); a path with
folders of both kinds is refused. The generator is the first other folder above the first of these,
else the first below it (``fake/GENERATOR``), else the data set's own name; ``train``, ``val`` and
``test`` name no generator. Real images without a generator stand against the only one of their
folder or CSV, else against every generator.
"""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from d3.domain.errors import RequestInvalid, shown
from d3.domain.folders import files_below, unreadable_folder
from d3.domain.formats import named_as_image
from d3.domain.tables import SAMPLE_CHARACTERS, delimiter_of

REAL_FOLDERS = frozenset({"real", "0_real", "nature"})
FAKE_FOLDERS = frozenset({"fake", "1_fake", "ai"})
_SPLITS = frozenset({"train", "val", "valid", "validation", "test"})
_COLUMNS = ("path", "label", "generator")
_LABELS = {"real": False, "0": False, "fake": True, "1": True}
_LAYOUTS = (
    "A data set is a folder with real/ and fake/ (or 0_real/ and 1_fake/, nature/ and ai/) at any "
    "depth, or a CSV file with the columns path,label,generator."
)


class DatasetInvalid(RequestInvalid):
    """A data set that cannot be used: not there, no images, a CSV that cannot be understood."""

    code = "invalid_dataset"


@dataclass(frozen=True, slots=True)
class Item:
    """One image of a data set.

    Attributes:
        fake: whether it is generated.
        generator: whose it is; for a real image, whose it stands against; empty for all.
        named: whether somebody says it is an image: its suffix, or a CSV.
    """

    path: str
    fake: bool
    generator: str
    named: bool


@dataclass(slots=True)
class Counts:
    """What a look through a data set found, before any image is opened.

    Attributes:
        real: files of real images, by generator.
        fake: files of generated images, by generator.
        outside: files in no folder that says their kind.
    """

    real: Counter[str] = field(default_factory=Counter)
    fake: Counter[str] = field(default_factory=Counter)
    outside: int = 0

    @property
    def total(self) -> int:
        """Files of either kind."""
        return self.real.total() + self.fake.total()

    @property
    def generators(self) -> list[str]:
        """Every generator with generated images, by name."""
        return sorted(self.fake)


class Dataset:
    """One or more folders or CSV files, read in an order that is always the same.

    Raises:
        DatasetInvalid: one of them is neither.
    """

    def __init__(self, sources: Sequence[str | Path]) -> None:
        self.sources = [str(one) for one in sources]
        self._sole: dict[str, str] | None = None
        for one in self.sources:
            if not os.path.exists(one):  # noqa: PTH110  Path.exists raises at a NUL
                raise DatasetInvalid(f"There is no data set at {shown(one)}.", _LAYOUTS)

    def items(self) -> Iterator[Item]:
        """Every image, in order; memory does not grow with their number.

        Raises:
            DatasetInvalid: a line of a CSV makes no sense, or a folder cannot be read.
        """
        if self._sole is None:
            self.count()
        assert self._sole is not None
        for one in self.sources:
            sole = self._sole[one]
            for item in self._items_of(one):
                if isinstance(item, Item):
                    yield item if item.generator else replace(item, generator=sole)

    def count(self) -> Counts:
        """Look through everything once; every CSV line is checked.

        Raises:
            DatasetInvalid: as :meth:`items`, or there is not one image.
        """
        counts = Counts()
        self._sole = {}
        for one in self.sources:
            here = Counts()
            for item in self._items_of(one):
                if isinstance(item, Item):
                    (here.fake if item.fake else here.real)[item.generator] += 1
                else:
                    counts.outside += 1
            self._sole[one] = here.generators[0] if len(here.fake) == 1 else ""
            nameless = here.real.pop("", 0)
            here.real[self._sole[one]] += nameless
            counts.real.update(+here.real)
            counts.fake.update(here.fake)
        if not counts.total:
            found = (
                f" {counts.outside:,} files are outside these folders." if counts.outside else ""
            )
            raise DatasetInvalid(
                f"No real or generated images were found in {', '.join(self.sources)}.{found}",
                _LAYOUTS,
            )
        return counts

    def _items_of(self, source: str) -> Iterator[Item | None]:
        if os.path.isdir(source):  # noqa: PTH112
            return _folder_items(source)
        return _csv_items(Path(source))


def _folder_items(root: str) -> Iterator[Item | None]:
    """Images below a folder; None for a file whose kind is unknown."""
    above = Path(root).resolve().parts[1:]
    known: tuple[bool, str] | None = None
    looked_at: str | None = None
    for path, trouble in files_below(root, follow_links=True):
        if trouble is not None:
            error = unreadable_folder(os.path.join(root, path), trouble)  # noqa: PTH118
            raise DatasetInvalid(error.problem, error.remedy) from trouble
        folder, name = os.path.split(path)
        if folder != looked_at:
            looked_at, inside = folder, Path(folder).parts
            _check_one_kind(path, inside)
            known = _kind_and_generator(above, inside)
        if known is None:
            yield None
        else:
            yield Item(os.path.join(root, path), *known, named_as_image(name))  # noqa: PTH118


def _check_one_kind(path: str, inside: Sequence[str]) -> None:
    """Check that the folders of a path do not name both kinds."""
    real = next((part for part in inside if part.lower() in REAL_FOLDERS), None)
    fake = next((part for part in inside if part.lower() in FAKE_FOLDERS), None)
    if real is not None and fake is not None:
        raise DatasetInvalid(
            f"The path {shown(path, 200)} is ambiguous: {shown(real)} is a folder for real images "
            f"and {shown(fake)} one for generated images.",
            "Rename one of the folders, or use the folder below it as the data set.",
        )


def _kind_and_generator(above: Sequence[str], inside: Sequence[str]) -> tuple[bool, str] | None:
    """Whether the folders say generated, and the generator's name."""
    lowered = [part.lower() for part in inside]
    place = next((i for i, part in enumerate(lowered) if _is_kind(part)), None)
    if place is None:
        if not above or not _is_kind(above[-1].lower()):
            return None
        fake, before, after = above[-1].lower() in FAKE_FOLDERS, inside[:0], inside
        above = above[:-1]
    else:
        fake, before, after = lowered[place] in FAKE_FOLDERS, inside[:place], inside[place + 1 :]
    named = _first_name(before) or (_first_name(after) if fake else None)
    if named is None and fake:
        named = _first_name(above[::-1]) or "fake"
    if named is None:
        named = ""
    return fake, named


def _is_kind(name: str) -> bool:
    return name in REAL_FOLDERS or name in FAKE_FOLDERS


def _first_name(parts: Sequence[str]) -> str | None:
    return next((part for part in parts if part.lower() not in _SPLITS), None)


def _csv_items(file: Path) -> Iterator[Item]:
    """The images that a CSV names; paths are relative to its folder."""
    try:
        with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
            sample = stream.read(SAMPLE_CHARACTERS)
            stream.seek(0)
            delimiter = delimiter_of(sample, lambda head: set(_COLUMNS[:2]) <= set(head))
            reader = csv.DictReader(stream, strict=True, delimiter=delimiter)
            _check_columns(file, reader.fieldnames)
            for row in reader:
                yield _csv_item(file, reader.line_num, row)
    except OSError as error:
        raise DatasetInvalid(
            f"{shown(str(file))} cannot be read ({error.strerror}).", _LAYOUTS
        ) from error
    except csv.Error as error:
        raise DatasetInvalid(f"{shown(str(file))} is not valid CSV ({error}).", _LAYOUTS) from error


def _check_columns(file: Path, names: Sequence[str] | None) -> None:
    unknown = [name for name in names or [] if name not in _COLUMNS]
    missing = [name for name in _COLUMNS[:2] if name not in (names or [])]
    if unknown or missing:
        parts = [f"does not know the column {shown(name, 40)}" for name in unknown[:5]]
        parts += [f"needs a column {name!r}" for name in missing]
        raise DatasetInvalid(
            f"{shown(str(file))} has unexpected columns: D3 {'; '.join(parts)}.",
            "The first line must be path,label,generator. The generator can be left out.",
        )


def _csv_item(file: Path, line: int, row: Mapping[str | None, str | None]) -> Item:
    label = _LABELS.get((row["label"] or "").strip().lower())
    path = row["path"] or ""
    if label is None or not path or None in row:
        wrong = (
            f"the label {shown(row['label'])}"
            if label is None
            else "no path"
            if not path
            else "too many values"
        )
        raise DatasetInvalid(
            f"Line {line} of {shown(str(file))} has {wrong}.",
            "A label is real or fake (or 0 or 1). Put values that contain a comma in double "
            "quotes.",
        )
    named = (row.get("generator") or "").strip()
    generator = named or (file.stem if label else "")
    return Item(os.path.join(file.parent, path), label, generator, named=True)  # noqa: PTH118
