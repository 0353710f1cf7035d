"""Deleting a user: what they have, and what becomes of it, in one transaction."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from d3.adapters.sql.tables import (
    ApiKey,
    IdempotencyRow,
    InferenceResult,
    JobEntry,
    User,
    WebhookRow,
)
from d3.domain.accounts import Holdings
from d3.domain.errors import UserBusy, shown

_R = InferenceResult.__table__.c
_J = JobEntry


def holdings_of(connection: sa.Connection, user_id: int) -> Holdings:
    """What a user has."""

    def count(column: Any, *where: sa.ColumnElement[bool]) -> int:
        asked = sa.select(sa.func.count()).where(column == user_id, *where)
        return int(connection.scalar(asked) or 0)

    return Holdings(
        results=count(_R.user_id),
        keys=count(ApiKey.user_id),
        webhooks=count(WebhookRow.user_id),
        jobs=count(_J.user_id),
        open_jobs=count(_J.user_id, _J.finished_at.is_(None)),
    )


def delete_user(
    connection: sa.Connection, user: User | Any, *, keep: bool, heir: int | None, now: datetime
) -> Holdings:
    """Delete a user whose row is locked, so that nothing of theirs arrives meanwhile.

    The database deletes their keys and webhooks, and forgets who labelled and asked.

    Raises:
        UserBusy: a job of theirs is not over.
    """
    had = holdings_of(connection, user.id)
    if had.open_jobs:
        raise UserBusy(
            f"{had.open_jobs:,} of the jobs of {shown(user.username)} "
            f"{'is' if had.open_jobs == 1 else 'are'} not over.",
            "Wait until they are, or cancel them: see `d3 jobs list` and `d3 jobs cancel`.",
        )
    results, jobs = _R.user_id == user.id, _J.user_id == user.id
    if keep:
        connection.execute(sa.update(InferenceResult).where(results).values(user_id=heir))
        connection.execute(sa.update(_J).where(jobs).values(user_id=heir))
    else:
        connection.execute(sa.delete(InferenceResult).where(results))
        # The service deletes them soon, and what is left of their files with them.
        connection.execute(sa.update(_J).where(jobs).values(expires_at=now))
    connection.execute(sa.delete(IdempotencyRow).where(IdempotencyRow.owner == user.id))
    connection.execute(sa.delete(User).where(User.id == user.id))
    return had
