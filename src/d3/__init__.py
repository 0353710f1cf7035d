"""D3 tells whether an image was made or altered by a generator.

::

    import d3

    detection = d3.detect("photo.jpg")
    print(detection.verdict, detection.prediction)

Importing ``d3`` is quick: torch is imported with the first detection.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from d3.client import AsyncClient, Client
    from d3.domain import errors
    from d3.domain.accounts import HostUser
    from d3.domain.detections import Detection, Failure
    from d3.domain.errors import D3Error
    from d3.domain.heatmaps import Heatmap
    from d3.domain.scoring import Verdict
    from d3.entrypoints.library import D3, detect
    from d3.settings import Settings

__all__ = [
    "D3",
    "AsyncClient",
    "Client",
    "D3Error",
    "Detection",
    "Failure",
    "Heatmap",
    "HostUser",
    "Settings",
    "Verdict",
    "__version__",
    "detect",
    "errors",
]

_HOMES = {
    "AsyncClient": "d3.client",
    "Client": "d3.client",
    "D3": "d3.entrypoints.library",
    "D3Error": "d3.domain.errors",
    "Detection": "d3.domain.detections",
    "Failure": "d3.domain.detections",
    "Heatmap": "d3.domain.heatmaps",
    "HostUser": "d3.domain.accounts",
    "Settings": "d3.settings",
    "Verdict": "d3.domain.scoring",
    "detect": "d3.entrypoints.library",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("d3.domain.installation").own_version()
    if name == "errors":
        return import_module("d3.domain.errors")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
