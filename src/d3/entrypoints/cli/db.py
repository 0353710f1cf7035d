"""``d3 db``: the database as a whole: its tables' state, upgrades, copies and backups."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from d3.domain.errors import SettingsInvalid
from d3.entrypoints.cli.opening import build_container
from d3.entrypoints.cli.output import complain, out
from d3.entrypoints.cli.progress import progress

if TYPE_CHECKING:
    from d3.container import Container


@click.group()
def db() -> None:
    """Show, upgrade, copy and back up the database."""


@db.command()
def current() -> None:
    """Show the database, its revision and the one that D3 needs."""
    schema = _container().schema()
    out().print(f"database  {schema.database}", markup=False)
    out().print(f"revision  {schema.current() or 'none'}", markup=False)
    out().print(f"newest    {schema.head()}", markup=False)
    out().print(f"state     {schema.state().value}", markup=False)


@db.command()
@click.option("--no-backup", is_flag=True, help="Do not copy an embedded database first.")
def upgrade(*, no_backup: bool) -> None:
    """Run the missing migrations, all or none.

    The tables of the original prototype are taken over. The only way back is a backup: an embedded
    database is copied to a file beside it first; a server's database you have to back up. Several
    processes may run this at once: one works and the others wait.
    """
    schema = _container().schema()
    with progress("Upgrading"):
        done = schema.upgrade(backup=not no_backup)
    if done.backup is not None:
        complain(f"{done.backup} is how the database was before.", "note")
    out().print(f"{schema.database} is at revision {done.revision}.", markup=False)


@db.command()
@click.option("--from", "source", metavar="URL", help="By default the embedded database.")
@click.option("--to", "target", metavar="URL", help="By default the one that the settings name.")
def copy(*, source: str | None, target: str | None) -> None:
    """Copy all rows, with their ids, into an empty database.

    All rows are copied or none. A URL is sqlite:///FILE or
    postgresql://USER:PASSWORD@HOST:PORT/NAME. The source does not change. D3 may go on using it,
    but rows that are added after the start are not copied.
    """
    try:
        copier = build_container().copier(source, target)
    except SettingsInvalid as error:
        raise click.UsageError(f"{error.problem} {error.remedy}") from error
    click.get_current_context().call_on_close(copier.close)
    with progress("Copying") as tell:
        counts: dict[str, int] = copier.copy(
            lambda table, done, total: tell(f"Copying {table}", done, total)
        )
    for table, rows in counts.items():
        out().print(f"{rows:>12,}  {table}", markup=False)


@db.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def backup(file: Path) -> None:
    """Copy the embedded database into FILE, also while D3 uses it."""
    schema = _container().schema()
    with progress("Copying") as tell:
        schema.backup(file, lambda what, done, total: tell(f"Copying {what}", done, total))
    out().print(f"{file} holds the database as it was just now.", markup=False, highlight=False)


def _container() -> Container:
    """All parts; the database is closed when the command ends."""
    container = build_container()
    click.get_current_context().call_on_close(container.database().close)
    return container
