"""From what was handed in to the pixels that are wanted of it: limits, decoding, RGB, cutting.

Exactly the published preprocessing: alpha dropped, and pixels as they are stored whatever turns
them for people.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageChops, features
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.IcoImagePlugin import IcoFile
from PIL.Jpeg2KImagePlugin import Jpeg2KImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.PsdImagePlugin import PsdImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from d3.adapters.pillow.content import content_of
from d3.adapters.pillow.cutting import cut
from d3.adapters.pillow.formats import FORMATS, READABLE, described
from d3.adapters.pillow.structure import Region, Skeleton, walk
from d3.adapters.provenance import ProvenanceReader
from d3.domain.errors import (
    ImageDamaged,
    ImageEmpty,
    ImageError,
    ImageFormatUnsupported,
    ImageNotFound,
    ImageTooLarge,
    ImageUnsupported,
)
from d3.domain.formats import SNIFFED_BYTES, sniff, sniff_clip
from d3.domain.images import (
    DecodedImage,
    ImageFacts,
    ImageSource,
    Pixels,
    pixels_sha256,
    turned,
)
from d3.domain.inputs import PixelsWanted
from d3.domain.provenance import Provenance

_DIMENSIONS = 2
_AGAIN = "Download or export it again."
_GREY = frozenset({127, 128})
"""What a JPEG's last pixel is where no data stood for it."""

