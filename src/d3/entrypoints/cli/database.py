"""``d3 db``: the database's tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from d3.entrypoints.cli.output import err, out

if TYPE_CHECKING:
    from d3.domain.ports_history import Schema


@click.group()
def db() -> None:
    """Bring the database's tables up to date, and say how they stand."""


@db.command()
def current() -> None:
    """Show the database, its revision and the one this version works with."""
    schema = _schema()
    out().print(f"database  {schema.database}", markup=False)
    out().print(f"revision  {schema.current() or 'none'}", markup=False)
    out().print(f"newest    {schema.head()}", markup=False)
    out().print(f"state     {schema.state().value}", markup=False)


@db.command()
def upgrade() -> None:
    """Run the migrations that are missing, all or none. Make a backup first: there is no way back.

    Several may call this at once; one works and the others wait.
    """
    schema = _schema()
    with err().status("Upgrading"):
        revision = schema.upgrade()
    out().print(f"{schema.database} is at revision {revision}.", markup=False)


def _schema() -> Schema:
    from d3.container import Container
    from d3.settings import Settings

    schema: Schema = Container(settings=Settings.from_environment()).schema()
    return schema
