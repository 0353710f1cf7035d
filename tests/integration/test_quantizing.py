"""int8 forms: made and measured, kept only if close and quick, used where they run, else fp32."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from d3.adapters.openvino import OpenVinoEngine, quantizing, search
from d3.adapters.openvino.form import read_form
from d3.adapters.openvino.quantizing import QuantizeService
from d3.adapters.torch import TorchEngine
from d3.container import Container
from d3.domain.errors import (
    D3Error,
    EngineMissing,
    ImageNotFound,
    ModelProtected,
    QuantizationFailed,
    RequestInvalid,
    StorageFailed,
)
from d3.domain.inputs import Fit
from d3.domain.models import DERIVED_NOTICE, StoredModel, file_of
from d3.domain.scoring import AbstainBand, Calibration
from d3.domain.services.models import ModelImporter
from d3.entrypoints.cli.models import models
from d3.settings import Settings
from d3.testing.models import tiny_model, tiny_ufd
from tests.serving import clean_environment
from tests.support.images import noise

PIXELS = np.stack([noise(56, 56, seed) for seed in range(3)])


def container(home: Path, **settings: Any) -> Container:
    return Container(settings=Settings(home=home, cuda_device="cpu", **settings))


def write_images(folder: Path, count: int) -> Path:
    folder.mkdir()
    for number in range(count):
        # Neither noise alone, which all looks the same to a small network, nor one colour.
        pixels = noise(56, 56, number).astype(np.int64) * (1 + number % 7) // 8 + 4 * (number % 8)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number:03}.png")
    return folder


@dataclass(frozen=True)
class Made:
    """A home with a model ``mine``: version 2 has an int8 form, version 1 has not.

    Attributes:
        model: version 1.
        quick: version 2.
    """

    home: Path
    images: Path
    model: StoredModel
    quick: StoredModel


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, prepared_encoders: Path) -> Made:
    folder = tmp_path_factory.mktemp("quantizing")
    home, images = folder / "home", write_images(folder / "images", 44)
    (images / "notes.png").write_text("no image")
    Image.new("RGB", (64, 64), "red").save(images / "red.png")
    shutil.copy(images / "000.png", images / "again.png")
    parts = container(home)
    model = tiny_model(folder, "mine")
    fitted = replace(
        model.manifest, calibration=Calibration(2.0, 0.1, "photos"), abstain_band=AbstainBand(0.01)
    )
    parts.registry().put(replace(model, manifest=fitted))
    stages: list[str] = []
    parts.progress.override(lambda stage, done, total: stages.append(stage))
    # A network this small is no quicker in int8, and as far away as it likes.
    loose = {"max_mean_drift": 1.0, "max_flips": 1.0, "min_speedup": 0.0}
    done = parts.quantizing().quantize("mine", str(images), **loose)
    assert done.unused == 2
    told = list(dict.fromkeys(stages))
    assert told[:4] == [
        *("Reading images", "Preparing the model", "Learning ranges", "Measuring fp32")
    ]
    assert {f"Timing {one.name}" for one in search.CANDIDATES} < set(told[4:])
    registry = parts.registry()
    return Made(home, images, registry.open("mine", 1), registry.open("mine", 2))


def test_the_manifest_says_how_the_form_was_made(made: Made) -> None:
    plain, quick = made.model.manifest, made.quick.manifest
    form = quick.int8
    assert form is not None
    assert (form.learnt, form.measured) == (11, 33)
    assert form.candidates[0].name == "static"
    assert form.kept == form.candidates[-1].name
    speeds = [one.speedup for one in form.candidates]
    assert speeds == sorted(speeds)  # what is slower than one within the bounds is left out
    assert form.base_sha256 == plain.sha256 != quick.sha256
    assert form.tools.keys() == {"nncf", "openvino", "d3", "processor"}
    assert len(form.images_sha256) == 64
    assert (quick.encoder, quick.head) == (plain.encoder, plain.head)
    assert quick.calibration.name == "photos, fitted in fp32"
    assert replace(quick.calibration, name="photos") == plain.calibration
    assert all(one.seconds > 0 and 0 <= one.mean_drift < 0.05 for one in form.candidates)


def test_a_cpu_runs_the_form_and_results_say_so(made: Made) -> None:
    host = container(made.home).host()
    host.load("mine")
    with host.using() as model:
        detector = model.queue.detector
        assert (detector.engine, detector.precision) == ("openvino", "int8")
        assert model.reference.sha256 == made.quick.manifest.sha256
        found = detector.score(PIXELS, 4)
        alone = np.concatenate([detector.score(one[None], 4) for one in PIXELS])
    host.close()
    expected = TorchEngine("cpu", "fp32").load(made.model).score(PIXELS, 4)
    assert 0 < np.abs(found - expected).max() < 0.1
    assert np.abs(found - alone).max() < 1e-4


def test_heads_beside_use_the_form_too(made: Made, tmp_path: Path) -> None:
    probe = tiny_ufd(tmp_path, beside=made.model, fit=Fit.SQUASH)
    both = replace(made.quick, beside=(probe,))
    detector = container(made.home).model_engine().load(both)
    assert (detector.engine, detector.precision) == ("openvino", "int8")
    found = detector.score(PIXELS, 2)
    detector.close()
    exact = TorchEngine("cpu", "fp32").load(replace(made.model, beside=(probe,)))
    expected = exact.score(PIXELS, 2)
    for head in (slice(0, 2), slice(2, 4)):
        assert 0 < np.abs(found[:, head] - expected[:, head]).max() < 0.1
    exact.close()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"engine": "torch"}, "Only OpenVINO can run int8"),
        ({}, "needs D3's extra 'openvino', which is not installed"),
        ({"cuda_device": 0}, "D3 uses a GPU"),
        ({"engine": "auto"}, "no int8 instructions"),
    ],
)
def test_where_the_form_cannot_run_a_sentence_says_so_and_the_weights_are_used(
    made: Made, settings: dict[str, Any], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "not installed" in sentence:
        monkeypatch.setitem(sys.modules, "openvino", None)
    if "instructions" in sentence:
        monkeypatch.setattr("d3.adapters.openvino.engine.multiplies_int8", lambda: False)
    if "GPU" in sentence:
        monkeypatch.setattr("d3.container._on_cpu", lambda _: False)
    parts = Container(settings=Settings(home=made.home, **({"cuda_device": "cpu"} | settings)))
    parts.engine.override(TorchEngine("cpu", "fp32"))
    with pytest.warns(RuntimeWarning, match=f"{sentence}.*'mine' without its int8 form") as said:
        detector = parts.model_engine().load(made.quick)
    assert len(said) == 1
    assert (detector.engine, detector.precision) == ("torch", "fp32")
    expected = TorchEngine("cpu", "fp32").load(made.model).score(PIXELS, 1)
    assert np.array_equal(detector.score(PIXELS, 1), expected)


def test_a_precision_that_was_asked_for_is_used_without_a_word(made: Made) -> None:
    detector = container(made.home, precision="fp32").model_engine().load(made.quick)
    assert detector.precision == "fp32"


def with_form(model: StoredModel, file: Path) -> StoredModel:
    return replace(model, paths={**model.paths, "int8": file})


def foreign(graph: bytes) -> bytes:
    return graph.replace(b'type="MVN"', b'type="ReadValue"')


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (foreign, "an operation 'ReadValue'"),
        (lambda graph: b"<!DOCTYPE net [<!ENTITY a 'b'>]>" + graph, "not one of OpenVINO"),
        (lambda graph: graph[:-20], "not one of OpenVINO"),
        (lambda graph: graph.replace(b'offset="0"', b'offset="99999999"'), "out of its file"),
        (lambda graph: graph.replace(b'offset="0"', b'offset="x"'), "int8 form"),
    ],
)
def test_a_graph_that_is_no_encoders_is_not_given_to_openvino(
    made: Made, tmp_path: Path, change: Callable[[bytes], bytes], sentence: str
) -> None:
    assert made.quick.int8 is not None
    form = read_form(made.quick.int8)
    assert change(form.graph) != form.graph
    replace(form, graph=change(form.graph)).write(tmp_path / "int8.safetensors")
    meddled = with_form(made.quick, tmp_path / "int8.safetensors")
    with pytest.warns(RuntimeWarning, match=sentence):
        detector = container(made.home).model_engine().load(meddled)
    assert detector.precision == "fp32"


@pytest.mark.parametrize("content", [b"", b"no form", None])
def test_a_form_that_is_none_or_another_encoders_is_a_warning(
    made: Made, tmp_path: Path, content: bytes | None
) -> None:
    file = tmp_path / "int8.safetensors"
    assert made.quick.int8 is not None
    if content is None:
        form = read_form(made.quick.int8)
        replace(form, positions=form.positions[1:]).write(file)
    else:
        file.write_bytes(content)
    with pytest.warns(RuntimeWarning, match="without its int8 form"):
        detector = container(made.home).model_engine().load(with_form(made.quick, file))
    assert detector.precision == "fp32"


def test_a_bundle_carries_the_form(made: Made, tmp_path: Path) -> None:
    container(made.home).bundling().write("mine", tmp_path / "mine.d3bundle")
    there = container(tmp_path / "there")
    assert there.bundling().read(tmp_path / "mine.d3bundle").new
    arrived = there.registry().open("mine")
    assert replace(arrived.manifest, version=2) == made.quick.manifest
    assert arrived.int8 is not None
    assert made.quick.int8 is not None
    assert arrived.int8.read_bytes() == made.quick.int8.read_bytes()
    assert not there.bundling().read(tmp_path / "mine.d3bundle").new


def test_another_head_does_not_inherit_what_was_measured_with_this_one(
    made: Made, tmp_path: Path
) -> None:
    parts = container(tmp_path / "home")
    quick = made.quick
    parts.registry().put(quick)
    importer = ModelImporter(parts.registry(), parts.architectures, "mine")
    assert importer.import_file("other", quick.head, provenance="a test").int8 is None


def refused(
    made: Made, images: Path | str, kind: type[D3Error], sentence: str, **options: Any
) -> None:
    """It fails with this sentence, and everything is as it was."""
    blobs, manifests = (
        sorted(one.name for one in (made.home / "models").rglob(what))
        for what in ("*.safetensors", "*.json")
    )
    with pytest.raises(kind, match=sentence):
        container(made.home).quantizing().quantize(
            options.pop("name", "mine"), str(images), **({"version": 1} | options)
        )
    assert sorted(one.name for one in (made.home / "models").rglob("*.safetensors")) == blobs
    assert sorted(one.name for one in (made.home / "models").rglob("*.json")) == manifests


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders are made; nothing is left there."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def test_images_that_cannot_serve_are_a_sentence(
    made: Made, tmp_path: Path, temporary: Path
) -> None:
    refused(made, tmp_path / "nowhere", ImageNotFound, "no such folder")
    empty = tmp_path / "empty"
    empty.mkdir()
    refused(made, empty, RequestInvalid, "^0 different images are too few")
    plain = tmp_path / "plain"
    plain.mkdir()
    for number in range(50):
        Image.new("RGB", (64, 64), (number, 0, 0)).save(plain / f"{number}.png")
    refused(made, plain, RequestInvalid, "^0 different.* 50 other files hold no image or only one")
    few = write_images(tmp_path / "few", 39)
    for number in range(20):
        shutil.copy(few / "000.png", few / f"copy-{number}.png")
    refused(made, few, RequestInvalid, "^39 different images are too few.* at least 40")
    assert not list(temporary.iterdir())


@pytest.mark.parametrize("package", ["openvino", "nncf"])
def test_without_its_packages_the_extra_is_named(
    made: Made, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantizing, "find_spec", lambda name: None if name == package else 1)
    refused(made, made.images, EngineMissing, rf"extra 'openvino'.*{package}")


def test_models_that_cannot_get_a_form_are_named_before_the_work(made: Made) -> None:
    refused(made, made.images, QuantizationFailed, "Version 2 .* already", version=None)
    refused(made, made.images, ModelProtected, "--as starter-int8", name="starter")


def test_a_processor_without_int8_measures_nothing(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantizing, "multiplies_int8", lambda: False)
    refused(made, made.images, QuantizationFailed, "no int8 instructions")


def test_no_room_is_said_before_the_work(
    made: Made, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = shutil.disk_usage(temporary)._replace(free=1000)
    monkeypatch.setattr(quantizing.shutil, "disk_usage", lambda _: full)
    refused(made, made.images, StorageFailed, "Quantizing needs .* bytes")
    assert not list(temporary.iterdir())


def test_a_disk_that_fills_up_midway_leaves_nothing(
    made: Made,
    temporary: Path,
    work: tuple[Path, search.Job],
    monkeypatch: pytest.MonkeyPatch,
    run_python: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    script = """
