"""Jobs, webhooks with their outbox, and results of clips."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from d3.adapters.sql.types import Key, UtcDateTime

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forwards only; the way back is a backup."""
    _jobs()
    _webhooks()
    _clips()


def _jobs() -> None:
    """Many images judged later, and what became of each."""


def _webhooks() -> None:
    """Who is told of what, and what is still to be told."""
    op.create_table(
        "webhooks",
        sa.Column("id", Key, nullable=False),
        sa.Column("user_id", Key),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("events", sa.String(255), nullable=False),
        sa.Column("verdicts", sa.String(64), nullable=False),
        sa.Column("everyone", sa.Boolean(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("trouble", sa.Text()),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("answered_at", UtcDateTime()),
        sa.Column("rest_until", UtcDateTime()),
        sa.Column("secret", sa.String(255), nullable=False),
        sa.Column("old_secret", sa.String(255)),
        sa.Column("old_secret_until", UtcDateTime()),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_webhooks"),
        _refers("webhooks", "user_id", "users"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_webhooks_user_id", "webhooks", ["user_id"])
    op.create_table(
        "webhook_events",
        sa.Column("id", Key, nullable=False),
        sa.Column("event_id", sa.String(64), nullable=False),
        sa.Column("type", sa.String(32), nullable=False),
        sa.Column("result_id", Key),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_webhook_events"),
        _refers("webhook_events", "result_id", "inference_results"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_webhook_events_result_id", "webhook_events", ["result_id"])
    op.create_index("ix_webhook_events_created_at", "webhook_events", ["created_at"])
    op.create_table(
        "webhook_deliveries",
        sa.Column("id", Key, nullable=False),
        sa.Column("event", Key, nullable=False),
        sa.Column("webhook_id", Key),
        sa.Column("user_id", Key),
        sa.Column("queue", sa.String(64), nullable=False),
        sa.Column("url", sa.Text()),
        sa.Column("secret", sa.String(255)),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("since", UtcDateTime(), nullable=False),
        sa.Column("next_at", UtcDateTime()),
        sa.Column("owner", sa.String(255)),
        sa.Column("owner_until", UtcDateTime()),
        sa.Column("sent_at", UtcDateTime()),
        sa.Column("status", sa.Integer()),
        sa.Column("trouble", sa.Text()),
        sa.PrimaryKeyConstraint("id", name="pk_webhook_deliveries"),
        _refers("webhook_deliveries", "event", "webhook_events"),
        _refers("webhook_deliveries", "webhook_id", "webhooks"),
        _refers("webhook_deliveries", "user_id", "users"),
        sqlite_autoincrement=True,
    )
    for name, columns, only in (
        ("waiting", ["queue", "next_at", "id"], "state = 'waiting'"),
        ("dead", ["id"], "state = 'dead'"),
        ("leased", ["queue", "owner_until"], "owner IS NOT NULL"),
        ("webhook", ["webhook_id", "id"], None),
        ("user", ["user_id", "id"], None),
        ("event", ["event"], None),
    ):
        where = None if only is None else sa.text(only)
        op.create_index(
            f"ix_webhook_deliveries_{name}",
            "webhook_deliveries",
            columns,
            sqlite_where=where,
            postgresql_where=where,
        )
    op.create_table(
        "webhook_marks",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("moved_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_webhook_marks"),
    )


def _refers(table: str, column: str, to: str) -> sa.ForeignKeyConstraint:
    """The row goes with the row that it refers to."""
    name = f"fk_{table}_{column}_{to}"
    return sa.ForeignKeyConstraint([column], [f"{to}.id"], name=name, ondelete="CASCADE")


def _clips() -> None:
    """What was seen over a clip's time."""
