"""Spans of time as people type them: ``90d``, ``12h``, ``30m``."""

from __future__ import annotations

import re
from datetime import timedelta

import click

_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_SPAN = re.compile(r"([0-9]{1,6})([mhdw]?)")


class Span(click.ParamType):
    """A whole number of minutes, hours, days or weeks; ``0`` is none at all."""

    name = "span"

    def convert(
        self, value: str | timedelta, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        """The span, or a complaint that says how to write one."""
        if isinstance(value, timedelta):
            return value
        found = _SPAN.fullmatch(value.strip())
        if found is None or (not found[2] and int(found[1])):
            self.fail(f"{value!r} is no span of time: write 90d, 12h, 30m or 4w.", param, ctx)
        return timedelta(**{_UNITS[found[2] or "m"]: int(found[1])})


class Lifetime(Span):
    """A span that is longer than nothing."""

    def convert(
        self, value: str | timedelta, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        """Likewise; nothing is not enough."""
        span = super().convert(value, param, ctx)
        if not span:
            self.fail("a key that ends at once opens nothing.", param, ctx)
        return span
