"""``d3 evidence`` and ``d3 replay`` as people run them, and the checks that need no D3."""

from __future__ import annotations

import json
import re
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import d3
from d3.adapters.evidence import EvidenceBundles, SigningKeyFile
from d3.container import Container
from d3.domain.evidence import Case, Means
from d3.domain.models import Int8Candidate, Manifest
from d3.domain.scoring import Reason, Verdict
from d3.domain.services.replaying import allowed_drift
from tests.e2e.conftest import Run, run_here

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/evidence.md").read_text(encoding="utf-8")
OLD = ROOT / "tests/data/evidence/format-1.zip"
OLD_KEY = OLD.with_name("format-1.pem")
IMAGE = ROOT / "tests/data/reference/images/rgb_224.png"


@pytest.fixture
def own(home: Path, tmp_path: Path) -> Path:
    """A home of this test's own, with the pack's models and a signing key."""
    own = tmp_path / "home"
    own.mkdir()
    (own / "models").symlink_to(home / "models")
    SigningKeyFile(own / "signing.pem").make()
    return own


@pytest.fixture
def run(own: Path, tmp_path: Path) -> Run:
    return partial(run_here, own, tmp_path, D3_MODEL="mine", D3_ENGINE="torch")


def test_the_first_bundle_of_a_new_home_takes_one_command_more(tmp_path: Path) -> None:
    run = partial(run_here, tmp_path / "home", tmp_path)
    refused = run("evidence", IMAGE)
    assert refused.code == 2
    assert "d3 keys sign-init" in refused.err
    assert not list(tmp_path.glob("*.zip"))
    made = run("keys", "sign-init")
    assert made.code == 0, made.err
    (tmp_path / "public.pem").write_text(made.out)
    file = tmp_path / "home/signing.pem"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    again = run("keys", "sign-init")
    assert again.code == 2
    assert "does not overwrite" in again.err
    assert run("evidence", IMAGE, "-o", "case.zip").code == 0
    checked = run("evidence", "verify", "case.zip", "--key", "public.pem")
    assert checked.code == 0, checked.err
    assert "The key is the one in public.pem" in checked.err
    assert run("keys", "sign-init", "--replace").code == 0
    theirs = run("evidence", "verify", "case.zip")
    assert theirs.code == 0
    assert "proves only that nothing changed" in theirs.err


def test_an_image_becomes_a_bundle_with_heat_map_and_image_that_replays(
    run: Run, tmp_path: Path
) -> None:
    made = run("evidence", IMAGE, "--views", "3", "--with-image", "-o", "case.zip")
    assert made.code == 0, made.err
    with zipfile.ZipFile(tmp_path / "case.zip") as bundle:
        assert bundle.read("image.png") == IMAGE.read_bytes()
        assert bundle.read("heatmap.png").startswith(b"\x89PNG")
        case = json.loads(bundle.read("case.json"))
    assert len(case["result"]["view_logits"]) == 3
    assert case["manifest"]["name"] == "mine"
    replayed = run("replay", "case.zip", "--json")
    assert replayed.code == 0, replayed.err
    document = json.loads(replayed.out)
    assert document["holds"] is True
    assert document["logits"] == pytest.approx(case["result"]["view_logits"], abs=1e-4)
    again = run("evidence", IMAGE, "-o", "case.zip")
    assert again.code == 2
    assert "already exists" in again.err


def test_a_test_of_stability_is_in_the_case_and_is_repeated(
    run: Run, tmp_path: Path, forge: Callable[..., None]
) -> None:
    made = run("evidence", IMAGE, "--stability", "--with-image", "-o", "case.zip")
    assert made.code == 0, made.err
    with zipfile.ZipFile(tmp_path / "case.zip") as bundle:
        case = json.loads(bundle.read("case.json"))
        assert "harmless changes of it" in bundle.read("report.html").decode()
    assert case["format_version"] == 2
    changed = case["result"]["stability_probabilities"]
    assert list(changed) == ["jpeg", "scaled", "cropped", "mirrored"]
    assert run("evidence", "verify", "case.zip").code == 0
    assert run("replay", "case.zip").code == 0
    wrong = {
        "stability_probabilities": json.dumps(changed | {"mirrored": changed["mirrored"] + 0.01})
    }
    forge(**wrong)
    done = run("replay", "forged.zip")
    assert done.code == 1, "another number than the one recorded"


