"""What every test may need: databases and stores, the reference pack, a fresh interpreter."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytest_plugins = ["tests.databases", "tests.homes", "tests.machines", "tests.stores"]
pytest.register_assert_rewrite("tests.support.contracts")

if "PYTEST_XDIST_WORKER" in os.environ:
    # Workers share the cores: threads of several torches only wait for one another.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

gc.disable()  # until all tests are collected: of what is imported for them, nothing is garbage

TESTS = Path(__file__).resolve().parent
PACK = TESTS / "data" / "reference"
SOURCE = TESTS.parent / "src"
LONGEST = [
    *("integration/test_quantizing.py", "faults/test_jobs.py"),
    *("service/test_scans.py", "service/test_durability.py", "e2e/test_scan.py"),
    *("service/test_access.py", "console/test_check.py", "hostile/test_hostile.py"),
    *(
        "docs/test_pages.py",
        "integration/test_checkpoints.py",
        "contract/test_ports.py",
        "console/test_manners.py",
    ),
    *("integration/test_copying.py", "integration/test_openvino.py", "e2e/test_evaluate.py"),
    *("service/test_doors.py", "e2e/test_pull.py", "faults/test_servers_away.py"),
    *("service/test_crowds.py", "service/test_outages.py", "console/test_administration.py"),
    *("console/test_pages.py", "console/test_sign_in.py", "service/test_bad_input.py"),
    *("e2e/test_embedding.py", "docs/test_pages.py", "e2e/test_typescript.py"),
    *("e2e/test_forks.py", "docs/test_site.py"),
    *("e2e/test_output.py", "e2e/test_bench.py", "integration/test_adoption.py"),
    *("service/test_history.py", "service/test_prototype_environment.py", "e2e/test_readme.py"),
    *("faults/test_workers.py", "faults/test_engines.py"),
]
"""They begin first, so that no worker is left alone with one in the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take longest first; a file's tests keep their order."""
    places = {TESTS / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


def pytest_collection_finish() -> None:
    """Spare every service that a test starts the search through what is there for good."""
    gc.enable()
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    """Let go of it again, which some libraries complain of otherwise."""
    gc.unfreeze()


@pytest.fixture(scope="session")
def pack() -> Path:
    """What the authors' code computes, on a small encoder."""
    return PACK


@pytest.fixture(scope="session")
def prepared_encoders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where OpenVINO's form of the tiny model is kept: all workers together make it once."""
    own = tmp_path_factory.getbasetemp()
    return (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "openvino"


@pytest.fixture
def run_python(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a script in a fresh interpreter on this tree's D3 and tests, warnings being errors."""

    def run(
        script: str, *arguments: object, timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        path = os.pathsep.join(map(str, (SOURCE, SOURCE.parent)))
        environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
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
