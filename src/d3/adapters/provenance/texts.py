"""The texts of a PNG, unpacked as far as they are wanted and no further than their limit."""

from __future__ import annotations

import zlib
from collections import Counter
from operator import itemgetter
from typing import NamedTuple

from d3.adapters.provenance.words import MAX_TEXT_BYTES

_XMP = "XML:com.adobe.xmp"
WANTED = frozenset(
    {
        "Comment",
        "Credit",
        "Description",
        "Dream",
        "Software",
        "Source",
        "dream",
        "fooocus_scheme",
        "generation_data",
        "invokeai_graph",
        "invokeai_metadata",
        "invokeai_workflow",
        "parameters",
        "prompt",
        "sd-metadata",
        "workflow",
        _XMP,
    }
)
"""The keywords of texts that are read."""

MAX_ALL_BYTES = 4 * MAX_TEXT_BYTES
_LONGEST_KEYWORD = 80


class Texts(NamedTuple):
    """What was read.

    Attributes:
        texts: by keyword.
        packets: XMP packets, which hide among the texts.
        cut: whether there was more than is read.
    """

    texts: dict[str, list[str]]
    packets: list[bytes]
    cut: bool


def keyword_of(chunk: bytes) -> str:
    """The keyword of a text chunk."""
    return chunk[:_LONGEST_KEYWORD].partition(b"\0")[0].decode("latin-1")


def read_texts(chunks: list[tuple[bytes, bytes]]) -> Texts:
    """Read the texts whose keywords are wanted.

    Args:
        chunks: kind (``tEXt``, ``zTXt``, ``iTXt``) and content.
    """
    turns: list[tuple[int, str, bytes, bytes]] = []
    times: Counter[str] = Counter()
    for kind, chunk in chunks:
        keyword = keyword_of(chunk)
        if keyword in WANTED:
            turns.append((times[keyword], keyword, kind, chunk))
            times[keyword] += 1
    found = Texts({}, [], cut=False)
    left, is_cut = MAX_ALL_BYTES, False
    # The first of each keyword, then the second: many of one hide no other.
    for _, keyword, kind, chunk in sorted(turns, key=itemgetter(0)):
        body, is_whole = _body(kind, chunk[len(keyword) + 1 :], min(left, MAX_TEXT_BYTES))
        left -= len(body)
        is_cut = is_cut or not is_whole
        if keyword == _XMP:
            found.packets.append(body)
        elif body:
            text = body.decode("utf-8" if kind == b"iTXt" else "latin-1", "replace")
            text = text if kind == b"iTXt" else _as_meant(body, text)
            found.texts.setdefault(keyword, []).append(text)
    return found._replace(cut=is_cut)


def _body(kind: bytes, rest: bytes, most: int) -> tuple[bytes, bool]:
    """The text behind the keyword, unpacked up to so many bytes, and whether that is all of it."""
    packed = kind == b"zTXt"
    if packed:
        rest = rest[1:]
    elif kind == b"iTXt":
        packed, rest = rest[:1] == b"\1", rest[2:]
        rest = rest.partition(b"\0")[2].partition(b"\0")[2]
    if not packed:
        return rest[:most], len(rest) <= most
    unpacker = zlib.decompressobj()
    try:
        body = unpacker.decompress(rest, most) if most else b""
    except zlib.error:
        return b"", True
    return body, len(body) < most


def _as_meant(body: bytes, latin: str) -> str:
    """Many programs write UTF-8 where the format says Latin-1."""
    if latin.isascii():
        return latin
    try:
        return body.decode()
    except UnicodeDecodeError:
        return latin
