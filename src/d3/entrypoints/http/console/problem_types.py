"""What the ``type`` of every error response leads to: the kinds of problems, on one page."""

from __future__ import annotations

from typing import Any

from litestar import Request, Router, get
from litestar.response import Template

from d3.entrypoints.http.console.rendering import HEADERS, base_of
from d3.entrypoints.http.problem_types import problem_types
from d3.entrypoints.http.services import D3


@get("/problems")
async def kinds(request: Request[Any, Any, Any], d3: D3) -> Template:
    """The page, which needs no key and is the same for everybody."""
    return Template(
        "problem_types.html.j2",
        headers=HEADERS | {"Cache-Control": "public, max-age=3600"},
        context={"base": base_of(request), "kinds": problem_types(), "version": d3.version},
    )


def problem_pages() -> Router:
    """The router of the page. Programs may ask for it too; it is not in the OpenAPI document."""
    return Router(path="/", route_handlers=[kinds], include_in_schema=False)
