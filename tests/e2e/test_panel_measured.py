"""``d3 evaluate --panel`` and ``d3 calibrate --panel``, on pictures that the tests render."""

from __future__ import annotations

import csv
import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from d3.container import Container
from d3.domain.panels import PanelRule
from d3.entrypoints.bench.run import QUICK, _engine
from d3.settings import Settings
from d3.testing.fakes import FakeDetector
from d3.testing.models import tiny_ferretnet
from tests.e2e.conftest import Run, run_here
from tests.e2e.test_evaluate import Outside, rows_of

PANEL = "mine,ferret"


@pytest.fixture(scope="module")
def panel_run(pack: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs ``d3`` in a home with a D3 and a FerretNet, both with little knowledge of pictures."""
    home = tmp_path_factory.mktemp("panel")
    container = Container(settings=Settings(home=home))
    container.models().import_files("mine", pack / "visual.safetensors", pack / "classifier.pth")
    container.registry().put(tiny_ferretnet(home, "ferret"))
    return partial(run_here, home, tmp_path_factory.mktemp("panel-runs"))


@pytest.fixture(scope="module")
def calibrated(panel_run: Run, rendered: Path) -> list[dict[str, object]]:
    """Both models calibrated on the pictures, in one pass: what was said of it."""
    done = panel_run("calibrate", rendered, "--panel", PANEL, "--max-fpr", "0.1", "--json")
    assert done.code == 0, done.err
    return [json.loads(line) for line in done.out.splitlines()]


@pytest.fixture(scope="module")
def evaluated(
    panel_run: Run,
    calibrated: list[dict[str, object]],
    rendered: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    out = tmp_path_factory.mktemp("measured") / "out"
    options = ("--panel", PANEL, "--views", "2", "--robustness", "double-jpeg", "--json")
    done = panel_run("evaluate", rendered, "--out", out, *options)
    assert done.code == 0, done.err
    return out


def test_a_pass_over_the_images_calibrates_every_member(
    panel_run: Run, calibrated: list[dict[str, object]]
) -> None:
    assert [one["stored"] for one in calibrated] == [
        *({"name": "mine", "version": 2}, {"name": "ferret", "version": 2})
    ]
    told = json.loads(panel_run("models", "info", "ferret", "--json").out)
    assert told["architecture"] == "ferretnet"
    assert told["calibration"]["measured"]["real"] == 16


def test_every_member_is_measured_as_it_is_alone(
    panel_run: Run, evaluated: Path, rendered: Path, tmp_path: Path
) -> None:
    panel = json.loads((evaluated / "metrics.json").read_text())["panel"]
    assert [one["model"]["name"] for one in panel["members"]] == ["mine", "ferret"]
    out = tmp_path / "alone"
    done = panel_run("evaluate", rendered, "--out", out, "--model", "ferret", "--json")
    assert done.code == 0, done.err
    alone = json.loads(done.out)
    assert "panel" not in alone
    second = panel["members"][1]
    assert second["threshold"] == alone["threshold"]
    for one, same in zip(second["groups"], alone["groups"], strict=True):
        assert one["name"] == same["name"]
        for metric, figure in one["figures"].items():
            assert figure == pytest.approx(same["figures"][metric], abs=1e-5)
    assert [one["level"] for one in second["robustness"]["double-jpeg"]] == [None, 90, 70, 50, 30]


def test_a_spreadsheet_shows_what_each_member_and_each_rule_says(evaluated: Path) -> None:
    rows = rows_of(evaluated)
    bad = [row for row in rows if row["error"]]
    assert [row["agreement"] for row in bad] == [""]
    for row in rows:
        if row["error"]:
            continue
        said = {row["verdict"], row["ferret verdict"]}
        assert (row["agreement"] == "disagree") == (said == {"fake", "real"})
        if row["agreement"] == "disagree":
            assert row["by chief"] == "uncertain"
            assert row["by any"] == "fake"
        assert 0 <= float(row["ferret prediction"]) <= 1
    metrics = json.loads((evaluated / "metrics.json").read_text())
    disagree = sum(row["agreement"] == "disagree" for row in rows)
    assert sum(one["disagree"] for one in metrics["panel"]["agreement"]) == disagree
    for rule in PanelRule:
        figures = next(one for one in metrics["panel"]["judges"] if one["name"] == rule)
        decided = np.mean([row[f"by {rule}"] != "uncertain" for row in rows if not row["error"]])
        assert figures["rates"]["all images"]["coverage"]["value"] == pytest.approx(decided)


def test_the_report_of_a_panel_is_one_file_too(evaluated: Path) -> None:
    report = (evaluated / "report.html").read_text()
    page = Outside()
    page.feed(report)
    assert page.fetched == []
    for words in ("side by side", "What each rule costs", "Where they disagree", "The widest gaps"):
        assert words in report
    assert report.count('role="img"') == page.seen.count("svg") == 14
    assert ">no vote<" not in report


def test_a_run_that_ended_early_goes_on_and_another_panel_does_not(
    panel_run: Run, evaluated: Path, rendered: Path
) -> None:
    again = evaluated.parent / "again"
    again.mkdir()
    for name in ("run.json", "scores.csv"):
        (again / name).write_bytes((evaluated / name).read_bytes())
    whole = (again / "scores.csv").read_bytes()
    (again / "scores.csv").rename(again / "scores.partial.csv")
    (again / "scores.partial.csv").write_bytes(whole[: len(whole) // 2])
    options = ("--out", again, "--views", "2")
    done = panel_run("evaluate", rendered, *options, "--panel", PANEL)
    assert done.code == 0, done.err
    with (again / "scores.csv").open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["condition"] == "original"]
    assert sorted(rows, key=lambda row: row["path"]) == sorted(
        rows_of(evaluated), key=lambda row: row["path"]
    )
    for other in ("mine", "ferret,mine"):
        refused = panel_run("evaluate", rendered, *options, "--panel", other)
        assert refused.code == 2
        assert "holds another run" in refused.err


def test_people_see_the_members_the_rules_and_the_pairs(
    panel_run: Run, evaluated: Path, rendered: Path
) -> None:
    options = ("--out", evaluated, "--views", "2", "--panel", PANEL, "--panel-rule", "any")
    done = panel_run("evaluate", rendered, *options)
    assert done.code == 0, done.err
    assert "GENERATOR" in done.out
    assert "rule majority" in done.out
    assert "mine and ferret: the same verdict on" in done.out
    assert "By the rule any:" in done.out
    assert "The members contradict each other on" in done.out


def test_a_member_that_is_missing_is_named_before_the_work(
    panel_run: Run, rendered: Path, tmp_path: Path
) -> None:
    for command in ("evaluate", "calibrate"):
        done = panel_run(command, rendered, "--out", tmp_path / "x", "--panel", "mine,nobody")
        assert done.code == 2
        assert "The panel's member 'nobody' cannot judge" in done.err
    assert not (tmp_path / "x").exists()
    both = panel_run("evaluate", rendered, "--panel", PANEL, "--model", "mine")
    assert both.code == 2
    assert "Leave --model out" in both.err


def test_what_only_a_d3_can_do_is_refused_for_another_architecture(
    panel_run: Run, rendered: Path, tmp_path: Path
) -> None:
    options = ("--recipe", "paper", "--out", tmp_path / "t", "--model", "ferret")
    done = panel_run("train", rendered, *options)
    assert done.code == 2
    assert "'ferret' is a ferretnet; the recipe `paper` trains heads of D3 models" in done.err
    assert not (tmp_path / "t").exists()


def test_two_architectures_are_compared(panel_run: Run, rendered: Path) -> None:
    done = panel_run("models", "diff", "mine@1", "ferret@1", rendered, "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["images"] == 48


def test_any_architecture_can_be_timed(tmp_path: Path) -> None:
    model = tiny_ferretnet(tmp_path)
    timings = Container(settings=Settings(home=tmp_path)).timings()
    assert timings.read(model) == {}
    (figure,) = _engine(model, [FakeDetector()], QUICK, {}, lambda _: None)
    assert (figure.what, figure.note) == ("d3 (fake, fp32, cpu), batch 1", "")
