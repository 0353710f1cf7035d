"""Leases on shards, of scans and of jobs alike: who works on what, and until when.

A lease that has expired is free again. A shard keeps the end of its last lease, so that whoever
claims it next knows that it was begun before.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from d3.adapters.sql.tables import Base, Leased


class ShardLeases:
    """Leases on the rows of one table.

    Args:
        table: has the columns of :class:`Leased`.
    """

    def __init__(self, table: type[Leased]) -> None:
        assert issubclass(table, Base)
        made = table.__table__
        assert isinstance(made, sa.Table)
        self._table: Any = table
        self._key = tuple(made.primary_key.columns)

    @property
    def open(self) -> sa.ColumnElement[bool]:
        """Of a shard that is not finished."""
        found: sa.ColumnElement[bool] = self._table.finished == sa.false()
        return found

    def free(self, now: datetime) -> sa.ColumnElement[bool]:
        """Of an open shard that nobody holds."""
        table = self._table
        return sa.and_(self.open, sa.or_(table.owner.is_(None), table.owner_until < now))

    def claim(
        self,
        connection: sa.Connection,
        asked: sa.Select[*tuple[Any, ...]],
        owner: str,
        now: datetime,
        until: datetime,
        **besides: Any,
    ) -> Any:
        """Take the first free shard of those asked for; its row before that, None if there is none.

        Args:
            connection: in a transaction.
            asked: selects shards, their key among the columns, in order.
            owner: who holds it then.
            now: of the clock.
            until: the lease's end.
            besides: further columns to set.
        """
        first = asked.where(self.free(now)).limit(1)
        found = connection.execute(
            first.with_for_update(skip_locked=True, of=self._table)
        ).one_or_none()
        if found is not None:
            this = (column == getattr(found, column.name) for column in self._key)
            mine = {"owner": owner, "owner_until": until, **besides}
            connection.execute(sa.update(self._table).where(*this).values(mine))
        return found

    def lock(self, connection: sa.Connection, *where: sa.ColumnElement[bool]) -> None:
        """Lock open shards in one order, so that two that change many do not wait in a circle."""
        asked = sa.select(*self._key).where(self.open, *where).order_by(*self._key)
        connection.execute(asked.with_for_update())

    def renew(
        self,
        connection: sa.Connection,
        owner: str,
        until: datetime,
        *where: sa.ColumnElement[bool],
    ) -> None:
        """Extend all leases of an owner."""
        held = (self.open, self._table.owner == owner, *where)
        self.lock(connection, *held)
        connection.execute(sa.update(self._table).where(*held).values(owner_until=until))

    def release(
        self, connection: sa.Connection, owners: Iterable[str], *where: sa.ColumnElement[bool]
    ) -> None:
        """End all leases of these owners."""
        held = (self.open, self._table.owner.in_(list(owners)), *where)
        self.lock(connection, *held)
        connection.execute(sa.update(self._table).where(*held).values(owner=None))

    def holders(
        self, connection: sa.Connection, now: datetime, *where: sa.ColumnElement[bool]
    ) -> set[str]:
        """The owners of leases that have not expired."""
        held = (self.open, self._table.owner.is_not(None), self._table.owner_until >= now, *where)
        return {*connection.scalars(sa.select(self._table.owner).where(*held))}
