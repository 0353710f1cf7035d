"""Brings a database's tables up to date, and says how they stand; what ``d3 db`` calls."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from d3.adapters.sql.engine import Database
from d3.adapters.sql.tables import Base
from d3.domain.errors import SchemaMismatch
from d3.domain.ports_history import SchemaState

VERSION_TABLE = "d3_schema_version"
"""Ours alone, so that another application's Alembic in the same database is not in the way."""

_MIGRATIONS = Path(__file__).parent / "migrations"
_LOCK = 0x6433_5343_4845_4D41  # "d3SCHEMA"


def head() -> str:
    """The revision that this version of D3 works with."""
    newest = ScriptDirectory(str(_MIGRATIONS)).get_current_head()
    assert newest is not None
    return newest


def current(database: Database) -> str | None:
    """The revision that the database is at; None before the first.

    Raises:
        StorageFailed: the database cannot be read.
    """
    with database.reading() as connection:
        return _recorded(connection)


def state(database: Database) -> SchemaState:
    """How the database stands: empty, at head, behind, ahead, or foreign.

    Foreign means that tables with our names are there which our migrations did not make; other
    tables are nobody's business.

    Raises:
        StorageFailed: the database cannot be read.
    """
    with database.reading() as connection:
        recorded = _recorded(connection)
        if recorded is None:
            present = set(sa.inspect(connection).get_table_names())
            return SchemaState.FOREIGN if present & set(Base.metadata.tables) else SchemaState.EMPTY
    if recorded == head():
        return SchemaState.AT_HEAD
    known = {script.revision for script in ScriptDirectory(str(_MIGRATIONS)).walk_revisions()}
    return SchemaState.BEHIND if recorded in known else SchemaState.AHEAD


def upgrade(database: Database, revision: str = "head") -> str:
    """Run the migrations that are missing, all or none; the revision that the database is at then.

    Several processes may call this at once; one works and the others wait.

    Raises:
        SchemaMismatch: the database is ahead of this version, or foreign.
        StorageFailed: it cannot be written.
    """
    _refuse(state(database), SchemaState.AHEAD, SchemaState.FOREIGN)
    with database.writing() as connection:
        if not database.is_sqlite:
            connection.execute(sa.text("SET LOCAL statement_timeout = 0"))
            connection.execute(sa.text("SET LOCAL lock_timeout = 0"))
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
        config = Config()
        config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
        config.set_main_option("path_separator", "os")
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        reached = _recorded(connection)
    assert reached is not None
    return reached


def make_ready(database: Database) -> None:
    """What a service does at its start: fill an empty database, upgrade an embedded one.

    Raises:
        SchemaMismatch: a server's tables are behind, or any are ahead or foreign; it names the
            command that helps.
        StorageFailed: the database cannot be used.
    """
    found = state(database)
    if found is SchemaState.AT_HEAD:
        return
    if not database.is_sqlite:
        _refuse(found, SchemaState.BEHIND)
    upgrade(database)


class SqlSchema:
    """Fills :class:`d3.domain.ports_history.Schema` with the functions of this module."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @property
    def database(self) -> str:
        """Which database, for people; without its password."""
        return self._database.name

    def head(self) -> str:
        """The revision that this version of D3 works with."""
        return head()

    def current(self) -> str | None:
        """The revision that the database is at; None before the first."""
        return current(self._database)

    def state(self) -> SchemaState:
        """How the database stands to this version."""
        return state(self._database)

    def upgrade(self) -> str:
        """Run the migrations that are missing, all or none; the revision reached."""
        return upgrade(self._database)

    def make_ready(self) -> None:
        """Fill an empty database, upgrade an embedded one, refuse the others."""
        make_ready(self._database)


def _recorded(connection: sa.Connection) -> str | None:
    options = {"version_table": VERSION_TABLE}
    return MigrationContext.configure(connection, opts=options).get_current_revision()


def _refuse(found: SchemaState, *refused: SchemaState) -> None:
    if found not in refused:
        return
    told = {
        SchemaState.BEHIND: (
            "The database was made by an older D3.",
            "Make a backup, then run `d3 db upgrade`.",
        ),
        SchemaState.AHEAD: (
            "The database was upgraded by a newer D3.",
            "Install that version, or restore the backup made before its `d3 db upgrade`.",
        ),
        SchemaState.FOREIGN: (
            "The database has tables with D3's names that D3 did not make.",
            "Name another database with POSTGRES_DB or D3_DATABASE_URL.",
        ),
    }
    raise SchemaMismatch(*told[found])
