"""``d3 doctor`` says how everything is, and what to do."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import d3
from d3.entrypoints.cli.doctor import Finding, built_in_image, examine
from tests.e2e.conftest import Run

CHECKS = [
    *("settings", "python", "device", "home", "database", "key", "evidence", "provenance"),
    *("architectures", "models", "model", "self-test"),
]


def test_a_sound_installation_is_all_ok(run: Run) -> None:
    done = run("doctor", "--json", D3_MODEL="mine", CUDA_DEVICE="cpu")
    findings = [json.loads(line) for line in done.out.splitlines()]
    assert done.code == 0, done.out
    assert [one["check"] for one in findings] == CHECKS
    assert {one["state"] for one in findings} == {"ok"}
    assert "both times" in findings[-1]["found"]


def test_for_people_it_is_a_line_each_and_a_gpu_that_is_not_there_a_warning(run: Run) -> None:
    done = run("doctor", D3_MODEL="mine", CUDA_DEVICE="77", CUDA_VISIBLE_DEVICES="")
    assert done.code == 0
    assert [line.split()[1] for line in done.out.splitlines() if line.startswith("ok")] == CHECKS
    assert "warning device        CUDA_DEVICE=77" in done.out


def test_a_key_that_the_database_does_not_know_is_told(run: Run, tmp_path: Path) -> None:
    (tmp_path / "api.key").write_text("d3_0123456789ab_lost\n")
    done = run("doctor", "--json", D3_HOME=str(tmp_path), CUDA_DEVICE="cpu")
    (found,) = [one for one in map(json.loads, done.out.splitlines()) if one["check"] == "key"]
    assert found["state"] == "warning"
    assert "keys init --replace" in found["remedy"]


def test_the_keys_of_evidence_and_provenance_are_looked_at(run: Run, tmp_path: Path) -> None:
    (tmp_path / "signing.pem").write_text("lost")
    (tmp_path / "trust.pem").write_text("no certificate")
    own = {"D3_HOME": str(tmp_path), "D3_C2PA_TRUST": str(tmp_path / "trust.pem")}
    done = run("doctor", "--json", CUDA_DEVICE="cpu", **own)
    assert done.code == 2
    said = {one["check"]: one for one in map(json.loads, done.out.splitlines())}
    assert said["evidence"]["state"] == said["provenance"]["state"] == "failed"
    assert "does not hold a usable private Ed25519 key" in said["evidence"]["found"]
    assert "holds no certificate" in said["provenance"]["found"]
    assert run("keys", "sign-init", "--replace", D3_HOME=str(tmp_path)).code == 0
    done = run("doctor", D3_HOME=str(tmp_path), CUDA_DEVICE="cpu")
    assert "signed with the key" in done.out
    assert "no signer is trusted" in done.out


@pytest.fixture
def own(pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home whose model ``own`` answers, on the CPU, in the environment of this process."""
    home = tmp_path / "own"
    with d3.D3(d3.Settings(home=home)) as detector:
        detector.models.import_files("own", pack / "visual.safetensors", pack / "classifier.pth")
        detector.models.use("own")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("D3_HOME", str(home))
    monkeypatch.setenv("CUDA_DEVICE", "cpu")
    return home


def findings() -> dict[str, Finding]:
    return {one.check: one for one in examine()}


def test_a_damaged_model_and_a_database_that_is_away_fail_with_a_way_out(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("D3_DATABASE_URL", "postgresql://nobody:secret@127.0.0.1:9/d3")
    blob = max((own / "models/blobs").iterdir(), key=lambda one: one.stat().st_size)
    blob.write_bytes(blob.read_bytes()[:-1] + b"?")
    found = findings()
    failed = {name for name, one in found.items() if one.state == "failed"}
    assert failed == {"device", "database", "model", "self-test"}
    assert all(found[name].remedy for name in failed)
    assert "secret" not in str(found)


def test_a_redis_that_is_away_is_a_warning_and_not_silence(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "redis" not in findings()
    monkeypatch.setenv("D3_REDIS_URL", "redis://:secret@127.0.0.1:9/0")
    found = findings()
    assert found["redis"].state == "warning"
    assert "cannot be reached" in found["redis"].found
    assert "D3_REDIS_URL" in found["redis"].found
    assert "secret" not in str(found)


def test_a_recorded_score_is_held_against_the_measured_one(own: Path) -> None:
    manifest = own / "models/manifests/own/1.json"
    content = json.loads(manifest.read_text())
    content["metrics"]["self_test_logit"] = 99.0
    manifest.write_text(json.dumps(content))
    wrong = findings()["self-test"]
    assert wrong.state == "failed"
    assert "recorded 99.0000" in wrong.found
    measured = wrong.found.split("scores ")[1].split(" instead")[0]
    content["metrics"]["self_test_logit"] = float(measured)
    manifest.write_text(json.dumps(content))
    right = findings()["self-test"]
    assert (right.state, "as recorded" in right.found) == ("ok", True)


def test_the_starters_score_is_recorded_with_the_package(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("D3_MODEL", "starter")
    found = findings()["self-test"]
    assert (found.state, "as recorded" in found.found) == ("ok", True)


def test_settings_that_cannot_be_used_are_the_first_finding(run: Run) -> None:
    done = run("doctor", "--json", D3_PRECISION="fp8")
    first = json.loads(done.out.splitlines()[0])
    assert done.code == 2
    assert (first["check"], first["state"]) == ("settings", "failed")
    assert "D3_PRECISION" in first["found"]


def test_the_built_in_image_never_changes() -> None:
    image = built_in_image()
    assert (image.shape, image.dtype) == ((224, 224, 3), np.uint8)
    assert int(image.astype(np.int64).sum()) == BUILT_IN_SUM


BUILT_IN_SUM = 17762752
