"""``d3 models import`` of files as people have them, and ``d3 models remove``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

import d3
from d3.entrypoints.cli.models import models
from d3.network.checkpoints import read_encoder
from tests.clips import whole_clip, write_traced
from tests.e2e.conftest import Run


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"D3_HOME": str(tmp_path / "fresh")}


def test_a_traced_clip_and_one_file_of_both_judge_as_the_plain_weights_do(
    run: Run, environ: dict[str, str], pack: Path, tmp_path: Path
) -> None:
    spec, visual = read_encoder(pack / "visual.safetensors")
    clip = whole_clip(spec, visual)
    head = torch.load(pack / "classifier.pth", weights_only=True)
    whole = {f"model.{name}": tensor for name, tensor in clip.state_dict().items()}
    whole |= {f"attention_head.{name}": tensor for name, tensor in head.items()}
    torch.save({"model": whole, "total_steps": 7}, tmp_path / "whole.pth")
    saved = write_traced(tmp_path / "openai.pt", clip)
    save_file(saved, tmp_path / "saved.safetensors")
    published = ["--head", pack / "classifier.pth"]
    ways: dict[str, list[str | Path]] = {
        "traced": ["--encoder", tmp_path / "openai.pt", *published],
        "saved": ["--encoder", tmp_path / "saved.safetensors", *published],
        "whole": ["--checkpoint", tmp_path / "whole.pth"],
        "plain": ["--encoder", pack / "visual.safetensors", *published],
    }
    logits = {}
    for name, files in ways.items():
        done = run("models", "import", name, *files, **environ)
        assert done.out == f"Imported {name} version 1.\n"
        assert "QuickGELU" in done.err
        judged = run("detect", "--json", "--model", name, pack / "images/rgb_224.png", **environ)
        logits[name] = json.loads(judged.out)["logit"]
    assert logits["traced"] == pytest.approx(logits["saved"], abs=1e-5)
    assert logits["whole"] == pytest.approx(logits["plain"], abs=1e-5)
    assert logits["traced"] == pytest.approx(logits["plain"], abs=1e-2)


def test_a_wrong_file_and_a_wrong_choice_are_told_by_name(
    run: Run, environ: dict[str, str], pack: Path, tmp_path: Path
) -> None:
    files = {"encoder": pack / "visual.safetensors", "head": pack / "classifier.pth"}
    swapped = run("models", "import", "x", "--encoder", files["head"], "--head", files["encoder"])
    assert swapped.code == 2
    assert "'visual.safetensors' looks like CLIP's vision transformer" in swapped.err
    half = run("models", "import", "x", "--checkpoint", files["encoder"], **environ)
    assert "'visual.safetensors' looks like CLIP's vision transformer and holds no head" in half.err
    unknown = run("models", "import", "x", "--open-clip", "RN50:openai", "--head", files["head"])
    assert "D3 cannot use RN50:openai as an encoder: its vision tower is a ResNet." in unknown.err
    unsound = load_file(files["encoder"]) | {"ln_post.bias": torch.full((64,), torch.nan)}
    save_file(unsound, tmp_path / "mine.safetensors")
    done = run(
        *("models", "import", "x", "--head", files["head"]),
        *("--encoder", tmp_path / "mine.safetensors"),
        **environ,
    )
    assert "In 'mine.safetensors', the encoder's ln_post.bias" in done.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--encoder E", "Use --encoder and --head, or --open-clip and --head, or --checkpoint"),
        ("--head H", "Use --encoder and --head"),
        ("--heads 4", "Use --encoder and --head"),
        ("--checkpoint E --head H", "Use --encoder and --head"),
        ("--encoder E --open-clip ViT-L-14:openai --head H", "Use --encoder and --head"),
        ("--open-clip ViT-L-14:openai --head H --heads 4", "Leave out --heads and --activation"),
    ],
)
def test_options_that_do_not_go_together_are_told(options: str, words: str, pack: Path) -> None:
    files = {"E": str(pack / "visual.safetensors"), "H": str(pack / "classifier.pth")}
    given = [files.get(one, one) for one in options.split()]
    done = CliRunner().invoke(models, ["import", "x", *given])
    assert done.exit_code == 2
    assert words in " ".join(done.output.replace("│", "").split())


def test_heads_and_activation_that_were_said_are_taken(
    run: Run, environ: dict[str, str], pack: Path
) -> None:
    files = ["--encoder", pack / "visual.safetensors", "--head", pack / "classifier.pth"]
    said = ["--heads", "2", "--activation", "gelu"]
    done = run("models", "import", "x", *files, *said, **environ)
    assert "D3 assumes" not in done.err
    described = json.loads(run("models", "info", "x", "--json", **environ).out)
    assert (described["spec"]["heads"], described["spec"]["activation"]) == (2, "gelu")


def test_a_removal_names_what_it_removes_and_asks(
    run: Run, environ: dict[str, str], pack: Path
) -> None:
    with d3.D3(d3.Settings(home=Path(environ["D3_HOME"]))) as detector:
        for _ in range(3):
            detector.models.import_files(
                "own", pack / "visual.safetensors", pack / "classifier.pth"
            )
    asked = run("models", "remove", "own", stdin=b"n\n", **environ)
    assert "Permanently remove own with all versions (1, 2, 3)?" in asked.err
    assert "Nothing was removed." in asked.err
    one = run("models", "remove", "own", "--version", "2", "--yes", **environ)
    what = "own version 2 (imported from visual.safetensors and classifier.pth)"
    assert one.out == f"Removed {what}.\n"
    rest = run("models", "remove", "own", "--yes", **environ)
    assert rest.out == "Removed own with all versions (1, 3).\n"
    gone = run("models", "remove", "own", stdin=b"y\n", **environ)
    assert gone.code == 2
    assert "There is no model 'own'." in gone.err
    assert "Permanently remove" not in gone.out + gone.err
