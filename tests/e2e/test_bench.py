"""`d3 bench` measures every part and says it in a table or as JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PARTS = ["machine", "engine", "preprocessing", "http", "end to end"]


def bench(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "D3_HOME": str(home), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", "d3", "bench", *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        env=environment,
        check=False,
    )


def test_every_part_is_measured_and_nothing_is_left_behind(tmp_path: Path) -> None:
    key = tmp_path / "api.key"
    key.write_text("the administrator's own\n")
    done = bench(tmp_path, "--quick", "--json")
    assert done.returncode == 0, done.stderr
    figures = [json.loads(line) for line in done.stdout.splitlines()]
    assert list(dict.fromkeys(one["part"] for one in figures)) == PARTS
    assert all(one["value"] > 0 and one["unit"] for one in figures)
    (ours,) = [one for one in figures if one["what"].startswith("d3 (")]
    assert "times as fast" in ours["note"]
    assert not (tmp_path / "d3.db").exists()
    assert key.read_text() == "the administrator's own\n"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--model", "starter", "--shape", "vit-b-32"], "exclude each other"),
        (["--model", "nothing"], "nothing"),
        (["--shape", "vit-z"], "vit-l-14"),
    ],
)
def test_what_cannot_be_measured_is_said_before_anything_is(
    arguments: list[str], sentence: str, tmp_path: Path
) -> None:
    done = bench(tmp_path, *arguments)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert not done.stdout
