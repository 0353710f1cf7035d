"""The bytes of a clip as an open file: given by path, as bytes, or open already."""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from d3.adapters.pillow.decoder import opened
from d3.domain.clips import ClipSource

_PIECE = 4 * 2**20


@contextmanager
def descriptor_of(source: ClipSource) -> Iterator[int]:
    """A descriptor that can be read at any place; closed in the end, unless it was given open.

    Raises:
        ImageNotFound: there is no such file.
    """
    if isinstance(source, str | Path):
        with opened(Path(source)) as stream:
            yield stream.fileno()
    elif isinstance(source, bytes | bytearray | memoryview):
        with _in_memory(source) as stream:
            yield stream.fileno()
    else:
        source.flush()
        yield source.fileno()


def _in_memory(data: bytes | bytearray | memoryview) -> BinaryIO:
    stream = memory_file()
    stream.write(data)
    stream.flush()
    return stream


def memory_file() -> BinaryIO:
    """An empty file without a name: in memory where the system has such, else on the disk."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("d3-clip", os.MFD_CLOEXEC), "w+b")
    return tempfile.TemporaryFile()


def start_of(descriptor: int, size: int) -> bytes:
    """The first bytes."""
    return os.pread(descriptor, size, 0)


def sha256_of(descriptor: int) -> str:
    """Hexadecimal, of the whole file."""
    digest, at = hashlib.sha256(), 0
    while piece := os.pread(descriptor, _PIECE, at):
        digest.update(piece)
        at += len(piece)
    return digest.hexdigest()


class Shared(io.RawIOBase):
    """A file that others read too: it keeps its own place."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._size = os.fstat(descriptor).st_size
        self._at = 0

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """As any file."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        """As any file."""
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """As any file."""
        read = os.preadv(self._descriptor, [buffer], self._at)
        self._at += read
        return read
