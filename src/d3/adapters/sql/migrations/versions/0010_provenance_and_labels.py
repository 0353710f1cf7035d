"""What a file says of itself, what people say of an image, and what repeats a verdict exactly."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from d3.adapters.sql.types import Key, UtcDateTime

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forwards only; the way back is a backup."""
    for name, kind in (
        ("provenance_sources", sa.Text()),
        ("view_logits", sa.Text()),
        ("device", sa.String(64)),
        ("libraries", sa.String(255)),
    ):
        empty = sa.text("''")
        op.add_column(
            "inference_results", sa.Column(name, kind, server_default=empty, nullable=False)
        )
    op.add_column("inference_results", sa.Column("provenance_says", sa.String(16)))
    op.add_column("inference_results", sa.Column("label", sa.String(16)))
    op.add_column("scan_results", sa.Column("provenance_says", sa.String(16)))
    op.add_column(
        "scan_results",
        sa.Column("provenance_sources", sa.Text(), server_default=sa.text("''"), nullable=False),
    )
    op.create_table(
        "result_labels",
        sa.Column("id", Key, nullable=False),
        sa.Column("result_id", Key, nullable=False),
        sa.Column("label", sa.String(16), nullable=False),
        sa.Column("source", sa.String(255), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("user_id", Key),
        sa.PrimaryKeyConstraint("id", name="pk_result_labels"),
        sa.ForeignKeyConstraint(
            ["result_id"],
            ["inference_results.id"],
            name="fk_result_labels_result_id_inference_results",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["user_id"],
            ["users.id"],
            name="fk_result_labels_user_id_users",
            ondelete="SET NULL",
        ),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_result_labels_result_id", "result_labels", ["result_id"])
