"""PostgreSQL's side of :mod:`d3.adapters.sql.engine`: connections, sessions and their time limits.

A server may go silent without going away. Its own ``statement_timeout`` ends a slow statement, and
TCP's keepalives find a machine that is gone. A server that is stopped, or behind a middle box that
swallows its answers, is found by neither: only a time limit on the client helps.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import psycopg
import sqlalchemy as sa
from sqlalchemy import event

from d3.domain.errors import SettingsInvalid

Prepared: TypeAlias = Literal["auto", "on", "off"]
"""Whether statements are prepared; ``auto``: except behind a connection pooler."""

_MARGIN_SECONDS = 5.0
"""Given to the server to end a statement by itself, which keeps the connection."""
_LOCK_SECONDS = 10
_READ_ONLY = "25006"


def create_engine(
    url: sa.URL, connect_seconds: int, statement_seconds: int, prepared: Prepared, **pool: Any
) -> sa.Engine:
    """An engine whose connections wait only so long, each session set up as D3 wants it."""
    options = {
        "connect_timeout": connect_seconds,
        "application_name": "d3",
        "client_encoding": "utf8",  # else SQL_ASCII gives bytes for text
        "keepalives_idle": 30,
        "tcp_user_timeout": 1000 * statement_seconds,
    }
    own = {name: value for name, value in options.items() if name not in url.query}
    engine = sa.create_engine(url, pool_pre_ping=True, connect_args=own, **pool)
    _wait_only(engine, statement_seconds)
    session = _Session(statement_seconds, prepared)
    event.listen(engine, "connect", session.connected)
    event.listen(engine, "begin", session.begun)
    event.listen(engine, "handle_error", _drop_read_only_server)
    return engine


def check_parameters(url: sa.URL) -> None:
    """See that a URL has parameters of libpq only.

    Raises:
        SettingsInvalid: it has another one.
    """
    known = {option.keyword.decode() for option in psycopg.pq.Conninfo.get_defaults()}
    if unknown := sorted(set(url.query) - known):
        hint = {"prepare_threshold": " D3_DATABASE_PREPARED=off turns prepared statements off."}
        raise SettingsInvalid(
            f"D3_DATABASE_URL has an unknown parameter: {unknown[0]!r}.",
            "Remove it, or use a connection parameter of libpq, such as sslmode."
            + hint.get(unknown[0], ""),
        )


class BoundedConnection(psycopg.Connection[Any]):
    """A connection of psycopg.

    Attributes:
        answer_seconds: to wait for one answer; None for ever.
        pooled: whether a connection pooler stands between this process and the server.
    """

    answer_seconds: float | None = None
    pooled: bool = False

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        """Wait for an answer; a connection that gives none is closed: its state is unknown."""
        try:
            return super().wait(
                gen, interval, timeout if timeout is not None else self.answer_seconds
            )
        except psycopg.OperationalError as error:
            if timeout is None and type(error).__name__ == "_WaitTimeout":
                self.pgconn.finish()
                raise psycopg.OperationalError(
                    "the server closed the connection unexpectedly: it did not respond in time"
                ) from error
            raise


def _wait_only(engine: sa.Engine, statement_seconds: float) -> None:
    """Let an engine's connections wait a little longer than a statement may take."""
    answer_seconds = statement_seconds + _MARGIN_SECONDS

    def connect(_: object, __: object, arguments: Any, named: Any) -> BoundedConnection:
        return BoundedConnection.connect(*arguments, **named)

    def renew(connection: Any, *_: object) -> None:
        if connection is not None:  # as it is where it was invalidated
            connection.answer_seconds = answer_seconds

    event.listen(engine, "do_connect", connect)
    event.listen(engine, "connect", renew)
    event.listen(engine, "checkin", renew)


def lift_time_limit(connection: sa.Connection) -> None:
    """Let the transaction that has begun take as long as it needs; its server is PostgreSQL."""
    for name in ("statement_timeout", "idle_in_transaction_session_timeout"):
        connection.execute(sa.text(f"SET LOCAL {name} = 0"))
    driver = connection.connection.dbapi_connection
    if isinstance(driver, BoundedConnection):
        driver.answer_seconds = None


class _Session:
    """How D3 wants a session to be: in UTC, with limits, and with or without prepared statements.

    A pooler gives each transaction whichever server connection is free. What is set at connect
    would reach one of them only, and what is prepared there is not known on the next. So behind a
    pooler every transaction sets its own, and nothing is prepared.
    """

    def __init__(self, statement_seconds: int, prepared: Prepared) -> None:
        self._prepared = prepared
        self._wanted = {
            "TIME ZONE": "'UTC'",
            "statement_timeout =": f"'{statement_seconds}s'",
            "lock_timeout =": f"'{_LOCK_SECONDS}s'",
            "idle_in_transaction_session_timeout =": f"'{2 * statement_seconds}s'",
        }

    def connected(self, connection: BoundedConnection, _: object) -> None:
        connection.autocommit = True
        connection.pooled = _is_pooled(connection)
        if self._prepared == "off" or (self._prepared == "auto" and connection.pooled):
            connection.prepare_threshold = None
        if not connection.pooled:
            connection.execute(self._statements("SET"))
        connection.autocommit = False

    def begun(self, connection: sa.Connection) -> None:
        driver = connection.connection.dbapi_connection
        if isinstance(driver, BoundedConnection) and driver.pooled:
            connection.exec_driver_sql(self._statements("SET LOCAL"))

    def _statements(self, how: str) -> str:
        return "; ".join(f"{how} {name} {value}" for name, value in self._wanted.items())


def _is_pooled(connection: BoundedConnection) -> bool:
    """Whether a pooler stands between: the server process is not the one that answered first."""
    row = connection.execute("SELECT pg_backend_pid()").fetchone()
    return row is not None and row[0] != connection.info.backend_pid


def _drop_read_only_server(context: sa.engine.ExceptionContext) -> None:
    """Close connections to a server that has become read-only.

    After a switchover the old primary lives on as a standby and still answers pings.
    """
    if getattr(context.original_exception, "sqlstate", None) == _READ_ONLY:
        context.is_disconnect = True
