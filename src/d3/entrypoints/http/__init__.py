"""D3 as a REST service: the original's calls unchanged, and what a product has beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from d3.entrypoints.http.app import create_app

__all__ = ["create_app"]


def __getattr__(name: str) -> Any:
    # Late, so that the client may use the schemas without the framework.
    if name != "create_app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from d3.entrypoints.http.app import create_app

    return create_app
