"""Text from outside made fit for every store and every screen."""

from __future__ import annotations

import re

NAME_LENGTH = 255
"""The most characters of a display name."""

_UNSTORABLE = re.compile("[\ud800-\udfff]")


def storable(text: str, length: int = NAME_LENGTH) -> str:
    """The text as any store can hold it: no NUL, no lone surrogate, at most ``length`` characters.

    PostgreSQL takes no NUL, and no UTF-8 exists for a lone surrogate; U+FFFD stands for both.
    """
    return _UNSTORABLE.sub("\ufffd", text[:length].replace("\0", "\ufffd"))
