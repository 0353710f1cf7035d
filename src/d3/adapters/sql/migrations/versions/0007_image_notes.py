"""What is to be known of an image's file, with each row; frames with the rows of scans too."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forwards only; the way back is a backup."""
    op.add_column("inference_results", sa.Column("image_note", sa.String(32)))
    op.add_column("scan_results", sa.Column("image_frames", sa.Integer()))
    op.add_column("scan_results", sa.Column("image_note", sa.String(32)))
