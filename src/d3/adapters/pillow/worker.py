"""The child of :class:`d3.adapters.pillow.isolated.IsolatedDecoder`: one image after another.

Run as ``python -P -m d3.adapters.pillow.worker BYTES PIXELS SIDE SCANS SECONDS POSITION
WATERMARKS``: given certificates on stdin, then asked there, answering on stdout, until stdin ends.

An image's pixels are answered first and what its file says about itself after that, so that hostile
metadata can cost the child and still not the picture.
"""

from __future__ import annotations

import gc
import struct
import sys
from typing import TYPE_CHECKING

from d3.adapters.confinement import limit_memory, limit_seconds, mapped
from d3.domain.inputs import Change, Fit, PixelsWanted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from d3.domain.images import DecodedImage, Pixels

TRUST = struct.Struct("<I")
"""The length of the certificates that follow, in PEM; before all else."""

READY = b"D3"
"""Said once, before anything is asked."""

ASK = struct.Struct("<BIQ")
"""How many :data:`WANTED` follow; where none do, the longest side of a picture for people; and the
length of the file that comes last."""

WANTED = struct.Struct("<IBIB")
"""One :class:`PixelsWanted`; its fit and its change by their places in :data:`FITS` and
:data:`CHANGES`."""

FITS, CHANGES = tuple(Fit), tuple(Change)

ANSWER = struct.Struct("<B?IQ")
"""Decoded or not, whether this child is worn out, the length of the words that follow, and of the
pixels behind them."""

SAID = struct.Struct("<I")
"""The length of the words that follow the pixels: what the file says about itself."""

DECODED, REFUSED = 0, 1
SAID_SECONDS = 2
"""Of a processor, for what the file says about itself."""

_SPARE_BYTES = 512 * 2**20
_BYTES_A_PIXEL = 12
"""RGBA, its RGB copy, and what a decoder keeps of its own."""

_WORN_BYTES = 256 * 2**20
"""More that stays reserved than at the start, and a fresh child takes over."""


def main(limits: Sequence[int], seconds: int, *, keep_position: bool, watermarks: bool) -> None:
    """Serve until stdin ends."""
    from d3.adapters.pillow.decoder import Limits, PillowDecoder
    from d3.adapters.provenance import ProvenanceReader
    from d3.domain.errors import ImageError

    source, target = sys.stdin.buffer, sys.stdout.buffer
    reader = ProvenanceReader(
        source.read(*TRUST.unpack(source.read(TRUST.size))).decode(),
        keep_position=keep_position,
        watermarks=watermarks,
    )
    decoder = PillowDecoder(Limits(*limits), reader)
    _warm_up()
    size_bytes, pixels, *_ = limits
    limit_memory(_SPARE_BYTES + _BYTES_A_PIXEL * pixels + 2 * size_bytes)
    target.write(READY)
    target.flush()
    begun = mapped()
    while asked := source.read(ASK.size):
        count, longest_side, length = ASK.unpack(asked)
        limit_seconds(seconds)
        status, look = DECODED, None
        made: tuple[Pixels, ...] = ()
        try:
            wanted = [unpacked(source.read(WANTED.size)) for _ in range(count)]
            data = source.read(length)
            if wanted:
                image, look = decoder.decode_apart(data, wanted[0], wanted[1:])
                words, made = words_of(image), (image.pixels, *image.also)
            else:
                picture = decoder.picture(data, longest_side)
                words, made = list(map(str, picture.shape[:2])), (picture,)
        except ImageError as error:
            status, words = REFUSED, [type(error).__name__, error.problem, error.remedy]
        worn = mapped() - begun > _WORN_BYTES
        if worn:
            gc.collect()  # pictures that refer to themselves
            worn = mapped() - begun > _WORN_BYTES
        text = "\n".join(words).encode()
        length = sum(one.nbytes for one in made)
        target.write(ANSWER.pack(status, worn, len(text), length) + text)
        for one in made:
            target.write(one.data)
        target.flush()
        if look is not None:
            limit_seconds(SAID_SECONDS)
            found = look()
            said = b"" if found is None else found.to_json().encode()
            target.write(SAID.pack(len(said)) + said)
            target.flush()
            look = None


def packed(wanted: PixelsWanted) -> bytes:
    """What is wanted, as it is asked for."""
    fit, change = FITS.index(wanted.fit), CHANGES.index(wanted.change)
    return WANTED.pack(wanted.size, fit, wanted.resize, change)


def unpacked(asked: bytes) -> PixelsWanted:
    """The inverse of :func:`packed`."""
    size, fit, resize, change = WANTED.unpack(asked)
    return PixelsWanted(size, FITS[fit], resize, CHANGES[change])


def words_of(image: DecodedImage) -> list[str]:
    """What is known of an image, in words."""
    facts = image.facts
    numbers = (facts.width, facts.height, facts.frames, image.orientation)
    return [facts.format, *map(str, numbers), facts.sha256, facts.content, facts.note or ""]


def _warm_up() -> None:
    """Load the formats that come as libraries of their own, before anything is bounded."""
    from contextlib import suppress
    from importlib import import_module

    import pi_heif

    for name in ("PIL._avif", "PIL._webp", "pi_heif.as_plugin"):
        import_module(name)
    options = pi_heif.options
    options.DECODE_THREADS = 1  # images are decoded side by side already
    options.THUMBNAILS = options.DEPTH_IMAGES = options.AUX_IMAGES = False
    with suppress(ImportError):
        import pillow_jxl

        pillow_jxl.JpegXLImagePlugin.DECODE_THREADS = 0


if __name__ == "__main__":
    *numbers, allowed, position, marks = map(int, sys.argv[1:])
    main(numbers, allowed, keep_position=bool(position), watermarks=bool(marks))
