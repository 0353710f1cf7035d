"""Simple facts of image files, such as a trivial classifier would use, and a hash of looks."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from d3.domain.images import ImageFacts
from d3.domain.ports.images import ImageDecoder

FACTS = (
    *("format", "width", "height", "aspect ratio", "file size", "bytes per pixel"),
    *("JPEG quality", "JPEG subsampling", "metadata", "colour mode"),
)
"""The facts, in the order of :attr:`FileFacts.values`."""

_SUBSAMPLINGS = {(1, 1): "4:4:4", (2, 1): "4:2:2", (2, 2): "4:2:0", (4, 1): "4:1:1"}
_LOOK = 32
_LOOK_GRID = 8

_STANDARD_SUM = 3688
"""Of the JPEG standard's luminance table (ITU-T T.81, table K.1), which stands for quality 50."""


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What is known of a file without looking at its picture.

    Attributes:
        values: one number for each of :data:`FACTS`; names became numbers by their hash.
        texts: the same for people.
        sha256: of the file, its first 64 bits.
        look: 64 bits that similar pictures share.
    """

    values: tuple[float, ...]
    texts: tuple[str, ...]
    sha256: int
    look: int


def facts_of(path: Path, decoder: ImageDecoder) -> FileFacts:
    """Read a file whole and say what it is.

    Raises:
        ImageError: it cannot be read or decoded.
    """
    decoded = decoder.decode(path, _LOOK)
    image = decoded.facts
    quality, subsampling, metadata, mode = _header(path, image)
    texts = (
        image.format,
        str(image.width),
        str(image.height),
        f"{image.width / image.height:.2f}",
        f"{image.size_bytes // 1024} KiB",
        f"{image.size_bytes / (image.width * image.height):.2f}",
        "none" if quality < 0 else f"{quality:.0f}",
        subsampling,
        "yes" if metadata else "no",
        mode,
    )
    values = (
        _number(image.format),
        float(image.width),
        float(image.height),
        image.width / image.height,
        float(image.size_bytes),
        image.size_bytes / (image.width * image.height),
        quality,
        _number(subsampling),
        float(metadata),
        _number(mode),
    )
    return FileFacts(values, texts, int(image.sha256[:16], 16), _look(decoded.pixels))


def jpeg_quality(table: list[int]) -> float:
    """The quality, 1 to 100, at which the standard table scaled as libjpeg does has this sum."""
    scale = 100 * sum(table) / _STANDARD_SUM
    quality = (200 - scale) / 2 if scale <= 100 else 5000 / scale
    return float(min(max(round(quality), 1), 100))


def _header(path: Path, image: ImageFacts) -> tuple[float, str, bool, str]:
    """JPEG quality (-1 for another format), subsampling, whether it has metadata, colour mode.

    The decoder has read the file to its end before, so its header is safe to read again.
    """
    unknown = -1.0, "none", False, "RGB"
    if image.format in {"HEIF", "AVIF", "JXL"}:  # their plugins would decode once more
        return unknown
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path) as opened:
            return _header_of(opened, image.format)
    # What the decoder mended or skipped may be more than Pillow's own way in can bear.
    except Exception:  # noqa: BLE001
        return unknown


def _header_of(opened: Image.Image, form: str) -> tuple[float, str, bool, str]:
    quality, subsampling = -1.0, "none"
    if form == "JPEG":
        tables = getattr(opened, "quantization", {})
        quality = jpeg_quality(tables[0]) if 0 in tables else -1.0
        layers = getattr(opened, "layer", [])
        subsampling = _SUBSAMPLINGS.get(layers[0][1:3], "other") if layers else "grey"
    metadata = any(name in opened.info for name in ("exif", "xmp", "icc_profile", "comment"))
    return quality, subsampling, metadata, opened.mode


def _look(pixels: np.ndarray) -> int:
    """A difference hash: which of 8 x 8 neighbours in a tiny grey picture is brighter."""
    grey = Image.fromarray(pixels).convert("L")
    small = np.asarray(
        grey.resize((_LOOK_GRID + 1, _LOOK_GRID), Image.Resampling.BOX), dtype=np.int16
    )
    bits = (small[:, 1:] > small[:, :-1]).ravel()
    return int(np.packbits(bits).view(">u8")[0])


def _number(text: str) -> float:
    """A number for a word; its order means nothing."""
    return float(int.from_bytes(text.encode()[:6].ljust(6, b"\0")))
