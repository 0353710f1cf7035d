"""The child of :class:`d3.adapters.pillow.isolated.IsolatedDecoder`: one image after another.

Run as ``python -m d3.adapters.pillow.worker BYTES PIXELS SIDE SCANS SECONDS``: asked on stdin,
answering on stdout, until stdin ends.
"""

from __future__ import annotations

import struct
import sys
from pathlib import Path
from typing import BinaryIO

ASK = struct.Struct("<IQ")
"""The side of the square, and the length of the file that follows."""

ANSWER = struct.Struct("<BIQ")
"""Decoded or not, the length of the words that follow, and of the pixels behind them."""

DECODED, REFUSED = 0, 1
_SPARE_BYTES = 512 * 2**20
_BYTES_A_PIXEL = 12
"""RGBA, its RGB copy, and what a decoder keeps of its own."""


def main(size_bytes: int, pixels: int, side: int, jpeg_scans: int, seconds: int) -> None:
    """Serve until stdin ends."""
    from d3.adapters.pillow.decoder import Limits, PillowDecoder
    from d3.domain.errors import ImageError

    decoder = PillowDecoder(Limits(size_bytes, pixels, side, jpeg_scans))
    _warm_up()
    _limit_memory(_SPARE_BYTES + _BYTES_A_PIXEL * pixels + 2 * size_bytes)
    source, target = sys.stdin.buffer, sys.stdout.buffer
    while asked := source.read(ASK.size):
        size, length = ASK.unpack(asked)
        _limit_seconds(seconds)
        try:
            image = decoder.decode(source.read(length), size)
        except ImageError as error:
            words = [type(error).__name__, error.problem, error.remedy]
            _answer(target, REFUSED, words, b"")
        else:
            facts = image.facts
            numbers = map(str, (facts.width, facts.height, facts.frames))
            words = [facts.format, *numbers, facts.sha256, facts.content]
            _answer(target, DECODED, words, image.pixels.tobytes())


def _answer(target: BinaryIO, status: int, words: list[str], pixels: bytes) -> None:
    text = "\n".join(words).encode()
    target.write(ANSWER.pack(status, len(text), len(pixels)) + text)
    target.write(pixels)
    target.flush()


def _warm_up() -> None:
    """Load the formats that come as libraries of their own, before anything is bounded."""
    from contextlib import suppress

    with suppress(ImportError):
        import pillow_heif.as_plugin  # noqa: F401
    import PIL._avif
    import PIL._webp  # noqa: F401


def _limit_memory(spare_bytes: int) -> None:
    """Bound what may be allocated and written from here on, where the system can."""
    try:
        import resource
    except ImportError:  # Windows: the parent's timeout remains
        return
    if sys.platform == "linux":
        pages = Path("/proc/self/statm").read_text().split()[0]
        mapped = int(pages) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (mapped + spare_bytes, mapped + spare_bytes))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _limit_seconds(seconds: int) -> None:
    """The processor's seconds for the next image; beyond them the system ends this process.

    So it ends by itself even where nobody is left to end it.
    """
    try:
        import resource
    except ImportError:
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime) + 1 + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.RLIM_INFINITY))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
