"""From what was handed in to the network's pixels: limits, decoding, RGB, 224 x 224.

Exactly the published preprocessing (torchvision's ``Resize`` on a PIL image): alpha dropped, EXIF
orientation not applied, Pillow's antialiased bilinear filter, aspect ratio not kept.
"""

from __future__ import annotations

import hashlib
import io
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError, features

from d3.adapters.pillow.formats import READABLE, SNIFFED_BYTES, sniff
from d3.adapters.pillow.structure import check_structure, gif_frames
from d3.domain.errors import (
    ImageDamaged,
    ImageEmpty,
    ImageError,
    ImageNotFound,
    ImageTooLarge,
    ImageUnsupported,
)
from d3.domain.images import DecodedImage, ImageFacts, ImageSource, Pixels, pixels_sha256

_DIMENSIONS = 2
_heif_lock = threading.Lock()


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
        try:
            with path.open("rb") as stream:
                return sniff(stream.read(SNIFFED_BYTES)) is not None
        except OSError as error:
            raise _unreadable(path, error) from error

    def decode(self, source: ImageSource, size: int) -> DecodedImage:
        """Check the limits, decode the first frame to RGB and resize it to ``size`` x ``size``."""
        if isinstance(source, str | Path):
            source = self._read(Path(source))
        if isinstance(source, bytes | bytearray | memoryview):
            image, facts = self._open(bytes(source))
        elif isinstance(source, np.ndarray):
            image = _from_array(source)
            facts = _facts_of_pixels(image)
        elif isinstance(source, Image.Image):
            image = source
            self._check_size(image.size)
            facts = _facts_of_pixels(image)
        else:
            raise ImageUnsupported(
                f"A {type(source).__name__} is not an image.",
                "Give a path, an encoded file's bytes, a PIL image or a uint8 array.",
            )
        return DecodedImage(_resized(image, size), facts)

    def _read(self, path: Path) -> bytes:
        try:
            with path.open("rb") as stream:
                data = stream.read(self._limits.bytes + 1)
        except OSError as error:
            raise _unreadable(path, error) from error
        return data

    def _open(self, data: bytes) -> tuple[Image.Image, ImageFacts]:
        if not data:
            raise ImageEmpty("The file is empty.", "Send the image's bytes.")
        if len(data) > self._limits.bytes:
            raise ImageTooLarge(
                f"The file is larger than {self._limits.bytes:,} bytes.",
                "Send a smaller one, or raise D3_MAX_IMAGE_BYTES.",
            )
        kind = sniff(data[:SNIFFED_BYTES])
        if kind is None:
            raise ImageUnsupported(
                "The file is not an image that D3 reads.", f"Give a {READABLE} file."
            )
        _require(kind)
        check_structure(kind, data, self._limits.jpeg_scans)
        frames = gif_frames(data) if kind == "GIF" else None
        try:
            image = Image.open(io.BytesIO(data), formats=[kind])
            self._check_size(image.size)
            if frames is None:
                frames = int(getattr(image, "n_frames", 1))
            image.load()
        except ImageError:
            raise
        except Image.DecompressionBombError as error:
            raise self._too_many_pixels() from error
        # Pillow's plugins raise nearly anything at a malformed file.
        except (
            UnidentifiedImageError,
            OSError,
            ValueError,
            SyntaxError,
            ArithmeticError,
            LookupError,
            TypeError,
            AttributeError,
            RuntimeError,
            EOFError,
        ) as error:
            raise ImageDamaged(
                f"The {kind} image is damaged or cut short.", "Fetch or export it again."
            ) from error
        except MemoryError as error:
            raise ImageTooLarge(
                "There is no memory to decode the image.", "Scale it down."
            ) from error
        digest = hashlib.sha256(data).hexdigest()
        return image, ImageFacts(kind, image.width, image.height, frames, len(data), digest)

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


def _unreadable(path: Path, error: OSError) -> ImageNotFound:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return ImageNotFound("There is no such file.", "Check the path.")
    if isinstance(error, IsADirectoryError) or path.is_dir():
        return ImageNotFound("This is a folder, not an image.", "Name the files in it.")
    return ImageNotFound(
        f"The file cannot be read ({error.strerror or type(error).__name__}).",
        "Check its permissions.",
    )


def _require(kind: str) -> None:
    """See that Pillow can read the format, or say what to install."""
    if kind == "AVIF" and not features.check("avif"):
        raise ImageUnsupported(
            "This Pillow was built without AVIF.", "Install Pillow's own wheel: pip install pillow"
        )
    if kind == "HEIF":
        with _heif_lock:
            try:
                import pillow_heif
            except ImportError as error:
                raise ImageUnsupported(
                    "HEIC images need an extra package.", "pip install 'd3-deepfake[heif]'"
                ) from error
            pillow_heif.register_heif_opener()


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


def _facts_of_pixels(image: Image.Image) -> ImageFacts:
    samples = image.tobytes()
    digest = pixels_sha256(image.mode, image.size, samples)
    return ImageFacts("pixels", image.width, image.height, 1, len(samples), digest)


def _resized(image: Image.Image, size: int) -> Pixels:
    """uint8 RGB (size, size, 3) of an image in any mode."""
    if image.mode.startswith("I;16"):
        # Pillow clips 16-bit grey at 255; the high byte is what it keeps of 16-bit colour.
        samples = np.asarray(image).astype(np.uint16)
        image = Image.fromarray((samples >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ImageUnsupported(
            f"Pixels of mode {image.mode!r} have no fixed range.", "Convert to 8 or 16 bits first."
        )
    rgb = image
    with suppress(ValueError):
        rgb = image.convert("RGB")
    if rgb.mode != "RGB":
        raise ImageUnsupported(f"Pixels of mode {image.mode!r} cannot be shown as RGB.")
    return np.array(rgb.resize((size, size), Image.Resampling.BILINEAR))