def test_a_stored_result_becomes_a_bundle(run: Run, own: Path, tmp_path: Path) -> None:
    with d3.D3(d3.Settings(home=own, model="mine", engine="torch")) as detector:
        detection = detector.detect(IMAGE)
        container = detector._container
        container.schema().make_ready()
        from d3.domain.history import entry_of

        now = container.clock().now()
        number = container.history().add_many(
            [entry_of(detection, created_at=now, d3_version="0.1.0")]
        )[0]
        container.database().close()
    assert run("evidence", str(number), "-o", "case.zip").code == 0
    with zipfile.ZipFile(tmp_path / "case.zip") as bundle:
        assert "heatmap.png" not in bundle.namelist()
        assert json.loads(bundle.read("case.json"))["result_id"] == number
    assert run("replay", "case.zip").code == 2
    assert run("replay", "case.zip", "--image", IMAGE).code == 0
    drawn = run("evidence", str(number), "--image", IMAGE, "-o", "drawn.zip")
    assert drawn.code == 0, drawn.err
    with zipfile.ZipFile(tmp_path / "drawn.zip") as bundle:
        assert "heatmap.png" in bundle.namelist()
    (own / "models").unlink()
    gone = run("evidence", str(number), "--image", IMAGE, "-o", "gone.zip", D3_MODEL="")
    assert gone.code == 0, gone.err
    assert "the model is no longer here" in gone.err
    other = run("evidence", str(number), "--image", IMAGE.with_name("gray_512.jpg"), "-o", "x.zip")
    assert other.code == 2
    assert "not the image of the case" in other.err
    assert not (tmp_path / "x.zip").exists()
    gone = run("evidence", "999", "-o", "y.zip")
    assert gone.code == 2
    assert "no result" in gone.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("12", "--views", "3"), "--views is for an image"),
        (("12", "--model", "mine"), "--model is for an image"),
        (("12", "--with-image"), "--with-image needs --image"),
        ((IMAGE, "-o", "-"), "is not written to stdout"),
        ((IMAGE, "--image", IMAGE), "--image is for a stored result"),
        (("nothing.png",), "no such file"),
        ((__file__,), "not an image"),
    ],
)
def test_what_makes_no_sense_is_said(
    run: Run, tmp_path: Path, arguments: tuple[str | Path, ...], said: str
) -> None:
    done = run("evidence", *arguments)
    assert done.code == 2
    assert said in done.err
    assert not list(tmp_path.glob("*.zip"))
    assert not (tmp_path / "-").exists()


def test_an_unsigned_bundle_says_so_and_does_not_verify(run: Run, tmp_path: Path) -> None:
    made = run("evidence", IMAGE, "--unsigned", "-o", "case.zip")
    assert made.code == 0
    assert "proves nothing" in made.err
    assert run("evidence", "verify", "case.zip").code == 1
    assert json.loads(run("evidence", "verify", "case.zip", "--json").out)["holds"] is False
    assert "not signed" in run("replay", "case.zip", "--image", IMAGE).err


def test_verify_tells_a_changed_bundle_from_one_that_cannot_be_read(
    run: Run, tmp_path: Path
) -> None:
    run("evidence", IMAGE, "-o", "case.zip")
    content = bytearray((tmp_path / "case.zip").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "case.zip").write_bytes(content)
    changed = run("evidence", "verify", "case.zip", "--json")
    assert changed.code == 1
    assert json.loads(changed.out)["code"] == "invalid_evidence"
    assert run("replay", "case.zip", "--image", IMAGE).code == 2
    assert run("evidence", "verify", "nothing.zip").code == 2


def test_a_bundle_of_the_first_format_verifies_and_replays(run: Run) -> None:
    checked = run("evidence", "verify", OLD, "--key", OLD_KEY)
    assert checked.code == 0, checked.err
    replayed = run("replay", OLD, "--key", OLD_KEY, "--json")
    assert replayed.code == 0, replayed.err
    document = json.loads(replayed.out)
    assert document["drift"] <= document["allowed"] <= 1e-4
    assert document["verdict_changed"] is False


