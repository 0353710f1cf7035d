"""The table of errors, from the list that the service's own page is made of."""

from __future__ import annotations

from tables import anchored, table

from d3.entrypoints.http.problem_types import problem_types


def errors() -> str:
    """A row for each code."""
    rows = (
        (
            anchored(one.code),
            str(one.status.value),
            f"{one.meaning} {one.remedy}".strip(),
            ", ".join(f"`{name}`" for name in one.errors),
        )
        for one in problem_types()
    )
    return table(("code", "status", "what it means, and what to do", "class in `d3.errors`"), rows)
