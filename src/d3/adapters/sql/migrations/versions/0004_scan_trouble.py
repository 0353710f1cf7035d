"""What keeps a scan that the service looks after from going on, in a sentence."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forwards only; the way back is a backup."""
    op.add_column("scans", sa.Column("trouble", sa.Text()))
