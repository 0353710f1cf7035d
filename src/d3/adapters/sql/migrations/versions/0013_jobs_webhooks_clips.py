"""Jobs, webhooks with their outbox, and results of clips."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

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


def _clips() -> None:
    """What was seen over a clip's time."""
    for table in ("inference_results", "scan_results"):
        column = sa.Column("clip", sa.Text(), server_default=sa.text("''"), nullable=False)
        op.add_column(table, column)
