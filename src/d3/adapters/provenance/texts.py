"""The texts of a PNG, unpacked as far as they are wanted and no further than their limit."""

from __future__ import annotations

import zlib

from d3.adapters.provenance.words import MAX_TEXT_BYTES

_XMP = "XML:com.adobe.xmp"
_WANTED = frozenset(
    {
        "Author",
        "Comment",
        "Credit",
        "Description",
        "Dream",
        "Software",
        "Source",
        "Title",
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
MAX_ALL_BYTES = 4 * MAX_TEXT_BYTES


def read_texts(chunks: list[tuple[bytes, bytes]]) -> tuple[dict[str, str], list[bytes]]:
    """Texts by keyword, the first of each; and XMP packets, which hide among them.

    Args:
        chunks: kind (``tEXt``, ``zTXt``, ``iTXt``) and content.
    """
    texts: dict[str, str] = {}
    packets: list[bytes] = []
    left = MAX_ALL_BYTES
    for kind, chunk in chunks:
        head, _, rest = chunk[:80].partition(b"\0")
        keyword = head.decode("latin-1")
        if keyword not in _WANTED or keyword in texts or left <= 0:
            continue
        body = _body(kind, chunk[len(chunk[:80]) - len(rest) :], min(left, MAX_TEXT_BYTES))
        left -= len(body)
        if keyword == _XMP:
            packets.append(body)
        else:
            texts[keyword] = body.decode("utf-8" if kind == b"iTXt" else "latin-1", "replace")
            if kind != b"iTXt":
                texts[keyword] = _as_meant(body, texts[keyword])
    return texts, packets


def _body(kind: bytes, rest: bytes, most: int) -> bytes:
    """The text behind the keyword, unpacked up to so many bytes."""
    packed = kind == b"zTXt"
    if packed:
        rest = rest[1:]
    elif kind == b"iTXt":
        packed, rest = rest[:1] == b"\1", rest[2:]
        rest = rest.partition(b"\0")[2].partition(b"\0")[2]
    if not packed:
        return rest[:most]
    try:
        return zlib.decompressobj().decompress(rest, most)
    except zlib.error:
        return b""


def _as_meant(body: bytes, latin: str) -> str:
    """Many programs write UTF-8 where the format says Latin-1."""
    if latin.isascii():
        return latin
    try:
        return body.decode()
    except UnicodeDecodeError:
        return latin
