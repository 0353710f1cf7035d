"""Names are found by any part of them, and statistics are read from indexes alone."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from d3.adapters.sql.types import Ordered
from d3.domain.text import searchable

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_RESULTS = "inference_results"
_CHUNK = 1000
_STATISTICS = [
    *("created_at", "id", "is_fake", "processing_time", "verdict", "demo", "prediction"),
    *("model_name", "model_version", "label", "provenance_says"),
]
_WITHOUT_MODEL = [one for one in _STATISTICS if one != "model_name"]

_ON_SQLITE = (
    """
    CREATE VIRTUAL TABLE name_search USING fts5(
        searchable_name, content='inference_results', content_rowid='id', columnsize=0,
        tokenize='trigram case_sensitive 1'
    )
    """,
    "INSERT INTO name_search(name_search) VALUES ('rebuild')",
    """
    CREATE TRIGGER name_search_insert AFTER INSERT ON inference_results BEGIN
        INSERT INTO name_search(rowid, searchable_name) VALUES (new.id, new.searchable_name);
    END
    """,
    """
    CREATE TRIGGER name_search_delete AFTER DELETE ON inference_results BEGIN
        INSERT INTO name_search(name_search, rowid, searchable_name)
        VALUES ('delete', old.id, old.searchable_name);
    END
    """,
)
# In PL/pgSQL, which stays ready between statements: in SQL it would cost half a millisecond a row.
_ON_POSTGRESQL = (
    """
    CREATE FUNCTION d3_trigrams(name text) RETURNS text[]
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
    DECLARE
        found text[] := '{}';
    BEGIN
        FOR place IN 1 .. length(name) - 2 LOOP
            found := found || substr(name, place, 3);
        END LOOP;
        RETURN found;
    END
    $$
    """,
    """
    CREATE INDEX ix_inference_results_search ON inference_results
    USING gin (d3_trigrams(searchable_name))
    """,
)


def upgrade() -> None:
    """Forwards only; the way back is a backup."""
    op.add_column(
        _RESULTS,
        sa.Column("searchable_name", Ordered, server_default=sa.text("''"), nullable=False),
    )
    connection = op.get_bind()
    _fill(connection)
    for name, columns in (
        ("order", _STATISTICS),
        ("user", ["user_id", *_STATISTICS]),
        ("model", ["model_name", *_WITHOUT_MODEL]),
    ):
        op.drop_index(f"ix_inference_results_{name}", _RESULTS)
        op.create_index(f"ix_inference_results_{name}", _RESULTS, columns)
    op.create_index("ix_inference_results_image", _RESULTS, ["image_sha256"])
    for name, column, few in (
        ("label", "label", sa.text("label IS NOT NULL")),
        ("provenance", "provenance_says", sa.text("provenance_says <> 'nothing'")),
    ):
        op.create_index(
            f"ix_inference_results_{name}",
            _RESULTS,
            [column, "created_at", "id"],
            sqlite_where=few,
            postgresql_where=few,
        )
    for statement in _ON_SQLITE if connection.dialect.name == "sqlite" else _ON_POSTGRESQL:
        connection.exec_driver_sql(statement)


def _fill(connection: sa.Connection) -> None:
    """Give every row its searchable name: by the database where that is the same, else by ours."""
    results = sa.table(
        _RESULTS, sa.column("id"), sa.column("image_name"), sa.column("searchable_name")
    )
    connection.execute(
        sa.update(results).values(searchable_name=sa.func.lower(results.c.image_name))
    )
    # Only where a name has another letter than ASCII's do bytes and characters differ in number.
    size = sa.func.octet_length(results.c.image_name)
    if connection.dialect.name == "sqlite":
        size = sa.func.length(sa.cast(results.c.image_name, sa.LargeBinary()))
    others = sa.select(results.c.id, results.c.image_name).where(
        size != sa.func.length(results.c.image_name)
    )
    update = (
        sa.update(results)
        .where(results.c.id == sa.bindparam("row"))
        .values(searchable_name=sa.bindparam("found"))
    )
    rows = connection.execute(others).all()
    for start in range(0, len(rows), _CHUNK):
        some = rows[start : start + _CHUNK]
        connection.execute(
            update, [{"row": row.id, "found": searchable(row.image_name)} for row in some]
        )
