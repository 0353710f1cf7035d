"""Pictures made for people, written as PNG, JPEG or WebP."""

from __future__ import annotations

import io
from collections.abc import Mapping

from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo

from d3.domain.images import Pixels


def png(pixels: Pixels, text: Mapping[str, str]) -> bytes:
    """Uint8 RGB pixels (height, width, 3) as a PNG file that holds these texts by their keyword."""
    file, info = io.BytesIO(), PngInfo()
    for keyword, words in text.items():
        info.add_text(keyword, words)
    Image.fromarray(pixels).save(file, "PNG", pnginfo=info)
    return file.getvalue()


def jpeg(pixels: Pixels, text: Mapping[str, str]) -> bytes:
    """The same as a JPEG file; the texts stand in its EXIF data."""
    return _with_exif(pixels, text, "JPEG", quality=92, subsampling=0)


def webp(pixels: Pixels, text: Mapping[str, str]) -> bytes:
    """The same as a WebP file; the texts stand in its EXIF data."""
    return _with_exif(pixels, text, "WEBP", quality=92)


PICTURES = {".png": png, ".jpg": jpeg, ".jpeg": jpeg, ".webp": webp}
"""What writes a picture, by the ending of its file's name."""


def _with_exif(pixels: Pixels, text: Mapping[str, str], form: str, **options: int) -> bytes:
    file, exif = io.BytesIO(), Image.Exif()
    exif[ExifTags.Base.Software] = text.get("Software", "D3")
    said = (f"{keyword}: {words}" for keyword, words in text.items() if keyword != "Software")
    # EXIF texts are ASCII; what is not is written as an escape.
    described = "\n".join(said).encode("ascii", "backslashreplace").decode()
    exif[ExifTags.Base.ImageDescription] = described
    Image.fromarray(pixels).save(file, form, exif=exif, **options)
    return file.getvalue()