import json, resource, signal, sys
from pathlib import Path
from d3.adapters.openvino import search
job = search.Job(**json.loads(sys.argv[2]))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    search._write(Path(sys.argv[1]), job, search.CANDIDATES[0])
except (OSError, RuntimeError) as error:
    print(error)
"""
    folder = shutil.copytree(work[0], temporary.parent / "copy")
    (folder / search.FOUND).unlink(missing_ok=True)
    done = run_python(script, folder, json.dumps(asdict(work[1])))
    assert done.stdout
    assert not (folder / search.FOUND).exists()

    def fail(_: QuantizeService, step: str, work: Path) -> None:
        monkeypatch.setattr(quantizing.shutil, "disk_usage", lambda _: full._replace(free=0))
        raise quantizing._child_failed(work, done.stdout, 1)

    full = shutil.disk_usage(temporary)
    monkeypatch.setattr(QuantizeService, "_step", fail)
    refused(made, made.images, StorageFailed, "The temporary folder is full. Nothing was stored.")
    assert not list(temporary.iterdir())


def a_job(made: Made, prepared: Path) -> search.Job:
    return replace(quantizing._job(made.model, prepared), min_speedup=0.0)


@pytest.fixture(scope="module")
def work(made: Made, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, search.Job]:
    """A search whose candidates are what ``made`` has kept: they are as good as one another."""
    folder = tmp_path_factory.mktemp("work")
    assert made.quick.int8 is not None
    form = read_form(made.quick.int8)
    (folder / search.STATIC).write_bytes(form.graph)
    (folder / search.STATIC).with_suffix(".bin").write_bytes(form.constants)
    pixels = [np.asarray(Image.open(one)) for one in sorted(made.images.glob("0*.png"))[:12]]
    np.save(folder / search.HELD_BACK, np.stack(pixels))
    engine = OpenVinoEngine(made.home / "cache" / "openvino", "fp32")
    return folder, a_job(made, engine.prepared(made.model))


def test_the_quickest_within_the_bounds_is_kept(work: tuple[Path, search.Job]) -> None:
    folder, job = work
    found = search.measure(folder, job)
    speeds = {one["name"]: one["speedup"] for one in found["candidates"]}
    assert found["kept"] == max(speeds, key=speeds.__getitem__)
    assert found["within"] == list(speeds)
    assert found["within"][0] == "static"
    assert read_form(folder / search.FOUND).positions.shape == (17, 64)


def test_none_is_kept_that_drifts_flips_or_is_no_quicker(work: tuple[Path, search.Job]) -> None:
    folder, job = work
    (folder / search.FOUND).unlink(missing_ok=True)
    far = search.measure(folder, replace(job, max_mean_drift=0.0))
    assert (far["kept"], far["within"]) == (None, [])
    assert [one["name"] for one in far["candidates"]] == [one.name for one in search.CANDIDATES]
    slow = search.measure(folder, replace(job, min_speedup=1e9))
    assert slow["kept"] is None
    assert slow["within"]
    assert not (folder / search.FOUND).exists()
    drift = quantizing._none_kept(far, replace(job, max_mean_drift=0.0))
    assert "is within a mean drift of 0 and 1.0% flips" in str(drift)
    assert "last third dynamic: " in str(drift)
    assert "Small models gain less" in str(quantizing._none_kept(slow, job))


def test_flips_are_counted_outside_the_abstain_band_alone() -> None:
    job = search.Job(
        *("graph", "positions", "head", 64, (), 1.0, 0.0),
        threshold=0.5,
        certain_below=0.4,
        certain_above=0.5,
        threads=1,
    )
    expected = np.array([0.1, 0.4, 0.45, 0.9])
    found = np.array([0.1, 0.6, 0.55, 0.8])
    assert search._apart(found, expected, job) == pytest.approx(
        {"mean_drift": 0.1, "max_drift": 0.2, "flips": 1 / 3}
    )
    assert search._apart(np.full(4, np.nan), expected, job)["mean_drift"] == 1.0


def test_a_search_that_keeps_none_stores_nothing(
    made: Made, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert made.quick.manifest.int8 is not None
    tried = [asdict(one) for one in made.quick.manifest.int8.candidates]
    found = {"candidates": tried, "fp32_seconds": 1.0, "within": [], "kept": None, "group": None}
    monkeypatch.setattr(QuantizeService, "_step", lambda *_: found)
    refused(made, made.images, QuantizationFailed, "nothing was stored.*static: ")
    assert not list(temporary.iterdir())


def test_a_child_that_dies_is_a_sentence(
    made: Made, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantizing.sys, "executable", shutil.which("false"))
    refused(made, made.images, QuantizationFailed, r"could not be quantized \(exit code 1\)")
    dying = temporary.parent / "dying"
    dying.write_text("#!/bin/sh\nkill -9 $$\n")
    dying.chmod(0o755)
    monkeypatch.setattr(quantizing.sys, "executable", str(dying))
    refused(made, made.images, QuantizationFailed, "ended by signal 9; perhaps memory")
    assert not list(temporary.iterdir())


def as_found(made: Made) -> Callable[..., dict[str, Any]]:
    """A step of a search that finds what ``made`` has."""

    def step(_: QuantizeService, step: str, work: Path) -> dict[str, Any]:
        assert made.quick.int8 is not None
        shutil.copy(made.quick.int8, work / search.FOUND)
        known = asdict(made.quick.manifest)["int8"]
        found = {name: known[name] for name in ("candidates", "fp32_seconds", "group", "kept")}
        return {} if step == "learn" else found

    return step


def test_a_demo_model_stays_one(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    assert made.quick.int8 is not None
    monkeypatch.setattr(QuantizeService, "_step", as_found(made))
    monkeypatch.setattr(OpenVinoEngine, "prepared", lambda *_: Path())
    parts = container(made.home)
    done = parts.quantizing().quantize("starter", str(made.images), target="quick")
    assert done.manifest.notice == DERIVED_NOTICE
    assert (done.manifest.name, done.manifest.version) == ("quick", 1)
    assert done.manifest.calibration.name.endswith(", fitted in fp32")
    assert done.manifest.int8 is not None
    assert done.manifest.int8.file == file_of(made.quick.int8)
    parts.registry().delete("quick")


def test_an_interruption_leaves_no_half_version(made: Made, temporary: Path) -> None:
    before = container(made.home).registry().describe("mine")
    # What a shell runs in the background would ignore the signal.
    command = ["env", "--default-signal=INT", sys.executable, "-m", "d3"]
    command += ["models", "quantize", "mine@1"]
    environment = clean_environment(
        D3_HOME=str(made.home), CUDA_DEVICE="cpu", TMPDIR=str(temporary)
    )
    child = subprocess.Popen(
        [*command, "--images", str(made.images)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while not list(temporary.glob("*/learn.log")):
        assert child.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(child.pid, signal.SIGINT)  # as a terminal does: D3 and its child
    out, err = child.communicate(timeout=60)
    assert child.returncode != 0
    assert "Traceback" not in err
    assert not out
    assert not list(temporary.iterdir())
    assert container(made.home).registry().describe("mine") == before


def test_the_command_shows_what_it_measured(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    shutil.copytree(made.home, home)
    monkeypatch.setenv("D3_HOME", str(home))
    monkeypatch.setenv("CUDA_DEVICE", "cpu")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(QuantizeService, "_step", as_found(made))

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(models, [*arguments])

    done = run("quantize", "mine@1", "--images", str(made.images))
    assert done.exit_code == 0, done.output
    assert "(kept)" in done.stdout
    assert "Made with 11 images, measured on 33 others." in done.stdout
    assert "Stored as mine version 3." in done.stderr
    assert "2 files could not be used." in done.stderr
    assert "Run `d3 calibrate` to fit it to int8." in done.stderr
    assert "times as fast as fp32" in run("info", "mine").stdout
    described = json.loads(run("info", "mine", "--json").stdout)
    assert described["int8"]["measured"] == 33


def test_openvino_reads_the_graph_of_a_form_as_it_is(made: Made) -> None:
    assert made.quick.int8 is not None
    form = read_form(made.quick.int8)
    graph = openvino.Core().read_model(form.graph, form.constants)
    assert {one.get_any_name() for one in graph.inputs} == {"pixels", "positions"}
