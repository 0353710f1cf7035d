"""What every test may need: databases and stores, the reference pack, a fresh interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytest_plugins = ["tests.databases", "tests.homes", "tests.stores"]
pytest.register_assert_rewrite("tests.support.contracts")

if "PYTEST_XDIST_WORKER" in os.environ:
    # Workers share the cores: threads of several torches only wait for one another.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

PACK = Path(__file__).parent / "data" / "reference"
SOURCE = Path(__file__).resolve().parents[1] / "src"


@pytest.fixture(scope="session")
def pack() -> Path:
    """What the authors' code computes, on a small encoder."""
    return PACK


@pytest.fixture
def run_python(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a script in a fresh interpreter on this tree's D3, warnings being errors."""

    def run(
        script: str, *arguments: object, timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", script, *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=timeout,
            env=environment,
            cwd=tmp_path,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done

    return run
