"""Help texts of commands as sphinx-click takes them: reStructuredText, which they are not."""

from __future__ import annotations

import re
from typing import Any

import click
from manual_pages import every_command
from sphinx.application import Sphinx

from d3.entrypoints.cli.app import cli

_DIRECTIVE = re.compile(r"\s*(\.\. |:(default|options): )")
_QUOTED = re.compile(r"``(?:\w*Path\()?(['\"])(.*)\1\)?``")
_CODE = re.compile(r"`([^`]+)`")
_SPECIAL = re.compile(r"([*_|@\\])")


def _translate(_: Sphinx, __: Any, lines: list[str]) -> None:
    """Mark code as code, and keep what would be marks as it stands."""
    for number, line in enumerate(lines):
        if _DIRECTIVE.match(line):
            lines[number] = _QUOTED.sub(r"``\2``", line)  # a default is what one types
            continue
        block = "| " if line.lstrip().startswith("| ") else ""
        indent = line[: len(line) - len(line.lstrip())]
        lines[number] = indent + block + _escaped(line.lstrip().removeprefix(block))


def _escaped(text: str) -> str:
    parts = _CODE.split(text)  # words and code take turns
    return "".join(
        f"``{one}``" if number % 2 else _SPECIAL.sub(r"\\\1", one)
        for number, one in enumerate(parts)
    )


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension, after sphinx-click's, which leaves out what is not imported yet."""
    list(every_command(cli, click.Context(cli, info_name="d3")))
    for part in ("description", "options", "epilog"):
        app.connect(f"sphinx-click-process-{part}", _translate)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
