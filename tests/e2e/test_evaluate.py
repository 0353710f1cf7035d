"""``d3 evaluate`` and ``d3 dataset``, on pictures that the tests render."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from markupsafe import escape

from d3.domain.scoring import Reason
from tests.e2e.conftest import Run, run_here


def rows_of(folder: Path, condition: str = "original") -> list[dict[str, str]]:
    with (folder / "scores.csv").open(newline="") as stream:
        return [row for row in csv.DictReader(stream) if row["condition"] == condition]


@pytest.fixture(scope="module")
def evaluated(rendered: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An evaluation with everything there is."""
    out = tmp_path_factory.mktemp("evaluated") / "out"
    done = run_here(
        *(out.parent, out.parent, "evaluate", rendered, "--out", out),
        *("--robustness", "resize", "--in-domain", "grid", "--views", "2", "--json"),
    )
    assert done.code == 0, done.err
    (out.parent / "told.json").write_text(done.out)
    (out.parent / "stderr").write_text(done.err)
    return out


def test_every_image_has_its_scores_under_every_condition(evaluated: Path, rendered: Path) -> None:
    rows = rows_of(evaluated)
    images = [one for one in rendered.rglob("*") if one.is_file() and one.suffix != ".txt"]
    assert {row["path"] for row in rows} == {str(one) for one in images}
    sound = [row for row in rows if not row["error"]]
    assert all(0 <= float(row["prediction"]) <= 1 for row in sound)
    assert {row["label"]: row["generator"] for row in sound}["real"] == ""
    assert any(float(row["spread"]) > 0 for row in sound)
    for condition in ("resize-2", "resize-0.25"):
        assert len(rows_of(evaluated, condition)) == len(rows)


def test_the_figures_are_scikit_learns_of_the_scores_file(evaluated: Path) -> None:
    from sklearn.metrics import average_precision_score, roc_auc_score

    metrics = json.loads((evaluated / "metrics.json").read_text())
    groups = {one["name"]: one for one in metrics["groups"]}
    rows = [row for row in rows_of(evaluated) if not row["error"]]
    for generator in ("grid", "soft"):
        mine = [row for row in rows if row["generator"] in {generator, ""}]
        labels = [row["label"] == "fake" for row in mine]
        logits = [float(row["logit"]) for row in mine]
        figures = groups[generator]["figures"]
        assert figures["auroc"]["value"] == pytest.approx(roc_auc_score(labels, logits), abs=1e-9)
        assert figures["ap"]["value"] == pytest.approx(
            average_precision_score(labels, logits), abs=1e-9
        )
        called = [float(row["prediction"]) > metrics["threshold"] for row in mine]
        assert figures["accuracy"]["value"] == pytest.approx(np.mean(np.equal(called, labels)))
        assert figures["auroc"]["low"] <= figures["auroc"]["value"] <= figures["auroc"]["high"]
    assert set(groups) == {
        *("grid", "soft", "in-domain mean", "out-of-domain mean", "mean of generators"),
        *("all, generators alike", "all images"),
    }
    assert [one["level"] for one in metrics["robustness"]["resize"]] == [None, 2, 0.75, 0.5, 0.25]


def test_the_record_says_how_it_was_made_and_json_says_the_same(evaluated: Path) -> None:
    metrics = json.loads((evaluated / "metrics.json").read_text())
    reported = json.loads((evaluated.parent / "told.json").read_text())
    assert {name: reported[name] for name in metrics} == metrics
    assert metrics["command"].startswith("d3 evaluate ")
    assert len(metrics["model"]["sha256"]) == 64
    assert (metrics["views"], metrics["bootstrap"]["seed"]) == (2, 0)
    assert {"d3", "python", "torch", "numpy"} <= set(metrics["versions"])
    assert metrics["unreadable"]["count"] == 1
    assert metrics["passed_over"] == 1


def test_unreadable_images_are_listed_and_not_fatal(evaluated: Path) -> None:
    bad = [row for row in rows_of(evaluated) if row["error"]]
    assert [Path(row["path"]).name for row in bad] == ["broken.jpg"]
    assert "broken.jpg: damaged_image" in (evaluated.parent / "stderr").read_text()


