"""Spans of time as people type them: ``90d``, ``12h``, ``30m``."""

from __future__ import annotations

import re
from datetime import timedelta

import click

_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_SPAN = re.compile(r"([0-9]{1,6})([mhdw]?)")


def span(text: str) -> timedelta:
    """A whole number of minutes, hours, days or weeks; ``0`` is none at all.

    Raises:
        click.BadParameter: the text is anything else; it says how to write one.
    """
    found = _SPAN.fullmatch(text.strip())
    if found is None or (not found[2] and int(found[1])):
        raise click.BadParameter(f"{text!r} is not a duration. Write 90d, 12h, 30m or 4w.")
    return timedelta(**{_UNITS[found[2] or "m"]: int(found[1])})


def lifetime(text: str) -> timedelta:
    """Likewise, and longer than nothing.

    Raises:
        click.BadParameter: it is not.
    """
    if not (given := span(text)):
        raise click.BadParameter("give a duration longer than 0.")
    return given
