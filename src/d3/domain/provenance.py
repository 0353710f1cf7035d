"""What an image's file says about where it comes from; shown beside the score, never part of it.

All of it can be forged and removed: what is there is a statement, and its absence says nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any, Self

MAX_SOURCES = 4000
"""The most characters of JSON that are kept of an image's sources."""


class Says(StrEnum):
    """What a file says of itself."""

    GENERATED = "generated"
    CAMERA = "camera"
    EDITED = "edited"
    NOTHING = "nothing"


class SourceKind(StrEnum):
    """Where in a file a statement stands."""

    C2PA = "c2pa"
    IPTC = "iptc"
    EXIF = "exif"
    RECORD = "record"
    WATERMARK = "watermark"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One statement of a file about itself; None and empty where it leaves something open.

    Attributes:
        kind: where it stands.
        says: what it says.
    """

    kind: SourceKind
    says: Says

    @classmethod
    def of(cls, values: dict[str, Any]) -> Self:
        """The source of a JSON object; what a later D3 added is left out."""
        known = {one.name: values[one.name] for one in fields(cls) if one.name in values}
        known |= {"kind": SourceKind(known["kind"]), "says": Says(known["says"])}
        return cls(**known)


@dataclass(frozen=True, slots=True)
class Provenance:
    """All that a file says about itself.

    Attributes:
        says: the statement that weighs most: generated, then edited, then camera.
        sources: one for each statement that was found.
    """

    says: Says = Says.NOTHING
    sources: tuple[Source, ...] = ()

    @classmethod
    def of(cls, sources: Iterable[Source]) -> Self:
        """What these statements say together."""
        found = tuple(sources)
        said = {one.says for one in found}
        ranked = (Says.GENERATED, Says.EDITED, Says.CAMERA)
        return cls(next((one for one in ranked if one in said), Says.NOTHING), found)

    def to_json(self) -> str:
        """The sources as a JSON list of at most :data:`MAX_SOURCES` characters; empty for none."""
        if not self.sources:
            return ""
        kept = [
            {name: value for name, value in asdict(one).items() if value not in (None, "", ())}
            for one in self.sources
        ]
        while len(text := json.dumps(kept, separators=(",", ":"))) > MAX_SOURCES:
            kept.pop()
        return text

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The inverse of :meth:`to_json`."""
        return cls.of(map(Source.of, json.loads(text))) if text else cls()
