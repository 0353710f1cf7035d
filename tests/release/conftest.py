"""The distributions, and fresh environments with one of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def distributions() -> Path:
    """The folder with one wheel and one sdist; without it every test here fails."""
    named = os.environ.get("D3TEST_DIST")
    if not named:
        pytest.fail("D3TEST_DIST names no folder of distributions: `nox -s release` builds them.")
    return Path(named)
