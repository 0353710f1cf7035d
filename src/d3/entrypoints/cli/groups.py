"""Groups of commands whose modules are imported when a command is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click

from d3.entrypoints.cli.output import be_quiet

QUIET = click.Option(
    ["-q", "--quiet"],
    is_flag=True,
    expose_value=False,
    callback=lambda _ctx, _option, wanted: be_quiet() if wanted else None,
    help="Print only results, warnings and errors: no progress, counts or notes.",
)
"""Every command has it but those that run until they are stopped."""
_UNQUIET = frozenset({"serve"})


class LazyGroup(click.Group):
    """A group some of whose commands stay unimported until one of them is run or listed.

    Args:
        modules: the names of such commands. ``detect`` is the command ``detect`` in the module
            :mod:`d3.entrypoints.cli.detect`.
    """

    def __init__(self, *arguments: Any, modules: tuple[str, ...] = (), **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._modules = modules

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's signature
        """The names of all commands, in the order of the alphabet."""
        return sorted({*self.commands, *self._modules})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name; None where there is none."""
        if cmd_name in self._modules and cmd_name not in self.commands:
            module = import_module(f"d3.entrypoints.cli.{cmd_name}")
            self.add_command(getattr(module, cmd_name))
        command = super().get_command(ctx, cmd_name)
        if command is not None and cmd_name not in _UNQUIET:
            _can_be_quiet(command)
        return command


def _can_be_quiet(command: click.Command) -> None:
    """Give it ``--quiet``, and of a group all that it holds."""
    if isinstance(command, click.Group):
        for one in command.commands.values():
            _can_be_quiet(one)
    elif QUIET not in command.params:
        command.params.append(QUIET)
