"""The ledger of bulk scans in SQLite or PostgreSQL."""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from d3.adapters.sql.engine import Database
from d3.adapters.sql.inserts import from_arrays, insert_into
from d3.adapters.sql.leases import ShardLeases
from d3.adapters.sql.outbox import record_events
from d3.adapters.sql.rows import SCAN_ROWS, scan_of
from d3.adapters.sql.tables import ScanEntry, ScanResult, ScanShard
from d3.domain.errors import ScanNotFound
from d3.domain.panels import Agreement
from d3.domain.records import MAX_NOTICE
from d3.domain.scans import (
    Listing,
    NewScan,
    Scan,
    ScanCounts,
    ScanRow,
    ScanState,
    Shard,
    scan_finished,
)
from d3.domain.text import storable

_S, _H = ScanEntry, ScanShard
_R = ScanResult.__table__.c
_KINDS = ("fake", "real", "uncertain", "error")
_COUNTS = (*_KINDS, "passed_over", "listed")
_LOOKED_UP = 500
_DELETED_AT_ONCE = 5000
_NAMES = tuple(name for name in SCAN_ROWS.names if name != "notice")
_DISAGREEING = sa.text("agreement = 'disagree'")  # in the words of its index
_ROW = tuple(_R[one] for one in _NAMES)
_LEASES = ShardLeases(ScanShard)


