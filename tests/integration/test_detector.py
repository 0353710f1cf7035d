"""A score depends on the image and the model alone, and costs what it should."""

from __future__ import annotations

import gc
import subprocess
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from d3.adapters.cpu_sizing import encodings_at_once, worthwhile_threads
from d3.adapters.pillow import PillowDecoder
from d3.adapters.torch import TorchArchitectures, TorchEngine
from d3.adapters.torch.device import choose_device, choose_precision
from d3.adapters.torch.engine import TorchDetector
from d3.domain.errors import CheckpointInvalid, DeviceOutOfMemory, DeviceUnavailable
from d3.domain.images import Pixels
from d3.domain.inputs import Fit
from d3.domain.models import EncoderSpec, StoredModel
from d3.domain.ports.detector import Explainer
from d3.domain.scoring import sigmoid
from d3.network.checkpoints import load_network
from d3.testing.models import tiny_model, tiny_ufd

SAME = 1e-6
"""Predictions of one image in float32 agree this closely whatever surrounds it."""


@pytest.fixture(scope="module")
def model(pack: Path, tmp_path_factory: pytest.TempPathFactory) -> StoredModel:
    """The reference pack's encoder and head as a stored model of 16 permutations."""
    into = tmp_path_factory.mktemp("model")
    files = {"encoder": pack / "visual.safetensors", "head": pack / "classifier.pth"}
    return TorchArchitectures().read("d3", "tiny", files, into)


@pytest.fixture(scope="module")
def pixels(pack: Path) -> Pixels:
    decoder = PillowDecoder()
    images = sorted((pack / "images").iterdir())
    return np.stack([decoder.decode(image, 224).pixels for image in images])


@pytest.fixture(scope="module")
def detector(model: StoredModel) -> Iterator[TorchDetector]:
    detector = TorchEngine("cpu", "fp32").load(model)
    yield detector
    detector.close()


def predictions(logits: np.ndarray) -> np.ndarray:
    return np.vectorize(sigmoid)(logits)


@pytest.fixture(scope="module")
def alone(detector: TorchDetector, pixels: Pixels) -> np.ndarray:
    """Each image's predictions in four views, scored by itself."""
    return predictions(np.concatenate([detector.score(one[None], 4) for one in pixels]))


@settings(max_examples=12, deadline=None)
@given(rows=st.lists(st.integers(0, 8), min_size=1, max_size=9), views=st.integers(1, 4))
def test_score_does_not_depend_on_the_batch_its_order_or_its_neighbours(
    rows: list[int], views: int, detector: TorchDetector, pixels: Pixels, alone: np.ndarray
) -> None:
    found = predictions(detector.score(pixels[rows], views))
    assert np.abs(found - alone[rows, :views]).max() <= SAME


@pytest.mark.parametrize("batch_size", [1, 2, 7])
def test_score_does_not_depend_on_the_batch_size(
    batch_size: int, model: StoredModel, pixels: Pixels, alone: np.ndarray
) -> None:
    detector = TorchEngine("cpu", "fp32", batch_size).load(model)
    assert np.abs(predictions(detector.score(pixels, 4)) - alone).max() <= SAME
    detector.close()


def test_the_same_call_gives_the_same_bits(detector: TorchDetector, pixels: Pixels) -> None:
    assert np.array_equal(detector.score(pixels, 2), detector.score(pixels, 2))


def test_a_model_loaded_again_gives_the_same_bits(
    detector: TorchDetector, model: StoredModel, pixels: Pixels
) -> None:
    again = TorchEngine("cpu", "fp32").load(model)
    assert np.array_equal(again.score(pixels, 2), detector.score(pixels, 2))
    again.close()


SCORE = """
import sys
from pathlib import Path
import msgspec, numpy as np
from d3.adapters.torch import TorchEngine
from d3.domain.models import Manifest, StoredModel

manifest, encoder, head, pixels, target = map(Path, sys.argv[1:])
paths = {"encoder": encoder, "head": head}
model = StoredModel(msgspec.json.decode(manifest.read_bytes(), type=Manifest), paths)
np.save(target, TorchEngine("cpu", "fp32").load(model).score(np.load(pixels), 4))
"""


