"""D3 with its database, for the commands that use one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from d3.entrypoints.cli.output import complain
from d3.entrypoints.cli.progress import progress

if TYPE_CHECKING:
    from d3.container import Container


def opened(*, ready: bool = True) -> Container:
    """All parts; the database is closed when the command ends.

    Args:
        ready: whether an embedded database is filled or upgraded first, with a word on the backup.
    """
    from d3.container import Container
    from d3.settings import Settings

    container = Container(settings=Settings.from_environment())
    if ready:
        click.get_current_context().call_on_close(container.database().close)
        with progress("Opening the database"):
            backup = container.schema().make_ready()
        if backup is not None:
            complain(f"The database was upgraded; {backup} is how it was before.", "note")
    return container
