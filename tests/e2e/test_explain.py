"""``d3 explain`` and ``detector.explain``, on the starter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import d3
from tests.e2e.conftest import Run

EXAMPLE = Path(__file__).parents[2] / "examples/images/generated-02-nearest.png"


def test_explain_writes_the_image_under_its_heat_map(run: Run, tmp_path: Path) -> None:
    done = run("explain", EXAMPLE, "-o", tmp_path / "map.png", "--model", "starter")
    assert done.code == 0, done.err
    assert "map.png" in done.out
    assert "is not proof" in done.err
    with d3.D3(d3.Settings(home=tmp_path)) as detector:
        expected = detector.explain(EXAMPLE)
        notice = detector.models.info("starter").notice
    assert (np.asarray(Image.open(tmp_path / "map.png")) == expected.overlay()).all()
    assert expected.notice == notice
    assert notice in done.err
    assert done.out.split()[1] == "demo"
    with Image.open(tmp_path / "map.png") as drawn:
        drawn.load()
        text = drawn.text  # type: ignore[attr-defined]
    assert (text["Notice"], text["Description"]) == (notice, expected.meaning)
    assert expected.model.sha256 in text["Model"]
    assert text["Source SHA-256"] == expected.image.sha256
    assert expected.values.shape == (16, 16)
    assert np.abs(expected.values).max() == pytest.approx(1)


def test_explain_of_what_is_no_image_writes_nothing(run: Run, tmp_path: Path) -> None:
    (tmp_path / "words.png").write_text("no image")
    done = run("explain", tmp_path / "words.png")
    assert done.code == 2
    assert "not an image" in done.err
    assert [one.name for one in tmp_path.iterdir()] == ["words.png"]


def test_explain_says_where_it_cannot_write(run: Run, tmp_path: Path) -> None:
    done = run("explain", EXAMPLE, "-o", tmp_path / "nowhere/map.png")
    assert done.code == 2
    assert done.err.startswith("error: ")