def test_replay_says_where_a_model_comes_from_that_is_not_here(tmp_path: Path) -> None:
    done = run_here(tmp_path / "empty", tmp_path, "replay", OLD)
    assert done.code == 2
    assert "is not here under any name" in done.err
    assert "d3 models bundle" in done.err


def test_replay_finds_a_model_under_another_name(run: Run, own: Path, pack: Path) -> None:
    (own / "models").unlink()
    with d3.D3(d3.Settings(home=own)) as detector:
        files = (pack / "visual.safetensors", pack / "classifier.pth")
        detector.models.import_files("renamed", *files)
    assert run("replay", OLD, D3_MODEL="renamed").code == 0


@pytest.fixture
def forge(tmp_path: Path) -> Callable[..., None]:
    """Writes forged.zip: the old case with other facts, signed with another key."""
    keys = SigningKeyFile(tmp_path / "theirs.pem")
    keys.make()
    bundles = EvidenceBundles(keys)
    opened = bundles.open(OLD)

    def write(**changes: Any) -> None:
        case = replace(opened.case, result=replace(opened.case.result, **changes))
        (tmp_path / "forged.zip").write_bytes(bundles.pack(case, image=opened.image))

    return write


def test_a_case_that_contradicts_itself_neither_verifies_nor_replays(
    run: Run, forge: Callable[..., None]
) -> None:
    forge(verdict=Verdict.REAL)
    for command in (("evidence", "verify"), ("replay",)):
        done = run(*command, "forged.zip", "--json")
        assert done.code == 1
        assert "The case contradicts itself" in done.err
        document = json.loads(done.out)
        assert (document["holds"], document["code"]) == (False, "contradictory_evidence")


def test_numbers_that_do_not_hold_end_with_1(run: Run, forge: Callable[..., None]) -> None:
    case = EvidenceBundles(SigningKeyFile(Path("none"))).open(OLD).case
    logits = tuple(one - 5 for one in case.result.logits)
    forge(**asdict(case.assess(logits)), view_logits=json.dumps(logits))
    assert run("evidence", "verify", "forged.zip").code == 0  # it contradicts nothing
    done = run("replay", "forged.zip")
    assert done.code == 1
    assert "do not hold" in done.out
    assert "Another verdict follows from the new numbers.\n" in done.err


def test_a_reason_that_the_image_does_not_bear_out_does_not_hold(
    run: Run, forge: Callable[..., None]
) -> None:
    forge(verdict=Verdict.UNCERTAIN, reason=Reason.ONE_COLOUR)
    assert run("evidence", "verify", "forged.zip").code == 0
    done = run("replay", "forged.zip")
    assert done.code == 1
    assert "Another verdict follows from the new numbers.\n" in done.err


def test_a_probability_at_the_threshold_may_change_sides(
    run: Run, forge: Callable[..., None]
) -> None:
    case = EvidenceBundles(SigningKeyFile(Path("none"))).open(OLD).case
    lowest = min(map(case.calibration.probability, case.result.logits))
    logits = tuple(one + 2e-6 for one in case.result.logits)
    score = case.assess(logits, lowest + 1e-7)
    forge(**asdict(score), view_logits=json.dumps(logits))
    done = run("replay", "forged.zip")
    assert done.code == 0, done.out
    assert "because the probability is this close to the threshold" in done.err


def test_a_key_that_nobody_knows_is_told_of_by_verify_and_replay(
    run: Run, forge: Callable[..., None], tmp_path: Path
) -> None:
    forge()
    key_id = SigningKeyFile(tmp_path / "theirs.pem").key().public.key_id
    for command in (("evidence", "verify"), ("replay",)):
        done = run(*command, "forged.zip")
        assert done.code == 0, done.err
        assert key_id in done.out
        assert "proves only that nothing changed" in done.err
        document = json.loads(run(*command, "forged.zip", "--json").out)
        assert (document["key_id"], document["key_is_known"]) == (key_id, False)


