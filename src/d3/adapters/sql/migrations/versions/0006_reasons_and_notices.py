"""Why a verdict is uncertain and what must be said beside it, with each row; counts by verdict."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

STARTER_SAID = "The starter model is for trying the software, not for judging real photographs."
"""What the starter's manifest said until now; no other model had a notice."""


def upgrade() -> None:
    """Forwards only; the way back is a backup."""
    results = "inference_results"
    op.add_column(results, sa.Column("reason", sa.String(32)))
    op.add_column(
        results, sa.Column("notice", sa.Text(), nullable=False, server_default=sa.text("''"))
    )
    no = sa.false()
    op.add_column(results, sa.Column("demo", sa.Boolean(), nullable=False, server_default=no))
    op.add_column(
        "scans", sa.Column("notice", sa.Text(), nullable=False, server_default=sa.text("''"))
    )
    op.add_column("scan_results", sa.Column("reason", sa.String(32)))
    for name in ("order", "user", "fake"):
        op.drop_index(f"ix_{results}_{name}", results)
    for statement in (
        "UPDATE inference_results SET notice = :said, demo = true WHERE model_name = 'starter'",
        "UPDATE scans SET notice = :said WHERE model_name = 'starter'",
    ):
        op.execute(sa.text(statement).bindparams(said=STARTER_SAID))
    order, counted = ["created_at", "id"], ["processing_time", "verdict", "demo"]
    op.create_index(f"ix_{results}_order", results, [*order, "is_fake", *counted])
    op.create_index(f"ix_{results}_user", results, ["user_id", *order, "is_fake", *counted])
    op.create_index(f"ix_{results}_fake", results, ["is_fake", *order, *counted])
