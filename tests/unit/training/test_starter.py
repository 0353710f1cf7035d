from __future__ import annotations

import json
import re
from importlib import resources
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from d3.adapters.filesystem import FilesystemRegistry
from d3.domain.models import EncoderSpec, Manifest
from d3.evaluation.calibration import fit_calibration
from d3.network import D3Network, DiscrepancyHead, Encoder, draw_permutations
from d3.network.checkpoints import load_network
from d3.training.augment import Augmentation, augment_pair
from d3.training.calibrate import fold_calibration
from d3.training.card import model_card
from d3.training.evaluate import score
from d3.training.fit import FitSettings, fit
from d3.training.generators import Family
from d3.training.initialise import cosine_filters, start_as_spectrum
from d3.training.starter import StarterPlan, WithoutShuffle, build

SPEC = EncoderSpec(
    image_size=56, patch_size=14, width=64, layers=2, heads=1, mlp_width=64, projection=0
)
TINY = StarterPlan(
    generator_scenes=4,
    generator_steps=2,
    training_scenes=4,
    forgeries_per_scene=2,
    validation_scenes=2,
    test_scenes=3,
    encoder=SPEC,
    fit=FitSettings(steps=3, pairs_per_batch=2),
)
CONDITIONS = ("clean", "jpeg90", "jpeg75", "jpeg50")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("starter")
    build(out, seed=1, plan=TINY, examples=out / "examples")
    return out


def _network(seed: int = 0) -> D3Network:
    torch.manual_seed(seed)
    return D3Network(Encoder(SPEC), DiscrepancyHead(SPEC.width))


def _batches(count: int = 4):
    generator = torch.Generator().manual_seed(0)
    while True:
        pixels = torch.randint(0, 256, (count, 56, 56, 3), dtype=torch.uint8, generator=generator)
        labels = torch.arange(count).remainder(2).float()
        pixels[labels > 0] //= 2
        yield pixels, labels


def test_one_command_writes_weights_figures_card_and_examples(built: Path) -> None:
    written = {file.name for file in built.iterdir()}
    assert written == {
        "MODEL_CARD.md",
        "encoder.safetensors",
        "examples",
        "head.safetensors",
        "manifest.json",
        "metrics.json",
    }
    network = load_network(SPEC, built / "encoder.safetensors", built / "head.safetensors")
    assert {tensor.dtype for tensor in network.state_dict().values()} == {torch.float16}


def test_what_was_built_is_a_model_that_a_registry_opens(built: Path, tmp_path: Path) -> None:
    registry = FilesystemRegistry(tmp_path, packaged=[built])
    manifest = registry.open("starter").manifest

    assert manifest.spec == SPEC
    assert "not for judging real photographs" in manifest.notice
    metrics = json.loads((built / "metrics.json").read_text())
    assert manifest.metrics["auroc_seen_clean"] == pytest.approx(
        metrics["starter"]["clean"]["seen"]["auroc"], abs=5e-4
    )


def test_every_family_is_measured_under_every_condition(built: Path) -> None:
    metrics = json.loads((built / "metrics.json").read_text())

    for network in ("starter", "without_shuffle"):
        assert tuple(metrics[network]) == CONDITIONS
        for condition in CONDITIONS:
            figures = metrics[network][condition]
            assert set(figures) == {*map(str, Family), "seen", "unseen"}
            assert all(0 <= cell["auroc"] <= 1 for cell in figures.values())
            assert figures["seen"]["generated"] == 12
            assert figures["unseen"]["generated"] == 6
    assert set(metrics["baselines"]) == set(map(str, Family))


def test_examples_come_in_pairs_of_one_format(built: Path) -> None:
    files = sorted(file.name for file in (built / "examples").iterdir())
    cameras = [name for name in files if name.startswith("camera-")]
    generated = [name for name in files if name.startswith("generated-")]

    assert len(cameras) == len(generated) > 0
    assert [name.rpartition(".")[2] for name in cameras] == [
        name.rpartition(".")[2] for name in generated
    ]


def test_the_same_seed_gives_the_same_bytes(built: Path, tmp_path: Path) -> None:
    build(tmp_path, seed=1, plan=TINY)

    for name in ("encoder.safetensors", "head.safetensors"):
        assert (tmp_path / name).read_bytes() == (built / name).read_bytes()
    first, second = (json.loads((f / "metrics.json").read_text()) for f in (built, tmp_path))
    del first["cost"], second["cost"]
    assert first == second


def test_no_scene_is_in_two_splits() -> None:
    scenes = [scene for split in StarterPlan().splits().values() for scene in split]
    assert len(scenes) == len(set(scenes))


def test_progress_rises_to_one_in_every_stage(tmp_path: Path) -> None:
    told: dict[str, list[float]] = {}
    build(
        tmp_path,
        seed=2,
        plan=TINY,
        progress=lambda stage, share: told.setdefault(stage, []).append(share),
    )

    for shares in told.values():
        assert shares == sorted(shares)
        assert shares[-1] == 1.0


def test_fitting_lowers_the_loss() -> None:
    losses: list[float] = []
    fit(
        _network(),
        _batches(),
        FitSettings(steps=30, rate=3e-3),
        seed=0,
        progress=lambda _, loss: losses.append(loss),
    )
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])


def test_a_frozen_encoder_stays_as_it_is_while_the_head_learns() -> None:
    network = _network()
    network.encoder.requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}

    fit(network, _batches(), FitSettings(steps=3), seed=0)

    after = network.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in after if "encoder" in name)
    assert not torch.equal(after["head.fc.weight"], before["head.fc.weight"])


