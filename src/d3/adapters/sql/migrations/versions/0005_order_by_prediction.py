"""The history can be read in the order of its probabilities."""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forwards only; the way back is a backup."""
    op.create_index(
        "ix_inference_results_prediction", "inference_results", ["prediction", "created_at", "id"]
    )
