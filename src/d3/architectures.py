"""For packages that add an architecture: what to derive from, and what to say of its input.

A package names its class in the entry-point group ``d3.architectures``; docs/detectors.md tells
how. Importing this module is quick: torch is imported with the first name that needs it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from d3.adapters.torch.architectures.base import Architecture, Draft
    from d3.domain.inputs import Fit, InputSpec
    from d3.domain.models import StoredModel

__all__ = ["Architecture", "Draft", "Fit", "InputSpec", "StoredModel"]

_HOMES = {
    "Architecture": "d3.adapters.torch.architectures.base",
    "Draft": "d3.adapters.torch.architectures.base",
    "Fit": "d3.domain.inputs",
    "InputSpec": "d3.domain.inputs",
    "StoredModel": "d3.domain.models",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
