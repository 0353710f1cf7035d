"""The original Flask prototype's ``.env``, and its database as its models would create it."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from d3.adapters.sql import Database

ENVIRONMENT = """# PostgreSQL
POSTGRES_USER=postgres
POSTGRES_PASSWORD=your_password
POSTGRES_HOST=localhost
POSTGRES_PORT=5432
POSTGRES_DB=d3_deepfake

# MinIO
MINIO_ENDPOINT=localhost:9000
MINIO_ACCESS_KEY=minioadmin
MINIO_SECRET_KEY=minioadmin
MINIO_SECURE=False
MINIO_BUCKET_NAME=d3-models

# CUDA
CUDA_DEVICE=1
"""
"""As its README shows it."""

PLAIN_KEY = "hunter2-in-plain-text"
NOON = datetime(2025, 3, 1, 12, 0, 0, 250_000)  # noqa: DTZ001 -- as the prototype wrote them

metadata = sa.MetaData()

users = sa.Table(
    "users",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("username", sa.String(80), unique=True, nullable=False),
    sa.Column("email", sa.String(120), unique=True, nullable=False),
    sa.Column("api_key", sa.String(255), unique=True),
    sa.Column("created_at", sa.DateTime),
    sa.Column("is_active", sa.Boolean),
)
inference_results = sa.Table(
    "inference_results",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("image_name", sa.String(255), nullable=False),
    sa.Column("prediction", sa.Float, nullable=False),
    sa.Column("is_fake", sa.Boolean, nullable=False),
    sa.Column("confidence", sa.Float),
    sa.Column("threshold", sa.Float),
    sa.Column("processing_time", sa.Float),
    sa.Column("created_at", sa.DateTime, index=True),
    sa.Column("user_id", sa.Integer, sa.ForeignKey("users.id")),
)
request_logs = sa.Table(
    "request_logs",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("endpoint", sa.String(255)),
    sa.Column("method", sa.String(10)),
    sa.Column("status_code", sa.Integer),
    sa.Column("ip_address", sa.String(45)),
    sa.Column("response_time", sa.Float),
    sa.Column("created_at", sa.DateTime, index=True),
)


def make_prototype(database: Database, results: int = 3) -> None:
    """Create the prototype's tables and fill them, with an engine as plain as its own."""
    url = database.url.render_as_string(hide_password=False)
    if database.is_sqlite:
        database.close()
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(
            sa.insert(users),
            [
                _user(1, "ada", PLAIN_KEY, active=True),
                _user(2, "grace", None, active=True),
                _user(5, "alan", "another plain key", active=False),
                _user(6, "joan", "", active=None),
            ],
        )
        connection.execute(
            sa.insert(inference_results), [_result(id_) for id_ in range(1, results + 1)]
        )
        connection.execute(
            sa.insert(request_logs),
            [
                {
                    "id": 7,
                    "endpoint": "/api/inference/predict",
                    "method": "POST",
                    "status_code": 200,
                    "ip_address": "192.0.2.1",
                    "response_time": 0.25,
                    "created_at": NOON,
                }
            ],
        )
        if not database.is_sqlite:
            for table in metadata.tables:
                connection.execute(
                    sa.text(f"SELECT setval('{table}_id_seq', (SELECT max(id) FROM {table}))")
                )
    engine.dispose()


def _user(id_: int, name: str, key: str | None, *, active: bool | None) -> dict[str, object]:
    return {
        "id": id_,
        "username": name,
        "email": f"{name}@example.org",
        "api_key": key,
        "created_at": NOON,
        "is_active": active,
    }


def _result(id_: int) -> dict[str, object]:
    fake = id_ % 2 == 1
    return {
        "id": id_,
        "image_name": f"{id_}.jpg",
        "prediction": 0.75 if fake else 0.25,
        "is_fake": fake,
        "confidence": 0.5,
        "threshold": 0.5,
        "processing_time": 0.125,
        "created_at": NOON,
        "user_id": 1 if fake else None,
    }
