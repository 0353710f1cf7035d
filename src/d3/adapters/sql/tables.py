"""The tables; the migrations make them, a test keeps the two alike.

Those that hold results have a column for each field of their record.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from d3.adapters.sql.types import AnyText, Key, Name, Ordered, UtcDateTime
from d3.domain.history import HistoryEntry
from d3.domain.records import ImageRecord, fields_of
from d3.domain.scans import ScanRow

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


_COUNTED = ("processing_time", "verdict", "demo", "agreement")
_STATISTICS = (
    *("created_at", "id", "is_fake", *_COUNTED, "prediction", "model_name", "model_version"),
    *("label", "provenance_says"),
)
"""All that statistics look at."""
_LABELLED = sa.text("label IS NOT NULL")
_SAYING = sa.text("provenance_says <> 'nothing'")
_TYPES: dict[type, sa.types.TypeEngine[Any]] = {
    bool: sa.Boolean(),
    datetime: UtcDateTime(),
    float: sa.Double(),
    int: sa.Integer(),
}


def _columns(record: type[ImageRecord], besides: set[str]) -> list[sa.Column[Any]]:
    """A column for each field of a record, but for some that are declared by hand."""
    return [
        sa.Column(
            name,
            _TYPES[one.kind] if one.length is None else sa.String(one.length),
            nullable=one.optional,
        )
        for name, one in fields_of(record).items()
        if name not in besides
    ]


_DECLARED = {
    *("id", "image_name", "user_id", "image_bytes", "notice"),
    *(
        "provenance_sources",
        "view_logits",
        "device",
        "libraries",
        "panel",
        "stability_probabilities",
        "clip",
    ),
}
_DECLARED_OF_SCANS = {
    *("uri", "image_bytes", "notice"),
    *("provenance_sources", "panel", "stability_probabilities", "clip"),
}
_DISAGREEING = sa.text("agreement = 'disagree'")


def _said_by_several() -> list[sa.Column[Any]]:
    """The columns of what a panel said, of what harmless changes did, and of a clip's frames."""
    return [
        sa.Column(name, sa.Text(), server_default=sa.text("''"), nullable=False)
        for name in ("panel", "stability_probabilities", "clip")
    ]


