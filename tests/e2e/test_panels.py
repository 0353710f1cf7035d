"""A panel on the command line: opinions under each image, in JSON, in evidence and in a replay."""

from __future__ import annotations

import json
import shutil
import zipfile
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from d3.adapters.evidence import EvidenceBundles, SigningKeyFile
from d3.container import Container
from d3.domain.scoring import AbstainBand, Calibration, assess
from d3.settings import Settings
from d3.testing.models import tiny_ferretnet
from tests.e2e.conftest import Run, run_here

IMAGES = Path(__file__).parents[1] / "data/reference/images"
IMAGE = IMAGES / "rgb_224.png"
REAL = Calibration(1e-6, -4.0, "news")
FAKE = replace(REAL, bias=4.0)


@pytest.fixture(scope="module")
def own(pack: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose models are sure: two say fake of all images, one real, one has no vote."""
    home = tmp_path_factory.mktemp("panels")
    container = Container(settings=Settings(home=home))
    container.models().import_files("mine", pack / "visual.safetensors", pack / "classifier.pth")
    registry = container.registry()
    mine = registry.open("mine")
    registry.put(replace(mine, manifest=replace(mine.manifest, calibration=FAKE)))
    others = {"agreeing": FAKE, "denier": REAL, "unsure": Calibration()}
    for seed, (name, calibration) in enumerate(others.items()):
        model = tiny_ferretnet(home, name, seed=seed)
        manifest = replace(model.manifest, calibration=calibration)
        if name == "unsure":
            manifest = replace(manifest, abstain_band=AbstainBand(1.0, 1.0))
        registry.put(replace(model, manifest=manifest))
    SigningKeyFile(home / "signing.pem").make()
    return home


@pytest.fixture
def run(own: Path, tmp_path: Path) -> Run:
    return partial(run_here, own, tmp_path, D3_ENGINE="torch", D3_PRECISION="fp32")


def test_opinions_stand_under_each_image_and_the_missing_are_told_once(run: Run) -> None:
    done = run("detect", IMAGE, IMAGES / "cmyk_256.jpg", "--panel", "mine,denier,unsure,absent")
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert len(lines) == 1 + 2 * 4
    image, chief, denier, unsure = lines[1:5]
    assert image.startswith("uncertain ")
    assert image.count("models of the panel") == 1
    assert "The models of the panel do not agree" in image
    assert chief.split()[:3] == ["fake", "0.982", "mine"]
    assert denier.split() == ["real", "0.018", "denier"]
    assert unsure.split()[0] == "uncertain"
    assert "(Not calibrated, so it has no vote.)" in unsure
    assert done.err.count("absent gives no opinion") == 1
    assert "the models disagree on 2" in done.err


@pytest.mark.parametrize(
    ("rule", "verdict", "code"), [("chief", "uncertain", 0), ("any", "fake", 1)]
)
def test_whether_to_fail_goes_by_the_verdict_of_the_rule(
    run: Run, rule: str, verdict: str, code: int
) -> None:
    done = run(
        *("detect", IMAGE, "--panel", "mine,denier", "--panel-rule", rule),
        *("--fail-on-fake", "--json"),
    )
    assert done.code == code
    told = json.loads(done.out)
    assert (told["verdict"], told["panel_rule"], told["agreement"]) == (verdict, rule, "disagree")
    assert [one["model"]["name"] for one in told["opinions"]] == ["mine", "denier"]
    assert told["missing"] == []
    assert "panel" not in told


def test_the_settings_name_a_panel_and_a_model_alone_overrules_it(run: Run) -> None:
    told = json.loads(run("detect", IMAGE, "--json", D3_PANEL="mine,agreeing").out)
    assert (told["verdict"], told["agreement"]) == ("fake", "agree")
    alone = run("detect", IMAGE, "--json", "--model", "denier", D3_PANEL="mine,agreeing")
    told = json.loads(alone.out)
    assert (told["model"]["name"], told["opinions"], told["agreement"]) == ("denier", [], None)
    both = run("detect", IMAGE, "--model", "mine", "--panel", "mine,denier")
    assert both.code == 2
    assert "Leave --model out" in both.err
    twice = run("detect", IMAGE, "--panel", "mine,mine")
    assert twice.code == 2
    assert "1 to 8 different models" in twice.err


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("--panel-rule", "any"), "--panel-rule needs a panel."),
        (("--panel", "mine", "--panel-rule", "any"), "--panel-rule needs a panel."),
        (("--panel", "mine@1,denier"), "Name 'mine' alone."),
        (("--panel", "absent,mine"), "There is no model 'absent'. It is the panel's first"),
    ],
)
@pytest.mark.parametrize("command", [("detect",), ("evidence", "-o", "case.zip")])
def test_what_a_panel_cannot_do_is_said(
    run: Run, command: tuple[str, ...], asked: tuple[str, ...], said: str
) -> None:
    done = run(*command, IMAGE, *asked)
    assert (done.code, done.out) == (2, "")
    assert said in done.err


def test_one_opinion_agrees_with_nobody(run: Run) -> None:
    shown = run("detect", IMAGE, "--panel", "mine,absent")
    assert "(There is nothing to compare: absent gave no opinion.)" in shown.out
    told = json.loads(run("detect", IMAGE, "--panel", "mine,absent", "--json").out)
    assert (told["verdict"], told["agreement"], len(told["opinions"])) == ("fake", None, 1)


def test_the_notice_of_a_member_is_told_with_its_name(run: Run) -> None:
    done = run("detect", IMAGE, "--panel", "mine,starter")
    assert "note: starter: Demo model" in done.err
    assert "note: Demo model" in run("detect", IMAGE, "--model", "starter").err


def test_stability_is_shown_under_the_image(run: Run) -> None:
    done = run("detect", IMAGE, "--model", "mine", "--stability")
    assert done.code == 0, done.err
    assert "jpeg 0.982, scaled 0.982, cropped 0.982, mirrored 0.982" in done.out


def test_a_case_of_a_panel_verifies_and_each_model_is_scored_again(
    run: Run, own: Path, tmp_path: Path
) -> None:
    asked = ("--panel", "mine,denier", "--stability", "--with-image")
    made = run("evidence", IMAGE, *asked, "-o", "case.zip")
    assert made.code == 0, made.err
    with zipfile.ZipFile(tmp_path / "case.zip") as bundle:
        case = json.loads(bundle.read("case.json"))
        report = bundle.read("report.html").decode()
    assert case["format_version"] == 2
    panel = case["result"]["panel"]
    assert [one["model"]["name"] for one in panel["opinions"]] == ["mine", "denier"]
    assert (panel["rule"], panel["missing"]) == ("chief", [])
    assert case["result"]["agreement"] == "disagree"
    assert list(case["result"]["stability_probabilities"]) == [
        "jpeg",
        "scaled",
        "cropped",
        "mirrored",
    ]
    assert "What each model says" in report
    verified = run("evidence", "verify", "case.zip")
    assert verified.code == 0, verified.err
    done = run("replay", "case.zip")
    assert done.code == 0, done.err
    assert "denier" in done.out
    document = json.loads(run("replay", "case.zip", "--json").out)
    assert document["members"]["denier"]["drift"] <= document["members"]["denier"]["allowed"]


@pytest.fixture
def case(run: Run, tmp_path: Path) -> Path:
    """A bundle with the verdict of three models."""
    asked = ("--panel", "mine,agreeing,denier", "--with-image")
    assert run("evidence", IMAGE, *asked, "-o", "case.zip").code == 0
    return tmp_path / "case.zip"


def test_what_replay_says_of_each_model_stands_in_columns(run: Run, case: Path) -> None:
    lines = run("replay", case).out.splitlines()
    assert lines[0] == "The numbers hold."
    found = [line.split(maxsplit=1) for line in lines[1:]]
    names = ["recorded", "now", "difference", "agreeing", "denier", "key"]
    assert [name for name, _ in found] == names
    assert {line.index(said) for line, (_, said) in zip(lines[1:], found, strict=True)} == {14}
    agreeing, denier = lines[4:6]
    assert agreeing.index("  allowed") == denier.index("  allowed")


@pytest.mark.parametrize(
    ("member", "forged", "said"),
    [
        ("denier", {"threshold": 0.9}, "threshold"),
        ("denier", {"abstain_band": AbstainBand(0.001, 0.0)}, "abstain band"),
        ("denier", {"calibration": Calibration(1e-6, -3.0, "news")}, "calibration"),
        ("denier", {"calibration": replace(REAL, name="other")}, "calibration"),
        ("denier", {"calibration": Calibration()}, "calibration"),
        ("mine", {"calibration": Calibration(1e-6, 3.0, "news")}, "calibration"),
        ("mine", {"threshold": 0.9}, None),
    ],
)
def test_an_opinion_that_says_of_its_model_what_is_not_so_does_not_hold(
    run: Run, case: Path, member: str, forged: dict[str, Any], said: str | None
) -> None:
    forge(case, member, **forged)
    verified = run("evidence", "verify", case)
    assert verified.code == 0, verified.err
    done = run("replay", case)
    document = json.loads(run("replay", case, "--json").out)
    if said is None:  # a request may set the chief's
        assert (done.code, document["differs"]) == (0, [])
        return
    assert done.code == 1
    assert done.out.startswith("The numbers do not hold.\n")
    assert f"What the case says of {member}'s {said} is not what its manifest here says" in (
        " ".join(done.err.split())
    )
    assert (document["holds"], document["reason"]) == (False, "The numbers do not hold.")


def forge(bundle: Path, name: str, **changes: Any) -> None:
    """Let a member's opinion be one that follows from another threshold, calibration or band."""
    keys = SigningKeyFile(bundle.with_name("theirs.pem"))
    keys.make()
    bundles = EvidenceBundles(keys)
    found = bundles.open(bundle)
    result, panel = found.case.result, found.case.result.panel_verdict
    assert panel is not None
    opinions = list(panel.opinions)
    number = [one.model.name for one in opinions].index(name)
    told = opinions[number]
    calibration = changes.get(
        "calibration",
        Calibration(told.calibration_scale, told.calibration_bias, told.calibration),
    )
    band = changes.get("abstain_band", AbstainBand(told.abstain_below, told.abstain_above))
    threshold = changes.get("threshold", told.threshold)
    score = assess((told.logit,), threshold=threshold, calibration=calibration, abstain_band=band)
    shared = {
        **{one: getattr(score, one) for one in ("prediction", "verdict", "reason", "threshold")},
        "calibration_scale": calibration.scale,
        "calibration_bias": calibration.bias,
        "abstain_below": band.below,
        "abstain_above": band.above,
    }
    opinions[number] = replace(
        told, **shared, calibration=calibration.name, calibrated=calibration.fitted
    )
    panel = replace(panel, opinions=tuple(opinions))
    result = replace(result, panel=panel.to_json(), agreement=panel.agreement)
    if number == 0:
        result = replace(result, **shared, calibration_name=calibration.name)
    case = replace(found.case, result=result)
    if result.model_name == name and found.case.manifest is not None:
        manifest = replace(found.case.manifest, calibration=calibration)
        case = replace(case, manifest=manifest)
    result = replace(result, **asdict(case.assess(result.logits)))
    bundle.write_bytes(bundles.pack(replace(case, result=result), image=found.image))


@pytest.fixture
def other(own: Path, tmp_path: Path) -> Run:
    """The same on another machine, with the same models at first."""
    shutil.copytree(own, tmp_path / "other")
    return partial(run_here, tmp_path / "other", tmp_path, D3_ENGINE="torch", D3_PRECISION="fp32")


def test_what_another_version_with_the_same_weights_says_is_told_and_may_be_honest(
    other: Run, case: Path, tmp_path: Path
) -> None:
    registry = Container(settings=Settings(home=tmp_path / "other")).registry()
    denier = registry.open("denier")
    registry.put(replace(denier, manifest=replace(denier.manifest, calibration=FAKE)))
    assert other("replay", case).err.count("manifest") == 0  # the version of the case is here too
    registry.delete("denier", 1)
    done = other("replay", case)
    assert done.code == 0, done.out
    assert "of another version or name with the same weights" in " ".join(done.err.split())
    document = json.loads(other("replay", case, "--json").out)["members"]["denier"]
    assert (document["same_version"], document["differs"]) == (False, ["calibration_bias"])


def test_a_case_of_which_a_model_is_gone_is_not_said_to_hold(
    other: Run, case: Path, tmp_path: Path
) -> None:
    registry = Container(settings=Settings(home=tmp_path / "other")).registry()
    registry.delete("denier")
    done = other("replay", case)
    assert done.code == 2, done.err
    said = "The numbers of mine and agreeing hold; denier was not scored again."
    assert done.out.startswith(f"{said}\n")
    assert "  denier      was not scored again. The model of the case" in done.out
    document = json.loads(other("replay", case, "--json").out)
    assert (document["holds"], document["reason"]) == (None, said)
    forge(case, "agreeing", threshold=0.4)
    assert other("replay", case).code == 1  # what is known to be wrong comes first
    registry.delete("agreeing")
    said = "The numbers of mine hold; agreeing and denier were not scored again."
    assert other("replay", case).out.startswith(f"{said}\n")
