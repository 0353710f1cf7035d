"""Files on their way to the service, read piece by piece as often as they have to be sent."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TypeAlias

from d3.domain.errors import RequestInvalid

File: TypeAlias = "str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes]"
"""A file's path, its bytes, or an open file, which is read to its end at once."""
_PIECE_BYTES = 256 * 1024
_ESCAPES = str.maketrans({'"': "%22", "\r": "%0D", "\n": "%0A"})  # as browsers write names


class Form:
    """A multipart form. Paths are opened one at a time, each time the form is sent.

    Args:
        fields: texts by field.
        files: the field, the name and the file of each; the path's own name unless given.
    """

    def __init__(
        self,
        fields: Mapping[str, str | Sequence[str]],
        files: Sequence[tuple[str, str | None, File]],
    ) -> None:
        self._boundary = secrets.token_hex(16)
        self._parts: list[tuple[bytes, bytes | Path]] = []
        for field, texts in fields.items():
            for text in [texts] if isinstance(texts, str) else texts:
                self._parts.append((self._head(field), text.encode()))
        for field, name, file in files:
            content, own = _opened(file)
            self._parts.append((self._head(field, name or own), content))

    def measured(self) -> MeasuredForm:
        """The form as it is sent now.

        Raises:
            OSError: a file is not there.
        """
        parts = [(head, content, _size(content)) for head, content in self._parts]
        return MeasuredForm(self._boundary, parts)

    def _head(self, field: str, name: str | None = None) -> bytes:
        named = "" if name is None else f'; filename="{name.translate(_ESCAPES)}"'
        kind = "" if name is None else "\r\nContent-Type: application/octet-stream"
        return (
            f'--{self._boundary}\r\nContent-Disposition: form-data; name="{field}"{named}{kind}'
            "\r\n\r\n"
        ).encode(errors="surrogateescape")  # a name may be any bytes


class MeasuredForm:
    """A form whose length is announced.

    Args:
        boundary: between its parts.
        parts: the head, the content and the size of each.
    """

    def __init__(self, boundary: str, parts: Sequence[tuple[bytes, bytes | Path, int]]) -> None:
        self._parts = parts
        self._end = f"--{boundary}--\r\n".encode()
        length = sum(len(head) + size + 2 for head, _, size in parts) + len(self._end)
        self.headers = {
            "Content-Type": f"multipart/form-data; boundary={boundary}",
            "Content-Length": str(length),
        }

    def __iter__(self) -> Iterator[bytes]:
        for head, content, size in self._parts:
            yield head
            yield from [content] if isinstance(content, bytes) else _pieces(content, size)
            yield b"\r\n"
        yield self._end


class Beside:
    """The pieces of a form, read on a thread beside the event loop.

    Args:
        form: what is read.
    """

    def __init__(self, form: MeasuredForm) -> None:
        self._form = form

    def __aiter__(self) -> AsyncIterator[bytes]:
        return _Reader(iter(self._form))


class _Reader(AsyncIterator[bytes]):
    # No generator: one that is left in the middle holds its file until the loop ends it.
    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces

    async def __anext__(self) -> bytes:
        piece = await asyncio.to_thread(next, self._pieces, None)
        if piece is None:
            raise StopAsyncIteration
        return piece


def _opened(file: File) -> tuple[bytes | Path, str]:
    """The bytes or the path, and the file's own name."""
    if isinstance(file, bytes | bytearray | memoryview):
        return bytes(file), "image"
    if isinstance(file, str | os.PathLike):
        path = Path(file)
        return path, path.name
    content, name = file.read(), getattr(file, "name", None)
    if not isinstance(content, bytes):
        raise RequestInvalid("The file was opened as text.", "Open it with the mode 'rb'.")
    return content, Path(name).name if isinstance(name, str) else "image"


def _size(content: bytes | Path) -> int:
    return len(content) if isinstance(content, bytes) else content.stat().st_size


def _pieces(path: Path, size: int) -> Iterator[bytes]:
    with path.open("rb") as stream:
        while size:
            piece = stream.read(min(size, _PIECE_BYTES))
            if not piece:
                raise RequestInvalid(f"{path.name} became shorter while it was sent.", "Try again.")
            size -= len(piece)
            yield piece
