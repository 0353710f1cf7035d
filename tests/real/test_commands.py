"""Every command on real images and the real encoder: all of them give the same numbers."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import d3
from tests.real.conftest import Trained
from tests.serving import d3_serve


@pytest.fixture(scope="module")
def evaluated(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An evaluation on images that training never saw."""
    out = tmp_path_factory.mktemp("evaluated") / "out"
    trained.home.d3("evaluate", trained.unseen, "--model", "ours", "--out", out)
    return out


@pytest.fixture(scope="module")
def predictions(evaluated: Path) -> dict[str, float]:
    """What the evaluation says of each file."""
    with (evaluated / "scores.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert not [row["path"] for row in rows if row["error"]]
    return {row["path"]: float(row["prediction"]) for row in rows}


def test_training_tells_other_packages_photographs_from_generated_images(trained: Trained) -> None:
    with (trained.folder / "log.csv").open(newline="") as stream:
        epochs = list(csv.DictReader(stream))
    assert [row["epoch"] for row in epochs] == [str(number) for number in range(1, 11)]
    assert float(epochs[-1]["loss"]) < float(epochs[0]["loss"])
    assert float(epochs[-1]["auroc"]) > 0.7
    assert (trained.folder / "unreadable.csv").read_text() == "path,code\n"
    reported = json.loads(trained.home.d3("models", "info", "ours", "--json"))
    assert (reported["spec"]["patch_size"], reported["spec"]["width"]) == (16, 768)


def test_the_evaluation_has_figures_with_intervals(evaluated: Path) -> None:
    metrics = json.loads((evaluated / "metrics.json").read_text())
    (figures,) = [one["figures"] for one in metrics["groups"]]
    assert 0.5 < figures["auroc"]["low"] <= figures["auroc"]["value"] <= figures["auroc"]["high"]
    assert (evaluated / "report.html").stat().st_size > 10_000


def test_a_scan_says_the_same(trained: Trained, predictions: dict[str, float]) -> None:
    d3_, photographs = trained.home.d3, trained.unseen / "real"
    d3_("scan", photographs, "--model", "ours", "--scan-id", "real", "--no-report")
    rows = trained.home.path / "rows.jsonl"
    d3_("scans", "export", "real", rows)
    found = [json.loads(line) for line in rows.read_text().splitlines()]
    expected = {str(file): predictions[str(file)] for file in photographs.iterdir()}
    assert {one["uri"]: one["prediction"] for one in found} == pytest.approx(expected, abs=1e-6)


def test_the_service_says_the_same_and_explains(
    trained: Trained, predictions: dict[str, float], tmp_path: Path
) -> None:
    # A busy machine may take its time: what is asked here is whether the answers are right.
    environ = {"D3_HOME": str(trained.home.path), "D3_MODEL": "ours", "D3_REQUEST_SECONDS": "600"}
    files = [Path(one) for one in list(predictions)[::10]]
    with d3_serve(tmp_path, **environ) as served, d3.Client(served.url(), timeout=900) as client:
        answers = [client.predict(file) for file in files]
        explained = client.predict(files[0], explain=True)
        kept = {one.prediction for one in client.history()}
    expected = [predictions[str(file)] for file in files]
    assert [one.result.prediction for one in answers] == pytest.approx(expected, abs=1e-6)
    assert kept == {one.result.prediction for one in (*answers, explained)}
    assert explained.explanation
    assert np.shape(explained.explanation.values) == (14, 14)


def test_calibration_keeps_the_weights_and_shows_in_every_answer(
    trained: Trained, evaluated: Path, predictions: dict[str, float]
) -> None:
    d3_ = trained.home.d3
    options = ("--model", "ours", "--as", "ours-calibrated", "--max-fpr", "0.1")
    reported = json.loads(d3_("calibrate", trained.unseen, *options, "--out", evaluated, "--json"))
    assert (reported["real"], reported["fake"]) == (20, 20)
    file = next(iter(predictions))
    before, after = (
        json.loads(d3_("detect", "--model", name, "--json", file))
        for name in ("ours", "ours-calibrated")
    )
    assert before["prediction"] == pytest.approx(predictions[file], abs=1e-6)
    assert after["logit"] == pytest.approx(before["logit"], abs=1e-6)
    assert after["calibration"]["measured"]["fpr"]["value"] == reported["after"]["fpr"]["value"]


def test_a_photograph_of_full_size_is_explained(
    trained: Trained, data: Path, tmp_path: Path
) -> None:
    file = min((data / "photos/lomiri-wallpapers-16.04").iterdir())
    trained.home.d3("explain", file, "--model", "ours", "-o", tmp_path / "map.png")
    with Image.open(file) as image, Image.open(tmp_path / "map.png") as heatmap:
        assert heatmap.width / heatmap.height == pytest.approx(image.width / image.height, abs=0.01)
