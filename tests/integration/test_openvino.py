"""OpenVINO's engine: prepared once, trusted only if whole, and torch where it cannot run."""

from __future__ import annotations

import gc
import json
import logging
import shutil
import subprocess
import sys
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import openvino
import pytest

from d3.adapters.openvino import OpenVinoEngine, store
from d3.adapters.torch import TorchEngine
from d3.container import Container
from d3.domain.errors import CheckpointInvalid, EngineMissing, EngineUnavailable
from d3.domain.models import EncoderSpec, StoredModel
from d3.domain.services.engines import MeasuredEngine, PreferredEngine, worth_preparing
from d3.entrypoints.cli.doctor import examine
from d3.settings import Settings
from d3.testing.models import TINY, tiny_ferretnet, tiny_model, tiny_ufd
from tests.support.images import noise

PIXELS = np.stack([noise(56, 56, seed) for seed in range(3)])
PREPARING = "Preparing the model for OpenVINO"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> StoredModel:
    return tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def prepared(
    tmp_path_factory: pytest.TempPathFactory, model: StoredModel, prepared_encoders: Path
) -> Path:
    """A copy of its own, which tests here damage."""
    OpenVinoEngine(prepared_encoders, "fp32").load(model).close()
    folder = tmp_path_factory.mktemp("prepared")
    for record in prepared_encoders.glob("*/made_of.json"):
        if json.loads(record.read_text())["precision"] == "fp32":
            shutil.copytree(record.parent, folder / record.parent.name)
    return folder


@pytest.fixture
def expected(model: StoredModel) -> np.ndarray:
    return TorchEngine("cpu", "fp32").load(model).score(PIXELS, 4)


def only_entry(folder: Path) -> Path:
    (entry,) = [one for one in folder.iterdir() if one.is_dir()]
    return entry


