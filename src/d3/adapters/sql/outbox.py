"""The outbox of webhooks: written in the transaction of what happened, so that nothing is lost."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from d3.domain.webhooks import NewEvent


def record_events(connection: sa.Connection, events: Sequence[NewEvent]) -> None:
    """Keep a delivery of each event for each endpoint that asks for it, and for its callback."""
    del connection, events
