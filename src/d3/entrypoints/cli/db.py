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
@click.option("--no-backup", is_flag=True, help="Do not back up the embedded database first.")
def upgrade(*, no_backup: bool) -> None:
    """Run all missing migrations, or none if one fails.

    Keeps the data of the original prototype's tables. An upgrade can only be undone with a backup.
    An embedded database is first copied to a file next to it. Back up a server's database
    yourself. Several processes can run this at once: one upgrades, the others wait.
    """
    schema = _container().schema()
    with progress("Upgrading"):
        done = schema.upgrade(backup=not no_backup)
    if done.backup is not None:
        complain(f"The database before the upgrade is saved in {done.backup}.", "note")
    out().print(f"{schema.database} is at revision {done.revision}.", markup=False)


@db.command()
@click.option(
    "--from",
    "source",
    metavar="URL",
    help="Database to copy from.  [default: the embedded database]",
)
@click.option(
    "--to",
    "target",
    metavar="URL",
    help="Database to copy into.  [default: the one in the settings]",
)
def copy(*, source: str | None, target: str | None) -> None:
    """Copy all rows, with their ids, into an empty database.

    Copies all rows, or none if something fails. A URL is sqlite:///FILE or
    postgresql://USER:PASSWORD@HOST:PORT/NAME. The source is not changed. D3 can keep using it, but
    rows added after the start are not copied.
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
    """Back up the embedded database to FILE. D3 may keep running."""
    schema = _container().schema()
    with progress("Copying") as tell:
        schema.backup(file, lambda what, done, total: tell(f"Copying {what}", done, total))
    out().print(f"The database was backed up to {file}.", markup=False, highlight=False)


def _container() -> Container:
    """All parts; the database is closed when the command ends."""
    container = build_container()
    click.get_current_context().call_on_close(container.database().close)
    return container
