"""Text from outside made fit for every store and every screen."""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import urlsplit, urlunsplit

NAME_LENGTH = 255
"""The most characters of a display name."""

_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
_UNSTORABLE = re.compile("[\ud800-\udfff]")


def storable(text: str, length: int = NAME_LENGTH) -> str:
    """The text as any store can hold it: no NUL, no lone surrogate, at most ``length`` characters.

    PostgreSQL takes no NUL, and no UTF-8 exists for a lone surrogate; U+FFFD stands for both.
    """
    if text.isascii() and "\0" not in text:
        return text[:length]
    return _UNSTORABLE.sub("\ufffd", text[:length].replace("\0", "\ufffd"))


def display_name(text: str) -> str:
    """What people are shown of a file's name: its last part, one line, no hidden characters.

    Path parts, control and format characters (bidirectional overrides among them) and surrogates
    go; what is left is at most 255 characters and never empty.
    """
    last = re.split(r"[/\\]", text.rstrip("/\\"))[-1]
    visible = "".join(c for c in last if unicodedata.category(c) not in _HIDDEN)
    return " ".join(visible.split())[:NAME_LENGTH].strip() or "image"


def without_secrets(url: str) -> str:
    """An address as it may be shown: no user, no password, no query, which may be a signature."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
