"""The command line as people run it, and a home that holds the reference pack's model."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

import d3


@dataclass(frozen=True)
class Finished:
    """How a command ended."""

    code: int
    out: str
    err: str


Run = Callable[..., Finished]


@pytest.fixture(scope="session")
def home(pack: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A D3_HOME in which the pack's model is called ``mine``."""
    home = tmp_path_factory.mktemp("home")
    with d3.D3(d3.Settings(home=home)) as detector:
        detector.models.import_files("mine", pack / "visual.safetensors", pack / "classifier.pth")
    return home


@pytest.fixture
def run(home: Path, tmp_path: Path) -> Run:
    """Run ``d3`` with the arguments, in an empty folder, with nothing set but D3_HOME."""

    def run(*arguments: str | Path, stdin: bytes = b"", **environ: str) -> Finished:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("D3_", "CUDA_"))}
        done = subprocess.run(
            [sys.executable, "-m", "d3", *map(str, arguments)],
            input=stdin,
            capture_output=True,
            cwd=tmp_path,
            env=inherited | {"D3_HOME": str(home)} | environ,
            timeout=120,
            check=False,
        )
        finished = Finished(done.returncode, done.stdout.decode(), done.stderr.decode())
        assert "Traceback" not in finished.err
        return finished

    return run