def test_score_does_not_depend_on_the_process(
    model: StoredModel,
    pixels: Pixels,
    alone: np.ndarray,
    tmp_path: Path,
    run_python: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    import msgspec

    (tmp_path / "manifest.json").write_bytes(msgspec.json.encode(model.manifest))
    np.save(tmp_path / "pixels.npy", pixels)
    files = [tmp_path / "manifest.json", model.encoder, model.head]
    run_python(SCORE, *files, tmp_path / "pixels.npy", tmp_path / "logits.npy")
    elsewhere = predictions(np.load(tmp_path / "logits.npy"))
    assert np.abs(elsewhere - alone).max() <= SAME


@pytest.mark.parametrize("views", range(1, 9))
def test_views_cost_one_encoding_each_and_one_for_the_original(
    views: int, model: StoredModel, pixels: Pixels
) -> None:
    network = load_network(model.manifest.spec, model.encoder, model.head)
    encoded: list[int] = []
    network.encoder.ln_pre.register_forward_pre_hook(
        lambda module, arguments: encoded.append(arguments[0].shape[0])
    )
    detector = TorchDetector(
        network, torch.tensor(model.manifest.permutations), "fp32", weights_bytes=0
    )
    detector.score(pixels[:3], views)
    assert sum(encoded) == 3 * (1 + views)
    detector.close()


def test_no_forward_pass_is_larger_than_was_asked_for(model: StoredModel, pixels: Pixels) -> None:
    network = load_network(model.manifest.spec, model.encoder, model.head)
    encoded: list[int] = []
    network.encoder.ln_pre.register_forward_pre_hook(
        lambda module, arguments: encoded.append(arguments[0].shape[0])
    )
    permutations = torch.tensor(model.manifest.permutations)
    detector = TorchDetector(network, permutations, "fp32", encodings=6, weights_bytes=0)
    detector.score(pixels, 2)
    assert encoded == [6, 6, 6, 6, 3]
    encoded.clear()
    detector.score(pixels[:2], 16)
    assert encoded == [17, 17]
    detector.close()


def test_views_are_the_first_permutations_of_the_manifest(
    model: StoredModel, pixels: Pixels
) -> None:
    orders = model.manifest.permutations
    logits = TorchEngine("cpu").load(model).score(pixels[:2], 16)
    for first in (0, 5, 15):
        alone = replace(model, manifest=replace(model.manifest, permutations=(orders[first],)))
        found = TorchEngine("cpu").load(alone).score(pixels[:2], 1)
        assert np.abs(found[:, 0] - logits[:, first]).max() < 1e-5


def test_bfloat16_is_close_to_float32_and_its_head_stays_in_float32(
    model: StoredModel, pixels: Pixels, alone: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    detector = TorchEngine("cpu", "bf16").load(model)
    network = detector._network
    assert network is not None
    assert {one.dtype for one in network.encoder.parameters()} == {torch.bfloat16}
    assert {one.dtype for one in network.head.parameters()} == {torch.float32}
    assert detector.precision == "bf16"
    found = predictions(detector.score(pixels, 4))
    assert np.abs(found - alone).max() < 0.03
    detector.close()


def test_a_score_is_the_pixels_alone_not_the_memory_they_lie_in(
    detector: TorchDetector, pixels: Pixels, alone: np.ndarray
) -> None:
    transposed = np.ascontiguousarray(pixels.transpose(3, 1, 2, 0)).transpose(3, 1, 2, 0)
    assert not transposed.flags.c_contiguous
    assert np.abs(predictions(detector.score(transposed, 4)) - alone).max() <= SAME


def test_weights_that_overflow_are_no_number_and_said_to_be_none(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    from d3.domain.errors import ScoreUndefined
    from d3.domain.scoring import assess

    model = tiny_model(tmp_path)
    save_file({k: v.clamp(-1, 1) * 3e38 for k, v in load_file(model.head).items()}, model.head)
    detector = TorchEngine("cpu").load(model)
    logits = detector.score(np.zeros((1, 56, 56, 3), np.uint8), 1)
    with pytest.raises(ScoreUndefined):
        assess(logits[0].tolist(), threshold=0.5)


def test_a_model_of_another_shape_than_its_manifest_says_is_not_loaded(model: StoredModel) -> None:
    spec = replace(model.manifest.spec, layers=5)
    with pytest.raises(CheckpointInvalid):
        TorchEngine("cpu").load(replace(model, manifest=replace(model.manifest, spec=spec)))


# No machine of ours has two GPUs of different age: what torch says of them is set by hand below.


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, tuple[int, int]], None]:
    def offer(count: int, capability: tuple[int, int] = (8, 0)) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: f"GPU-{number}")
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)

    return offer


