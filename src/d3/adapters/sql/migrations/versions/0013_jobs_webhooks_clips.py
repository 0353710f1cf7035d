"""Jobs, webhooks with their outbox, and results of clips."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from d3.adapters.sql.types import Key, UtcDateTime

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
MOMENT = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")
_COUNTED = ("open_shards", "items", "fake", "real", "uncertain", "error", "cancelled")


def upgrade() -> None:
    """Forwards only; the way back is a backup."""
    _jobs()
    _webhooks()
    _clips()


def _jobs() -> None:
    """Many images judged later, and what became of each."""
    op.create_table(
        "jobs",
        sa.Column("id", KEY, primary_key=True),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("user_id", KEY),
        sa.Column("request_id", sa.String(255)),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("finished_at", MOMENT),
        sa.Column("expires_at", MOMENT, nullable=False),
        sa.Column("threshold", sa.Double()),
        sa.Column("views", sa.Integer(), nullable=False),
        sa.Column("panel", sa.Text(), nullable=False),
        sa.Column("panel_rule", sa.String(16)),
        sa.Column("stability", sa.Boolean(), nullable=False),
        sa.Column("callback", sa.Text()),
        sa.Column("callback_secret", sa.String(255)),
        sa.Column("every", sa.Double()),
        sa.Column("most", sa.Integer()),
        sa.Column("spool", sa.String(255)),
        sa.Column("spooled_bytes", sa.BigInteger(), nullable=False),
        sa.Column("cleared", sa.Boolean(), nullable=False),
        sa.Column("trouble", sa.Text()),
        *(sa.Column(name, sa.Integer(), nullable=False) for name in _COUNTED),
        sa.UniqueConstraint("name", name="uq_jobs_name"),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name="fk_jobs_user_id_users", ondelete="SET NULL"
        ),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_jobs_user", "jobs", ["user_id", "id"])
    op.create_index("ix_jobs_state", "jobs", ["state"])
    op.create_index("ix_jobs_expires_at", "jobs", ["expires_at"])
    op.create_table(
        "job_shards",
        sa.Column("job_id", KEY, primary_key=True),
        sa.Column("number", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("place", sa.String(16), nullable=False),
        sa.Column("turn", sa.BigInteger(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("claims", sa.Integer(), nullable=False),
        sa.Column("finished", sa.Boolean(), nullable=False),
        sa.Column("owner", sa.String(255)),
        sa.Column("owner_until", MOMENT),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name="fk_job_shards_job_id_jobs", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_job_shards_open", "job_shards", ["finished", "turn", "job_id"])
    op.create_table(
        "job_items",
        sa.Column("job_id", KEY, primary_key=True),
        sa.Column("number", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("shard", sa.Integer()),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("external_id", sa.String(255)),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("offset", sa.BigInteger(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("result_id", KEY),
        sa.Column("error", sa.Text()),
        sa.Column("code", sa.String(64)),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name="fk_job_items_job_id_jobs", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_job_items_shard", "job_items", ["job_id", "shard"])


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
        sa.Column("tried_at", UtcDateTime()),
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
    for table in ("inference_results", "scan_results"):
        column = sa.Column("clip", sa.Text(), server_default=sa.text("''"), nullable=False)
        op.add_column(table, column)
    op.add_column(
        "scans", sa.Column("video", sa.Boolean(), server_default=sa.false(), nullable=False)
    )
