"""Files out of Qt's binary resources (``.rcc``), in which some Debian packages keep photographs.

The format is Qt's own (``qresource.cpp``): a header with three offsets, a tree of nodes, the
names in UTF-16, and the contents, each behind its length and perhaps deflated.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

_COMPRESSED, _FOLDER, _ZSTANDARD = 1, 2, 4


def unpack_resources(resources: bytes, target: Path) -> None:
    """Write the files below a folder; what is no resource file, or needs Zstandard, is left out."""
    if not resources.startswith(b"qres"):
        return
    version, nodes, contents, names = struct.unpack_from(">IIII", resources, 4)
    tree = _Tree(resources, nodes, contents, names, node_bytes=14 if version == 1 else 22)
    for path, content in tree.files():
        file = target / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)


@dataclass(frozen=True)
class _Tree:
    resources: bytes
    nodes: int
    contents: int
    names: int
    node_bytes: int

    def files(self) -> Iterator[tuple[PurePosixPath, bytes]]:
        waiting = [(0, PurePosixPath())]
        while waiting:
            number, path = waiting.pop()
            at = self.nodes + number * self.node_bytes
            flags = self._number(">H", at + 4)
            if flags & _FOLDER:
                count, first = struct.unpack_from(">II", self.resources, at + 6)
                waiting += [(one, path / self._name(one)) for one in range(first, first + count)]
            elif not flags & _ZSTANDARD:
                yield path, self._content(at, deflated=bool(flags & _COMPRESSED))

    def _name(self, number: int) -> str:
        at = self.names + self._number(">I", self.nodes + number * self.node_bytes)
        length = self._number(">H", at)
        return self.resources[at + 6 : at + 6 + 2 * length].decode("utf-16-be")

    def _content(self, node: int, *, deflated: bool) -> bytes:
        at = self.contents + self._number(">I", node + 10)
        content = self.resources[at + 4 : at + 4 + self._number(">I", at)]
        return zlib.decompress(content[4:]) if deflated else content

    def _number(self, form: str, at: int) -> int:
        number: int = struct.unpack_from(form, self.resources, at)[0]
        return number