@pytest.mark.parametrize(
    ("count", "asked", "device"),
    [(0, None, "cpu"), (0, "cpu", "cpu"), (2, None, "cuda:0"), (2, 1, "cuda:1"), (2, "cpu", "cpu")],
)
def test_the_device_is_the_one_asked_for_else_the_first_gpu_else_the_cpu(
    count: int, asked: object, device: str, gpus: Callable[..., None]
) -> None:
    gpus(count)
    assert str(choose_device(asked)) == device


def test_a_gpu_on_a_machine_without_any_is_a_warning_and_the_cpu(
    gpus: Callable[..., None],
) -> None:
    gpus(0)
    with pytest.warns(RuntimeWarning, match="CUDA_DEVICE=1"):
        assert str(choose_device(1)) == "cpu"


def test_a_gpu_that_is_not_there_among_others_is_an_error_that_names_them(
    gpus: Callable[..., None],
) -> None:
    gpus(2)
    with pytest.raises(DeviceUnavailable, match=r"0 \(GPU-0\), 1 \(GPU-1\)"):
        choose_device(2)


@pytest.mark.parametrize(
    ("asked", "device", "capability", "precision"),
    [
        ("auto", "cpu", (8, 0), "fp32"),
        ("auto", "cuda", (8, 0), "bf16"),
        ("auto", "cuda", (9, 0), "bf16"),
        ("auto", "cuda", (7, 5), "fp16"),
        ("fp32", "cuda", (9, 0), "fp32"),
        ("fp16", "cuda", (9, 0), "fp16"),
        ("fp32", "cpu", (8, 0), "fp32"),
    ],
)
def test_the_precision_is_the_one_asked_for_else_what_the_device_does_best(
    asked: str,
    device: str,
    capability: tuple[int, int],
    precision: str,
    gpus: Callable[..., None],
) -> None:
    gpus(1, capability)
    assert choose_precision(asked, torch.device(device)) == precision


def test_half_precision_on_the_cpu_is_a_warning_and_float32() -> None:
    with pytest.warns(RuntimeWarning, match="fp16"):
        assert choose_precision("fp16", torch.device("cpu")) == "fp32"