def test_what_was_prepared_is_used_again_without_torch(
    prepared: Path,
    model: StoredModel,
    expected: np.ndarray,
    tmp_path: Path,
    run_python: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    import msgspec

    script = """
import sys
from pathlib import Path
import msgspec, numpy as np
from d3.adapters.openvino import OpenVinoEngine
from d3.domain.models import Manifest, StoredModel
manifest, encoder, head, pixels, target, folder = map(Path, sys.argv[1:])
paths = {"encoder": encoder, "head": head}
model = StoredModel(msgspec.json.decode(manifest.read_bytes(), type=Manifest), paths)
np.save(target, OpenVinoEngine(folder, "fp32").load(model).score(np.load(pixels), 4))
assert "torch" not in sys.modules
"""
    (tmp_path / "manifest.json").write_bytes(msgspec.json.encode(model.manifest))
    np.save(tmp_path / "pixels.npy", PIXELS)
    done = run_python(
        script,
        tmp_path / "manifest.json",
        model.encoder,
        model.head,
        tmp_path / "pixels.npy",
        tmp_path / "logits.npy",
        prepared,
    )
    assert PREPARING not in done.stderr
    assert np.abs(np.load(tmp_path / "logits.npy") - expected).max() < 1e-4


@pytest.mark.parametrize("file", ["encoder.xml", "encoder.bin", "positions.npy", "made_of.json"])
@pytest.mark.parametrize("fault", ["cut", "changed", "gone"])
def test_a_file_that_is_not_whole_is_not_trusted(
    file: str, fault: str, prepared: Path, model: StoredModel, tmp_path: Path
) -> None:
    path = only_entry(prepared) / file
    before = path.read_bytes()
    facts = json.loads((only_entry(prepared) / "made_of.json").read_text())
    facts.pop("files")
    try:
        assert store._is_whole(only_entry(prepared), facts)
        if fault == "gone":
            path.unlink()
        else:
            path.write_bytes(before[:-9] if fault == "cut" else before[:-9] + b"x" + before[-8:])
        assert not store._is_whole(only_entry(prepared), facts)
    finally:
        path.write_bytes(before)


def test_a_damaged_one_is_made_anew_and_scores_right(
    prepared: Path, model: StoredModel, expected: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    path = only_entry(prepared) / "encoder.bin"
    path.write_bytes(bytes(len(path.read_bytes())))
    with caplog.at_level(logging.WARNING):
        found = OpenVinoEngine(prepared, "fp32").load(model).score(PIXELS, 4)
    assert PREPARING in caplog.text
    assert np.abs(found - expected).max() < 1e-4


def test_one_of_another_machine_or_other_weights_is_not_found(prepared: Path) -> None:
    facts = json.loads((only_entry(prepared) / "made_of.json").read_text())
    facts.pop("files")
    for change in ({"processor": "another"}, {"openvino": "2020.1"}, {"encoder": "0" * 64}):
        assert not store._is_whole(only_entry(prepared), facts | change)


def fails(*arguments: object, **options: object) -> None:
    raise subprocess.CalledProcessError(-11, "export", stderr="")


def test_a_preparation_that_crashes_is_one_line_and_torch(
    model: StoredModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expected: np.ndarray
) -> None:
    monkeypatch.setattr(store.subprocess, "run", fails)
    engine = PreferredEngine(lambda: OpenVinoEngine(tmp_path), lambda: TorchEngine("cpu", "fp32"))
    with pytest.warns(RuntimeWarning, match="could not prepare") as said:
        detector = engine.load(model)
    assert len(said) == 1
    assert detector.engine == "torch"
    assert np.abs(detector.score(PIXELS, 4) - expected).max() < 1e-6
    assert not [one for one in tmp_path.iterdir() if one.is_dir()]


def test_a_model_that_openvino_refuses_is_an_engine_error(
    prepared: Path, model: StoredModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = OpenVinoEngine(prepared, "fp32")

    class Refusing:
        def get_property(self, *names: str) -> object:
            return openvino.Core().get_property(*names)

        def compile_model(self, *_: object) -> None:
            raise RuntimeError("Exception from src/plugin.cpp:1:\nnot on this processor\n")

    monkeypatch.setattr(engine, "_core", Refusing())
    with pytest.raises(EngineUnavailable, match="not on this processor"):
        engine.load(model)


def test_a_folder_that_cannot_be_written_is_an_engine_error(
    model: StoredModel, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EngineUnavailable, match="cannot be stored"):
        OpenVinoEngine(tmp_path / "file").load(model)


def test_a_precision_the_processor_lacks_is_a_warning_and_float32(
    prepared: Path, model: StoredModel
) -> None:
    with pytest.warns(RuntimeWarning, match="fp16 is not faster"):
        detector = OpenVinoEngine(prepared, "fp16").load(model)
    assert detector.precision == "fp32"


def test_a_head_of_another_width_is_refused(prepared: Path, model: StoredModel) -> None:
    spec = replace(TINY, width=128, heads=2)
    with pytest.raises(CheckpointInvalid):
        OpenVinoEngine(prepared).load(replace(model, manifest=replace(model.manifest, spec=spec)))


def test_one_image_at_a_time_has_the_same_bits_in_any_batch(
    prepared: Path, model: StoredModel
) -> None:
    detector = OpenVinoEngine(prepared, "fp32", batch_size=1).load(model)
    alone = np.concatenate([detector.score(one[None], 1) for one in PIXELS])
    assert np.array_equal(detector.score(PIXELS, 1), alone)
    assert np.array_equal(detector.score(PIXELS[::-1], 1)[::-1], alone)


def test_the_engine_asked_for_without_its_package_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(EngineMissing, match="extra 'openvino'"):
        Container(settings=Settings(home=tmp_path, engine="openvino")).engine()


@pytest.mark.parametrize(
    ("engine", "precision", "kind"),
    [
        ("auto", "bf16", PreferredEngine),
        ("auto", "auto", MeasuredEngine),
        ("auto", "fast", MeasuredEngine),
        ("auto", "fp32", TorchEngine),
        ("torch", "auto", TorchEngine),
        ("torch", "bf16", TorchEngine),
        ("openvino", "auto", PreferredEngine),
    ],
)
def test_the_engine_is_the_one_asked_for_else_the_better_one_that_is_here(
    engine: str, precision: str, kind: type, tmp_path: Path
) -> None:
    settings = Settings(
        home=tmp_path,
        engine=engine,  # type: ignore[arg-type]
        precision=precision,  # type: ignore[arg-type]
        cuda_device="cpu",
    )
    assert type(Container(settings=settings).engine()) is kind


def test_openvino_and_a_gpu_asked_for_together_is_a_warning(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, engine="openvino", cuda_device=0)
    with pytest.warns(RuntimeWarning, match="CUDA_DEVICE=0 is not used"):
        Container(settings=settings).engine()


def test_without_openvino_it_is_torch_without_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("d3.container.find_spec", lambda _: None)
    settings = Settings(home=tmp_path, cuda_device="cpu", precision="bf16")
    engine = Container(settings=settings).engine()
    assert type(engine) is TorchEngine


def test_only_a_large_encoder_is_worth_preparing(tmp_path: Path) -> None:
    small = tiny_model(tmp_path)
    assert not worth_preparing(small.manifest)
    orders = (tuple(range(EncoderSpec().patches)),)
    large = replace(small.manifest, spec=EncoderSpec(), permutations=orders)
    assert worth_preparing(large)
    assert not worth_preparing(tiny_ferretnet(tmp_path).manifest)
    assert not worth_preparing(replace(large, architecture="anothers"))
    engine = PreferredEngine(
        lambda: pytest.fail("a small one is not prepared"),
        lambda: TorchEngine("cpu"),
        worth_preparing,
    )
    assert engine.load(small).engine == "torch"


def test_left_to_d3_the_engines_are_measured_once_and_the_doctor_shows_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    spec = EncoderSpec(image_size=112, width=512, layers=6, heads=8, mlp_width=2048)
    made = tiny_model(tmp_path, "middling", spec=spec)
    assert worth_preparing(made.manifest)
    for name, value in {"HOME": str(tmp_path / "home"), "MODEL": "middling"}.items():
        monkeypatch.setenv(f"D3_{name}", value)
    monkeypatch.setenv("CUDA_DEVICE", "cpu")
    container = Container(settings=Settings.from_environment(dotenv=None))
    container.registry().put(made)
    engines = [one.found for one in examine() if one.check == "engines"]
    assert {one.partition(":")[0] for one in engines} == {"torch fp32", "openvino fp32"}
    (used,) = [one for one in engines if one.endswith("in use")]
    assert "once on each machine" in caplog.text
    caplog.clear()
    detector = container.engine().load(container.registry().open("middling"))
    assert used.startswith(f"{detector.engine} {detector.precision}")
    detector.close()
    assert "once on each machine" not in caplog.text


def test_models_on_the_same_encoder_hold_it_once_and_free_it_with_the_last(
    prepared: Path, model: StoredModel, tmp_path: Path
) -> None:
    cropping = tiny_ufd(tmp_path, beside=model)
    first = OpenVinoEngine(prepared, "fp32").load(model)
    second = OpenVinoEngine(prepared, "fp32").load(cropping)
    alone = second.score(PIXELS, 1)
    assert first._encoder is second._encoder
    assert first._encoder is not None
    held = weakref.ref(first._encoder)
    first.close()
    gc.collect()
    assert held() is not None
    assert np.array_equal(second.score(PIXELS, 1), alone)
    second.close()
    gc.collect()
    assert held() is None


def test_where_openvino_was_asked_for_torch_runs_other_networks_without_a_word(
    tmp_path: Path,
) -> None:
    settings = Settings(home=tmp_path, engine="openvino", cuda_device="cpu")
    detector = Container(settings=settings).model_engine().load(tiny_ferretnet(tmp_path))
    assert detector.engine == "torch"
    detector.close()
