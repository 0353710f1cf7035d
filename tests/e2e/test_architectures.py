"""Models of every architecture from the command line: imported, listed, used, removed."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from d3.adapters.filesystem import FilesystemRegistry
from d3.network import DiscrepancyHead, FerretNet
from d3.testing import tiny_ferretnet, tiny_model, tiny_ufd
from tests.e2e.conftest import Run

PHOTO = Path(__file__).parents[2] / "examples/images/camera-01.jpg"


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """A home of its own, and a CPU."""
    return {"D3_HOME": str(tmp_path / "home"), "CUDA_DEVICE": "cpu", "D3_ENGINE": "torch"}


@dataclass(frozen=True)
class Given:
    """Checkpoints, as training saves them.

    Attributes:
        network: a FerretNet.
        probe: a linear layer on the pack's projected feature.
        encoder: the pack's.
        head: the pack's, for a D3.
        wide: a linear layer that fits nothing here.
    """

    network: Path
    probe: Path
    encoder: Path
    head: Path
    wide: Path


@pytest.fixture(scope="module")
def given(pack: Path, tmp_path_factory: pytest.TempPathFactory) -> Given:
    """All of them, in one folder."""
    folder = tmp_path_factory.mktemp("given")
    torch.manual_seed(0)
    torch.save({"model": FerretNet(8, [1, 2]).state_dict()}, folder / "network.pth")
    torch.save(torch.nn.Linear(32, 1).state_dict(), folder / "fc.pth")
    torch.save(torch.nn.Linear(7, 1).state_dict(), folder / "wide.pth")
    return Given(
        network=folder / "network.pth",
        probe=folder / "fc.pth",
        encoder=pack / "visual.safetensors",
        head=pack / "classifier.pth",
        wide=folder / "wide.pth",
    )


def test_a_model_of_one_file_lives_like_every_other(
    run: Run, environ: dict[str, str], given: Given, tmp_path: Path
) -> None:
    ferretnet = ("--architecture", "ferretnet", "--file")
    done = run("models", "import", "witness", *ferretnet, given.network, **environ)
    assert (done.code, done.out) == (0, "Imported witness version 1.\n"), done.err
    assert "D3 assumes" not in done.err
    again = run("models", "import", "named", *ferretnet, f"network={given.network}", **environ)
    assert again.code == 0, again.err
    described = json.loads(run("models", "info", "witness", "--json", **environ).out)
    assert described["architecture"] == "ferretnet"
    assert described["config"] == {"dim": 8, "depths": [1, 2]}
    assert (described["views"], described["permutations"], described["spec"]) == (1, 0, None)
    told = run("models", "info", "witness", **environ).out
    assert "256 px: a square out of the middle" in told
    assert "encoder" not in told
    listed = [
        json.loads(line) for line in run("models", "list", "--json", **environ).out.splitlines()
    ]
    assert [one["name"] for one in listed] == ["named", "starter", "witness"]
    assert listed[0]["sha256"] == listed[2]["sha256"] == described["sha256"]
    assert "ferretnet" in run("models", "list", **environ).out
    assert "is intact" in run("models", "verify", "witness", **environ).out
    judged = json.loads(run("detect", "--json", "--model", "witness", PHOTO, **environ).out)
    assert judged["model"]["name"] == "witness"
    assert "now the default" in run("models", "use", "witness", **environ).out
    assert json.loads(run("detect", "--json", PHOTO, **environ).out)["logit"] == judged["logit"]
    copied = run("models", "bundle", "witness", **environ)
    assert copied.code == 0, copied.err
    elsewhere = environ | {"D3_HOME": str(tmp_path / "elsewhere")}
    assert "Imported" in run("models", "import", "witness.d3bundle", **elsewhere).out
    there = run("detect", "--json", "--model", "witness", PHOTO, **elsewhere)
    assert json.loads(there.out)["logit"] == judged["logit"]
    refused = run("models", "quantize", "witness", "--images", PHOTO.parent, **environ)
    assert refused.code == 2
    assert "'witness' is a ferretnet, and only a D3 can be quantized" in refused.err
    assert run("models", "use", "starter", **environ).code == 0
    assert run("models", "remove", "witness", "--yes", **environ).code == 0


def test_a_probe_is_imported_with_an_encoder_or_onto_one_that_is_there(
    run: Run, environ: dict[str, str], given: Given
) -> None:
    whole = ("--encoder", given.encoder, "--head", given.probe)
    done = run("models", "import", "probe", "--architecture", "ufd", *whole, **environ)
    assert done.code == 0, done.err
    assert "D3 assumes 1 attention head (--heads)" in done.err
    alone = ("--architecture", "ufd", "--file", given.probe)
    assert run("models", "import", "again", *alone, **environ).code == 0
    first, second = (
        json.loads(run("models", "info", name, "--json", **environ).out)
        for name in ("probe", "again")
    )
    assert first["sha256"] == second["sha256"]
    assert "on the encoder of probe" in second["provenance"]
    assert first["parts"].keys() == {"projection"}
    assert run("models", "import", "beside", "--file", given.head, **environ).code == 0
    beside = json.loads(run("models", "info", "beside", "--json", **environ).out)
    assert (beside["architecture"], beside["encoder"]) == ("d3", first["encoder"])
    judged = json.loads(run("detect", "--json", "--model", "probe", PHOTO, **environ).out)
    assert judged["views"] == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--architecture nonesuch --file N", "The architecture 'nonesuch' is not installed."),
        ("--architecture ferretnet --file head=N", "has no file for a head"),
        ("--architecture ferretnet --file P", "holds no ferretnet"),
        ("--architecture ufd --file N", "Save only the one that you want to use"),
        ("--architecture ufd --file P", "needs 32 projected features"),
        ("--architecture ufd --file encoder=E", "wants a file for its head"),
        ("--architecture ufd --encoder E --head W", "needs 7 projected features"),
        ("--architecture ferretnet", "or --file"),
        ("--architecture ufd --file P --head P", "name every file so: --file head=FILE"),
        ("--architecture ufd --file head=P --file head=P", "Name each ROLE once"),
        ("--architecture ufd --file nowhere.pth", "There is no file 'nowhere.pth'"),
        ("--file P --heads 4", "or a head alone, they are known"),
    ],
)
def test_what_cannot_be_imported_is_said_and_nothing_is_stored(
    run: Run, environ: dict[str, str], given: Given, options: str, words: str
) -> None:
    files = {"N": given.network, "P": given.probe, "E": given.encoder, "W": given.wide}
    arguments = []
    for one in options.split():
        role, equals, letter = one.rpartition("=")
        arguments.append(f"{role}{equals}{files.get(letter, letter)}")
    done = run("models", "import", "x", *arguments, **environ)
    assert done.code == 2
    assert words in " ".join(done.err.replace("│", "").split())
    assert "Traceback" not in done.err
    assert not list(Path(environ["D3_HOME"]).rglob("*.safetensors"))


def test_a_head_that_fits_no_encoder_here_is_told_which_would(
    run: Run, environ: dict[str, str], tmp_path: Path
) -> None:
    torch.save(DiscrepancyHead(72).state_dict(), tmp_path / "wide.pth")
    done = run("models", "import", "x", "--file", tmp_path / "wide.pth", **environ)
    assert done.code == 2
    assert "needs features of width 72" in done.err


def test_a_probe_without_its_projection_here_is_told_whose_encoder_to_import_again(
    run: Run, environ: dict[str, str], tmp_path: Path
) -> None:
    torch.save(torch.nn.Linear(60, 1).state_dict(), tmp_path / "probe.pth")
    alone = ("--architecture", "ufd", "--file", tmp_path / "probe.pth")
    registry = FilesystemRegistry(Path(environ["D3_HOME"]) / "models")
    for seed, (name, columns) in enumerate({"clip": 60, "bare": 0, "other": 32}.items()):
        stored = tiny_model(tmp_path, name, seed=seed)
        spec = replace(stored.manifest.encoder_spec, projection=columns)
        registry.put(replace(stored, manifest=replace(stored.manifest, spec=spec)))
    done = run("models", "import", "u", *alone, **environ)
    assert done.code == 2
    words = " ".join(done.err.split())
    assert "the encoders of 'bare' and 'clip', whose widths fit" in words
    assert "'other'" not in words
    assert "'starter'" not in words
    assert "--architecture ufd --encoder FILE --head FILE" in words
    torch.save(torch.nn.Linear(768, 1).state_dict(), tmp_path / "probe.pth")
    done = run("models", "import", "u", *alone, **environ)
    assert done.code == 2
    assert "needs 768 projected features" in done.err
    assert "is stored without it" not in done.err


def test_a_model_of_a_package_that_is_not_installed_says_which(
    run: Run, environ: dict[str, str], tmp_path: Path
) -> None:
    model = tiny_ferretnet(tmp_path, "theirs")
    foreign = replace(model.manifest, architecture="theirs", package="d3-theirs")
    registry = FilesystemRegistry(Path(environ["D3_HOME"]) / "models")
    registry.put(replace(model, manifest=foreign))
    words = "needs the architecture 'theirs', which is not installed. The package "
    words += "'d3-theirs' provides it: install or update it from a source that you trust."
    listed = run("models", "list", **environ)
    assert "theirs" in listed.out
    assert words in " ".join(listed.err.split())
    described = run("models", "list", "--json", **environ).out.splitlines()
    assert words in json.loads(described[1])["trouble"]
    verified = run("models", "verify", "theirs", **environ)
    assert "theirs version 1 is intact" in verified.out
    for command in (("models", "use", "theirs"), ("detect", "--model", "theirs", str(PHOTO))):
        done = run(*command, **environ)
        assert done.code == 2
        assert words in " ".join(done.err.split())
    assert words in " ".join(verified.err.split())
    findings = run("doctor", "--json", D3_PANEL="starter,theirs,gone", **environ).out.splitlines()
    warned = [one for one in map(json.loads, findings) if one["state"] == "warning"]
    told = " ".join(one["found"] + one["remedy"] for one in warned if one["check"] == "panel")
    assert "theirs of D3_PANEL is missing" in told
    assert "gone of D3_PANEL is missing: There is no model 'gone'" in told
    assert "The package 'd3-theirs' provides it" in told


def test_a_missing_member_that_can_be_pulled_is_told_so(run: Run, environ: dict[str, str]) -> None:
    findings = run("doctor", "--json", D3_PANEL="starter,ferretnet-s", **environ).out.splitlines()
    (found,) = [
        one
        for one in map(json.loads, findings)
        if one["state"] == "warning" and one["check"] == "panel"
    ]
    assert found["remedy"] == "Run `d3 models pull ferretnet-s`."


def test_what_is_installed_and_what_there_is_to_pull_is_listed(
    run: Run, environ: dict[str, str]
) -> None:
    installed = run("models", "architectures", "--json", **environ).out.splitlines()
    infos = {one["name"]: one for one in map(json.loads, installed)}
    assert infos.keys() >= {"d3", "ufd", "ferretnet"}
    assert infos["d3"]["explains"]
    assert infos["ferretnet"]["files"].keys() == {"network"}
    assert not any(one["trouble"] for one in infos.values())
    assert "ferretnet" in run("models", "architectures", **environ).out
    sources = run("models", "pull", "--json", **environ).out.splitlines()
    assert [json.loads(one)["name"] for one in sources] == [
        *("d3-vit-l14", "ufd-vit-l14", "ferretnet-s")
    ]
    assert "ferretnet-s" in run("models", "pull", **environ).out
    done = run("models", "pull", "nonesuch", **environ)
    assert done.code == 2
    assert "`d3 models pull ferretnet-s`" in done.err


def test_models_on_one_encoder_keep_it_when_another_goes(
    run: Run, environ: dict[str, str], tmp_path: Path
) -> None:
    first = tiny_model(tmp_path, "first")
    registry = FilesystemRegistry(Path(environ["D3_HOME"]) / "models")
    registry.put(first)
    registry.put(tiny_ufd(tmp_path, "second", beside=first))
    assert run("models", "remove", "first", "--yes", **environ).code == 0
    assert "is intact" in run("models", "verify", "second", **environ).out


def test_a_damaged_model_does_not_keep_the_others_from_being_verified(
    run: Run, environ: dict[str, str], tmp_path: Path
) -> None:
    registry = FilesystemRegistry(Path(environ["D3_HOME"]) / "models")
    for seed, name in enumerate(("first", "second", "third")):
        registry.put(tiny_ferretnet(tmp_path, name, seed=seed))
    file = registry.open("second").paths["network"]
    file.chmod(0o644)
    file.write_bytes(bytes(file.stat().st_size))
    done = run("models", "verify", "first", "second", "nobody", "third", **environ)
    assert done.code == 2
    assert done.out.splitlines() == [
        "first version 1 is intact.",
        "third version 1 is intact.",
    ]
    assert [line.split()[0] for line in done.err.splitlines()].count("error:") == 2


def test_who_removes_a_model_of_the_panel_is_told(
    run: Run, environ: dict[str, str], tmp_path: Path
) -> None:
    registry = FilesystemRegistry(Path(environ["D3_HOME"]) / "models")
    registry.put(tiny_ferretnet(tmp_path, "second"))
    done = run("models", "remove", "second", "--yes", D3_PANEL="starter,second", **environ)
    assert done.code == 0
    assert "D3_PANEL names second, so its panel will lack it." in done.err


def test_an_architecture_that_cannot_be_used_is_listed_so(
    run: Run, environ: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    about = tmp_path / "site" / "broken-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[d3.architectures]\nbroken = no_such_module:One\n")
    monkeypatch.syspath_prepend(about.parent)
    done = run("models", "architectures", **environ)
    (line,) = [one for one in done.out.splitlines() if one.split()[:1] == ["broken"]]
    assert line.split() == ["broken", "cannot", "be", "used", "-", "broken"]
    assert "broken: The architecture 'broken' of the package broken cannot be used" in done.err
