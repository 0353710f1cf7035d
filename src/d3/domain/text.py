"""Text from outside, made safe to store and to show."""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import urlsplit, urlunsplit

NAME_LENGTH = 255
"""The most characters of a display name."""

_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
_TURNING = frozenset({"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"})
_BLANKS = frozenset("\u115f\u1160\u2800\u3164\uffa0")  # letters and a symbol that draw nothing
_UNSTORABLE = re.compile("[\ud800-\udfff]")


def storable(text: str, length: int = NAME_LENGTH) -> str:
    """The text as any store can hold it: no NUL, no lone surrogate, at most ``length`` characters.

    PostgreSQL takes no NUL, and UTF-8 has no lone surrogates; U+FFFD replaces both.
    """
    if text.isascii() and "\0" not in text:
        return text[:length]
    return _UNSTORABLE.sub("\ufffd", text[:length].replace("\0", "\ufffd"))


def searchable(text: str) -> str:
    """The form in which texts are searched: without case, in one Unicode form (NFC).

    One text stands in another for a reader if its form is a part of the other's form.
    """
    return text.lower() if text.isascii() else unicodedata.normalize("NFC", text.casefold())


def turns(character: str) -> bool:
    """Whether it makes other text read in another direction than it is written."""
    return unicodedata.bidirectional(character) in _TURNING


def is_blank(text: str) -> bool:
    """Whether a reader sees nothing of it: spaces, invisible and format characters alone."""
    return not any(unicodedata.category(one)[0] in "LNPS" and one not in _BLANKS for one in text)


def display_name(text: str) -> str:
    """A file's name for display: its last part, one line, no hidden characters.

    Path parts, control and format characters (bidirectional overrides among them) and surrogates
    are removed; the rest is at most 255 characters and never empty.
    """
    last = re.split(r"[/\\]", text.rstrip("/\\"))[-1]
    visible = "".join(c for c in last if unicodedata.category(c) not in _HIDDEN)
    return " ".join(visible.split())[:NAME_LENGTH].strip() or "image"


def without_secrets(url: str) -> str:
    """The address without user, password and query, which may be a signature."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def without_logins(text: str, *, strictly: bool = False) -> str:
    """A text without the passwords of the addresses in it.

    Args:
        text: what somebody wrote where no address with a password belongs.
        strictly: whether all up to the last ``@`` is left out: of what is no proper address, and
            whose password may hold any character.
    """
    if strictly:
        return re.sub(r"^((?:[\w+.-]+:/+)?)(?=[^@]*:)(?!/)(?s:.*)@", r"\1***@", text)
    return re.sub(r"([\w+.-]+:/+)[^/@]*:[^/@]*@", r"\1***@", text)