def test_without_the_shuffle_the_permutation_does_not_matter() -> None:
    torch.manual_seed(0)
    network = WithoutShuffle(Encoder(SPEC), DiscrepancyHead(SPEC.width)).eval()
    pixels, _ = next(_batches())
    orders = torch.tensor(draw_permutations(0, 3, SPEC.patches))
    with torch.inference_mode():
        logits = network(pixels, orders)
        plain = D3Network.forward(network, pixels, torch.arange(SPEC.patches)[None])

    assert logits.shape == (4, 3)
    assert torch.allclose(logits, plain.expand(-1, 3), atol=1e-6)


def test_cosine_filters_do_not_see_a_plain_colour() -> None:
    filters = cosine_filters(64, 14)

    assert filters.shape == (64, 3, 14, 14)
    assert np.abs(filters.sum((2, 3))).max() < 1e-4
    assert len(np.unique(filters.reshape(64, -1).round(5), axis=0)) == 64


def test_the_start_is_the_same_for_the_same_seed() -> None:
    first, second = Encoder(SPEC), Encoder(SPEC)
    start_as_spectrum(first, seed=3)
    start_as_spectrum(second, seed=3)

    assert torch.equal(first.conv1.weight, second.conv1.weight)
    assert torch.equal(first.positional_embedding, second.positional_embedding)


def test_calibration_finds_the_scale_and_bias_that_made_the_labels() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, 20_000)
    labels = rng.random(20_000) < 1 / (1 + np.exp(-(0.5 * logits + 1)))

    scale, bias = fit_calibration(labels, logits)

    assert scale == pytest.approx(0.5, abs=0.03)
    assert bias == pytest.approx(1.0, abs=0.06)


def test_calibration_stays_finite_when_the_classes_are_apart() -> None:
    scale, bias = fit_calibration([0, 0, 1, 1], [-2.0, -1.0, 1.0, 2.0])

    assert 0 < scale < 100
    assert abs(bias) < 100


def test_a_folded_calibration_moves_the_logit_as_said() -> None:
    head = DiscrepancyHead(8)
    shuffled, original = torch.randn(2, 5, 8)
    before = head(shuffled, original)
    fold_calibration(head, 2.0, -0.5)

    assert torch.allclose(head(shuffled, original), 2 * before - 0.5, atol=1e-5)


def test_augmentation_changes_both_of_a_pair_alike() -> None:
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (28, 28, 3), dtype=np.uint8)

    for _ in range(20):
        first, second = augment_pair(picture, picture.copy(), Augmentation(jpeg=0.5), rng)
        assert np.array_equal(first, second)


def _shipped(name: str) -> Path:
    return Path(str(resources.files("d3"))) / "starter" / name


def test_the_shipped_card_says_what_was_measured() -> None:
    metrics = json.loads(_shipped("metrics.json").read_text(encoding="utf-8"))
    assert _shipped("MODEL_CARD.md").read_text(encoding="utf-8") == model_card(metrics)


def test_the_shipped_card_says_first_what_it_is_not_for() -> None:
    card = _shipped("MODEL_CARD.md").read_text(encoding="utf-8")
    assert card.split("\n\n")[1].startswith("**For trying the software. Not for judging real")


def test_sharpness_tells_no_shipped_family_apart() -> None:
    metrics = json.loads(_shipped("metrics.json").read_text(encoding="utf-8"))
    for family in Family:
        assert metrics["baselines"][family]["laplacian_variance"] < 0.75


def test_the_shipped_model_is_right_on_most_of_the_examples() -> None:
    metrics = json.loads(_shipped("metrics.json").read_text(encoding="utf-8"))
    spec = EncoderSpec(**metrics["plan"]["encoder"])
    network = load_network(spec, _shipped("encoder.safetensors"), _shipped("head.safetensors"))
    files = sorted((Path(__file__).parents[3] / "examples" / "images").iterdir())
    pixels = np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files])
    orders = draw_permutations(metrics["permutation_seed"], 1, spec.patches)

    called = score(network.float(), pixels, orders) > 0

    truth = np.array([file.name.startswith("generated-") for file in files])
    assert truth.sum() == len(files) / 2
    assert (called == truth).mean() >= 0.7


def test_the_shipped_weights_are_a_few_megabytes_of_finite_numbers() -> None:
    total = 0
    for name in ("encoder.safetensors", "head.safetensors"):
        total += _shipped(name).stat().st_size
        for tensor in load_file(_shipped(name)).values():
            assert bool(torch.isfinite(tensor).all())
    assert total < 8 * 2**20


def test_the_report_in_the_docs_is_the_shipped_models_and_says_what_the_card_says() -> None:
    report = (Path(__file__).parents[3] / "docs/starter-report.html").read_text(encoding="utf-8")
    manifest = msgspec.json.decode(_shipped("manifest.json").read_bytes(), type=Manifest)
    assert manifest.sha256 in report
    metrics = json.loads(_shipped("metrics.json").read_text(encoding="utf-8"))
    for family in Family:
        area = metrics["starter"]["clean"][family]["auroc"]
        line = re.search(rf'<th scope="row">{family}<.*?</tr>', report, re.DOTALL)
        shown = [float(one) for one in re.findall(r">(\d+\.\d)<small>", line[0])]
        assert any(abs(one - 100 * area) < 0.3 for one in shown)
