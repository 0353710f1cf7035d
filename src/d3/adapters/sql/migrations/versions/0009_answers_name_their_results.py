"""An answer kept for an idempotency key names its results, to go when one of them is deleted."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from d3.adapters.sql.types import Key

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forwards only; the way back is a backup."""
    op.add_column("idempotency_keys", sa.Column("first_id", Key))
    op.add_column("idempotency_keys", sa.Column("last_id", Key))
    op.create_index("ix_idempotency_keys_first_id", "idempotency_keys", ["first_id"])
    # The results of existing answers are not known; they expire within a day anyway.
    op.execute("DELETE FROM idempotency_keys")