_OPENERS: dict[str, Callable[[BinaryIO], Image.Image]] = {
    "AVIF": AvifImageFile,
    "BMP": BmpImageFile,
    "GIF": GifImageFile,
    "ICO": lambda stream: IcoFile(stream).frame(0),
    "JPEG": JpegImageFile,
    "JPEG2000": Jpeg2KImageFile,
    "PNG": PngImageFile,
    "PSD": PsdImageFile,
    "TIFF": TiffImageFile,
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
    pixels: int = 120_000_000
    side: int = 30_000
    jpeg_scans: int = 100


class PillowDecoder:
    """Implements ``ImageDecoder``; keeps no state and is thread-safe.

    Reads what :data:`d3.adapters.pillow.formats.READABLE` says, and JPEG XL where its package is
    there; of several frames, pages or pictures the first. A picture that is not there whole is
    damaged, but for its last rows.
    """

    def __init__(
        self, limits: Limits = Limits(), provenance: ProvenanceReader = ProvenanceReader()
    ) -> None:
        self._limits = limits
        self._provenance = provenance

    def recognises(self, path: Path) -> bool:
        with opened(path) as stream:
            return sniff(stream.read(SNIFFED_BYTES)) is not None

    def decode(
        self,
        source: ImageSource,
        wanted: int | PixelsWanted | None,
        also: Sequence[PixelsWanted] = (),
    ) -> DecodedImage:
        image, look = self.decode_apart(source, wanted, also)
        return replace(image, facts=replace(image.facts, provenance=look()))

    def decode_apart(
        self,
        source: ImageSource,
        wanted: int | PixelsWanted | None,
        also: Sequence[PixelsWanted] = (),
    ) -> tuple[DecodedImage, Callable[[], Provenance | None]]:
        """The image, and what then finds out what its file says about itself.

        Pixels that are handed in have no file: of them there is nothing to look at, so None.
        """
        source = self._handed_in(source)
        if isinstance(source, bytes):
            data, kind = source, self.format_of(source)
            skeleton = walk(kind, data, self._limits.jpeg_scans)
            image, rgb, frames = self._decoded(kind, skeleton)
            width, height = rgb.size
            with _translated(kind):
                content = content_of(image, rgb)
                del image  # a decoder may keep as much again with it as the changes take
                pixels, *others = cut(rgb, (wanted, *also))
            facts = ImageFacts(
                format=kind,
                width=width,
                height=height,
                frames=frames,
                size_bytes=len(data),
                sha256=hashlib.sha256(data).hexdigest(),
                content=content,
                note=skeleton.note,
            )
            decoded = DecodedImage(pixels, facts, skeleton.orientation, tuple(others))
            metadata = skeleton.metadata
            seen = rgb if self._provenance.watermarks else None  # else it would be kept for nothing
            return decoded, lambda: self._provenance.read(kind, data, metadata, seen)
        with _translated(source.format or "PIL"):
            rgb = as_rgb(source)
            # The hash is of what is judged: indices alone would not tell two palettes apart.
            samples = rgb.tobytes()
            digest = pixels_sha256(rgb.mode, rgb.size, samples)
            content = content_of(source, rgb)
            facts = ImageFacts("pixels", *rgb.size, 1, len(samples), digest, content)
            pixels, *others = cut(rgb, (wanted, *also))
            return DecodedImage(pixels, facts, also=tuple(others)), lambda: None

    def prompts(self, source: ImageSource) -> list[str]:
        """The prompts in generators' records in a file, in full.

        Raises:
            ImageError: as for :meth:`decode`.
        """
        source = self._handed_in(source)
        if not isinstance(source, bytes):
            return []
        kind = self.format_of(source)
        metadata = walk(kind, source, self._limits.jpeg_scans).metadata
        return self._provenance.prompts(metadata)

    def picture(self, source: ImageSource, side: int) -> Pixels:
        source, orientation = self._handed_in(source), 1
        if isinstance(source, bytes):
            kind = self.format_of(source)
            skeleton = walk(kind, source, self._limits.jpeg_scans)
            _, rgb, _ = self._decoded(kind, skeleton)
            orientation = skeleton.orientation
        else:
            kind = source.format or "PIL"
            with _translated(kind):
                rgb = as_rgb(source).copy()
        with _translated(kind):
            rgb.thumbnail((side, side), Image.Resampling.BILINEAR)
            return np.ascontiguousarray(turned(np.asarray(rgb), orientation))

    def close(self) -> None:
        """Nothing is held."""

    def _handed_in(self, source: ImageSource) -> bytes | Image.Image:
        """A file's content, or an image within the limits of size."""
        if isinstance(source, str | Path):
            return read_file(Path(source), self._limits.bytes)
        if isinstance(source, bytes | bytearray | memoryview):
            return bytes(source)
        if isinstance(source, np.ndarray):
            image = _from_array(source)
        elif isinstance(source, Image.Image):
            image = source
        else:
            raise ImageUnsupported(
                f"An object of type {type(source).__name__} is not an image.",
                "Use a path, the bytes of an image file, a PIL image or a uint8 array.",
            )
        self._check_size(image.size)
        return image

    def format_of(self, data: bytes) -> str:
        """Pillow's name of a file's format, by its first bytes.

        Raises:
            ImageError: it is empty, too large, or nothing that D3 reads.
        """
        if not data:
            raise ImageEmpty("The file is empty.", "Send the bytes of an image.")
        start = data[:SNIFFED_BYTES]
        kind = sniff(start)
        if kind is None or kind not in FORMATS:
            refuse = ImageUnsupported if kind is None else ImageFormatUnsupported
            remedy = f"D3 reads {READABLE}{'' if kind else ', and videos such as MP4 as clips'}."
            if sniff_clip(start) is not None:
                remedy = (
                    "Judge it as a clip: `d3 detect` (with --video in folders), detect_clip or "
                    "predict-video."
                )
            raise refuse(described(kind, start), remedy)
        if len(data) > self._limits.bytes:
            raise ImageTooLarge(
                f"The file is larger than {self._limits.bytes:,} bytes.",
                "Send a smaller one, or raise D3_MAX_IMAGE_BYTES.",
            )
        return kind

    def _decoded(self, kind: str, skeleton: Skeleton) -> tuple[Image.Image, Image.Image, int]:
        """The decoded image, the same in RGB, and the number of frames."""
        if skeleton.size is not None:
            self._check_size(skeleton.size)
        try:
            with _translated(kind):
                image, rgb = self._load(skeleton.kind or kind, skeleton.data)
                frames = skeleton.frames or int(getattr(image, "n_frames", 1))
                if skeleton.other is not None and (not skeleton.suspect or _ends_grey(image)):
                    self._compare(skeleton.kind or kind, skeleton, rgb)
                if skeleton.tiles is not None:
                    self._check_tiles(kind, skeleton, rgb)
                if skeleton.region is not None:
                    rgb = _on_canvas(rgb, skeleton.region)
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise self._too_many_pixels() from error
        except ImageDamaged as error:
            if skeleton.strange is None:
                raise
            remedy = "Export it as a normal JPEG or PNG file."
            raise ImageFormatUnsupported(skeleton.strange, remedy) from error
        return image, rgb, frames

    def _load(self, kind: str, data: bytes) -> tuple[Image.Image, Image.Image]:
        image = opener(kind)(io.BytesIO(data))
        self._check_size(image.size)
        image.load()
        return image, as_rgb(image)

    def _compare(self, kind: str, skeleton: Skeleton, rgb: Image.Image) -> None:
        """Refuse a picture of which more than the last rows depend on how it was completed."""
        assert skeleton.other is not None
        _, other = self._load(kind, skeleton.other())
        rows = max(rgb.height - skeleton.slack, 0)
        box = (0, 0, rgb.width, rows)
        if rows and ImageChops.difference(rgb.crop(box), other.crop(box)).getbbox() is not None:
            raise ImageDamaged(f"The {kind} image is damaged or cut short.", _AGAIN)

    def _check_tiles(self, kind: str, skeleton: Skeleton, rgb: Image.Image) -> None:
        """Refuse a picture with a tile that came out in one colour and cannot be decoded."""
        assert skeleton.tiles is not None
        for tile in skeleton.tiles():
            left, top, right, bottom = tile.box
            box = (left, top, min(right, rgb.width), min(bottom, rgb.height))
            if left >= rgb.width or top >= rgb.height:
                continue
            if rgb.crop(box).getcolors(1) is not None:
                self._load(kind, tile.alone())

    def _check_size(self, size: tuple[int, int]) -> None:
        width, height = size
        if width < 1 or height < 1:
            raise ImageEmpty("The image has no pixels.", "Use an image with at least one pixel.")
        if width * height > self._limits.pixels:
            raise self._too_many_pixels()
        if max(size) > self._limits.side:
            raise ImageTooLarge(
                f"The longer side of the image has {max(size):,} pixels. The limit is "
                f"{self._limits.side:,}.",
                "Crop it or scale it down, or raise D3_MAX_IMAGE_SIDE.",
            )

    def _too_many_pixels(self) -> ImageTooLarge:
        return ImageTooLarge(
            f"The image has more than {self._limits.pixels:,} pixels.",
            "Scale it down, or raise D3_MAX_IMAGE_PIXELS.",
        )


def read_file(path: Path, most: int) -> bytes:
    """A file's content; of one that is larger than so many bytes, one byte more than these."""
    with opened(path) as stream:
        return stream.read(most + 1)


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """The regular file at this path; a pipe or a device, which may never end, is none."""
    try:
        with open(path, "rb", opener=_open_without_waiting) as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise ImageNotFound("This is not a regular file.", "Save it as a file first.")
            yield stream
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ImageNotFound("There is no such file.", "Check the path.") from error
    except ValueError as error:
        raise ImageNotFound("This is not a valid file name.", "Check the path.") from error
    except OSError as error:
        if os.path.isdir(path):  # noqa: PTH112  Path.is_dir raises at a name that is too long
            raise ImageNotFound(
                "This is a folder, not an image.", "Name the files inside it."
            ) from error
        raise ImageNotFound(
            f"The file cannot be read ({error.strerror or type(error).__name__}).",
            "Check its permissions.",
        ) from error


def _open_without_waiting(path: str, flags: int) -> int:
    """An ordinary ``open`` of a pipe without a writer would wait for ever."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


@contextmanager
def _translated(kind: str) -> Iterator[None]:
    """Pillow's errors as ours."""
    try:
        yield
    except (ImageError, Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise
    except MemoryError as error:
        raise ImageTooLarge(
            "There is not enough memory to decode the image.", "Scale it down."
        ) from error
    # Pillow's plugins raise nearly anything at a malformed file.
    except Exception as error:
        raise ImageDamaged(f"The {kind} image is damaged or cut short.", _AGAIN) from error


def opener(kind: str) -> Callable[[BinaryIO], Image.Image]:
    """What reads a format.

    Not ``Image.open``: that warns of large images before their size can be checked, and takes a
    photograph with a second picture inside (MPO) for an animation.
    """
    if kind == "HEIF":
        from pi_heif.as_plugin import HeifImageFile

        heif: Callable[[BinaryIO], Image.Image] = HeifImageFile
        return heif
    if kind == "JXL":
        try:
            from pillow_jxl.JpegXLImagePlugin import JXLImageFile
        except ImportError as error:
            raise _not_here("JPEG XL") from error
        jxl: Callable[[BinaryIO], Image.Image] = JXLImageFile
        return jxl
    if kind == "AVIF" and not features.check("avif"):
        raise _not_here("AVIF")
    if kind == "JPEG2000" and not features.check("jpg_2000"):
        raise _not_here("JPEG 2000")
    return _OPENERS[kind]


def _not_here(kind: str) -> ImageFormatUnsupported:
    return ImageFormatUnsupported(
        f"This is {kind}, which this installation of D3 cannot read.",
        "Export it as a JPEG or PNG file.",
    )


def _on_canvas(rgb: Image.Image, region: Region) -> Image.Image:
    """A frame where it is drawn."""
    canvas = Image.new("RGB", region.canvas)
    canvas.paste(rgb, (region.left, region.top))
    return canvas


def _ends_grey(image: Image.Image) -> bool:
    """Whether a JPEG's last pixel looks like one that was not there."""
    pixel = image.getpixel((image.width - 1, image.height - 1))
    return _GREY.issuperset(pixel if isinstance(pixel, tuple) else (pixel,))


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
            "Use a uint8 array of shape (height, width, 3).",
        )
    return Image.fromarray(np.ascontiguousarray(array))


def as_rgb(image: Image.Image) -> Image.Image:
    """An image of any mode in 8-bit RGB; alpha is dropped, and the image itself left alone."""
    if image.mode == "RGB":
        image.load()  # one that was opened and not looked at yet has no pixels
        return image._new(image.im)  # noqa: SLF001  the same pixels without what decoded them
    if image.mode.startswith("I;16"):
        # Pillow clips 16-bit grey at 255; the high byte is what it keeps of 16-bit colour.
        samples = np.asarray(image).astype(np.uint16)
        image = Image.fromarray((samples >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ImageFormatUnsupported(
            f"Pixels of mode {image.mode!r} have no fixed range.",
            "Convert the image to 8 or 16 bits first.",
        )
    if "transparency" in image.info:
        # Pillow warns that it is lost, and may take a palette entry for it.
        image = image.copy()
        del image.info["transparency"]
    with suppress(ValueError):
        rgb = image.convert("RGB")
        if rgb.mode == "RGB":
            return rgb
    raise ImageFormatUnsupported(
        f"Pixels of mode {image.mode!r} cannot be converted to RGB.",
        "Convert the image to RGB first.",
    )
