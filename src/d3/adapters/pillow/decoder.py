"""From what was handed in to the network's pixels: limits, decoding, RGB, 224 x 224.

Exactly the published preprocessing (torchvision's ``Resize`` on a PIL image): alpha dropped, EXIF
orientation not applied, Pillow's antialiased bilinear filter, aspect ratio not kept.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, features
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from d3.adapters.pillow.content import content_of
from d3.adapters.pillow.formats import READABLE
from d3.adapters.pillow.structure import check_structure, gif_frames
from d3.domain.errors import (
    ImageDamaged,
    ImageEmpty,
    ImageError,
    ImageFormatUnsupported,
    ImageNotFound,
    ImageTooLarge,
    ImageUnsupported,
)
from d3.domain.formats import SNIFFED_BYTES, sniff
from d3.domain.images import DecodedImage, ImageFacts, ImageSource, Pixels, pixels_sha256

_DIMENSIONS = 2
_OPENERS: dict[str, Callable[[BinaryIO], Image.Image]] = {
    "AVIF": AvifImageFile,
    "BMP": BmpImageFile,
    "GIF": GifImageFile,
    "JPEG": JpegImageFile,
    "PNG": PngImageFile,
    "WEBP": WebPImageFile,
}


@dataclass(frozen=True, slots=True)
class Limits:
    """What one image may cost.

    Attributes:
        bytes: of the encoded file.
        pixels: width times height.
        side: the longer one, in pixels.
        jpeg_scans: a progressive JPEG has about ten.
    """

    bytes: int = 50 * 2**20
    pixels: int = 50_000_000
    side: int = 30_000
    jpeg_scans: int = 100


class PillowDecoder:
    """Fills :class:`d3.domain.ports.ImageDecoder`; keeps no state and is thread-safe.

    Reads JPEG, PNG, WebP, AVIF, GIF, BMP, and HEIC with the extra ``[heif]``; the first frame of
    what has several.
    """

    def __init__(self, limits: Limits = Limits()) -> None:
        self._limits = limits

    def recognises(self, path: Path) -> bool:
        """Whether the file's first bytes are those of an image."""
        with _opened(path) as stream:
            return sniff(stream.read(SNIFFED_BYTES)) is not None

    def decode(self, source: ImageSource, size: int | None) -> DecodedImage:
        """Check the limits, decode the first frame to RGB and resize it to ``size`` x ``size``."""
        if isinstance(source, str | Path):
            source = read_file(Path(source), self._limits.bytes)
        if isinstance(source, bytes | bytearray | memoryview):
            return self._decode_file(bytes(source), size)
        if isinstance(source, np.ndarray):
            image = _from_array(source)
        elif isinstance(source, Image.Image):
            image = source
        else:
            raise ImageUnsupported(
                f"A {type(source).__name__} is not an image.",
                "Give a path, an encoded file's bytes, a PIL image or a uint8 array.",
            )
        self._check_size(image.size)
        with _translated(image.format or "PIL"):
            rgb = _as_rgb(image)
            # The hash is of what is judged: indices alone would not tell two palettes apart.
            samples = rgb.tobytes()
            digest = pixels_sha256(rgb.mode, rgb.size, samples)
            pixels = _resized(rgb, size)
            content = content_of(image, rgb, pixels)
            facts = ImageFacts("pixels", *rgb.size, 1, len(samples), digest, content)
            return DecodedImage(pixels, facts)

    def close(self) -> None:
        """Nothing is held."""

    def _decode_file(self, data: bytes, size: int | None) -> DecodedImage:
        if not data:
            raise ImageEmpty("The file is empty.", "Send the image's bytes.")
        kind = sniff(data[:SNIFFED_BYTES])
        if kind is None:
            raise ImageUnsupported(
                "The file is not an image that D3 reads.", f"Give a {READABLE} file."
            )
        if len(data) > self._limits.bytes:
            raise ImageTooLarge(
                f"The file is larger than {self._limits.bytes:,} bytes.",
                "Send a smaller one, or raise D3_MAX_IMAGE_BYTES.",
            )
        opener = _opener(kind)
        check_structure(kind, data, self._limits.jpeg_scans)
        frames = gif_frames(data) if kind == "GIF" else None
        try:
            with _translated(kind):
                image = opener(io.BytesIO(data))
                self._check_size(image.size)
                if frames is None:
                    frames = int(getattr(image, "n_frames", 1))
                image.load()
                rgb = _as_rgb(image)
                pixels = _resized(rgb, size)
                content = content_of(image, rgb, pixels)
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise self._too_many_pixels() from error
        digest = hashlib.sha256(data).hexdigest()
        facts = ImageFacts(kind, image.width, image.height, frames, len(data), digest, content)
        return DecodedImage(pixels, facts)

    def _check_size(self, size: tuple[int, int]) -> None:
        width, height = size
        if width < 1 or height < 1:
            raise ImageEmpty("The image has no pixels.", "Give one with at least one.")
        if width * height > self._limits.pixels:
            raise self._too_many_pixels()
        if max(size) > self._limits.side:
            raise ImageTooLarge(
                f"The image's longer side has {max(size):,} pixels; {self._limits.side:,} are "
                "the limit.",
                "Cut or scale it down, or raise D3_MAX_IMAGE_SIDE.",
            )

    def _too_many_pixels(self) -> ImageTooLarge:
        return ImageTooLarge(
            f"The image has more than {self._limits.pixels:,} pixels.",
            "Scale it down, or raise D3_MAX_IMAGE_PIXELS.",
        )


