"""The photographs that the starter learns from, is calibrated on and is measured on.

They are not part of D3: ``photographs.csv`` names each by its package, its file and the SHA-256 of
its bytes, and a folder that holds them is searched for those. No package is in two parts. Those of
the part ``train`` have licences that let derived weights be passed on; the others only measure.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib import resources
from pathlib import Path

from PIL import Image as PillowImage

from d3.domain.errors import RequestInvalid
from d3.domain.models import file_of

_COLUMNS = ("package", "name", "sha256", "licence", "author")
_IMAGES = {".jpg", ".jpeg", ".png", ".webp"}


class Part(StrEnum):
    """What a photograph is for."""

    TRAIN = "train"
    CALIBRATE = "calibrate"
    TEST = "test"


@dataclass(frozen=True, slots=True)
class Photograph:
    """A line of the table.

    Attributes:
        name: of its file in the package.
        author: who is to be credited; may be empty where only measured.
    """

    part: Part
    package: str
    name: str
    sha256: str
    licence: str
    author: str = ""


@dataclass(frozen=True, slots=True)
class Collection:
    """Photographs with their files, in the table's order."""

    files: tuple[tuple[Photograph, Path], ...]

    def of(self, part: Part) -> tuple[tuple[Photograph, Path], ...]:
        """Those of a part."""
        return tuple(one for one in self.files if one[0].part is part)

    def packages(self, part: Part) -> dict[str, int]:
        """How many photographs each package of a part has."""
        counts: dict[str, int] = {}
        for photograph, _ in self.of(part):
            counts[photograph.package] = counts.get(photograph.package, 0) + 1
        return counts

    def read(self, part: Part) -> list[PillowImage.Image]:
        """The decoded photographs of a part, RGB."""
        return [opened(file) for _, file in self.of(part)]


def opened(file: Path) -> PillowImage.Image:
    """Return a file's image, RGB."""
    with PillowImage.open(file) as image:
        return image.convert("RGB")


def table() -> tuple[Photograph, ...]:
    """All photographs of ``photographs.csv``."""
    text = (
        resources.files("d3.training.starter")
        .joinpath("photographs.csv")
        .read_text(encoding="utf-8")
    )
    return tuple(
        Photograph(Part(row["part"]), *(row[name] for name in _COLUMNS))
        for row in csv.DictReader(text.splitlines())
    )


def find(
    folder: Path,
    wanted: Sequence[Photograph] | None = None,
    progress: Callable[[float], None] = lambda _share: None,
) -> Collection:
    """Find photographs anywhere below a folder, by their content.

    Raises:
        RequestInvalid: some of them are not there.
    """
    wanted = table() if wanted is None else wanted
    found: dict[str, Path] = {}
    files = sorted(one for one in folder.rglob("*") if one.suffix.lower() in _IMAGES)
    for done, file in enumerate(files, start=1):
        found.setdefault(file_of(file).sha256, file)
        progress(done / len(files))
    missing = [one for one in wanted if one.sha256 not in found]
    if missing:
        first = missing[0]
        raise RequestInvalid(
            f"{len(missing)} of the {len(wanted)} photographs are missing from {folder}. The first "
            f"is {first.name} of the package {first.package}.",
            "Run `python -m tests.real.fetch FOLDER photos` in D3's repository to download them.",
        )
    return Collection(tuple((one, found[one.sha256]) for one in wanted))
