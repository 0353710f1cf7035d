"""Rooms keep to their rules, and importing D3 is quick."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "torchvision", "open_clip", "PIL", "numpy", "pytest", "rich", "safetensors")

RunPython = Callable[..., subprocess.CompletedProcess[str]]


def loaded_by(run_python: RunPython, statement: str) -> set[str]:
    script = f"import sys\n{statement}\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    return set(run_python(script).stdout.split())


def test_importing_d3_loads_nothing_heavy(run_python: RunPython) -> None:
    assert not loaded_by(run_python, "import d3; dir(d3); d3.__all__") & set(HEAVY)


def test_errors_and_settings_load_no_torch(run_python: RunPython) -> None:
    statement = "import d3; d3.errors; d3.Settings.from_environment(); d3.Verdict; d3.Detection"
    assert not loaded_by(run_python, statement) & {"torch", "open_clip", "PIL"}


def test_making_a_detector_loads_no_torch(run_python: RunPython) -> None:
    statement = "import d3\nwith d3.D3(d3.Settings()) as detector: pass"
    assert not loaded_by(run_python, statement) & {"torch", "open_clip", "PIL"}


def test_judging_loads_torch_without_its_compiler_and_nothing_beside_it(
    run_python: RunPython,
) -> None:
    statement = """
import numpy
import d3
with d3.D3(d3.Settings()) as detector:
    detector.detect(numpy.zeros((64, 64, 3), numpy.uint8))
for name in list(sys.modules):
    if name.startswith("torch._dynamo"):
        sys.modules["compiler"] = sys.modules[name]
"""
    loaded = loaded_by(run_python, statement)
    assert "torch" in loaded
    assert not loaded & {"compiler", "open_clip", "sympy", "timm", "torchvision"}


def test_importing_the_testing_package_needs_neither_torch_nor_pytest(
    run_python: RunPython,
) -> None:
    statement = "import d3.testing; d3.testing.FakeClock(); d3.testing.FakeDetector"
    assert not loaded_by(run_python, statement) & {"torch", "pytest", "PIL"}


def test_the_registry_reads_models_without_torch(run_python: RunPython) -> None:
    statement = "from d3.adapters.filesystem import FilesystemRegistry"
    assert not loaded_by(run_python, statement) & {"torch", "open_clip", "PIL"}


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    command = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    return subprocess.run(
        [sys.executable, "-c", command, "--no-cache"],
        cwd=folder,
        env={"PYTHONPATH": str(folder / "src"), "PATH": "", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_the_import_rules_are_kept(tree: Path) -> None:
    done = lint_imports(tree)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 broken" in done.stdout


@pytest.mark.parametrize(
    ("module", "line", "rule"),
    [
        ("domain/scoring.py", "import torch", "The domain is pure Python"),
        ("domain/models.py", "import d3.network", "Rooms point inwards"),
        ("network/head.py", "import PIL", "The network is torch"),
        ("adapters/torch/device.py", "import d3.adapters.pillow", "Adapters do not know"),
        ("entrypoints/library.py", "import d3.adapters.torch", "Entrypoints reach adapters only"),
    ],
)
def test_a_deliberate_breach_of_the_import_rules_fails(
    module: str, line: str, rule: str, tree: Path
) -> None:
    with (tree / "src" / "d3" / module).open("a") as stream:
        stream.write(f"\n{line}\n")
    done = lint_imports(tree)
    assert done.returncode == 1
    assert f"{rule}" in done.stdout.split("Broken contracts")[-1]