def read_file(path: Path, most: int) -> bytes:
    """A file's content; of one that is larger than so many bytes, one byte more than these."""
    with _opened(path) as stream:
        return stream.read(most + 1)


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """The regular file at this path; a pipe or a device, which may never end, is none."""
    try:
        with open(path, "rb", opener=_open_without_waiting) as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise ImageNotFound("This is no regular file.", "Save it as a file first.")
            yield stream
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ImageNotFound("There is no such file.", "Check the path.") from error
    except ValueError as error:
        raise ImageNotFound("No file can have such a name.", "Check the path.") from error
    except OSError as error:
        if os.path.isdir(path):  # noqa: PTH112  Path.is_dir raises at a name that is too long
            raise ImageNotFound(
                "This is a folder, not an image.", "Name the files in it."
            ) from error
        raise ImageNotFound(
            f"The file cannot be read ({error.strerror or type(error).__name__}).",
            "Check its permissions.",
        ) from error


def _open_without_waiting(path: str, flags: int) -> int:
    """A pipe that nobody writes to would keep an ordinary ``open`` waiting for ever."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


@contextmanager
def _translated(kind: str) -> Iterator[None]:
    """Pillow's errors as ours."""
    try:
        yield
    except (ImageError, Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise
    except MemoryError as error:
        raise ImageTooLarge("There is no memory to decode the image.", "Scale it down.") from error
    # Pillow's plugins raise nearly anything at a malformed file.
    except Exception as error:
        raise ImageDamaged(
            f"The {kind} image is damaged or cut short.", "Fetch or export it again."
        ) from error


def _opener(kind: str) -> Callable[[BinaryIO], Image.Image]:
    """What reads a format, or a word on what to install.

    Not ``Image.open``: that warns of large images before their size can be checked, and takes a
    photograph with a second picture inside (MPO) for an animation.
    """
    if kind == "HEIF":
        try:
            from pillow_heif.as_plugin import HeifImageFile
        except ImportError as error:
            raise ImageFormatUnsupported(
                "HEIC images need an extra package.", "pip install 'd3-deepfake[heif]'"
            ) from error
        heif: Callable[[BinaryIO], Image.Image] = HeifImageFile
        return heif
    if kind == "AVIF" and not features.check("avif"):
        raise ImageFormatUnsupported(
            "This Pillow was built without AVIF.", "Install Pillow's own wheel: pip install pillow"
        )
    if kind not in _OPENERS:
        raise ImageFormatUnsupported(f"D3 does not read {kind}.", f"Give a {READABLE} file.")
    return _OPENERS[kind]


def _from_array(array: np.ndarray) -> Image.Image:
    colours = array.shape[2:]
    if (
        array.dtype != np.uint8
        or 0 in array.shape
        or array.ndim < _DIMENSIONS
        or (colours not in ((), (3,), (4,)))
    ):
        raise ImageUnsupported(
            f"An array of {array.dtype} with the shape {array.shape} is not an image.",
            "Give uint8 of shape (height, width, 3).",
        )
    return Image.fromarray(np.ascontiguousarray(array))


def _as_rgb(image: Image.Image) -> Image.Image:
    """An image of any mode in 8-bit RGB; alpha is dropped, and the image itself left alone."""
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I;16"):
        # Pillow clips 16-bit grey at 255; the high byte is what it keeps of 16-bit colour.
        samples = np.asarray(image).astype(np.uint16)
        image = Image.fromarray((samples >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ImageFormatUnsupported(
            f"Pixels of mode {image.mode!r} have no fixed range.", "Convert to 8 or 16 bits first."
        )
    if "transparency" in image.info:
        # Pillow warns that it is lost, and may take a palette entry for it.
        image = image.copy()
        del image.info["transparency"]
    with suppress(ValueError):
        rgb = image.convert("RGB")
        if rgb.mode == "RGB":
            return rgb
    raise ImageFormatUnsupported(f"Pixels of mode {image.mode!r} cannot be shown as RGB.")


def _resized(rgb: Image.Image, size: int | None) -> Pixels:
    """uint8 RGB (size, size, 3), or as it is without a size."""
    if size is None:
        return np.array(rgb)
    return np.array(rgb.resize((size, size), Image.Resampling.BILINEAR))
