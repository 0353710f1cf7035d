"""Bulk scans: what is scanned, the shards it is cut into, and a row for each image."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
ORDERED = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
MOMENT = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")


def upgrade() -> None:
    """Forwards only; the way back is a backup."""
    op.create_table(
        "scans",
        sa.Column("id", KEY, nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("model_name", sa.String(255), nullable=False),
        sa.Column("model_version", sa.Integer(), nullable=False),
        sa.Column("model_sha256", sa.String(64), nullable=False),
        sa.Column("threshold", sa.Double(), nullable=False),
        sa.Column("views", sa.Integer(), nullable=False),
        sa.Column("by_service", sa.Boolean(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("finished_at", MOMENT),
        sa.Column("listed", sa.Boolean(), nullable=False),
        sa.Column("shards", sa.Integer(), nullable=False),
        sa.Column("cursor", sa.Text()),
        sa.Column("lister", sa.String(255)),
        sa.Column("lister_until", MOMENT),
        sa.PrimaryKeyConstraint("id", name="pk_scans"),
        sa.UniqueConstraint("name", name="uq_scans_name"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "scan_shards",
        sa.Column("scan_id", KEY, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("keys", sa.LargeBinary()),
        sa.Column("listed", sa.Integer(), nullable=False),
        sa.Column("finished", sa.Boolean(), nullable=False),
        sa.Column("owner", sa.String(255)),
        sa.Column("owner_until", MOMENT),
        *(
            sa.Column(name, sa.Integer(), nullable=False)
            for name in ("fake", "real", "uncertain", "error", "passed_over")
        ),
        sa.PrimaryKeyConstraint("scan_id", "number", name="pk_scan_shards"),
        sa.ForeignKeyConstraint(
            ["scan_id"], ["scans.id"], name="fk_scan_shards_scan_id_scans", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_scan_shards_open", "scan_shards", ["scan_id", "finished", "number"])
    op.create_table(
        "scan_results",
        sa.Column("scan_id", KEY, nullable=False),
        sa.Column("uri", ORDERED, nullable=False),
        sa.Column("shard", sa.Integer(), nullable=False),
        sa.Column("verdict", sa.String(16)),
        sa.Column("error", sa.String(64)),
        sa.Column("prediction", sa.Double()),
        sa.Column("logit", sa.Double()),
        sa.Column("spread", sa.Double()),
        sa.Column("image_sha256", sa.String(64)),
        sa.Column("image_format", sa.String(32)),
        sa.Column("image_width", sa.Integer()),
        sa.Column("image_height", sa.Integer()),
        sa.Column("image_bytes", sa.BigInteger()),
        sa.Column("processing_time", sa.Double()),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("scan_id", "uri", name="pk_scan_results"),
        sa.ForeignKeyConstraint(
            ["scan_id"], ["scans.id"], name="fk_scan_results_scan_id_scans", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_scan_results_shard", "scan_results", ["scan_id", "shard"])
