"""Cases as JSON. A reader ignores fields that it does not know."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from d3.domain.errors import D3Error, EvidenceInvalid, EvidenceTooNew
from d3.domain.evidence import FORMAT, FORMAT_VERSION, Case

_JSON_TEXTS = {
    "view_logits": ("[]", (", ", ": ")),
    "provenance_sources": ("[]", (",", ":")),
    "panel": ("null", (",", ":")),
    "stability_probabilities": ("{}", (", ", ": ")),
    "clip": ("null", (",", ":")),
}
"""Fields of a result that a row keeps as the text of JSON: the empty one, and the separators."""


def encode_case(case: Case) -> bytes:
    """A case as indented JSON."""
    document: dict[str, Any] = msgspec.to_builtins(case)
    for name, (empty, _) in _JSON_TEXTS.items():
        document["result"][name] = json.loads(document["result"][name] or empty)
    return msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"


def decode_case(text: bytes) -> Case:
    """Read a case of this or an earlier format.

    Raises:
        EvidenceInvalid: it is no case.
        EvidenceTooNew: only a later D3 can read it.
    """
    document = decode_document(text)
    try:
        for name, (_, separators) in _JSON_TEXTS.items():
            held = document["result"].get(name)
            text_of = json.dumps(held, separators=separators, ensure_ascii=False)
            document["result"][name] = text_of if held else ""
        return msgspec.convert(document, Case)
    except (D3Error, KeyError, AttributeError, TypeError, ValueError) as error:
        raise _unreadable() from error


def decode_document(text: bytes) -> dict[str, Any]:
    """The JSON of a case, in a format that this D3 knows.

    Raises:
        EvidenceInvalid: it is no case.
        EvidenceTooNew: only a later D3 can read it.
    """
    try:
        document = msgspec.json.decode(text, type=dict[str, Any])
    except (ValueError, RecursionError) as error:
        raise _unreadable() from error
    version = document.get("format_version")
    if document.get("format") != FORMAT or type(version) is not int or version < 1:
        raise _unreadable()
    if version > FORMAT_VERSION:
        raise EvidenceTooNew(
            f"The bundle has format {version}, and this D3 reads formats up to {FORMAT_VERSION}.",
            "Install a newer D3.",
        )
    return document


def _unreadable() -> EvidenceInvalid:
    return EvidenceInvalid(
        "case.json does not hold a case of D3.", "Ask for the bundle again where it was made."
    )
