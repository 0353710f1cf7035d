"""``d3`` as people run it: real files, and processes of their own where those are tested."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from d3.domain.scoring import Reason
from images import encoded, picture, with_png_chunks
from tests.e2e.conftest import Run
from tests.support.images import drawn_in_alpha, noise, png, png_chunk, png_rgba


def test_a_folder_gives_a_verdict_for_each_image_and_counts_what_it_passed_over(
    run: Run, pack: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "album" / "deep"
    shutil.copytree(pack / "images", folder)
    (folder / "notes").write_text("not an image, nor called one")
    (folder / "picture.txt").write_bytes((pack / "images/rgb_224.png").read_bytes())
    done = run("detect", "--model", "mine", "album")
    assert done.code == 0
    header, *rows = done.out.splitlines()
    assert header.split() == ["VERDICT", "PROBABILITY", "IMAGE"]
    assert [row.split()[2] for row in rows] == sorted(
        str(Path("album/deep", one.name))
        for one in [*(pack / "images").iterdir(), Path("picture.txt")]
    )
    assert all(row.split()[0] in {"fake", "real", "uncertain"} for row in rows)
    assert "10 images" in done.err
    assert "1 other file skipped" in done.err


def test_json_holds_the_logit_of_the_published_code(run: Run, pack: Path) -> None:
    image = pack / "images/rgb_333x250.webp"
    done = run("detect", "--model", "mine", "--views", "4", "--threshold", "0.25", "--json", image)
    assert done.code == 0
    (line,) = done.out.splitlines()
    answer = json.loads(line)
    assert answer["name"] == str(image)
    assert answer["views"] == 4
    assert answer["threshold"] == 0.25
    assert answer["is_fake"] is (answer["prediction"] > 0.25)
    assert answer["confidence"] == pytest.approx(2 * abs(answer["prediction"] - 0.5))
    assert answer["image"]["format"] == "WEBP"
    assert answer["model"]["name"] == "mine"
    # Any permutation of this pack scores within its own spread of the recorded ones.
    recorded = json.loads((pack / "expected.json").read_text())
    (case,) = [one for one in recorded["cases"] if one["image"] == image.name]
    logits = [view["logit"] for view in case["views"]]
    slack = max(logits) - min(logits) + 0.05
    assert min(logits) - slack < answer["logit"] < max(logits) + slack


def test_what_is_known_of_a_file_is_said_beside_its_verdict(run: Run, tmp_path: Path) -> None:
    (tmp_path / "cut.jpg").write_bytes(encoded(picture(160, 120), "JPEG")[:-2])
    done = run("detect", "--model", "mine", "cut.jpg")
    assert done.code == 0
    assert "The file is cut short." in done.out
    (line,) = run("detect", "--model", "mine", "--json", "cut.jpg").out.splitlines()
    image = json.loads(line)["image"]
    assert (image["note"], image["frames"]) == ("cut_short", 1)
    assert image["note_text"].startswith("The file is cut short.")


def test_one_bad_file_is_reported_and_the_rest_is_done(
    run: Run, pack: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty.png").touch()
    good = pack / "images/gray_512.jpg"
    done = run("detect", "--model", "mine", "--json", "empty.png", good, "missing.jpg")
    assert done.code == 2
    empty, judged, missing = map(json.loads, done.out.splitlines())
    assert empty["code"] == "empty_file"
    assert judged["verdict"] in {"fake", "real"}
    assert missing["code"] == "image_not_found"
    assert "error: empty.png: The file is empty." in done.err
    assert "error: missing.jpg: There is no such file. Check the path." in done.err
    assert "1 image" in done.err
    assert "2 could not be judged" in done.err
    header, row = run("detect", "--model", "mine", "empty.png", good).out.splitlines()
    assert header.startswith("VERDICT")
    assert "gray_512.jpg" in row


def test_standard_input_is_an_image(run: Run, pack: Path) -> None:
    image = (pack / "images/rgb_224.png").read_bytes()
    done = run("detect", "--model", "mine", "-", stdin=image)
    assert done.code == 0
    assert done.out.splitlines()[1].endswith("<stdin>")


def test_a_fake_fails_the_command_only_where_that_is_asked_for(
    run: Run, process: Run, pack: Path
) -> None:
    fake, real = pack / "images/rgb_224.png", pack / "images/cmyk_256.jpg"
    assert run("detect", "--model", "mine", fake).code == 0
    assert run("detect", "--model", "mine", "--fail-on-fake", real).code == 0
    assert process("detect", "--model", "mine", "--fail-on-fake", fake, real).code == 1
    beaten = run("detect", "--model", "mine", "--fail-on-fake", fake, "missing.jpg")
    assert beaten.code == 2


def test_an_open_verdict_has_its_reason_and_is_no_fake(run: Run, tmp_path: Path) -> None:
    plain = np.full((64, 64, 3), 255, np.uint8)
    images = {"one_colour": png(plain), "alpha_only": png_rgba(drawn_in_alpha(64, 64))}
    images["too_small"] = png(noise(31, 64))
    for reason, image in images.items():
        (tmp_path / f"{reason}.png").write_bytes(image)
    asked = ("detect", *(f"{reason}.png" for reason in images), "--fail-on-fake")
    done = run(*asked, "--model", "mine", "--threshold", "0")
    assert done.code == 0, done.err
    header, *rows = done.out.splitlines()
    assert header.split() == ["VERDICT", "PROBABILITY", "IMAGE"]
    assert [row.split()[0] for row in rows] == ["uncertain"] * 3
    for reason, row in zip(images, rows, strict=True):
        assert row.endswith(f"{reason}.png  ({Reason(reason).sentence})")
    assert "3 images in" in done.err
    assert "3 uncertain" in done.err
    reported = run(*asked, "--model", "mine", "--threshold", "0", "--json")
    answers = [json.loads(line) for line in reported.out.splitlines()]
    assert [one["reason"] for one in answers] == list(images)
    assert [one["reason_text"] for one in answers] == [Reason(one).sentence for one in images]
    assert all(one["is_fake"] and one["verdict"] == "uncertain" for one in answers)


def test_what_harmless_changes_gave_stands_beneath_a_verdict(run: Run, pack: Path) -> None:
    image = pack / "images/rgb_224.png"
    told = run("detect", "--model", "mine", "--stability", image)
    assert told.code == 0, told.err
    reported = json.loads(run("detect", "--model", "mine", "--stability", "--json", image).out)
    changed = reported["stability"]
    assert list(changed) == ["jpeg", "scaled", "cropped", "mirrored"]
    words = ", ".join(f"{change} {value:.3f}" for change, value in changed.items())
    assert told.out.splitlines()[-1].strip() == f"changed: {words}"
    threshold = repr((reported["prediction"] + changed["mirrored"]) / 2)
    turned = run("detect", "--model", "mine", "--stability", "--threshold", threshold, image)
    assert "does not survive a harmless change" in turned.out
    assert "changed" not in run("detect", "--model", "mine", image).out


def test_a_demo_model_says_so_beside_every_verdict(run: Run, pack: Path) -> None:
    image = pack / "images/rgb_224.png"
    listed = [json.loads(one) for one in run("models", "list", "--json").out.splitlines()]
    said = {one["name"]: one["notice"] for one in listed}
    assert said["starter"]
    assert said["mine"] == ""
    done = run("detect", "--model", "starter", image)
    assert done.out.splitlines()[1].split()[1] == "demo"
    assert said["starter"] in done.err
    assert (
        json.loads(run("detect", "--model", "starter", "--json", image).out)["notice"]
        == (said["starter"])
    )
    plain = run("detect", "--model", "mine", image)
    assert "demo" not in plain.out
    table = run("models", "list").out
    assert [one for one in table.splitlines() if "(demo)" in one] == [
        one for one in table.splitlines() if "starter" in one
    ]


def test_a_pattern_is_expanded_where_the_shell_did_not(
    run: Run, pack: Path, tmp_path: Path
) -> None:
    shutil.copytree(pack / "images", tmp_path / "album")
    done = run("detect", "--model", "mine", "--json", "album/*.jpg")
    assert done.code == 0
    names = [json.loads(line)["name"] for line in done.out.splitlines()]
    assert names == ["album/cmyk_256.jpg", "album/gray_512.jpg", "album/rgb_640x427_q90.jpg"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--threshold", "nan"], "The threshold nan is not a number between 0 and 1."),
        (["--threshold", "1.5"], "The threshold 1.5 is not a number between 0 and 1."),
        (["--views", "0"], "This model cannot average 0 views."),
        (["--views", "17"], "This model cannot average 17 views."),
        (["--model", "nope"], "There is no model 'nope'. `d3 models list` shows all models."),
        (["--model", "../x"], "'../x' cannot be a model's name."),
        (["--threshold", "abc"], "'abc' is not a valid float"),
    ],
)
def test_a_question_that_makes_no_sense_is_answered_in_a_sentence(
    run: Run, pack: Path, arguments: list[str], sentence: str
) -> None:
    done = run("detect", *arguments, pack / "images/rgb_224.png")
    assert done.code == 2
    assert done.out == ""
    assert sentence in done.err


def test_a_folder_without_an_image_is_an_error(run: Run, tmp_path: Path) -> None:
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "a.txt").write_text("words")
    done = run("detect", "papers")
    assert done.code == 2
    assert "error: papers: No image was found." in done.err
    assert "1 other file skipped" in done.err


def test_settings_that_cannot_be_used_are_all_named_at_once(run: Run, pack: Path) -> None:
    done = run(
        "detect", pack / "images/rgb_224.png", CUDA_DEVICE="first", D3_PRECISION="fp8", D3_MODEL="/"
    )
    assert done.code == 2
    assert all(
        name in done.err for name in ("CUDA_DEVICE='first'", "D3_PRECISION='fp8'", "D3_MODEL=")
    )


def test_a_gpu_that_is_not_there_is_a_warning_and_the_cpu_serves(run: Run, pack: Path) -> None:
    done = run("detect", "--model", "mine", pack / "images/rgb_224.png", CUDA_DEVICE="1")
    import torch

    if torch.cuda.device_count() > 1:
        assert done.code == 0
    elif torch.cuda.is_available():
        assert done.code == 2
        assert "CUDA_DEVICE=1 does not exist on this machine. It has 0" in done.err
    else:
        assert done.code == 0
        assert "warning: CUDA_DEVICE=1, but this machine has no CUDA device" in done.err


def test_a_mistyped_setting_is_pointed_out(run: Run) -> None:
    done = run("models", "list", D3_PRECISON="bf16")
    assert "warning: D3_PRECISON is not a setting of D3; did you mean D3_PRECISION?" in done.err


def test_the_life_of_a_model(run: Run, pack: Path, tmp_path: Path) -> None:
    environ = {"D3_HOME": str(tmp_path / "fresh")}
    files = ["--encoder", pack / "visual.safetensors", "--head", pack / "classifier.pth"]
    assert "Imported own version 1." in run("models", "import", "own", *files, **environ).out
    assert "Imported own version 2." in run("models", "import", "own", *files, **environ).out
    assert run("models", "use", "own", **environ).code == 0
    listed = run("models", "list", "--json", **environ)
    models = {one["name"]: one for one in map(json.loads, listed.out.splitlines())}
    assert models["own"]["active"]
    assert models["own"]["version"] == 2
    assert not models["starter"]["active"]
    assert models["starter"]["packaged"]
    assert "own version 2 is intact." in run("models", "verify", **environ).out
    in_use = run("models", "remove", "own", "--yes", **environ)
    assert in_use.code == 2
    assert "The model 'own' is in use." in in_use.err
    assert run("models", "use", "starter", **environ).code == 0
    assert run("models", "remove", "own", "--yes", **environ).code == 0
    assert run("models", "info", "own", **environ).code == 2
    assert list((tmp_path / "fresh/models/blobs").iterdir()) == []


def test_a_tampered_model_is_never_loaded(run: Run, pack: Path, tmp_path: Path) -> None:
    environ = {"D3_HOME": str(tmp_path / "fresh")}
    files = ["--encoder", pack / "visual.safetensors", "--head", pack / "classifier.pth"]
    assert run("models", "import", "own", *files, **environ).code == 0
    blob = max((tmp_path / "fresh/models/blobs").iterdir(), key=lambda one: one.stat().st_size)
    content = bytearray(blob.read_bytes())
    content[-1] ^= 1
    blob.write_bytes(content)
    done = run("detect", "--model", "own", pack / "images/rgb_224.png", **environ)
    assert done.code == 2
    assert "The encoder of the model 'own' does not match its recorded SHA-256." in done.err


def test_head_and_encoder_of_different_widths_are_refused(
    run: Run, pack: Path, tmp_path: Path
) -> None:
    import torch

    from d3.network import DiscrepancyHead

    torch.save(DiscrepancyHead(128).state_dict(), tmp_path / "wide.pth")
    done = run(
        "models", "import", "odd", "--encoder", pack / "visual.safetensors", "--head", "wide.pth"
    )
    assert done.code == 2
    assert "needs features of width 128, but the encoder produces width 64." in done.err


def test_what_a_file_says_of_itself_stands_beside_its_verdict(run: Run, tmp_path: Path) -> None:
    said = b"parameters\0a castle\nSteps: 20, Sampler: Euler, Model: v1-5"
    plain = encoded(picture(160, 120), "PNG")
    (tmp_path / "made.png").write_bytes(with_png_chunks(plain, png_chunk(b"tEXt", said)))
    (tmp_path / "plain.png").write_bytes(plain)
    marked = Path(__file__).parents[1] / "data/watermarks/sdxl.webp"
    shutil.copy(marked, tmp_path / "marked.webp")
    detect = ("detect", "--model", "mine", "made.png", "plain.png", "marked.webp")

    rows = run(*detect).out.splitlines()[1:]
    assert [" (The file says that it was generated.)" in row for row in rows] == [
        True,
        False,
        False,
    ]

    whole = run(*detect, "--provenance")
    for line in ("    record: generated", "      model: v1-5", "      prompt: yes"):
        assert line in whole.out.splitlines()
    assert "    The file says nothing about itself." in whole.out
    assert "    watermark: generated" in whole.out
    assert "a castle" not in whole.out
    assert "can be forged and removed" in whole.err

    assert "      the prompt: a castle" in run(*detect, "--provenance", "--prompts").out
    listed = run(*detect, "--json", "--provenance", "--prompts").out.splitlines()
    made, none, watermark = map(json.loads, listed)
    assert (made["prompts"], none["prompts"]) == (["a castle"], [])
    assert made["provenance"]["sources"][0]["generator"] == "Stable Diffusion web UI"
    assert none["provenance"] == {"says": "nothing", "sources": []}
    assert watermark["provenance"]["says"] == "generated"
    assert "a castle" not in run(*detect, "--json").out
    assert run(*detect, "--prompts").code == 2
