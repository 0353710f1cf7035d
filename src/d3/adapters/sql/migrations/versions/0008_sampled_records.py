"""How many requests a record of the request log stands for: refusals in a crowd share one."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forwards only; the way back is a backup."""
    op.add_column(
        "request_logs", sa.Column("requests", sa.Integer(), nullable=False, server_default="1")
    )