class InferenceResult(Base):
    """One judged image: the fields of an entry, ``demo`` and ``searchable_name``.

    ``demo`` says whether it has a notice, ``searchable_name`` is the name as it is searched; see
    :mod:`d3.adapters.sql.search` for its index.

    The order of the history is (created_at, id). Each index holds it behind the column of a filter
    or of another order, so a page is read where it lies; the first, the user's and the model's
    also hold what statistics add up. Most rows have no label and say nothing of themselves: they
    are not in those indexes.
    """

    __table__ = sa.Table(
        "inference_results",
        Base.metadata,
        sa.Column("id", Key, primary_key=True),
        sa.Column("image_name", Name, nullable=False),
        sa.Column("user_id", Key, sa.ForeignKey("users.id", ondelete="SET NULL")),
        sa.Column("image_bytes", sa.BigInteger()),
        sa.Column("notice", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("demo", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("searchable_name", Ordered, server_default=sa.text("''"), nullable=False),
        sa.Column("provenance_sources", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("view_logits", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("device", sa.String(64), server_default=sa.text("''"), nullable=False),
        sa.Column("libraries", sa.String(255), server_default=sa.text("''"), nullable=False),
        *_said_by_several(),
        *_columns(HistoryEntry, besides=_DECLARED),
        sa.CheckConstraint("prediction >= 0 AND prediction <= 1", name="prediction"),
        sa.Index("ix_inference_results_order", *_STATISTICS),
        sa.Index("ix_inference_results_user", "user_id", *_STATISTICS),
        sa.Index("ix_inference_results_fake", "is_fake", "created_at", "id", *_COUNTED),
        sa.Index("ix_inference_results_verdict", "verdict", "created_at", "id"),
        sa.Index(
            "ix_inference_results_model",
            *("model_name", *(one for one in _STATISTICS if one != "model_name")),
        ),
        sa.Index("ix_inference_results_name", "image_name", "created_at", "id"),
        sa.Index("ix_inference_results_prediction", "prediction", "created_at", "id"),
        sa.Index("ix_inference_results_image", "image_sha256"),
        sa.Index(
            "ix_inference_results_label",
            *("label", "created_at", "id"),
            sqlite_where=_LABELLED,
            postgresql_where=_LABELLED,
        ),
        sa.Index(
            "ix_inference_results_provenance",
            *("provenance_says", "created_at", "id"),
            sqlite_where=_SAYING,
            postgresql_where=_SAYING,
        ),
        sa.Index(
            "ix_inference_results_disagreeing",
            *("created_at", "id"),
            sqlite_where=_DISAGREEING,
            postgresql_where=_DISAGREEING,
        ),
        sqlite_autoincrement=True,
    )


class ResultLabel(Base):
    """One statement about what a result's image is; the newest also stands in the result."""

    __tablename__ = "result_labels"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    result_id: Mapped[int] = mapped_column(
        Key, sa.ForeignKey("inference_results.id", ondelete="CASCADE"), index=True
    )
    label: Mapped[str] = mapped_column(sa.String(16))
    source: Mapped[str] = mapped_column(sa.String(255))
    note: Mapped[str] = mapped_column(sa.Text())
    created_at: Mapped[datetime]
    user_id: Mapped[int | None] = mapped_column(Key, sa.ForeignKey("users.id", ondelete="SET NULL"))


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
    panel: Mapped[str] = mapped_column(sa.Text(), server_default=sa.text("''"))
    panel_rule: Mapped[str] = mapped_column(sa.String(16), server_default=sa.text("'chief'"))
    stability: Mapped[bool] = mapped_column(sa.Boolean(), server_default=sa.false())
    video: Mapped[bool] = mapped_column(sa.Boolean(), server_default=sa.false())


class Leased:
    """The columns of a shard that workers hold in turn, see :mod:`d3.adapters.sql.leases`."""

    finished: Mapped[bool] = mapped_column(sa.Boolean())
    owner: Mapped[str | None] = mapped_column(sa.String(255))
    owner_until: Mapped[datetime | None]


class ScanShard(Leased, Base):
    """Some keys of a scan; forgotten when each has its row."""

    __tablename__ = "scan_shards"
    __table_args__ = (sa.Index("ix_scan_shards_open", "scan_id", "finished", "number"),)

    scan_id: Mapped[int] = mapped_column(
        Key, sa.ForeignKey("scans.id", ondelete="CASCADE"), primary_key=True
    )
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    keys: Mapped[bytes | None] = mapped_column(sa.LargeBinary())
    listed: Mapped[int]
    fake: Mapped[int]
    real: Mapped[int]
    uncertain: Mapped[int]
    error: Mapped[int]
    passed_over: Mapped[int]


class ScanResult(Base):
    """One image of a scan: judged once, or not to be judged."""

    __table__ = sa.Table(
        "scan_results",
        Base.metadata,
        sa.Column("scan_id", Key, sa.ForeignKey("scans.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("uri", Ordered, primary_key=True),
        sa.Column("shard", sa.Integer(), nullable=False),
        sa.Column("image_bytes", sa.BigInteger()),
        sa.Column("provenance_sources", sa.Text(), server_default=sa.text("''"), nullable=False),
        *_said_by_several(),
        *_columns(ScanRow, besides=_DECLARED_OF_SCANS),
        sa.Index("ix_scan_results_shard", "scan_id", "shard"),
        sa.Index(
            "ix_scan_results_disagreeing",
            *("scan_id", "uri"),
            sqlite_where=_DISAGREEING,
            postgresql_where=_DISAGREEING,
        ),
    )


class JobEntry(Base):
    """One job; before its files are all there, only a note of what they take in the spool.

    ``open_shards`` counts down to the end of the job. ``spooled_bytes`` are those of its files that
    are not judged yet, and ``cleared`` says that none is left.
    """

    __tablename__ = "jobs"
    __table_args__ = (
        sa.Index("ix_jobs_user", "user_id", "id"),
        sa.Index("ix_jobs_state", "state"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(64), unique=True)
    user_id: Mapped[int | None] = mapped_column(Key, sa.ForeignKey("users.id", ondelete="SET NULL"))
    request_id: Mapped[str | None] = mapped_column(sa.String(255))
    state: Mapped[str] = mapped_column(sa.String(16))
    created_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    expires_at: Mapped[datetime] = mapped_column(index=True)
    threshold: Mapped[float | None]
    views: Mapped[int]
    panel: Mapped[str] = mapped_column(sa.Text())
    panel_rule: Mapped[str | None] = mapped_column(sa.String(16))
    stability: Mapped[bool] = mapped_column(sa.Boolean())
    callback: Mapped[str | None] = mapped_column(sa.Text())
    callback_secret: Mapped[str | None] = mapped_column(sa.String(255))
    every: Mapped[float | None]
    most: Mapped[int | None]
    spool: Mapped[str | None] = mapped_column(sa.String(255))
    spooled_bytes: Mapped[int] = mapped_column(sa.BigInteger())
    cleared: Mapped[bool] = mapped_column(sa.Boolean())
    trouble: Mapped[str | None] = mapped_column(sa.Text())
    open_shards: Mapped[int]
    items: Mapped[int]
    fake: Mapped[int]
    real: Mapped[int]
    uncertain: Mapped[int]
    error: Mapped[int]
    cancelled: Mapped[int]


class JobShardRow(Leased, Base):
    """Some items of a job. ``turn`` puts the shards of all jobs in one order, each in its turn."""

    __tablename__ = "job_shards"
    __table_args__ = (sa.Index("ix_job_shards_open", "finished", "turn", "job_id"),)

    job_id: Mapped[int] = mapped_column(
        Key, sa.ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True
    )
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    place: Mapped[str] = mapped_column(sa.String(16))
    turn: Mapped[int] = mapped_column(sa.BigInteger())
    size_bytes: Mapped[int] = mapped_column(sa.BigInteger())
    claims: Mapped[int]


class JobItemRow(Base):
    """One item of a job; its result is in the history, as long as nobody deletes it there."""

    __tablename__ = "job_items"
    __table_args__ = (sa.Index("ix_job_items_shard", "job_id", "shard"),)

    job_id: Mapped[int] = mapped_column(
        Key, sa.ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True
    )
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    shard: Mapped[int | None]
    name: Mapped[str] = mapped_column(sa.String(255))
    external_id: Mapped[str | None] = mapped_column(sa.String(255))
    source: Mapped[str] = mapped_column(AnyText())
    offset: Mapped[int] = mapped_column(sa.BigInteger())
    size_bytes: Mapped[int] = mapped_column(sa.BigInteger())
    state: Mapped[str] = mapped_column(sa.String(16))
    result_id: Mapped[int | None] = mapped_column(Key)
    error: Mapped[str | None] = mapped_column(sa.Text())
    code: Mapped[str | None] = mapped_column(sa.String(64))


_WAITING = sa.text("state = 'waiting'")
_DEAD = sa.text("state = 'dead'")
_LEASED = sa.text("owner IS NOT NULL")


class WebhookRow(Base):
    """Somebody's endpoint, which is told of events."""

    __tablename__ = "webhooks"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    user_id: Mapped[int | None] = mapped_column(
        Key, sa.ForeignKey("users.id", ondelete="CASCADE"), index=True
    )
    name: Mapped[str] = mapped_column(sa.String(255))
    url: Mapped[str] = mapped_column(sa.Text())
    events: Mapped[str] = mapped_column(sa.String(255))
    verdicts: Mapped[str] = mapped_column(sa.String(64))
    everyone: Mapped[bool] = mapped_column(sa.Boolean())
    enabled: Mapped[bool] = mapped_column(sa.Boolean())
    trouble: Mapped[str | None] = mapped_column(sa.Text())
    failures: Mapped[int]
    answered_at: Mapped[datetime | None]
    rest_until: Mapped[datetime | None]
    secret: Mapped[str] = mapped_column(sa.String(255))
    old_secret: Mapped[str | None] = mapped_column(sa.String(255))
    old_secret_until: Mapped[datetime | None]
    created_at: Mapped[datetime]


class WebhookEvent(Base):
    """Something that happened, as it is told; the event of a result goes with the result."""

    __tablename__ = "webhook_events"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    event_id: Mapped[str] = mapped_column(sa.String(64))
    type: Mapped[str] = mapped_column(sa.String(32))
    result_id: Mapped[int | None] = mapped_column(
        Key, sa.ForeignKey("inference_results.id", ondelete="CASCADE"), index=True
    )
    body: Mapped[str] = mapped_column(sa.Text())
    created_at: Mapped[datetime] = mapped_column(index=True)


class WebhookDelivery(Base):
    """One event for one receiver: an endpoint, or the callback of a job.

    ``queue`` names the receiver. Whoever sends it leases it; ``since`` is when its day began.
    """

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        sa.Index(
            "ix_webhook_deliveries_waiting",
            *("queue", "next_at", "id"),
            sqlite_where=_WAITING,
            postgresql_where=_WAITING,
        ),
        sa.Index("ix_webhook_deliveries_dead", "id", sqlite_where=_DEAD, postgresql_where=_DEAD),
        sa.Index(
            "ix_webhook_deliveries_leased",
            *("queue", "owner_until"),
            sqlite_where=_LEASED,
            postgresql_where=_LEASED,
        ),
        sa.Index("ix_webhook_deliveries_webhook", "webhook_id", "id"),
        sa.Index("ix_webhook_deliveries_user", "user_id", "id"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    event: Mapped[int] = mapped_column(
        Key, sa.ForeignKey("webhook_events.id", ondelete="CASCADE"), index=True
    )
    webhook_id: Mapped[int | None] = mapped_column(
        Key, sa.ForeignKey("webhooks.id", ondelete="CASCADE")
    )
    user_id: Mapped[int | None] = mapped_column(Key, sa.ForeignKey("users.id", ondelete="CASCADE"))
    queue: Mapped[str] = mapped_column(sa.String(64))
    url: Mapped[str | None] = mapped_column(sa.Text())
    secret: Mapped[str | None] = mapped_column(sa.String(255))
    state: Mapped[str] = mapped_column(sa.String(16))
    attempts: Mapped[int]
    since: Mapped[datetime]
    next_at: Mapped[datetime | None]
    owner: Mapped[str | None] = mapped_column(sa.String(255))
    owner_until: Mapped[datetime | None]
    tried_at: Mapped[datetime | None]
    status: Mapped[int | None]
    trouble: Mapped[str | None] = mapped_column(sa.Text())


class WebhookMark(Base):
    """The last that was told of something that changes, so that replicas tell it once."""

    __tablename__ = "webhook_marks"

    name: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    value: Mapped[str] = mapped_column(sa.Text())
    moved_at: Mapped[datetime]
