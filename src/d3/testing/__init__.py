"""For users of D3 and its own tests: runners of reference packs, fakes and tiny models.

Importing this package is quick and needs no pytest. The contract suites of the ports are in
``tests/support/contracts``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from d3.testing.fakes import FakeClock, FakeDetector
    from d3.testing.models import tiny_ferretnet, tiny_model, tiny_ufd
    from d3.testing.reference import score_reference_pack, score_second_pack

__all__ = [
    "FakeClock",
    "FakeDetector",
    "score_reference_pack",
    "score_second_pack",
    "tiny_ferretnet",
    "tiny_model",
    "tiny_ufd",
]

_HOMES = {
    "FakeClock": "d3.testing.fakes",
    "FakeDetector": "d3.testing.fakes",
    "score_reference_pack": "d3.testing.reference",
    "score_second_pack": "d3.testing.reference",
    "tiny_ferretnet": "d3.testing.models",
    "tiny_model": "d3.testing.models",
    "tiny_ufd": "d3.testing.models",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
