"""Brings a database's tables up to date, and says how they stand; what ``d3 db`` calls."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import sqlalchemy as sa

from d3.adapters.sql.adoption import ADOPTED_AS, PROTOTYPE, adopt, empty_the_log, is_prototype
from d3.adapters.sql.backup import backup, beside
from d3.adapters.sql.engine import Database
from d3.adapters.sql.tables import Base
from d3.domain.errors import SchemaMismatch, StorageFailed
from d3.domain.files import Progress, no_progress

VERSION_TABLE = "d3_schema_version"
"""Ours alone, so that another application's Alembic in the same database is not in the way."""

_MIGRATIONS = Path(__file__).parent / "migrations"
_LOCK = 0x6433_5343_4845_4D41  # "d3SCHEMA"


class SchemaState(StrEnum):
    """How a database's tables stand to this version of D3."""

    EMPTY = "empty"
    AT_HEAD = "at head"
    BEHIND = "behind"
    AHEAD = "ahead"
    PROTOTYPE = "the original prototype's"
    FOREIGN = "foreign"


@dataclass(frozen=True, slots=True)
class Upgraded:
    """What an upgrade did.

    Attributes:
        revision: that the database is at now.
        backup: of the embedded database as it was before; None where none was needed.
    """

    revision: str
    backup: Path | None = None


def head() -> str:
    """The revision that this version of D3 works with."""
    return _revisions()[-1]


def current(database: Database) -> str | None:
    """The revision that the database is at; None before the first.

    Raises:
        StorageFailed: the database cannot be read.
    """
    with database.reading() as connection:
        return _recorded(connection)


def state(database: Database) -> SchemaState:
    """How the database stands: empty, at head, behind, ahead, the prototype's, or foreign.

    The prototype's has its three tables with exactly its columns. A foreign one has tables with our
    names that our migrations did not make; other tables do not matter.

    Raises:
        StorageFailed: the database cannot be read.
    """
    with database.reading() as connection:
        _check_encoding(connection)
        return state_of(connection)


def upgrade(database: Database, revision: str = "head") -> str:
    """Run the missing migrations, all or none; the revision reached.

    The prototype's tables are adopted. Several processes may call this at once; one works and the
    others wait.

    Raises:
        SchemaMismatch: the database is ahead of this version, or foreign, or the prototype's with
            rows that cannot be kept.
        StorageFailed: it cannot be written.
    """
    return _upgrade(database, revision, keep_backup=False).revision


def migrate(connection: sa.Connection, revision: str = "head") -> str:
    """Run the missing migrations in the caller's transaction; the revision reached."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, revision)
    reached = _recorded(connection)
    assert reached is not None
    return reached


def make_ready(database: Database) -> Path | None:
    """Prepare a service's database: fill an empty one, upgrade an embedded one.

    An embedded one that holds rows is first copied to a file beside it, which is returned.

    Raises:
        SchemaMismatch: a server's tables are behind, or any are ahead, foreign or the prototype's;
            it names the command that helps.
        StorageFailed: the database cannot be used.
    """
    _close_to_others(database)
    found = state(database)
    if found is SchemaState.AT_HEAD:
        return None
    _refuse(found, SchemaState.PROTOTYPE)
    if not database.is_sqlite:
        _refuse(found, SchemaState.BEHIND)
    return _upgrade(database, "head", keep_backup=True).backup


def exclusively(connection: sa.Connection) -> None:
    """Lift the time limit of this transaction; others that change tables wait for its end."""
    if connection.dialect.name != "sqlite":
        from d3.adapters.sql.postgres import lift_time_limit

        lift_time_limit(connection)
        connection.execute(sa.text("SET LOCAL lock_timeout = 0"))
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))


def has_rows(connection: sa.Connection) -> bool:
    """Whether any of our tables holds a row."""
    present = set(sa.inspect(connection).get_table_names()) & set(Base.metadata.tables)
    return any(
        connection.scalar(sa.select(sa.literal(1)).select_from(sa.table(name)).limit(1))
        for name in sorted(present)
    )


def _upgrade(database: Database, revision: str, *, keep_backup: bool) -> Upgraded:
    file = None
    with database.writing() as connection:
        _check_encoding(connection)
        exclusively(connection)
        # Only now: while another process adopts the tables, they would look foreign.
        found = state_of(connection)
        _refuse(found, SchemaState.AHEAD, SchemaState.FOREIGN)
        old = found in {SchemaState.BEHIND, SchemaState.PROTOTYPE}
        if keep_backup and old and database.is_sqlite and has_rows(connection):
            file = beside(database, _recorded(connection) or "prototype")
            backup(database, file)
        if found is SchemaState.PROTOTYPE:
            adopt(connection, lambda: migrate(connection, ADOPTED_AS))
        reached = migrate(connection, revision)
    if found is SchemaState.PROTOTYPE and database.is_sqlite:
        empty_the_log(Path(database.url.database or ""))
    return Upgraded(reached, file)


def state_of(connection: sa.Connection) -> SchemaState:
    """As :func:`state`, within the caller's transaction."""
    recorded = _recorded(connection)
    if recorded is None:
        present = set(sa.inspect(connection).get_table_names()) & set(Base.metadata.tables)
        if not present:
            return SchemaState.EMPTY
        ours = present == set(PROTOTYPE) and is_prototype(connection)
        return SchemaState.PROTOTYPE if ours else SchemaState.FOREIGN
    if recorded == head():
        return SchemaState.AT_HEAD
    return SchemaState.BEHIND if recorded in _revisions() else SchemaState.AHEAD


