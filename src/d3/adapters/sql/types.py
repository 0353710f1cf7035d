"""Column types that mean the same on SQLite and PostgreSQL."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

Key = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
"""An identifier; SQLite counts by itself only in a column that is called INTEGER."""

Name = sa.String(255).with_variant(sa.String(255, collation="C"), "postgresql")
"""Text compared code point by code point on both, so that a prefix is a range of the index."""

Ordered = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
"""Text of any length, compared in the same way."""


_STRANGE = re.compile('^"|[\0\ud800-\udfff]')


class UtcDateTime(TypeDecorator[datetime]):
    """A moment in UTC to the microsecond.

    PostgreSQL has a type for it. SQLite has none: there it is text of one fixed form,
    ``2026-01-31 23:59:59.000000+00:00``, whose order is that of time.
    """

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[datetime] | TypeEngine[str]:
        """The type on this database."""
        if dialect.name == "sqlite":
            return dialect.type_descriptor(sa.Text())
        return dialect.type_descriptor(sa.DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | str | None:
        """On the way in."""
        if value is None:
            return None
        if value.utcoffset() is None:
            raise ValueError("a time needs a zone")
        moment = value.astimezone(UTC)
        return sqlite_text(moment) if dialect.name == "sqlite" else moment

    def process_result_value(
        self, value: datetime | str | None, dialect: Dialect
    ) -> datetime | None:
        """On the way out."""
        del dialect
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
        return None if moment is None else moment.astimezone(UTC)


class AnyText(TypeDecorator[str]):
    """Text that may be invalid Unicode or hold NUL, as foreign paths and keys do.

    No database takes that as it is: such text, and what begins with a quotation mark, is kept as a
    JSON string in ASCII; all other text as it is.
    """

    impl = sa.Text()
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """On the way in."""
        del dialect
        if value is None or not _STRANGE.search(value):
            return value
        return json.dumps(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        """On the way out."""
        del dialect
        if value is None or not value.startswith('"'):
            return value
        try:
            return str(json.loads(value))
        except json.JSONDecodeError:
            return value  # kept before this type was


def sqlite_text(moment: datetime) -> str:
    """The form in which SQLite keeps a moment in UTC."""
    return moment.isoformat(sep=" ", timespec="microseconds")
