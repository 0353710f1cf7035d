"""``python docs/_ext/manual_pages.py FOLDER`` writes a manual page for `d3` and each command."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click
from click_man.core import write_man_pages

import d3
from d3.entrypoints.cli.app import cli

_SHORT = 200


def main(folder: Path) -> None:
    """Write all pages into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for command in every_command(cli, click.Context(cli, info_name="d3")):
        command.short_help = command.get_short_help_str(_SHORT)  # whole first sentences
    write_man_pages("d3", cli, version=d3.__version__, target_dir=str(folder))


def every_command(command: click.Command, context: click.Context) -> Iterator[click.Command]:
    """The command and all below it, which are imported here and now."""
    yield command
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            if found is not None:
                below = click.Context(found, info_name=name, parent=context)
                yield from every_command(found, below)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
