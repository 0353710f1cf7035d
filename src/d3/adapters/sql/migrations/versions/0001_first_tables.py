"""The first tables: history, accounts, request log and idempotency keys."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
NAME = sa.String(255).with_variant(sa.String(255, collation="C"), "postgresql")
MOMENT = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")


def upgrade() -> None:
    """Forwards only; the way back is a backup."""
    op.create_table(
        "users",
        sa.Column("id", KEY, nullable=False),
        sa.Column("username", sa.String(255), nullable=False),
        sa.Column("email", sa.String(255)),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("is_active", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_users"),
        sa.UniqueConstraint("username", name="uq_users_username"),
        sa.UniqueConstraint("email", name="uq_users_email"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "api_keys",
        sa.Column("key_id", sa.String(64), nullable=False),
        sa.Column("user_id", KEY, nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("secret_sha256", sa.String(64), nullable=False),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("expires_at", MOMENT),
        sa.Column("last_used_at", MOMENT),
        sa.Column("revoked_at", MOMENT),
        sa.PrimaryKeyConstraint("key_id", name="pk_api_keys"),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name="fk_api_keys_user_id_users", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_api_keys_user_id", "api_keys", ["user_id"])
    _create_inference_results()
    op.create_table(
        "idempotency_keys",
        sa.Column("owner", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("key", sa.String(255), nullable=False),
        sa.Column("request_hash", sa.String(64), nullable=False),
        sa.Column("token", sa.String(64), nullable=False),
        sa.Column("answer", sa.LargeBinary()),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("expires_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("owner", "key", name="pk_idempotency_keys"),
    )
    op.create_index("ix_idempotency_keys_expires_at", "idempotency_keys", ["expires_at"])
    op.create_table(
        "request_logs",
        sa.Column("id", KEY, nullable=False),
        sa.Column("endpoint", sa.String(255), nullable=False),
        sa.Column("method", sa.String(16), nullable=False),
        sa.Column("status_code", sa.Integer(), nullable=False),
        sa.Column("ip_address", sa.String(64)),
        sa.Column("response_time", sa.Double(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("request_id", sa.String(255)),
        sa.Column("user_id", KEY),
        sa.PrimaryKeyConstraint("id", name="pk_request_logs"),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name="fk_request_logs_user_id_users", ondelete="SET NULL"
        ),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_request_logs_created_at", "request_logs", ["created_at"])
    op.create_index("ix_request_logs_user_id", "request_logs", ["user_id"])


def _create_inference_results() -> None:
    table = "inference_results"
    op.create_table(
        table,
        sa.Column("id", KEY, nullable=False),
        sa.Column("image_name", NAME, nullable=False),
        sa.Column("prediction", sa.Double(), nullable=False),
        sa.Column("is_fake", sa.Boolean(), nullable=False),
        sa.Column("confidence", sa.Double(), nullable=False),
        sa.Column("threshold", sa.Double(), nullable=False),
        sa.Column("processing_time", sa.Double(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("user_id", KEY),
        sa.Column("verdict", sa.String(16), nullable=False),
        sa.Column("logit", sa.Double()),
        sa.Column("views", sa.Integer(), nullable=False),
        sa.Column("spread", sa.Double(), nullable=False),
        sa.Column("image_sha256", sa.String(64)),
        sa.Column("image_format", sa.String(32)),
        sa.Column("image_width", sa.Integer()),
        sa.Column("image_height", sa.Integer()),
        sa.Column("image_frames", sa.Integer()),
        sa.Column("image_bytes", sa.BigInteger()),
        sa.Column("model_name", sa.String(255)),
        sa.Column("model_version", sa.Integer()),
        sa.Column("model_sha256", sa.String(64)),
        sa.Column("engine", sa.String(32), nullable=False),
        sa.Column("precision", sa.String(16), nullable=False),
        sa.Column("calibration_name", sa.String(255), nullable=False),
        sa.Column("calibration_scale", sa.Double(), nullable=False),
        sa.Column("calibration_bias", sa.Double(), nullable=False),
        sa.Column("abstain_below", sa.Double(), nullable=False),
        sa.Column("abstain_above", sa.Double(), nullable=False),
        sa.Column("cached", sa.Boolean(), nullable=False),
        sa.Column("d3_version", sa.String(64), nullable=False),
        sa.Column("request_id", sa.String(255)),
        sa.PrimaryKeyConstraint("id", name="pk_inference_results"),
        sa.ForeignKeyConstraint(
            ["user_id"],
            ["users.id"],
            name="fk_inference_results_user_id_users",
            ondelete="SET NULL",
        ),
        sa.CheckConstraint(
            "prediction >= 0 AND prediction <= 1", name=op.f("ck_inference_results_prediction")
        ),
        sqlite_autoincrement=True,
    )
    order = ["created_at", "id"]
    op.create_index("ix_inference_results_order", table, [*order, "is_fake", "processing_time"])
    op.create_index(
        "ix_inference_results_user", table, ["user_id", *order, "is_fake", "processing_time"]
    )
    op.create_index("ix_inference_results_fake", table, ["is_fake", *order, "processing_time"])
    op.create_index("ix_inference_results_verdict", table, ["verdict", *order])
    op.create_index("ix_inference_results_model", table, ["model_name", *order])
    op.create_index("ix_inference_results_name", table, ["image_name", *order])