class SqlScanLedger:
    """Implements ``ScanLedger``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def open(self, new: NewScan) -> Scan:
        with self._database.writing() as connection:
            connection.execute(
                insert_into(connection, _S)
                .values(
                    name=new.name,
                    source=new.source,
                    model_name=new.model.name,
                    model_version=new.model.version,
                    model_sha256=new.model.sha256,
                    threshold=new.threshold,
                    views=new.views,
                    by_service=new.by_service,
                    state=ScanState.RUNNING.value,
                    created_at=new.created_at,
                    listed=False,
                    shards=0,
                    notice=storable(new.notice, MAX_NOTICE),
                    panel=json.dumps([asdict(one) for one in new.panel]) if new.panel else "",
                    panel_rule=new.panel_rule.value,
                    stability=new.stability,
                    video=new.video,
                )
                .on_conflict_do_nothing(index_elements=[_S.name])
            )
            if new.notice:  # a scan of an older D3 does not have it yet
                connection.execute(
                    sa.update(_S)
                    .where(_S.name == new.name, _S.notice == "")
                    .values(notice=storable(new.notice, MAX_NOTICE))
                )
            if new.by_service:
                connection.execute(
                    sa.update(_S).where(_S.name == new.name).values(by_service=True, trouble=None)
                )
        return self.get(new.name)

    def get(self, name: str) -> Scan:
        found = self._select(sa.select(_S.__table__).where(_S.name == name))
        if not found:
            raise ScanNotFound("There is no scan with this id.", "`d3 scans list` shows all scans.")
        return found[0]

    def newest(self, limit: int = 50, offset: int = 0) -> list[Scan]:
        asked = sa.select(_S.__table__).order_by(_S.id.desc())
        return self._select(asked.limit(limit).offset(offset))

    def unfinished(self) -> list[Scan]:
        running = sa.and_(_S.by_service == sa.true(), _S.state == ScanState.RUNNING.value)
        return self._select(sa.select(_S.__table__).where(running).order_by(_S.id))

    def note(self, scan_id: int, trouble: str | None) -> None:
        with self._database.writing() as connection:
            connection.execute(sa.update(_S).where(_S.id == scan_id).values(trouble=trouble))

    def set_state(self, scan_id: int, state: ScanState, now: datetime) -> None:
        ended = None if state is ScanState.RUNNING else now
        with self._database.writing() as connection:
            connection.execute(
                sa.update(_S)
                .where(_S.id == scan_id, _S.state != ScanState.DONE.value)
                .values(state=state.value, finished_at=ended)
            )

    def begin_listing(
        self, scan_id: int, owner: str, now: datetime, until: datetime
    ) -> Listing | None:
        with self._database.writing() as connection:
            free = sa.or_(_S.lister.is_(None), _S.lister == owner, _S.lister_until < now)
            found = connection.execute(
                sa.update(_S)
                .where(_S.id == scan_id, _S.listed == sa.false(), free)
                .where(_S.state == ScanState.RUNNING.value)
                .values(lister=owner, lister_until=until)
                .returning(_S.shards, _S.cursor)
            ).one_or_none()
        return None if found is None else Listing(found.shards, found.cursor)

    def add_shard(
        self, scan_id: int, owner: str, number: int, uris: Sequence[str], cursor: str | None
    ) -> bool:
        moved = {"listed": True} if cursor is None else {"shards": number + 1, "cursor": cursor}
        mine = (_S.id == scan_id, _S.lister == owner, _S.shards == number)
        with self._database.writing() as connection:
            if connection.execute(sa.update(_S).where(*mine).values(**moved)).rowcount != 1:
                return False
            if uris:
                connection.execute(
                    sa.insert(_H).values(
                        scan_id=scan_id,
                        number=number,
                        keys=_packed(uris),
                        listed=len(uris),
                        finished=False,
                        passed_over=0,
                        **dict.fromkeys(_KINDS, 0),
                    )
                )
        return True

    def claim(self, scan_id: int, owner: str, now: datetime, until: datetime) -> Shard | None:
        on = sa.exists().where(_S.id == scan_id, _S.state == ScanState.RUNNING.value)
        asked = (
            sa.select(_H.scan_id, _H.number, _H.keys, _H.owner_until)
            .where(_H.scan_id == scan_id, on)
            .order_by(_H.number)
        )
        with self._database.writing() as connection:
            found = _LEASES.claim(connection, asked, owner, now, until)
        if found is None:
            return None
        begun = found.owner_until is not None
        return Shard(found.number, _unpacked(found.keys), begun)

    def known(self, scan_id: int, uris: Sequence[str]) -> set[str]:
        found: set[str] = set()
        with self._database.reading() as connection:
            for start in range(0, len(uris), _LOOKED_UP):
                some = uris[start : start + _LOOKED_UP]
                asked = sa.select(_R.uri).where(_R.scan_id == scan_id, _R.uri.in_(some))
                found.update(connection.scalars(asked))
        return found

    def add(self, scan_id: int, number: int, rows: Sequence[ScanRow]) -> None:
        with self._database.writing() as connection:
            kept = self._keep(connection, scan_id, number, rows)
            counts = Counter(verdict or "error" for (verdict,) in kept)
            if counts:
                connection.execute(
                    sa.update(_H)
                    .where(_H.scan_id == scan_id, _H.number == number)
                    .values({kind: getattr(_H, kind) + counts[kind] for kind in counts})
                )

    def _keep(
        self, connection: sa.Connection, scan_id: int, number: int, rows: Sequence[ScanRow]
    ) -> sa.Result[Any]:
        """Insert the rows that are not there yet; the verdicts of these."""
        insert = insert_into(connection, ScanResult)
        every = {"scan_id": scan_id, "shard": number}
        values: Any = [every | SCAN_ROWS.values(row) for row in rows]
        for one in values:
            del one["notice"]  # the scan has it
        if not self._database.is_sqlite:
            columns = [_R.scan_id, _R.shard, *_ROW]
            given = from_arrays(columns)
            insert = insert.from_select(given.selected_columns.keys(), given)
            values = {one.name: [row[one.name] for row in values] for one in columns}
        once = insert.on_conflict_do_nothing(index_elements=[_R.scan_id, _R.uri])
        return connection.execute(once.returning(_R.verdict), values)

    def finish(self, scan_id: int, number: int, passed_over: int) -> None:
        with self._database.writing() as connection:
            connection.execute(
                sa.update(_H)
                .where(_H.scan_id == scan_id, _H.number == number, _H.finished == sa.false())
                .values(finished=True, keys=None, owner=None, passed_over=passed_over)
            )

    def renew(self, scan_id: int, owner: str, until: datetime) -> None:
        with self._database.writing() as connection:
            _LEASES.renew(connection, owner, until, _H.scan_id == scan_id)
            connection.execute(
                sa.update(_S).where(_S.id == scan_id, _S.lister == owner).values(lister_until=until)
            )

    def release(self, scan_id: int, owners: Iterable[str]) -> None:
        given = list(owners)
        with self._database.writing() as connection:
            _LEASES.release(connection, given, _H.scan_id == scan_id)
            connection.execute(
                sa.update(_S).where(_S.id == scan_id, _S.lister.in_(given)).values(lister=None)
            )

    def holders(self, scan_id: int, now: datetime) -> set[str]:
        lister = sa.select(_S.lister).where(
            _S.id == scan_id, _S.lister.is_not(None), _S.lister_until >= now
        )
        with self._database.reading() as connection:
            holders = _LEASES.holders(connection, now, _H.scan_id == scan_id)
            return holders.union(one for one in connection.scalars(lister) if one is not None)

    def open_shards(self, scan_id: int) -> set[int]:
        asked = sa.select(_H.number).where(_H.scan_id == scan_id, _H.finished == sa.false())
        with self._database.reading() as connection:
            return {*connection.scalars(asked)}

    def complete(self, scan_id: int, now: datetime) -> bool:
        unfinished = sa.exists().where(_H.scan_id == scan_id, _H.finished == sa.false())
        with self._database.writing() as connection:
            finished = connection.execute(
                sa.update(_S)
                .where(_S.id == scan_id, _S.state == ScanState.RUNNING.value)
                .where(_S.listed == sa.true(), ~unfinished)
                .values(state=ScanState.DONE.value, finished_at=now, lister=None, trouble=None)
            ).rowcount
            if finished:
                (scan,) = _scans(connection, sa.select(_S.__table__).where(_S.id == scan_id))
                record_events(connection, [scan_finished(scan, now)])
            state = connection.scalar(sa.select(_S.state).where(_S.id == scan_id))
        return state != ScanState.RUNNING.value

    def rows(
        self,
        scan_id: int,
        *,
        after: str | None = None,
        shard: int | None = None,
        kind: str | None = None,
        disagree: bool | None = None,
        limit: int = 5000,
    ) -> list[ScanRow]:
        asked = sa.select(*_ROW).where(_R.scan_id == scan_id)
        if after is not None:
            asked = asked.where(_R.uri > after)
        if shard is not None:
            asked = asked.where(_R.shard == shard)
        if kind is not None:
            asked = asked.where(_R.verdict == (None if kind == "error" else kind))
        if disagree is not None:
            asked = asked.where(_DISAGREEING if disagree else _R.agreement != Agreement.DISAGREE)
        with self._database.reading() as connection:
            notice = connection.scalar(sa.select(_S.notice).where(_S.id == scan_id)) or ""
            found = connection.execute(asked.order_by(_R.uri).limit(limit)).all()
        rows = [dict(zip(_NAMES, one, strict=True)) for one in found]
        for one in rows:
            one["notice"] = notice if one["verdict"] else ""
        return [SCAN_ROWS.record(one) for one in rows]

    def agreement(self, scan_id: int) -> dict[Agreement, int]:
        asked = (
            sa.select(_R.agreement, sa.func.count())
            .where(_R.scan_id == scan_id, _R.agreement.is_not(None))
            .group_by(_R.agreement)
        )
        with self._database.reading() as connection:
            found: dict[str, int] = dict(connection.execute(asked).all())
        return {one: found.get(one.value, 0) for one in Agreement} if found else {}

    def remove(self, scan_id: int) -> None:
        rows = sa.select(_R.uri).where(_R.scan_id == scan_id).limit(_DELETED_AT_ONCE)
        some = sa.delete(ScanResult).where(_R.scan_id == scan_id, _R.uri.in_(rows))
        while True:
            with self._database.writing() as connection:
                if connection.execute(some).rowcount == _DELETED_AT_ONCE:
                    continue
                connection.execute(sa.delete(_H).where(_H.scan_id == scan_id))
                connection.execute(sa.delete(_S).where(_S.id == scan_id))
                return

    def _select(self, asked: sa.Select[Any]) -> list[Scan]:
        with self._database.reading() as connection:
            return _scans(connection, asked)


def _scans(connection: sa.Connection, asked: sa.Select[Any]) -> list[Scan]:
    """The scans that are asked for, with their counts."""
    found = connection.execute(asked).all()
    sums = (sa.func.coalesce(sa.func.sum(getattr(_H, one)), 0) for one in _COUNTS)
    totals = connection.execute(
        sa.select(_H.scan_id, *sums)
        .where(_H.scan_id.in_([one.id for one in found]))
        .group_by(_H.scan_id)
    )
    counts = {scan_id: ScanCounts(*numbers) for scan_id, *numbers in totals}
    return [scan_of(one, counts.get(one.id, ScanCounts())) for one in found]


def _packed(uris: Sequence[str]) -> bytes:
    """JSON in ASCII keeps names that are not valid Unicode."""
    return zlib.compress(json.dumps(list(uris)).encode(), 1)


def _unpacked(keys: bytes) -> tuple[str, ...]:
    return tuple(json.loads(zlib.decompress(keys)))
