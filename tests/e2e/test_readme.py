"""The README's first command, and the examples; tests/docs runs the other blocks."""

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
    assert len(shown) == 1 + len(list((tmp_path / "examples/images").iterdir()))
    # Elsewhere floating-point sums differ a little; the verdicts do not.
    words = [(*row[:-2], row[-1]) for row in shown]
    assert words == [(*row[:-2], row[-1]) for row in promised[: len(shown)]]
    assert [float(row[-2]) for row in shown[1:]] == pytest.approx(
        [float(row[-2]) for row in promised[1 : len(shown)]], abs=0.01
    )
    assert "Do not act on it" in done.err


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
    assert len(rows) == len(list((ROOT / "examples/images").iterdir()))
    assert all(re.search(r"(fake|real|uncertain) +[01]\.\d{3} ± 0\.\d{3}$", row) for row in rows)


def test_the_readme_has_exactly_two_set_up_commands() -> None:
    commands = re.findall(r"<!-- command: (\w+) -->\n```bash\n(.+)\n```", README)
    assert [name for name, _ in commands] == ["run", "test"]
