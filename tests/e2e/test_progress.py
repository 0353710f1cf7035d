"""Every long command tells how far it is where nobody watches: here each step, not one a minute."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from rich.progress import Progress, TaskID

from d3.entrypoints.cli import progress as toolbox
from d3.entrypoints.cli.app import cli
from d3.entrypoints.cli.progress import Unit, said
from d3.entrypoints.cli.train import train

Shown = Callable[..., list[str]]


@pytest.fixture
def shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shown:
    """Runs a command in a home and folder of the test; the lines that it could have printed."""
    lines: list[str] = []

    @contextmanager
    def each(bars: Progress, unit: Unit) -> Iterator[None]:
        update = bars.update

        def heard(task_id: TaskID, **changes: Any) -> None:
            update(task_id, **changes)
            (task,) = [one for one in bars.tasks if one.id == task_id]
            lines.append(f"{task.description}: {said(task, unit)}")

        lines.extend(f"{task.description}:" for task in bars.tasks)
        monkeypatch.setattr(bars, "update", heard)
        yield

    monkeypatch.setattr(toolbox, "_lines", each)
    for name in [one for one in os.environ if one.startswith(("D3_", "CUDA_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("D3_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str | Path) -> list[str]:
        lines.clear()
        done = CliRunner().invoke(cli, [str(one) for one in arguments])
        assert done.exit_code == 0, (done.output, done.exception)
        return list(lines)

    return run


def test_judging_and_measuring(shown: Shown, rendered: Path, tmp_path: Path) -> None:
    lines = shown("detect", rendered / "real")
    assert "Looking for images:" in lines
    assert "Loading the model:" in lines
    assert any(line.startswith("Judging: 16 of 16 (100 %)") for line in lines)
    lines = shown("evaluate", rendered, "--out", "evaluated")
    assert "Reading the data set:" in lines
    assert any(line.startswith("Scoring: 50 of 50 (100 %)") for line in lines)
    assert "Writing the report:" in lines
    lines = shown("calibrate", rendered, "--as", "ours", "--out", "evaluated")
    assert lines[-1] == "Fitting:"
    lines = shown("models", "diff", "starter", "ours", rendered)
    assert any(line.startswith("starter version 1: 50 of 50 (100 %)") for line in lines)
    assert lines[-1] == "Comparing:"
    assert shown("explain", rendered / "real/001.jpg") == ["Explaining:"]


def test_scans_and_the_database(shown: Shown, rendered: Path) -> None:
    lines = shown("scan", rendered / "real", "--scan-id", "s", "--report", "scan.html")
    assert {"Opening the database:", "Writing the report:"} <= set(lines)
    lines = shown("scan", rendered / "real", "--dry-run", "--sample-seconds", "1")
    assert "Listing:" in lines
    assert any(
        one.startswith("Writing: 16 of 16 (100 %)")
        for one in shown("scans", "export", "s", "s.csv")
    )
    assert shown("db", "upgrade") == ["Upgrading:"]
    assert any(line.startswith("Copying pages: ") for line in shown("db", "backup", "copy.db"))
    assert shown("history", "purge", "--results", "1d") == ["Opening the database:", "Deleting:"]


def test_models_and_data_sets(shown: Shown, rendered: Path, pack: Path) -> None:
    files = ("--encoder", pack / "visual.safetensors", "--head", pack / "classifier.pth")
    assert shown("models", "import", "mine", *files) == [
        "Checking visual.safetensors and classifier.pth:"
    ]
    assert shown("models", "verify", "mine") == ["Reading mine:"]
    lines = shown("models", "bundle", "mine")
    assert any(line.startswith("encoder.safetensors: ") and "100 %" in line for line in lines)
    lines = shown("models", "import", "mine.d3bundle")
    assert any(line.startswith("encoder.safetensors: ") and "100 %" in line for line in lines)
    lines = shown("dataset", "check", rendered)
    assert any(line.startswith("Reading: 50 of 50 (100 %)") for line in lines)


def test_training(shown: Shown, rendered: Path) -> None:
    lines = shown(
        *("train", rendered, "--recipe", "paper", "--model", "starter", "--validation", rendered),
        *("--epochs", "1", "--batch-size", "16", "--out", "trained"),
    )
    stages = (
        "validation: features",
        "epoch 1 of at most 1: features",
        "epoch 1 of at most 1: head",
    )
    for stage, total in zip(stages, (49, 49, 48), strict=True):
        assert any(line.startswith(f"{stage}: {total} of {total} (100 %)") for line in lines), stage


def test_making_the_starter(shown: Shown, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def build(
        _folder: Path, _photos: object, *, progress: Callable[[str, float], None], **_: object
    ) -> None:
        progress("train pairs", 0.5)

    monkeypatch.setattr("d3.training.starter.recipe.build", build)
    assert train.name == "train"
    tmp_path.joinpath("photos").mkdir()
    monkeypatch.setattr("d3.training.starter.photographs.find", lambda _: {})
    command = ("train", "--recipe", "starter", "--photos", "photos", "--out", "made")
    assert shown(*command) == [
        "Training the starter:",
        "train pairs: 50 %",
    ]
