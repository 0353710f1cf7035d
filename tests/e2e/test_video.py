"""Clips on the command line: detect, scan, evidence and its reports, from a file to a verdict."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import zipfile
from dataclasses import replace
from functools import partial
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from d3 import D3
from d3.adapters.evidence import SigningKeyFile
from d3.container import Container
from d3.domain.errors import RequestInvalid, VideoInvalid
from d3.domain.scoring import Calibration
from d3.domain.services.clips import recognises
from d3.settings import Settings
from d3.testing.models import tiny_ferretnet
from movies import movie, scene
from tests.e2e.conftest import Run, run_here

IMAGE = Path(__file__).parents[1] / "data/reference/images/rgb_224.png"


@pytest.fixture(scope="module")
def own(pack: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a model that says fake of every image, and one that says real."""
    home = tmp_path_factory.mktemp("clips")
    container = Container(settings=Settings(home=home))
    container.models().import_files("mine", pack / "visual.safetensors", pack / "classifier.pth")
    container.models().use("mine")
    registry = container.registry()
    mine = registry.open("mine")
    sure = Calibration(1e-6, 4.0, "news")
    registry.put(replace(mine, manifest=replace(mine.manifest, calibration=sure)))
    denier = tiny_ferretnet(home, "denier")
    registry.put(
        replace(denier, manifest=replace(denier.manifest, calibration=replace(sure, bias=-4.0)))
    )
    SigningKeyFile(home / "signing.pem").make()
    return home


@pytest.fixture
def run(own: Path, tmp_path: Path) -> Run:
    return partial(run_here, own, tmp_path, D3_ENGINE="torch", D3_PRECISION="fp32")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    path.write_bytes(movie(6, 10, cuts=(3.0,)))
    return path


@pytest.fixture(scope="module")
def animation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gif") / "moving.gif"
    first, *others = (Image.fromarray(scene(number)) for number in range(4))
    first.save(path, save_all=True, append_images=others, duration=100)
    return path


def test_a_clip_is_one_row_with_its_course(run: Run, clip: Path) -> None:
    done = run("detect", clip, IMAGE)
    assert done.code == 0, done.err
    _, row, said, course, still = done.out.splitlines()
    assert row.startswith("fake")
    assert "clip.mp4" in row
    assert "6 frames up to 0:05.0 of 0:06.0: 100% above the threshold" in said
    assert course.strip() == "█" * 6
    assert "rgb_224.png" in still


def test_json_has_every_frame_and_options_say_which(run: Run, clip: Path) -> None:
    done = run("detect", clip, "--json", "--every", "2s", "--most", "2")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert [one["time"] for one in found["clip"]["frames"]] == [0, 3]
    assert (found["clip"]["every"], found["clip"]["most"]) == (2, 2)
    assert found["prediction"] == found["clip"]["highest_mean"]
    assert found["verdict"] == "uncertain"
    assert found["reason"] == "few_frames"
    assert "smaller `every`" in run("detect", clip, "--every", "3s").out
    for wrong in (("--every", "soon"), ("--most", "0"), ("--most", "101"), ("--every", "2h")):
        assert run("detect", clip, *wrong).code == 2


def test_a_panel_s_models_each_judge_the_clip(run: Run, clip: Path) -> None:
    done = run("detect", clip, "--json", "--panel", "mine,denier", "--stability")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert [one["verdict"] for one in found["opinions"]] == ["fake", "real"]
    assert (found["verdict"], found["reason"]) == ("uncertain", "panel")
    assert found["agreement"] == "disagree"
    assert found["stability"].keys() == {"jpeg", "scaled", "cropped", "mirrored"}
    assert all(one["verdict"] == "fake" for one in found["clip"]["frames"])


def test_an_animation_is_judged_by_its_first_frame_or_by_all(run: Run, animation: Path) -> None:
    first = json.loads(run("detect", animation, "--json").out)
    assert (first["clip"], first["image_frames"]) == (None, 4)
    found = json.loads(run("detect", animation, "--json", "--frames", "all").out)
    assert len(found["clip"]["frames"]) == 4
    assert found["image_sha256"] == first["image_sha256"]
    assert found["provenance"] == first["provenance"]
    still = json.loads(run("detect", IMAGE, "--json", "--frames", "all").out)
    assert still["clip"] is None
    assert run("detect", animation, "--frames", "all", "--every", "1s").code == 2


def test_videos_in_folders_are_judged_if_asked(run: Run, clip: Path, tmp_path: Path) -> None:
    folder = tmp_path / "media"
    folder.mkdir()
    (folder / "a.mp4").write_bytes(clip.read_bytes())
    (folder / "b.png").write_bytes(IMAGE.read_bytes())
    (folder / "notes.txt").write_text("no image")
    done = run("detect", folder, "--json")
    assert len(done.out.splitlines()) == 1
    assert "2 other files skipped" in done.err
    done = run("detect", folder, "--json", "--video")
    assert [json.loads(one)["clip"] is None for one in done.out.splitlines()] == [False, True]


