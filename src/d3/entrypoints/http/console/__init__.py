"""The console: server-rendered pages at ``/``, with all scripts and styles in the package."""

from __future__ import annotations

from litestar import Router
from litestar.datastructures import CacheControlHeader
from litestar.static_files import create_static_files_router

from d3.entrypoints.http.console.check import CheckPages
from d3.entrypoints.http.console.guards import people_only
from d3.entrypoints.http.console.history import HistoryPages
from d3.entrypoints.http.console.keys import KeyPages
from d3.entrypoints.http.console.models import ModelPages
from d3.entrypoints.http.console.problem_types import problem_pages
from d3.entrypoints.http.console.problems import HANDLERS, HANDLERS_ELSEWHERE, answer_refused
from d3.entrypoints.http.console.rendering import HEADERS, STATIC, templates
from d3.entrypoints.http.console.result import ResultPages
from d3.entrypoints.http.console.scans import ScanPages
from d3.entrypoints.http.console.service import ServicePages
from d3.entrypoints.http.console.sign_in import SignInPages
from d3.entrypoints.http.console.statistics import StatisticsPages
from d3.entrypoints.http.console.webhooks import WebhookPages

__all__ = [
    "HANDLERS_ELSEWHERE",
    "answer_refused",
    "assets",
    "pages",
    "problem_pages",
    "templates",
]

_A_YEAR = 365 * 24 * 3600


def pages(*, own_keys: bool) -> Router:
    """The router of all pages. They are not in the OpenAPI document.

    Args:
        own_keys: whether D3's keys count, so that there are pages to sign in and to manage them.
    """
    return Router(
        path="/",
        route_handlers=[
            CheckPages,
            HistoryPages,
            ResultPages,
            StatisticsPages,
            ModelPages,
            ServicePages,
            ScanPages,
            WebhookPages,
            *([KeyPages, SignInPages] if own_keys else []),
        ],
        guards=[people_only],
        exception_handlers=HANDLERS,
        response_headers=HEADERS,
        include_in_schema=False,
    )


def assets() -> Router:
    """The router of scripts, styles and images. Their URLs change with their content."""
    return create_static_files_router(
        path="/console",
        directories=[STATIC],
        name="console-assets",
        cache_control=CacheControlHeader(max_age=_A_YEAR, public=True, immutable=True),
    )
