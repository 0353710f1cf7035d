"""Runs the migrations on the connection that it is handed; see :mod:`d3.adapters.sql.schema`."""

from __future__ import annotations

from alembic import context

from d3.adapters.sql.schema import VERSION_TABLE
from d3.adapters.sql.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    version_table=VERSION_TABLE,
    transactional_ddl=True,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