def test_searches_and_scans_of_a_folder_take_the_same_files(
    run: Run, clip: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "media"
    folder.mkdir()
    for name in ("a.mp4", "named.jpg", "plain"):
        (folder / name).write_bytes(clip.read_bytes())
    (folder / "b.png").write_bytes(IMAGE.read_bytes())
    (folder / "text.mp4").write_text("no video")
    (folder / "notes.txt").write_text("nothing")
    for options, judged, errors, skipped in (
        ((), 1, {"named.jpg"}, "4 other files skipped"),
        (("--video",), 4, {"text.mp4"}, "1 other file skipped"),
    ):
        done = run("detect", folder, "--json", *options)
        rows = list(map(json.loads, done.out.splitlines()))
        assert {Path(one["name"]).name for one in rows if "error" in one} == errors
        assert len(rows) == judged + len(errors)
        assert skipped in done.err
        name = f"s{len(options)}"
        scanned = run("scan", folder, "--json", "--scan-id", name, *options)
        told = json.loads(scanned.out)
        assert told["fake"] + told["real"] + told["uncertain"] == judged
        assert told["error"] == len(errors)
        assert skipped in scanned.err
        for one in (done, scanned):
            assert ("--video judges them too" in one.err) == (not options)


def test_what_is_no_video_has_an_error_of_its_own(run: Run, clip: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(clip.read_bytes()[:99])
    done = run("detect", clip, broken, "--json")
    assert done.code == 2
    good, bad = map(json.loads, done.out.splitlines())
    assert good["verdict"] == "fake"
    assert bad["code"] == "video_invalid"


def test_a_scan_with_videos_stores_and_reports_them(run: Run, clip: Path, tmp_path: Path) -> None:
    folder = tmp_path / "media"
    folder.mkdir()
    (folder / "a.mp4").write_bytes(clip.read_bytes())
    (folder / "b.png").write_bytes(IMAGE.read_bytes())
    out = tmp_path / "out"
    done = run(
        *(
            "scan",
            folder,
            "--video",
            "--out",
            out,
            "--format",
            "csv",
            "--top",
            "3",
            "--scan-id",
            "s",
        )
    )
    assert done.code == 0, done.err
    (file,) = out.glob("*.csv")
    with file.open(encoding="utf-8", newline="") as stream:
        rows = {Path(one["uri"]).name: one for one in csv.DictReader(stream)}
    assert len(json.loads(rows["a.mp4"]["clip"])["frames"]) == 6
    assert rows["b.png"]["clip"] == ""
    report = (out / "report.html").read_text(encoding="utf-8")
    assert "6 frames over 0:06.0" in report
    assert report.count("data:image/webp") == 2
    again = run("scan", folder, "--scan-id", "s")
    assert again.code == 0, again.err


def test_evidence_of_a_clip_is_checked_by_its_frames_and_not_replayed(
    run: Run, clip: Path, tmp_path: Path
) -> None:
    bundle = tmp_path / "case.zip"
    made = run("evidence", clip, "-o", bundle, "--with-image")
    assert made.code == 0, made.err
    with zipfile.ZipFile(bundle) as file:
        page = file.read("report.html").decode()
        case = json.loads(file.read("case.json"))
        assert file.read("report.pdf").startswith(b"%PDF")
        assert file.read("image.mp4") == clip.read_bytes()
    assert case["format_version"] == 3
    assert len(case["result"]["clip"]["frames"]) == 6
    assert "The course of the clip" in page
    assert "Frames of the clip, in order" in page
    assert "five frames in a row" in page
    verified = run("evidence", "verify", bundle)
    assert verified.code == 0, verified.err
    assert "D3 report on a clip" in page
    bare = tmp_path / "bare.zip"
    assert run("evidence", clip, "-o", bare).code == 0
    replayed = run("replay", bare)
    assert replayed.code == 2
    assert "cannot be replayed yet" in replayed.err


def test_the_program_itself_never_loads_the_decoder(own: Path, clip: Path) -> None:
    code = (
        "import sys, d3\n"
        f"with d3.D3(d3.Settings(home={str(own)!r}, engine='torch')) as detector:\n"
        f"    detector.detect({str(IMAGE)!r})\n"
        f"    print(len(detector.detect_clip({str(clip)!r}).clip_verdict.frames))\n"
        "print('av' in sys.modules)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["6", "False"]


def test_the_library_judges_clips(own: Path, clip: Path, animation: Path) -> None:
    settings = Settings(home=own, engine="torch", precision="fp32")
    with D3(settings) as detector:
        found = detector.detect_clip(clip, every="2s")
        assert found.clip_verdict is not None
        assert len(found.clip_verdict.frames) == 4  # and the first one after the cut
        assert found.image_format == "MP4"
        with clip.open("rb") as stream:
            assert detector.detect_clip(stream, every=2.0).prediction == found.prediction
        assert detector.detect_clip(clip.read_bytes(), every=2).name == "clip"
        everything = detector.detect(clip, frames="all")
        assert everything.clip_verdict is not None
        assert len(everything.clip_verdict.frames) == 60
        assert detector.detect(animation).clip_verdict is None
        assert detector.detect(animation, frames="all").clip_verdict is not None
        assert detector.detect(IMAGE, frames="all").clip_verdict is None
        with pytest.raises(RequestInvalid):
            detector.detect(clip, frames="some")  # type: ignore[arg-type]
        with pytest.raises(VideoInvalid):
            detector.detect_clip(IMAGE.with_suffix(".png").read_bytes()[:0] + b"words")
    assert recognises(clip.read_bytes()[:256])
    assert not recognises(BytesIO(IMAGE.read_bytes()).read(256))