class SqlSchema:
    """The functions of this module, for one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @property
    def database(self) -> str:
        """Which database, for people; without its password."""
        return self._database.name

    def head(self) -> str:
        return head()

    def current(self) -> str | None:
        return current(self._database)

    def state(self) -> SchemaState:
        return state(self._database)

    def upgrade(self, *, backup: bool = True) -> Upgraded:
        """As :func:`upgrade`.

        Args:
            backup: keep a copy of an embedded database that holds rows beside it. A server's
                backup is the server's business.
        """
        return _upgrade(self._database, "head", keep_backup=backup)

    def make_ready(self) -> Path | None:
        return make_ready(self._database)

    def backup(self, file: Path, progress: Progress = no_progress) -> None:
        """As :func:`d3.adapters.sql.backup.backup`."""
        backup(self._database, file, progress)


def _close_to_others(database: Database) -> None:
    """Make a file that an earlier D3 left readable for all private."""
    file = Path(database.url.database or "")
    if database.is_sqlite and file.is_file() and file.stat().st_mode & 0o077:
        with suppress(OSError):  # another user's file, or a system without such rights
            for one in (file, *file.parent.glob(f"{file.name}-*")):
                one.chmod(0o600)


def _check_encoding(connection: sa.Connection) -> None:
    """A name in another script must not fail in the middle of the work."""
    if connection.dialect.name == "sqlite":
        return
    encoding = connection.scalar(sa.text("SHOW server_encoding"))
    if encoding != "UTF8":
        raise StorageFailed(
            f"The database stores text as {encoding}, which cannot represent all characters.",
            "Create a database with CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0.",
        )


def _revisions() -> list[str]:
    """All revisions, the oldest first: the numbers with which their files begin.

    Read without Alembic, whose import takes longer than most commands.
    """
    return sorted(file.name[:4] for file in (_MIGRATIONS / "versions").glob("[0-9]*.py"))


def _recorded(connection: sa.Connection) -> str | None:
    if not sa.inspect(connection).has_table(VERSION_TABLE):
        return None
    table = sa.table(VERSION_TABLE, sa.column("version_num", sa.Text()))
    return connection.scalar(sa.select(table.c.version_num))


def _refuse(found: SchemaState, *refused: SchemaState) -> None:
    if found not in refused:
        return
    errors = {
        SchemaState.BEHIND: (
            "The database was created by an older D3.",
            "Make a backup, then run `d3 db upgrade`.",
        ),
        SchemaState.AHEAD: (
            "The database was upgraded by a newer D3.",
            "Install that version, or restore the backup made before its `d3 db upgrade`.",
        ),
        SchemaState.PROTOTYPE: (
            "The database belongs to the original prototype.",
            "Make a backup, then run `d3 db upgrade`. It keeps all rows.",
        ),
        SchemaState.FOREIGN: (
            "The database has tables with D3's names that were not created by D3.",
            "Use another database: set POSTGRES_DB or D3_DATABASE_URL.",
        ),
    }
    raise SchemaMismatch(*errors[found])