def test_a_threshold_that_the_request_set_is_told_of(run: Run, forge: Callable[..., None]) -> None:
    case = EvidenceBundles(SigningKeyFile(Path("none"))).open(OLD).case
    forge(**asdict(case.assess(case.result.logits, 0.99)))
    checked = run("evidence", "verify", "forged.zip")
    assert "was set by the request. The model's own is 50" in checked.err
    assert "Made or altered by a generator" in checked.err
    document = json.loads(run("evidence", "verify", "forged.zip", "--json").out)
    assert (document["threshold"], document["own_threshold"]) == (0.99, 0.5)
    assert (document["verdict"], document["own_verdict"]) == ("real", "fake")


def test_a_signing_key_that_others_can_read_is_told_of(run: Run, own: Path, tmp_path: Path) -> None:
    (own / "signing.pem").chmod(0o644)
    made = run("evidence", IMAGE, "-o", "case.zip")
    assert made.code == 0
    assert "chmod 600" in made.err


def test_the_page_says_how_a_bundle_is_checked_without_d3(run: Run, tmp_path: Path) -> None:
    assert run("evidence", IMAGE, "-o", "case.zip").code == 0
    bash = re.search(r"```bash\n(unzip.*?)```", PAGE, re.DOTALL)
    python = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert bash is not None
    assert python is not None
    by_hand = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", bash[1]],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert by_hand.returncode == 0, by_hand.stderr
    key_id = json.loads(run("evidence", "verify", "case.zip", "--json").out)["key_id"]
    assert f"{key_id}  -" in by_hand.stdout
    assert "Signature Verified Successfully" in by_hand.stdout
    subprocess.run([sys.executable, "-c", python[1]], cwd=tmp_path, check=True)


def test_the_page_states_the_drift_that_is_allowed(home: Path) -> None:
    container = Container(settings=d3.Settings(home=home))
    manifest: Manifest = container.registry().describe("mine")

    def means(engine: str, precision: str, device: str = "cpu") -> Means:
        return Means(engine, precision, device, "")

    def allowed(one: Means, other: Means, model: Manifest = manifest) -> float:
        assert allowed_drift(one, other, model) == allowed_drift(other, one, model)
        return allowed_drift(one, other, model)

    torch = means("torch", "fp32")
    assert allowed(torch, torch) == 0.00001
    assert allowed(means("torch", "fp32", "cuda:0"), means("torch", "fp32", "cuda:1")) == 0.00001
    assert allowed(torch, means("openvino", "fp32")) == 0.0001
    assert allowed(torch, means("torch", "fp32", "cuda:0")) == 0.0001
    assert allowed(torch, means("torch", "fp16", "cuda:0")) == 0.01
    assert allowed(means("torch", "fp16"), means("torch", "bf16")) == 0.05
    form = an_int8_form(kept="static", max_drift=0.031)
    quick = replace(manifest, int8=form)
    assert allowed(torch, means("openvino", "int8"), quick) == 0.031
    assert allowed(means("torch", "bf16"), means("openvino", "int8"), quick) == 0.05
    for share in ("0.00001", "0.0001", "0.01 ", "0.05;"):
        assert f"| {share}" in PAGE


def an_int8_form(kept: str, max_drift: float) -> Any:
    from d3.domain.models import Int8Form, ModelFile

    candidates = (
        Int8Candidate(kept, 0.1, 2.0, 0.001, max_drift, 0.0),
        Int8Candidate("other", 0.1, 1.5, 0.001, 0.5, 0.0),
    )
    return Int8Form(
        file=ModelFile("0" * 64, 1),
        group=0,
        kept=kept,
        candidates=candidates,
        fp32_seconds=0.2,
        max_mean_drift=0.01,
        max_flips=0.01,
        learnt=10,
        measured=30,
        images_sha256="0" * 64,
        base_sha256="0" * 64,
        tools={},
    )


def test_the_case_of_the_old_bundle_is_still_what_was_said(run: Run) -> None:
    assert run("evidence", "verify", OLD).code == 0
    case: Case = EvidenceBundles(SigningKeyFile(Path("none"))).open(OLD).case
    assert (case.format_version, case.d3_version) == (1, "0.1.0")
    assert len(case.result.logits) == case.result.views == 4
