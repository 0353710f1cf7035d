"""D3 as a REST service: the original's calls unchanged, and what a product has beside them."""

from d3.entrypoints.http.app import create_app

__all__ = ["create_app"]
