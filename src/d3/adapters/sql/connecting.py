"""Connections to PostgreSQL that wait only so long: a server may go silent without going away.

The server's own ``statement_timeout`` ends a slow statement, and TCP's keepalives find a machine
that is gone. A server that is stopped, or behind a middle box that swallows its answers, is found
by neither: only whoever waits can stop waiting.
"""

from __future__ import annotations

from typing import Any

import psycopg
import sqlalchemy as sa
from sqlalchemy import event

_MARGIN_SECONDS = 5.0
"""Given to the server to end a statement by itself, which keeps the connection."""


class BoundedConnection(psycopg.Connection[Any]):
    """A connection of psycopg.

    Attributes:
        patience: seconds that one answer is waited for; None for ever.
        pooled: whether a connection pooler stands between this process and the server.
    """

    patience: float | None = None
    pooled: bool = False

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        """Wait for an answer; a connection that gives none is closed: its state is unknown."""
        try:
            return super().wait(gen, interval, timeout if timeout is not None else self.patience)
        except psycopg.OperationalError as error:
            if timeout is None and type(error).__name__ == "_WaitTimeout":
                self.pgconn.finish()
                raise psycopg.OperationalError(
                    "the server closed the connection unexpectedly: it has not answered in time"
                ) from error
            raise


def wait_only(engine: sa.Engine, statement_seconds: float) -> None:
    """Have an engine's connections wait a little longer than a statement may take."""
    patience = statement_seconds + _MARGIN_SECONDS

    def connect(_: object, __: object, arguments: Any, named: Any) -> BoundedConnection:
        return BoundedConnection.connect(*arguments, **named)

    def renew(connection: Any, *_: object) -> None:
        if connection is not None:  # as it is where it was invalidated
            connection.patience = patience

    event.listen(engine, "do_connect", connect)
    event.listen(engine, "connect", renew)
    event.listen(engine, "checkin", renew)


def take_time(connection: sa.Connection) -> None:
    """Let the transaction that has begun take as long as it needs; its server is PostgreSQL."""
    for name in ("statement_timeout", "idle_in_transaction_session_timeout"):
        connection.execute(sa.text(f"SET LOCAL {name} = 0"))
    driver = connection.connection.dbapi_connection
    if isinstance(driver, BoundedConnection):
        driver.patience = None
