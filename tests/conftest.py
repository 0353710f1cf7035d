"""What every test may need: the reference pack, and a home with its model."""

from __future__ import annotations

from pathlib import Path

import pytest

PACK = Path(__file__).parent / "data" / "reference"


@pytest.fixture(scope="session")
def pack() -> Path:
    """What the authors' code computes, on a small encoder."""
    return PACK
