"""``d3 calibrate`` and ``d3 models diff``, on pictures that the tests render."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import d3
from tests.e2e.conftest import Run


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory, pack: Path) -> Path:
    """A home of its own, which these tests write to, with the starter's weights as ``mine``."""
    home = tmp_path_factory.mktemp("own")
    starter = Path(d3.__file__).parent / "starter"
    with d3.D3(d3.Settings(home=home)) as detector:
        detector.models.import_files(
            "mine",
            starter / "encoder.safetensors",
            starter / "head.safetensors",
        )
    return home


def test_a_new_version_of_the_manifest_says_its_rates_and_shares_the_weights(
    run: Run, own: Path, rendered: Path, tmp_path: Path
) -> None:
    before = sorted(one.name for one in (own / "models/blobs").iterdir())
    options = ("--model", "mine", "--max-fpr", "0.1")
    dry = run("calibrate", rendered, *options, "--dry-run", D3_HOME=str(own))
    assert dry.code == 0, dry.err
    assert "AFTER" in dry.out
    done = run("calibrate", rendered, *options, "--json", D3_HOME=str(own))
    assert done.code == 0, done.err
    reported = json.loads(done.out)
    assert reported["stored"] == {"name": "mine", "version": 2}
    assert sorted(one.name for one in (own / "models/blobs").iterdir()) == before

    with d3.D3(d3.Settings(home=own)) as detector:
        old, new = (detector.models.info("mine", version) for version in (1, 2))
    assert old.sha256 == new.sha256
    assert old.calibration.measured is None
    assert new.calibration.scale == reported["fitted"]["scale"]
    assert new.threshold == reported["fitted"]["threshold"] == new.calibration.measured.threshold
    assert new.calibration.measured.fpr.value == reported["after"]["fpr"]["value"]
    assert new.calibration.measured.real == reported["real"] == 16

    image = next((rendered / "real").glob("0*"))
    answer = json.loads(run("detect", "--model", "mine", "--json", image, D3_HOME=str(own)).out)
    assert answer["calibration"]["measured"]["fpr"]["value"] == reported["after"]["fpr"]["value"]
    seen = run("detect", "--model", "mine", image, D3_HOME=str(own))
    assert "of 16 real images and" in seen.err
    other = run("detect", "--model", "mine", "--threshold", "0.5", image, D3_HOME=str(own))
    assert "were judged fake" not in other.err
    assert "FPR" in run("models", "info", "mine", D3_HOME=str(own)).out

    diff = run("models", "diff", "mine@1", "mine@2", rendered, "--json", D3_HOME=str(own))
    assert diff.code == 0, diff.err
    changed = json.loads(diff.out)
    assert changed["images"] == 48
    assert changed["changes"]["auroc"]["difference"]["value"] == pytest.approx(0, abs=1e-12)
    assert "same weights" in diff.err
    assert (tmp_path / "d3-diff/diff.json").exists()


def test_two_models_are_compared(run: Run, own: Path, home: Path, rendered: Path) -> None:
    """The reference pack's little model knows nothing of these pictures."""
    done = run("models", "diff", "starter", "mine", rendered, D3_HOME=str(home))
    assert done.code == 0, done.err
    assert "AUROC" in done.out
    assert "GENERATED IMAGES" in done.out
    assert "Newly wrong" in done.out
    gone = run("models", "diff", "starter", "mine@9", rendered)
    assert gone.code == 2
    assert "no version 9" in gone.err


def test_a_packaged_model_stays_and_the_way_out_is_named(
    run: Run, own: Path, rendered: Path
) -> None:
    done = run("calibrate", rendered, "--model", "starter", D3_HOME=str(own))
    assert done.code == 2
    assert "--as starter-calibrated" in done.err
    kept = run("calibrate", rendered, "--model", "starter", "--as", "mine-too", D3_HOME=str(own))
    assert kept.code == 0, kept.err
    assert "too few to measure a false positive rate of 0.01" in kept.err
    assert "Stored as mine-too version 1" in kept.err


def test_too_few_images_or_one_kind_are_an_error_and_store_nothing(
    run: Run, own: Path, rendered: Path
) -> None:
    done = run("calibrate", rendered / "fake", "--model", "mine@1", "--as", "x", D3_HOME=str(own))
    assert done.code == 2
    assert "0 real and 32 generated images are too few" in done.err
    assert " x " not in run("models", "list", D3_HOME=str(own)).out
