"""The tables, as typed classes; the migrations make them, a test keeps the two alike."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from d3.adapters.sql.types import AnyText, Key, Name, Ordered, UtcDateTime

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class Base(DeclarativeBase):
    """Where the tables meet."""

    metadata = sa.MetaData(naming_convention=NAMING)
    type_annotation_map = {  # noqa: RUF012 -- declared so by SQLAlchemy
        datetime: UtcDateTime(),
        float: sa.Double(),
        int: sa.Integer(),
    }


class User(Base):
    """Somebody with an account."""

    __tablename__ = "users"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    username: Mapped[str] = mapped_column(sa.String(255), unique=True)
    email: Mapped[str | None] = mapped_column(sa.String(255), unique=True)
    created_at: Mapped[datetime]
    is_active: Mapped[bool] = mapped_column(sa.Boolean())


class ApiKey(Base):
    """A key to an account; of its secret only the hash is kept."""

    __tablename__ = "api_keys"

    key_id: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    user_id: Mapped[int] = mapped_column(
        Key, sa.ForeignKey("users.id", ondelete="CASCADE"), index=True
    )
    name: Mapped[str] = mapped_column(sa.String(255))
    secret_sha256: Mapped[str] = mapped_column(sa.String(64), unique=True, index=True)
    scopes: Mapped[str] = mapped_column(sa.Text())
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


_COUNTED = ("processing_time", "verdict", "demo")


class InferenceResult(Base):
    """One judged image.

    The order of the history is (created_at, id). Each index holds it behind the column of a filter
    or of another order, so a page is read where it lies; the first and the user's also hold what
    statistics add up.
    """

    __tablename__ = "inference_results"
    __table_args__ = (
        sa.CheckConstraint("prediction >= 0 AND prediction <= 1", name="prediction"),
        sa.Index("ix_inference_results_order", "created_at", "id", "is_fake", *_COUNTED),
        sa.Index("ix_inference_results_user", "user_id", "created_at", "id", "is_fake", *_COUNTED),
        sa.Index("ix_inference_results_fake", "is_fake", "created_at", "id", *_COUNTED),
        sa.Index("ix_inference_results_verdict", "verdict", "created_at", "id"),
        sa.Index("ix_inference_results_model", "model_name", "created_at", "id"),
        sa.Index("ix_inference_results_name", "image_name", "created_at", "id"),
        sa.Index("ix_inference_results_prediction", "prediction", "created_at", "id"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    image_name: Mapped[str] = mapped_column(Name)
    prediction: Mapped[float]
    is_fake: Mapped[bool] = mapped_column(sa.Boolean())
    confidence: Mapped[float]
    threshold: Mapped[float]
    processing_time: Mapped[float]
    created_at: Mapped[datetime]
    user_id: Mapped[int | None] = mapped_column(Key, sa.ForeignKey("users.id", ondelete="SET NULL"))
    verdict: Mapped[str] = mapped_column(sa.String(16))
    logit: Mapped[float | None]
    views: Mapped[int]
    spread: Mapped[float]
    image_sha256: Mapped[str | None] = mapped_column(sa.String(64))
    image_format: Mapped[str | None] = mapped_column(sa.String(32))
    image_width: Mapped[int | None]
    image_height: Mapped[int | None]
    image_frames: Mapped[int | None]
    image_bytes: Mapped[int | None] = mapped_column(sa.BigInteger())
    model_name: Mapped[str | None] = mapped_column(sa.String(255))
    model_version: Mapped[int | None]
    model_sha256: Mapped[str | None] = mapped_column(sa.String(64))
    engine: Mapped[str] = mapped_column(sa.String(32))
    precision: Mapped[str] = mapped_column(sa.String(16))
    calibration_name: Mapped[str] = mapped_column(sa.String(255))
    calibration_scale: Mapped[float]
    calibration_bias: Mapped[float]
    abstain_below: Mapped[float]
    abstain_above: Mapped[float]
    cached: Mapped[bool] = mapped_column(sa.Boolean())
    d3_version: Mapped[str] = mapped_column(sa.String(64))
    request_id: Mapped[str | None] = mapped_column(sa.String(255))
    reason: Mapped[str | None] = mapped_column(sa.String(32))
    image_note: Mapped[str | None] = mapped_column(sa.String(32))
    notice: Mapped[str] = mapped_column(sa.Text(), server_default=sa.text("''"))
    demo: Mapped[bool] = mapped_column(sa.Boolean(), server_default=sa.false())


class IdempotencyRow(Base):
    """A key a client gave its request; without an answer it is being worked on.

    The results that the answer tells of have ids from ``first_id`` to ``last_id``.
    """

    __tablename__ = "idempotency_keys"

    owner: Mapped[int] = mapped_column(sa.BigInteger(), primary_key=True, autoincrement=False)
    key: Mapped[str] = mapped_column(sa.String(255), primary_key=True)
    request_hash: Mapped[str] = mapped_column(sa.String(64))
    token: Mapped[str] = mapped_column(sa.String(64))
    answer: Mapped[bytes | None] = mapped_column(sa.LargeBinary())
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime] = mapped_column(index=True)
    first_id: Mapped[int | None] = mapped_column(Key, index=True)
    last_id: Mapped[int | None] = mapped_column(Key)


class RequestLogRow(Base):
    """One HTTP request."""

    __tablename__ = "request_logs"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    endpoint: Mapped[str] = mapped_column(sa.String(255))
    method: Mapped[str] = mapped_column(sa.String(16))
    status_code: Mapped[int]
    ip_address: Mapped[str | None] = mapped_column(sa.String(64))
    response_time: Mapped[float]
    created_at: Mapped[datetime] = mapped_column(index=True)
    request_id: Mapped[str | None] = mapped_column(sa.String(255))
    user_id: Mapped[int | None] = mapped_column(
        Key, sa.ForeignKey("users.id", ondelete="SET NULL"), index=True
    )
    requests: Mapped[int] = mapped_column(server_default="1")


class ScanEntry(Base):
    """One bulk scan; what decides its results is fixed when it begins."""

    __tablename__ = "scans"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(64), unique=True)
    source: Mapped[str] = mapped_column(AnyText())
    model_name: Mapped[str] = mapped_column(sa.String(255))
    model_version: Mapped[int]
    model_sha256: Mapped[str] = mapped_column(sa.String(64))
    threshold: Mapped[float]
    views: Mapped[int]
    by_service: Mapped[bool] = mapped_column(sa.Boolean())
    state: Mapped[str] = mapped_column(sa.String(16))
    created_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    listed: Mapped[bool] = mapped_column(sa.Boolean())
    shards: Mapped[int]
    cursor: Mapped[str | None] = mapped_column(AnyText())
    lister: Mapped[str | None] = mapped_column(sa.String(255))
    lister_until: Mapped[datetime | None]
    trouble: Mapped[str | None] = mapped_column(sa.Text())
    notice: Mapped[str] = mapped_column(sa.Text(), server_default=sa.text("''"))


class ScanShard(Base):
    """Some keys of a scan; forgotten when each has its row."""

    __tablename__ = "scan_shards"
    __table_args__ = (sa.Index("ix_scan_shards_open", "scan_id", "finished", "number"),)

    scan_id: Mapped[int] = mapped_column(
        Key, sa.ForeignKey("scans.id", ondelete="CASCADE"), primary_key=True
    )
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    keys: Mapped[bytes | None] = mapped_column(sa.LargeBinary())
    listed: Mapped[int]
    finished: Mapped[bool] = mapped_column(sa.Boolean())
    owner: Mapped[str | None] = mapped_column(sa.String(255))
    owner_until: Mapped[datetime | None]
    fake: Mapped[int]
    real: Mapped[int]
    uncertain: Mapped[int]
    error: Mapped[int]
    passed_over: Mapped[int]


class ScanResult(Base):
    """One image of a scan: judged once, or not to be judged."""

    __tablename__ = "scan_results"
    __table_args__ = (sa.Index("ix_scan_results_shard", "scan_id", "shard"),)

    scan_id: Mapped[int] = mapped_column(
        Key, sa.ForeignKey("scans.id", ondelete="CASCADE"), primary_key=True
    )
    uri: Mapped[str] = mapped_column(Ordered, primary_key=True)
    shard: Mapped[int]
    verdict: Mapped[str | None] = mapped_column(sa.String(16))
    error: Mapped[str | None] = mapped_column(sa.String(64))
    prediction: Mapped[float | None]
    logit: Mapped[float | None]
    spread: Mapped[float | None]
    image_sha256: Mapped[str | None] = mapped_column(sa.String(64))
    image_format: Mapped[str | None] = mapped_column(sa.String(32))
    image_width: Mapped[int | None]
    image_height: Mapped[int | None]
    image_bytes: Mapped[int | None] = mapped_column(sa.BigInteger())
    processing_time: Mapped[float | None]
    created_at: Mapped[datetime]
    reason: Mapped[str | None] = mapped_column(sa.String(32))
    image_frames: Mapped[int | None]
    image_note: Mapped[str | None] = mapped_column(sa.String(32))