@pytest.mark.parametrize(("has", "precision"), [(True, "bf16"), (False, "fp32")])
def test_bfloat16_serves_on_a_processor_that_has_it(
    *, has: bool, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": has})
    said = nullcontext() if has else pytest.warns(RuntimeWarning, match="no bfloat16 arithmetic")
    with said:
        assert choose_precision("bf16", torch.device("cpu")) == precision


def test_bfloat16_on_a_gpu_without_it_is_a_warning_and_float16(gpus: Callable[..., None]) -> None:
    gpus(1, (7, 5))
    with pytest.warns(RuntimeWarning, match="D3 uses fp16"):
        assert choose_precision("bf16", torch.device("cuda")) == "fp16"


def test_a_batch_larger_than_memory_is_halved_with_a_word_and_scored_right(
    model: StoredModel, pixels: Pixels, alone: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = TorchEngine("cpu", "fp32").load(model)
    detector._parts = 1
    room, forward, sizes = 3, TorchDetector._forward, []

    def limited(self: TorchDetector, chunk: Pixels, permutations: torch.Tensor) -> np.ndarray:
        sizes.append(len(chunk))
        if len(chunk) > room:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")
        return forward(self, chunk, permutations)

    monkeypatch.setattr(TorchDetector, "_forward", limited)
    detector._encodings = 16
    with pytest.warns(RuntimeWarning, match="uses batches of") as said:
        found = predictions(detector.score(pixels, 1))
    assert len(said) == 2
    assert np.abs(found - alone[:, :1]).max() <= SAME
    sizes.clear()
    detector.score(pixels, 1)
    assert set(sizes) <= {1, 2}, "what was learned is kept"
    room = 0
    detector._encodings = 2
    with pytest.raises(DeviceOutOfMemory):
        detector.score(pixels, 1)


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("worth", [1, 8])
def test_torch_takes_no_more_threads_than_a_containers_quota(
    model: StoredModel, monkeypatch: pytest.MonkeyPatch, worth: int
) -> None:
    seen: list[int] = []
    monkeypatch.setattr("d3.adapters.torch.batched.available_cores", lambda: 1)
    monkeypatch.setattr("d3.adapters.torch.engine.worthwhile_threads", lambda _: worth)
    detector = TorchEngine("cpu", "fp32").load(model)
    network = detector._network
    assert network is not None
    network.register_forward_pre_hook(lambda *_: seen.append(torch.get_num_threads()))
    detector.score(np.zeros((2, 224, 224, 3), np.uint8), 1)
    assert seen == [1]  # and one part, not one for each of torch's threads


@pytest.mark.usefixtures("two_threads")
def test_a_small_encoder_takes_one_thread_and_gives_the_others_back(model: StoredModel) -> None:
    seen: list[int] = []
    detector = TorchEngine("cpu", "fp32").load(model)
    network = detector._network
    assert network is not None
    network.register_forward_pre_hook(lambda *_: seen.append(torch.get_num_threads()))
    detector.score(np.zeros((1, 224, 224, 3), np.uint8), 1)
    assert seen == [1]
    assert torch.get_num_threads() == 2
    assert worthwhile_threads(EncoderSpec()) > 32


@pytest.mark.usefixtures("two_threads")
def test_images_of_a_small_encoder_are_scored_side_by_side(
    model: StoredModel, pixels: Pixels, alone: np.ndarray
) -> None:
    detector = TorchEngine("cpu", "fp32").load(model)
    network, both = detector._network, threading.Barrier(2)
    assert network is not None

    def meet(*_: object) -> None:
        both.wait(60)

    network.register_forward_pre_hook(meet)
    assert np.abs(predictions(detector.score(pixels, 1)) - alone[:, :1]).max() <= SAME
    assert detector.score(pixels[:0], 1).shape == (0, 1)


@pytest.mark.usefixtures("two_threads")
def test_parts_that_find_no_room_at_once_halve_the_batch_once(
    model: StoredModel, pixels: Pixels, alone: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = TorchEngine("cpu", "fp32").load(model)
    forward, both = TorchDetector._forward, threading.Barrier(2)

    def limited(self: TorchDetector, chunk: Pixels, permutations: torch.Tensor) -> np.ndarray:
        if len(chunk) > 2:
            both.wait(60)
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")
        return forward(self, chunk, permutations)

    monkeypatch.setattr(TorchDetector, "_forward", limited)
    eight = np.concatenate([pixels, pixels])[:8]
    with pytest.warns(RuntimeWarning, match="uses batches of 2") as said:
        found = predictions(detector.score(eight, 1))
    assert len(said) == 1
    assert np.abs(found - np.concatenate([alone, alone])[:8, :1]).max() <= SAME


def test_a_large_encoder_scores_bit_for_bit_the_same_in_any_batch(
    model: StoredModel, pixels: Pixels
) -> None:
    # Its images go one by one, as those of ViT-L/14 do on a processor.
    detector = TorchEngine("cpu", "fp32", batch_size=1).load(model)
    assert encodings_at_once(EncoderSpec()) == 2
    alone = np.concatenate([detector.score(one[None], 1) for one in pixels])
    assert np.array_equal(detector.score(pixels, 1), alone)
    assert np.array_equal(detector.score(pixels[::-1], 1)[::-1], alone)


@pytest.fixture
def cropping(model: StoredModel, tmp_path: Path) -> StoredModel:
    """Another model on the same encoder, which sees other pixels."""
    return tiny_ufd(tmp_path, beside=model)


def test_models_on_the_same_encoder_hold_it_once_and_free_it_with_the_last(
    tmp_path: Path,
) -> None:
    model = tiny_model(tmp_path, seed=8)
    cropping = tiny_ufd(tmp_path, beside=model)
    pixels = np.zeros((2, 56, 56, 3), np.uint8)
    detectors = [TorchEngine("cpu", "fp32").load(one) for one in (model, cropping, model)]
    alone = detectors[1].score(pixels, 1)
    (encoder,) = {one._network.encoder for one in detectors}  # type: ignore[union-attr]
    held = weakref.ref(encoder)
    del encoder
    detectors[0].close()
    detectors[2].close()
    gc.collect()
    assert held() is not None
    assert np.array_equal(detectors[1].score(pixels, 1), alone)
    detectors[1].close()
    gc.collect()
    assert held() is None


def test_what_is_loaded_otherwise_is_not_shared(
    model: StoredModel, cropping: StoredModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    gelu = replace(cropping.manifest.encoder_spec, activation="gelu")
    others = [
        TorchEngine("cpu", "fp32").load(model),
        TorchEngine("cpu", "bf16").load(cropping),
        TorchEngine("cpu", "fp32").load(
            replace(cropping, manifest=replace(cropping.manifest, spec=gelu))
        ),
    ]
    assert len({one._network.encoder for one in others}) == 3  # type: ignore[union-attr]
    for one in others:
        one.close()


def test_a_probe_costs_one_encoding_and_nothing_beside_a_d3(
    model: StoredModel, pixels: Pixels, tmp_path: Path
) -> None:
    probe = tiny_ufd(tmp_path, beside=model, fit=Fit.SQUASH)
    for loaded, views, encodings in (
        (probe, 1, 1),
        (replace(model, beside=(probe,)), 1, 2),
        (replace(model, beside=(probe,)), 4, 5),
        (replace(probe, beside=(model,)), 2, 3),
    ):
        detector, encoded = TorchEngine("cpu", "fp32").load(loaded), list[int]()
        hook = detector._network.encoder.ln_pre.register_forward_pre_hook(  # type: ignore[union-attr]
            lambda _, given, encoded=encoded: encoded.append(len(given[0]))
        )
        detector.score(pixels[:3], views)
        assert sum(encoded) == 3 * encodings
        hook.remove()
        detector.close()


def test_heat_maps_are_those_of_the_d3_with_a_probe_beside_it(
    model: StoredModel, pixels: Pixels, tmp_path: Path
) -> None:
    probe = tiny_ufd(tmp_path, beside=model, fit=Fit.SQUASH)
    alone = TorchEngine("cpu", "fp32").load(model)
    both = TorchEngine("cpu", "fp32").load(replace(model, beside=(probe,)))
    other = TorchEngine("cpu", "fp32").load(replace(probe, beside=(model,)))
    assert isinstance(both, Explainer)
    assert isinstance(alone, Explainer)
    assert not isinstance(other, Explainer)
    found, expected = (one.explain_parts(pixels[0], 2, 0, 2) for one in (both, alone))
    assert np.array_equal(found, expected)
    every = np.arange(169.0)  # windows of 4 of 16 patches a side
    assert np.array_equal(both.heat(every), alone.heat(every))
    for one in (alone, both, other):
        one.close()
