"""What an image's file says about where it comes from; shown beside the score, never part of it.

All of it can be forged and removed: what is there is a statement, and its absence says nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
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

    @property
    def sentence(self) -> str | None:
        """One sentence for people; None where there is nothing to say."""
        return _SENTENCES.get(self)


_SENTENCES = {
    Says.GENERATED: "The file says that it was generated.",
    Says.EDITED: "The file says that it was edited.",
    Says.CAMERA: "The file says that it comes from a camera.",
}
CAUTION = "What a file says about itself can be forged and removed. It is not part of the verdict."
_BY_WEIGHT = (Says.GENERATED, Says.EDITED, Says.CAMERA, Says.NOTHING)


def weightiest(said: Iterable[Says]) -> Says:
    """Of several statements the one that counts.

    A statement against the picture, that it was generated or edited, outweighs one in its favour:
    few would forge the first to make a picture believed.
    """
    return min(said, key=weight, default=Says.NOTHING)


def weight(said: Says) -> int:
    """A number to sort statements by, the weightiest first."""
    return _BY_WEIGHT.index(said)


class State(StrEnum):
    """What checking a manifest of C2PA came to.

    ``valid``: whole, signed, and by somebody whom a trusted certificate vouches for. ``untrusted``:
    whole and signed, by nobody knows whom. ``invalid``: it does not hold. ``none``: there was
    nothing to check, or no way to.
    """

    VALID = "valid"
    UNTRUSTED = "untrusted"
    INVALID = "invalid"
    NONE = "none"


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

    Every text is one visible line.

    Attributes:
        kind: where it stands.
        says: what it says.
        state: of a manifest: what checking it came to.
        reason: why it is not valid, or was not read; a sentence.
        generator: the program that made the picture or the manifest.
        model: the generator's model.
        prompt: of a generator's record: whether it holds the prompt.
        digital_source_type: the IPTC's word, such as ``"trainedAlgorithmicMedia"``.
        signer: in whose name a manifest is signed.
        signed_at: when, in the words of a time stamp that is part of the signature.
        actions: what a manifest says was done, such as ``"c2pa.created"``.
        ingredients: what it says the file was made from: a title and how it was used.
        camera: make and model.
        software: the program that last saved the file.
        created_at: when the photograph was taken, as the camera's clock said.
        modified_at: when it was last saved.
        position: where it was taken, in degrees; only with ``D3_KEEP_POSITION``.
    """

    kind: SourceKind
    says: Says = Says.NOTHING
    state: State | None = None
    reason: str | None = None
    generator: str | None = None
    model: str | None = None
    prompt: bool | None = None
    digital_source_type: str | None = None
    signer: str | None = None
    signed_at: str | None = None
    actions: tuple[str, ...] = ()
    ingredients: tuple[str, ...] = ()
    camera: str | None = None
    software: str | None = None
    created_at: str | None = None
    modified_at: str | None = None
    position: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """What it does not leave open."""
        return {name: value for name, value in asdict(self).items() if value not in (None, ())}

    @classmethod
    def of(cls, values: dict[str, Any]) -> Self:
        """The source of a JSON object; what a later D3 added is left out.

        Raises:
            ValueError: a value is of another kind than it should be.
        """
        known: dict[str, Any] = {
            one: _READ.get(one, _line)(values[one]) for one in _NAMES if one in values
        }
        return cls(**known)


def _line(value: object) -> str:
    if not isinstance(value, str) or not value.isprintable():
        raise ValueError(value)
    return value


def _lines(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError(value)  # noqa: TRY004  one kind of error for what makes no sense
    return tuple(map(_line, value))


def _truth(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(value)  # noqa: TRY004
    return value


_NAMES = tuple(one.name for one in fields(Source))
_READ: dict[str, Callable[[Any], object]] = {
    "kind": SourceKind,
    "says": Says,
    "state": State,
    "prompt": _truth,
    "actions": _lines,
    "ingredients": _lines,
}


@dataclass(frozen=True, slots=True)
class Provenance:
    """All that a file says about itself.

    Attributes:
        says: the statement that weighs most: generated, then edited, then camera. Beside a
            manifest that does not hold, nothing makes a file say that it comes from a camera.
        sources: one for each statement that was found.
    """

    says: Says = Says.NOTHING
    sources: tuple[Source, ...] = ()

    @classmethod
    def of(cls, sources: Iterable[Source]) -> Self:
        """What these statements say together."""
        found = tuple(sources)
        says = weightiest(one.says for one in found)
        if says is Says.CAMERA and any(one.state is State.INVALID for one in found):
            says = Says.NOTHING
        return cls(says, found)

    def to_dict(self) -> dict[str, Any]:
        """As JSON shows it: what a source leaves open is left out."""
        return {"says": self.says, "sources": [one.to_dict() for one in self.sources]}

    def to_json(self) -> str:
        """The sources as a JSON list of at most :data:`MAX_SOURCES` characters; empty for none."""
        if not self.sources:
            return ""
        kept = [one.to_dict() for one in self.sources]
        while True:
            text = json.dumps(kept, separators=(",", ":"), ensure_ascii=False)
            if len(text) <= MAX_SOURCES:
                return text
            kept.pop()

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The inverse of :meth:`to_json`.

        Raises:
            ValueError: it is nothing that :meth:`to_json` wrote.
        """
        if not text:
            return cls()
        try:
            listed = json.loads(text)
            if not isinstance(listed, list):
                raise ValueError(text)  # noqa: TRY004  one kind of error for what makes no sense
            return cls.of(map(Source.of, listed))
        except (TypeError, RecursionError) as error:
            raise ValueError(text) from error


UNREADABLE = Provenance.of(
    [
        Source(
            kind=SourceKind.C2PA,
            state=State.NONE,
            reason="What the file says about itself takes too much time or memory to read.",
        )
    ]
)
