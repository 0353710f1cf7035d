"""ASGI middleware around the framework, the outermost first in :mod:`d3.entrypoints.http.app`."""
