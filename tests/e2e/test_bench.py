"""`d3 bench` measures every part and says it in a table or as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.conftest import Run

PARTS = ["machine", "engine", "preprocessing", "http", "end to end"]


def test_every_part_is_measured_and_nothing_is_left_behind(run: Run, tmp_path: Path) -> None:
    key = tmp_path / "api.key"
    key.write_text("the administrator's own\n")
    done = run("bench", "--quick", "--json", D3_HOME=str(tmp_path))
    assert done.code == 0, done.err
    figures = [json.loads(line) for line in done.out.splitlines()]
    assert list(dict.fromkeys(one["part"] for one in figures)) == PARTS
    assert all(one["value"] > 0 and one["unit"] for one in figures)
    (ours,) = [one for one in figures if one["what"].startswith("d3 (")]
    assert "times as fast" in ours["note"]
    assert not (tmp_path / "d3.db").exists()
    assert key.read_text() == "the administrator's own\n"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--model", "starter", "--shape", "vit-b-32"], "cannot be used together"),
        (["--model", "nothing"], "nothing"),
        (["--shape", "vit-z"], "vit-l-14"),
    ],
)
def test_what_cannot_be_measured_is_said_before_anything_is(
    run: Run, arguments: list[str], sentence: str, tmp_path: Path
) -> None:
    done = run("bench", *arguments, D3_HOME=str(tmp_path))
    assert done.code == 2
    assert sentence in done.err
    assert not done.out
