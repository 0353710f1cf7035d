"""Finds names by any part of them: by FTS5's trigrams on SQLite, by our own on PostgreSQL.

A migration makes both indexes: a table ``name_search`` that triggers keep, and a GIN index over the
trigrams of each name. PostgreSQL's own extension for this must be allowed by an administrator, and
knows letters and digits only.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from d3.adapters.sql.tables import InferenceResult

_T = InferenceResult.__table__.c
_TRIGRAM = 3
_TEXTS = sa.ARRAY(sa.Text())
_FOUND = sa.table("name_search", sa.column("rowid"), sa.column("name_search"))


def contains(text: str) -> sa.ColumnElement[bool]:
    """Whether a result's name contains a text, both in their searchable form.

    Texts of fewer than three characters have no trigram and are looked for in every name.
    """
    everywhere = _T.searchable_name.contains(text, autoescape=True)
    if len(text) < _TRIGRAM:
        return everywhere
    phrase = '"{}"'.format(text.replace('"', '""'))
    found = sa.select(_FOUND.c.rowid).where(_FOUND.c.name_search.op("MATCH")(phrase))
    trigrams = sorted({text[place : place + _TRIGRAM] for place in range(len(text) - 2)})
    all_of_them = sa.func.d3_trigrams(_T.searchable_name).op("@>")(sa.literal(trigrams, _TEXTS))
    return _either(_T.id.in_(found), sa.and_(all_of_them, everywhere))


class _either(FunctionElement[bool]):  # noqa: N801  named as functions of SQL are
    """The first condition on SQLite, the second on PostgreSQL.

    It says nothing of its type: SQLite would be asked whether it equals 1, and use no index.
    """

    inherit_cache = True


@compiles(_either, "sqlite")
def _on_sqlite(element: Any, compiler: SQLCompiler, **how: Any) -> str:
    return compiler.process(next(iter(element.clauses)).self_group(), **how)


@compiles(_either, "postgresql")
def _on_postgresql(element: Any, compiler: SQLCompiler, **how: Any) -> str:
    return compiler.process(list(element.clauses)[1].self_group(), **how)
