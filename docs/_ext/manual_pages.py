"""``python docs/_ext/manual_pages.py FOLDER`` writes a manual page for `d3` and each command."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from click_man.core import write_man_pages

import d3
from d3.entrypoints.cli.app import cli

_SHORT = 200


def main(folder: Path) -> None:
    """Write all pages into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    _prepare(cli, click.Context(cli, info_name="d3"))
    write_man_pages("d3", cli, version=d3.__version__, target_dir=str(folder))


def _prepare(command: click.Command, context: click.Context) -> None:
    """Import what waits to be run, and keep the first sentences whole."""
    command.short_help = command.get_short_help_str(_SHORT)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            if found is not None:
                _prepare(found, click.Context(found, info_name=name, parent=context))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
