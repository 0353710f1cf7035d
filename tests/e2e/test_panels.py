"""A panel on the command line: opinions under each image, in JSON, in evidence and in a replay."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from d3.adapters.evidence import SigningKeyFile
from d3.container import Container
from d3.domain.scoring import AbstainBand, Calibration
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
    Container(settings=Settings(home=own)).registry().delete("denier")
    without = run("replay", "case.zip")
    assert without.code == 0, without.err
    assert "denier    was not scored again. The model of the case" in without.out
