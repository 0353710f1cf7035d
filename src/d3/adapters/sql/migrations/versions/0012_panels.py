"""What a panel of models said of an image, and whether the verdict survives harmless changes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_RESULTS = "inference_results"
_DISAGREEING = sa.text("agreement = 'disagree'")
_COUNTED = ("processing_time", "verdict", "demo", "agreement")
_STATISTICS = [
    *("created_at", "id", "is_fake", *_COUNTED, "prediction", "model_name", "model_version"),
    *("label", "provenance_says"),
]
_WITHOUT_MODEL = [one for one in _STATISTICS if one != "model_name"]


def upgrade() -> None:
    """Forwards only; the way back is a backup."""
    empty = sa.text("''")
    for table in (_RESULTS, "scan_results"):
        for name in ("panel", "stability_probabilities"):
            op.add_column(table, sa.Column(name, sa.Text(), server_default=empty, nullable=False))
        op.add_column(table, sa.Column("agreement", sa.String(16)))
    for name, columns in (
        ("order", _STATISTICS),
        ("user", ["user_id", *_STATISTICS]),
        ("fake", ["is_fake", "created_at", "id", *_COUNTED]),
        ("model", ["model_name", *_WITHOUT_MODEL]),
    ):
        op.drop_index(f"ix_inference_results_{name}", _RESULTS)
        op.create_index(f"ix_inference_results_{name}", _RESULTS, columns)
    op.create_index(
        "ix_inference_results_disagreeing",
        _RESULTS,
        ["created_at", "id"],
        sqlite_where=_DISAGREEING,
        postgresql_where=_DISAGREEING,
    )
    op.create_index(
        "ix_scan_results_disagreeing",
        "scan_results",
        ["scan_id", "uri"],
        sqlite_where=_DISAGREEING,
        postgresql_where=_DISAGREEING,
    )
    op.add_column("scans", sa.Column("panel", sa.Text(), server_default=empty, nullable=False))
    op.add_column(
        "scans",
        sa.Column("panel_rule", sa.String(16), server_default=sa.text("'chief'"), nullable=False),
    )
    op.add_column(
        "scans", sa.Column("stability", sa.Boolean(), server_default=sa.false(), nullable=False)
    )
