"""``d3 train --recipe paper`` on rendered pictures, with the starter's encoder."""

from __future__ import annotations

import csv
import json
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

import d3
from d3.container import Container
from d3.domain.models import DERIVED_NOTICE
from d3.entrypoints.cli.app import cli
from d3.settings import Settings
from d3.training.paper import fit as paper
from d3.training.paper.fit import PaperPlan
from d3.training.paper.journal import Epoch
from d3.training.paper.recipe import train_on
from tests.e2e.conftest import Run


def test_train_leaves_a_model_that_detects_and_its_log(
    run: Run, rendered: Path, tmp_path: Path
) -> None:
    arguments = ("train", rendered, "--recipe", "paper", "--model", "starter", "--name", "ours")
    arguments = (*arguments, "--validation", rendered, "--epochs", "2", "--batch-size", "16")
    done = run(*arguments, "--out", tmp_path / "out", "--cache-epochs", "1")
    assert done.code == 0, done.err
    assert "ours version 1 is in the registry" in done.out
    assert "epoch 2: loss" in done.err
    assert "broken.jpg: damaged_image" in done.err
    made = json.loads(run("models", "info", "ours", "--json").out)["notice"]
    assert made == DERIVED_NOTICE  # what was measured of the starter's head says nothing of it
    with (tmp_path / "out/log.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert {"auroc", "auroc grid", "auroc soft", "loss"} <= set(rows[0])
    for row in rows:
        mean = (float(row["accuracy grid"]) + float(row["accuracy soft"])) / 2
        assert float(row["mean_accuracy"]) == pytest.approx(mean, abs=1e-6)
    assert ET.parse(tmp_path / "out/curves.svg").getroot().tag.endswith("svg")
    card = (tmp_path / "out/MODEL_CARD.md").read_text()
    assert "| grid |" in card
    assert f"**{DERIVED_NOTICE}**" in card
    assert "JPEG was OpenCV's or Pillow's." in card
    assert (tmp_path / "out/unreadable.csv").read_text().count("broken.jpg") == 1


def test_an_interrupted_training_goes_on_to_the_same_bits(
    rendered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = PaperPlan(epochs=3, batch=16, patience=1)

    def train(name: str, stop: int | None = None) -> dict[str, torch.Tensor]:
        container = Container(settings=Settings(home=tmp_path / "home"))

        def seen(epoch: Epoch) -> None:
            if epoch.number == stop:
                raise KeyboardInterrupt

        train_on(
            container,
            name,
            "starter",
            [rendered],
            [rendered],
            tmp_path / name,
            plan,
            on_epoch=seen,
        )
        kept = torch.load(tmp_path / name / "checkpoint.pt", weights_only=True)
        weights: dict[str, torch.Tensor] = kept["head"]
        return weights

    whole = train("whole")
    with pytest.raises(KeyboardInterrupt):
        train("cut", stop=1)
    real = paper.fit_epoch

    def killed(*arguments: object) -> float:
        real(*arguments)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    monkeypatch.setattr(paper, "fit_epoch", killed)
    with pytest.raises(KeyboardInterrupt):
        train("cut")
    monkeypatch.setattr(paper, "fit_epoch", real)
    resumed = train("cut")
    with d3.D3(Settings(home=tmp_path / "home", model="whole")) as detector:
        assert detector.detect(rendered / "real/001.jpg").model.name == "whole"
    # Done once more, it is the same model and not another version.
    train("cut")
    registry = Container(settings=Settings(home=tmp_path / "home")).registry()
    assert registry.describe("cut").version == 1
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert (tmp_path / "cut/log.csv").read_bytes() == (tmp_path / "whole/log.csv").read_bytes()


def test_without_opencv_one_line_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    command = ["train", str(tmp_path), "--recipe", "paper", "--out", "out"]
    assert "OpenCV" not in CliRunner().invoke(cli, command).output
    monkeypatch.setitem(sys.modules, "cv2", None)  # so an import fails
    (line,) = CliRunner().invoke(cli, command).output.splitlines()
    assert line.startswith("note: OpenCV is not installed")
    assert "pip install" in line
    assert "'opencv-python-headless>=" in line


def test_bad_input_is_said_and_leaves_nothing(rendered: Path, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("path,label,colour\na.jpg,real,red\n")
    (tmp_path / "empty").mkdir()
    cases: list[tuple[str, Path, Path]] = [
        ("colour", table, tmp_path / "made"),
        ("include no generated", rendered / "real", tmp_path / "made"),
        ("No real or generated images", tmp_path / "empty", tmp_path / "made"),
        ("cannot be written", rendered, table / "made"),
    ]
    for sentence, source, out in cases:
        container = Container(settings=Settings(home=tmp_path / "home"))
        with pytest.raises(d3.D3Error, match=sentence):
            train_on(container, "x", "starter", [source], [source], out, PaperPlan())
        assert not (tmp_path / "made/head.safetensors").exists()


def test_another_seed_is_not_mixed_in(rendered: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/training.json").write_text("{}")
    container = Container(settings=Settings(home=tmp_path / "home"))
    with pytest.raises(d3.D3Error, match="holds another training"):
        train_on(container, "x", "starter", [rendered], [rendered], tmp_path / "out", PaperPlan())


def test_the_starter_says_where_its_photographs_come_from(run: Run, tmp_path: Path) -> None:
    without = run("train", "--recipe", "starter", "--out", tmp_path / "out")
    assert without.code == 2
    assert "python -m tests.real.fetch" in without.err

    (tmp_path / "empty").mkdir()
    photos = ("--photos", tmp_path / "empty")
    lacking = run("train", "--recipe", "starter", *photos, "--out", tmp_path / "out")
    assert lacking.code == 2
    assert "266 of the 266 photographs are missing" in lacking.err
    assert not (tmp_path / "out").exists()
