"""The README's own words, run as they stand."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import Run

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def block(kind: str, number: int = 0) -> str:
    """The README's code block of this kind, counted from 0."""
    return re.findall(rf"^```{kind}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)[number]


def test_the_first_command_prints_what_the_readme_shows(run: Run, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    promised = [line.split() for line in block("text").splitlines()]
    done = run("detect", "examples/")
    assert done.code == 0
    shown = [line.split() for line in done.out.splitlines()]
    assert len(shown) == 11
    # Elsewhere floating-point sums differ a little; the verdicts do not.
    words = [(*row[:-2], row[-1]) for row in shown]
    assert words == [(*row[:-2], row[-1]) for row in promised[:11]]
    assert [float(row[-2]) for row in shown[1:]] == pytest.approx(
        [float(row[-2]) for row in promised[1:11]], abs=0.01
    )
    assert "Do not act on it" in done.err


def test_the_library_example_runs(home: Path, tmp_path: Path) -> None:
    images = ROOT / "examples/images"
    for name, source in (
        ("photo.jpg", "generated-01-transposed.jpg"),
        ("a.jpg", "camera-01.jpg"),
        ("b.png", "camera-02.png"),
    ):
        shutil.copy(images / source, tmp_path / name)
    done = subprocess.run(
        [sys.executable, "-c", block("python")],
        cwd=tmp_path,
        env={"D3_HOME": str(home), "PATH": "/usr/bin:/bin"}
        | {"PYTHONPATH": ":".join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["fake", "a.jpg", "b.png"]


def test_the_example_scripts_run(home: Path) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "examples/library.py"],
        env={"D3_HOME": str(home), "PYTHONPATH": ":".join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    first, *rows = done.stdout.splitlines()
    assert first == "real"
    assert len(rows) == 10
    assert all(re.search(r"(fake|real|uncertain) +[01]\.\d{3} ± 0\.\d{3}$", row) for row in rows)


def test_the_readme_has_exactly_two_set_up_commands() -> None:
    commands = re.findall(r"<!-- command: (\w+) -->\n```bash\n(.+)\n```", README)
    assert [name for name, _ in commands] == ["run", "test"]
