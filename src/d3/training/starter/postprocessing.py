"""What happens to a picture before the detector sees it: cutting, resizing, files, squashing.

The detector sees every image squashed to the side of its encoder. Training pictures come the same
way: cut from an original, made smaller, stored in files of some format and quality, decoded, and
squashed by the decoder's own filter.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from d3.training.starter.filters import Image
from d3.training.starter.generators import Pictures


@dataclass(frozen=True, slots=True)
class FileFormat:
    """How a pair is stored; `quality` 0 stands for a lossless file."""

    quality: int
    subsampling: int  # Pillow's: 0 is 4:4:4, 2 is 4:2:0


def draw_file_format(rng: np.random.Generator) -> FileFormat:
    """Draw a file format: mostly JPEG of quality 80 to 98, sometimes lossless."""
    lossless = rng.random() < 0.2
    return FileFormat(
        quality=0 if lossless else int(rng.integers(80, 99)), subsampling=int(rng.choice([0, 2]))
    )


def to_pixels(picture: Image) -> NDArray[np.uint8]:
    """Round a picture in [0, 1] to 8 bits."""
    return np.asarray(np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)


def encode(picture: Image, file_format: FileFormat) -> tuple[bytes, str]:
    """Return the file of a picture in [0, 1], and its suffix."""
    pixels = to_pixels(picture)
    if file_format.quality:
        return jpeg(pixels, file_format.quality, file_format.subsampling), "jpg"
    file = io.BytesIO()
    PillowImage.fromarray(pixels).save(file, "PNG")
    return file.getvalue(), "png"


def jpeg(pixels: NDArray[np.uint8], quality: int, subsampling: int = 2) -> bytes:
    """Return pixels [S, S, 3] as a JPEG file."""
    file = io.BytesIO()
    PillowImage.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling=subsampling)
    return file.getvalue()


LEAST_SCALE = 0.8  # of a part's pixels to those of the picture it becomes
MULTIPLE = 8  # sides are multiples of it, so that every generator takes them
_FILTERS = (
    PillowImage.Resampling.BILINEAR,
    PillowImage.Resampling.BICUBIC,
    PillowImage.Resampling.LANCZOS,
    PillowImage.Resampling.BOX,
)


@dataclass(frozen=True, slots=True)
class PostProcessing:
    """What is done to a picture before somebody meets it; alike for both of a pair.

    Attributes:
        shrink: factor of its sides, at most one.
        files: format and quality, one file after the other; quality 0 is lossless.
        subsampling: Pillow's, of JPEG: 0 is 4:4:4, 2 is 4:2:0.
        filter: Pillow's, of the shrinking.
    """

    shrink: float
    files: tuple[tuple[str, int], ...]
    subsampling: int
    filter: int

    def then_jpeg(self, quality: int) -> PostProcessing:
        """Return the same with one more JPEG file at the end; quality 0 adds none."""
        more = (("JPEG", quality),) if quality else ()
        return PostProcessing(self.shrink, (*self.files, *more), self.subsampling, self.filter)


UNCHANGED_FILE = PostProcessing(1.0, (), 2, PillowImage.Resampling.BILINEAR)


def draw_postprocessing(rng: np.random.Generator) -> PostProcessing:
    """Draw one: a third is shrunk, most are JPEG or WebP files, some were stored twice."""
    files = [_draw_file(rng)]
    if rng.random() < 0.3:
        files.append(_draw_file(rng))
    return PostProcessing(
        shrink=float(rng.uniform(0.6, 1.0)) if rng.random() < 0.3 else 1.0,
        files=tuple(files),
        subsampling=int(rng.choice([0, 2])),
        filter=int(rng.choice(_FILTERS)),
    )


def _draw_file(rng: np.random.Generator) -> tuple[str, int]:
    kind = rng.choice(["JPEG", "WEBP", "PNG"], p=[0.55, 0.25, 0.2])
    if kind == "PNG":
        return "PNG", 0
    return str(kind), int(rng.integers(60, 99))


def cut(
    original: PillowImage.Image, chance: np.random.Generator, sides: tuple[int, int]
) -> Pictures:
    """Cut a part of an original and bring it to a size drawn from `sides`: [H, W, 3].

    The longer side is drawn evenly on a logarithmic scale, the shape between 1:2 and 2:1. The part
    is hardly ever enlarged by more than a quarter; how much it is made smaller is drawn too.
    """
    low, high = sides
    full = np.array(original.size)
    longer = np.exp(chance.uniform(np.log(low), np.log(max(low, min(high, 1.25 * full.max())))))
    shape = full[0] / full[1] if chance.random() < 0.5 else np.exp(chance.normal(0, 0.3))
    shape = np.clip(shape, 0.5, 2)
    target = longer * np.minimum(1, [shape, 1 / shape])
    target *= min(1, float(np.min(full / target)) / LEAST_SCALE)
    target = np.maximum(1, np.round(target / MULTIPLE)).astype(int) * MULTIPLE
    most = float(np.min(full / target))
    scale = float(np.exp(chance.uniform(np.log(min(most, LEAST_SCALE)), np.log(most))))
    as_stored = most >= 1 and abs(scale - 1) < 0.15
    part = target if as_stored else target * scale
    corner = chance.uniform(0, 1, 2) * np.maximum(0, full - part)
    left, top = np.floor(corner) if as_stored else corner
    box = (left, top, min(full[0], left + part[0]), min(full[1], top + part[1]))
    filter_ = PillowImage.Resampling(int(chance.choice(_FILTERS)))
    small = original.resize((int(target[0]), int(target[1])), filter_, box=box)
    return np.asarray(small)


def postprocess(picture: Pictures | Image, how: PostProcessing, size: int) -> Pictures:
    """Return what the detector sees of a picture [H, W, 3] that was published so: [size, size, 3].

    Floats are in [0, 1].
    """
    image = PillowImage.fromarray(_eight_bits(picture))
    if how.shrink < 1:
        width, height = (max(size // 2, round(side * how.shrink)) for side in image.size)
        image = image.resize((width, height), PillowImage.Resampling(how.filter))
    for kind, quality in how.files:
        image = _stored(image, kind, quality, how.subsampling)
    return squash(image, size)


def _eight_bits(picture: Pictures | Image) -> Pictures:
    if picture.dtype == np.uint8:
        return picture.astype(np.uint8, copy=False)
    return to_pixels(picture.astype(np.float32, copy=False))


def squash(image: PillowImage.Image, size: int) -> Pictures:
    """Bring a whole image to [size, size, 3] as the decoder does."""
    return np.asarray(image.resize((size, size), PillowImage.Resampling.BILINEAR))


def _stored(
    image: PillowImage.Image, kind: str, quality: int, subsampling: int
) -> PillowImage.Image:
    if kind == "PNG":
        return image
    file = io.BytesIO()
    if kind == "JPEG":
        image.save(file, kind, quality=quality, subsampling=subsampling)
    else:
        image.save(file, kind, quality=quality, method=2)
    return PillowImage.open(file).convert("RGB")