class Outside(HTMLParser):
    """What a page would fetch or run, and its headings and tables."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        for name, value in attrs:
            if name in {"src", "href", "srcset", "data"} and not (value or "").startswith("data:"):
                self.fetched.append(f"{tag} {name}={value}")
            assert not name.startswith("on")


def test_the_report_is_one_file_that_needs_nothing_else(evaluated: Path) -> None:
    report = (evaluated / "report.html").read_text()
    page = Outside()
    page.feed(report)
    assert page.fetched == []
    assert "script" not in page.seen
    assert page.seen.count("svg") == 6
    assert page.seen.count("th") > 20
    assert "prefers-color-scheme: dark" in report
    assert not re.search(r"url\(|@import|https?://", report)
    for words in ("By generator", "Calibration", "Robustness", "worst mistakes"):
        assert words in report


def test_scores_are_there_as_parquet_too(evaluated: Path) -> None:
    from pyarrow import parquet

    table = parquet.read_table(evaluated / "scores.parquet")
    with (evaluated / "scores.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert table.num_rows == len(rows)
    assert table["path"].to_pylist() == [row["path"] for row in rows]
    logits = [float(row["logit"]) if row["logit"] else None for row in rows]
    assert table["logit"].to_pylist() == logits
    assert None in logits  # of an image that could not be judged


def test_people_get_a_table_and_are_told_where_everything_is(
    run: Run, rendered: Path, tmp_path: Path
) -> None:
    done = run("evaluate", rendered)
    assert done.code == 0
    lines = done.out.splitlines()
    assert next(one for one in lines if "GENERATOR" in one).split() == [
        *("GENERATOR", "IMAGES", "REAL", "FAKE", "ACC", "AP", "AUROC", "FPR95", "ECE")
    ]
    assert any(one.split()[:1] == ["grid"] for one in lines)
    assert "Report: d3-evaluation/report.html" in done.err
    figures = json.loads((tmp_path / "d3-evaluation/metrics.json").read_text())
    said = figures["verdicts"]["real"]
    assert sum(said.values()) == figures["images"]["real"]
    assert f"{said['fake']} fake, {said['real']} real, {said['uncertain']} uncertain" in done.out
    assert figures["model"]["notice"] in done.err
    page = (tmp_path / "d3-evaluation/report.html").read_text()
    assert str(escape(figures["model"]["notice"])) in page
    assert all(str(escape(Reason(one).sentence)) in page for one in figures["reasons"])
    assert (tmp_path / "d3-evaluation/metrics.json").exists()
    # The same command again finds everything scored; with other views it is another run.
    again = run("evaluate", rendered)
    assert again.out == done.out
    other = run("evaluate", rendered, "--views", "3")
    assert other.code == 2
    assert "another run (different views)" in other.err


def test_one_kind_alone_is_measured_as_far_as_it_goes(
    run: Run, rendered: Path, tmp_path: Path
) -> None:
    done = run("evaluate", rendered / "fake", "--json")
    assert done.code == 0
    reported = json.loads(done.out)
    figures = {one["name"]: one["figures"] for one in reported["groups"]}["all images"]
    assert figures["accuracy_fake"] is not None
    assert figures["auroc"] is None
    assert figures["accuracy_real"] is None
    assert "only generated images" in done.err
    assert "are not available" in (tmp_path / "d3-evaluation/report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("gone",), "There is no data set at 'gone'"),
        (("empty",), "real/ and fake/"),
        (("images.csv",), "does not know the column 'origin'"),
        (("set", "--in-domain", "dalle"), "no generator called 'dalle'"),
        (("set", "--robustness", "rain"), "'rain' is not a perturbation"),
        (("set", "--model", "starter@x"), "not NAME@VERSION"),
        (("set", "--out", "full"), "not empty"),
        (("set", "--threshold", "7"), "between 0 and 1"),
    ],
)
def test_bad_input_is_said_before_any_work(
    run: Run, tmp_path: Path, arguments: tuple[str, ...], says: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").write_text("precious")
    (tmp_path / "images.csv").write_text("path,label,origin\n")
    (tmp_path / "set/real").mkdir(parents=True)
    (tmp_path / "set/real/a.jpg").write_bytes(b"x")
    done = run("evaluate", *arguments)
    assert done.code == 2
    assert says in " ".join(done.err.split())
    assert not (tmp_path / "d3-evaluation").exists()


def many(folder: Path, rendered: Path, count: int) -> Path:
    """A data set of many names for the same few pictures."""
    for kind in ("real", "fake/grid"):
        (folder / kind).mkdir(parents=True)
        pictures = sorted((rendered / kind).glob("0*"))
        for number in range(count // 2):
            os.link(pictures[number % len(pictures)], folder / kind / f"{number:06}")
    return folder


def test_a_killed_run_goes_on_where_it_was(rendered: Path, run: Run, tmp_path: Path) -> None:
    data = many(tmp_path / "many", rendered, 400)
    partial = tmp_path / "out/scores.partial.csv"
    command = [sys.executable, "-m", "d3", "evaluate", data, "--out", tmp_path / "out"]
    process = subprocess.Popen(
        command,
        env=os.environ | {"D3_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and (not partial.exists() or partial.stat().st_size < 15_000):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = partial.read_bytes()
    whole = kept[: kept.rindex(b"\n") + 1]
    assert 50 < whole.count(b"\n") < 400

    done = run("evaluate", data, "--out", tmp_path / "out")
    assert done.code == 0, done.err
    assert not partial.exists()
    assert (tmp_path / "out/scores.csv").read_bytes().startswith(whole)
    paths = [row["path"] for row in rows_of(tmp_path / "out")]
    assert len(paths) == len(set(paths)) == 400


def test_a_full_disk_is_an_error_and_nothing_finished_is_lost(
    rendered: Path, run: Run, tmp_path: Path
) -> None:
    """The system's limit on the size of a file stands for the disk's end."""
    data = many(tmp_path / "many", rendered, 200)
    limited = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (15_000, 15_000));"
        "from d3.entrypoints.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", limited, "evaluate", data, "--out", tmp_path / "out"],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env=os.environ | {"D3_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 2
    assert "cannot be written" in done.stderr
    assert "Run the same command again" in done.stderr
    kept = (tmp_path / "out/scores.partial.csv").read_bytes()
    assert kept.count(b"\n") > 30

    again = run("evaluate", data, "--out", tmp_path / "out")
    assert again.code == 0, again.err
    assert len(rows_of(tmp_path / "out")) == 200


def test_render_makes_a_data_set_that_evaluate_takes(run: Run, tmp_path: Path) -> None:
    done = run("dataset", "render", "made", "--scenes", "2", "--quick", "--seed", "3")
    assert done.code == 0, done.err
    files = sorted(one for one in (tmp_path / "made").rglob("*") if one.is_file())
    assert len(files) == 2 * 7
    assert len({one.parent.name for one in files}) == 7
    stored = {one.name for one in files}
    assert len(stored) == 2  # both kinds of a scene are stored alike
    assert sorted(one.name for one in tmp_path.iterdir()) == ["made"]
    again = run("dataset", "render", "made", "--quick")
    assert (again.code, "already exists" in again.err) == (2, True)


def test_check_calls_a_fair_data_set_sound_and_a_leaking_one_unfit(
    run: Run, rendered: Path, tmp_path: Path
) -> None:
    fair = run("dataset", "check", rendered, "--json")
    assert fair.code == 0, fair.err
    reported = json.loads(fair.out)
    assert reported["problems"] == []
    assert reported["unreadable_count"] == 1

    from PIL import Image

    for kind, suffix in (("real", "jpg"), ("fake", "png")):
        (tmp_path / "leak" / kind).mkdir(parents=True)
        for number, file in enumerate(sorted((rendered / "real").glob("0*"))):
            target = tmp_path / "leak" / kind / f"{number}.{suffix}"
            Image.open(file).convert("RGB").rotate(90 * (kind == "fake")).save(target)
    leaking = run("dataset", "check", "leak")
    assert leaking.code == 1
    assert "The data set is unfit." in leaking.out
    assert "simple classifier" in leaking.out
