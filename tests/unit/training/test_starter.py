from __future__ import annotations

import json
from collections import Counter
from importlib import resources
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from d3.adapters.filesystem import FilesystemRegistry
from d3.domain.models import EncoderSpec, Manifest, file_of
from d3.evaluation.calibration import fit_calibration
from d3.network import D3Network, DiscrepancyHead, Encoder
from d3.network.checkpoints import load_network
from d3.training.starter.card import headline, model_card, notice
from d3.training.starter.fit import (
    FitSettings,
    cosine_filters,
    fit,
    pair_batches,
    start_as_spectrum,
)
from d3.training.starter.generators import Family
from d3.training.starter.pairs import Cutting, Pairs, photograph_scene
from d3.training.starter.photographs import Collection, Part, Photograph, find, opened, table
from d3.training.starter.recipe import StarterPlan, build

SPEC = EncoderSpec(
    image_size=56, patch_size=14, width=64, layers=2, heads=1, mlp_width=64, projection=0
)
TINY = StarterPlan(
    generator_pictures=4,
    generator_steps=2,
    training_pairs=8,
    training_photographs=4,
    calibration_pairs=4,
    test_pictures=3,
    cutting=Cutting((64, 96), scenes=0.0),
    photograph_sides=(64, 128),
    encoder=SPEC,
    fit=FitSettings(steps=3, pairs_per_batch=2, alone_per_batch=1),
)
CONDITIONS = ("clean", "jpeg90", "jpeg75", "jpeg50")


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    """Three small pictures for each part, of packages that do not exist."""
    folder = tmp_path_factory.mktemp("photographs")
    wanted = []
    for number, part in enumerate(part for part in Part for _ in range(3)):
        file = folder / f"{number}.png"
        Image.fromarray(photograph_scene(1, number, 128)).save(file)
        sha256 = file_of(file).sha256
        wanted.append(Photograph(part, f"{part}-package", file.name, sha256, "CC0-1.0", "Ada"))
    return find(folder, wanted)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of two kinds."""
    folder = tmp_path_factory.mktemp("sets") / "strange"
    for number, kind in enumerate(("real", "real", "fake/painter", "fake/painter")):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        Image.fromarray(photograph_scene(2, number, 64)).save(folder / kind / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, photographs: Collection, other: Path) -> Path:
    out = tmp_path_factory.mktemp("starter")
    build(out, photographs, seed=1, plan=TINY, examples=out / "examples", others=[other])
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
    metrics = json.loads((built / "metrics.json").read_text())
    assert manifest.notice == notice(metrics)
    assert manifest.threshold == metrics["calibration"]["threshold"]
    assert manifest.abstain_band.below == metrics["calibration"]["band"]["below"]
    assert manifest.calibration.scale == metrics["calibration"]["scale"]
    assert sum(manifest.calibration.reference.fake) == TINY.calibration_pairs
    assert manifest.metrics["auroc_seen_clean"] == pytest.approx(
        metrics["starter"]["families"]["clean"]["seen"]["auroc"], abs=5e-4
    )


def test_the_notice_says_how_many_photographs_were_called_fake() -> None:
    counts = {"clean": {"all": {"fake": 3, "images": 146}}}
    drawn = {"name": "set", "kinds": {"text-to-image": {"fake": 2, "images": 60}}}

    assert notice({"starter": {"photographs": counts, "others": []}}) == (
        "Demo model: called 3 of 146 real photographs fake. Do not act on it."
    )
    assert notice({"starter": {"photographs": counts, "others": [drawn]}}) == (
        "Demo model: called 3 of 146 real photographs fake, and found 2 of 60 images of "
        "text-to-image generators. Do not act on it."
    )


def test_every_family_is_measured_under_every_condition(built: Path) -> None:
    metrics = json.loads((built / "metrics.json").read_text())

    assert tuple(metrics["starter"]["families"]) == CONDITIONS
    for figures in metrics["starter"]["families"].values():
        assert set(figures) >= {*map(str, Family), "seen", "unseen"}
        assert all(0 <= cell["auroc"] <= 1 for cell in figures.values())
        assert all(cell["auroc_low"] <= cell["auroc_high"] for cell in figures.values())
        assert figures["seen"]["generated"] == 12
        assert figures["unseen"]["generated"] == 6
    assert set(metrics["baselines"]) == set(map(str, Family))


def test_whole_photographs_of_the_test_packages_are_counted_by_verdict(built: Path) -> None:
    metrics = json.loads((built / "metrics.json").read_text())

    for counts in metrics["starter"]["photographs"].values():
        assert set(counts) == {"test-package", "all"}
        assert counts["all"]["images"] == 3
        assert sum(counts["all"][verdict] for verdict in ("fake", "real", "uncertain")) == 3


def test_other_data_sets_are_measured_and_stand_on_the_card(built: Path) -> None:
    metrics = json.loads((built / "metrics.json").read_text())
    (measured,) = metrics["starter"]["others"]

    assert measured["name"] == "strange"
    assert {name: counts["images"] for name, counts in measured["kinds"].items()} == {
        "real": 2,
        "painter": 2,
    }
    assert "| strange | painter | 2 |" in (built / "MODEL_CARD.md").read_text()


def test_the_card_credits_every_photograph_that_was_learned_from(
    built: Path, photographs: Collection
) -> None:
    card = (built / "MODEL_CARD.md").read_text()

    for photograph, _ in photographs.of(Part.TRAIN):
        assert f"| {photograph.name} | train-package | Ada | CC0-1.0 |" in card


def test_examples_come_in_pairs_of_one_format_and_size(built: Path) -> None:
    files = sorted((built / "examples").iterdir())
    cameras = [file for file in files if file.name.startswith("camera-")]
    generated = [file for file in files if file.name.startswith("generated-")]

    assert len(cameras) == len(generated) > 0
    for camera, forgery in zip(cameras, generated, strict=True):
        assert camera.suffix == forgery.suffix
        assert opened(camera).size == opened(forgery).size


def test_the_same_seed_gives_the_same_bytes(
    built: Path, tmp_path: Path, photographs: Collection, other: Path
) -> None:
    build(tmp_path, photographs, seed=1, plan=TINY, others=[other])

    for name in ("encoder.safetensors", "head.safetensors"):
        assert (tmp_path / name).read_bytes() == (built / name).read_bytes()
    first, second = (json.loads((f / "metrics.json").read_text()) for f in (built, tmp_path))
    del first["cost"], second["cost"]
    assert first == second


def test_progress_rises_to_one_in_every_stage(tmp_path: Path, photographs: Collection) -> None:
    reported: dict[str, list[float]] = {}
    build(
        tmp_path,
        photographs,
        seed=2,
        plan=TINY,
        progress=lambda stage, share: reported.setdefault(stage, []).append(share),
    )

    for shares in reported.values():
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


def test_both_of_a_pair_are_mirrored_or_neither() -> None:
    rng = np.random.default_rng(0)
    camera = rng.integers(0, 256, (3, 28, 28, 3), dtype=np.uint8)
    pairs = Pairs(camera, camera.copy(), np.arange(3), np.zeros(3, np.int64), (Family.NEAREST,))
    batches = pair_batches(pairs, camera, FitSettings(pairs_per_batch=3, alone_per_batch=2), rng)

    for _ in range(5):
        pictures, labels = next(batches)
        assert labels.tolist() == [0] * 5 + [1] * 3
        assert torch.equal(pictures[:3], pictures[5:])


def _shipped(name: str) -> Path:
    return Path(str(resources.files("d3"))) / "starter" / name


def test_the_shipped_card_says_what_was_measured() -> None:
    metrics = json.loads(_shipped("metrics.json").read_text(encoding="utf-8"))
    assert _shipped("MODEL_CARD.md").read_text(encoding="utf-8") == model_card(metrics)


def test_the_shipped_card_says_first_how_many_photographs_it_accused() -> None:
    metrics = json.loads(_shipped("metrics.json").read_text(encoding="utf-8"))
    counts = metrics["starter"]["photographs"]["clean"]["all"]
    first = " ".join(_shipped("MODEL_CARD.md").read_text(encoding="utf-8").split("\n\n")[1].split())

    assert f"it judged {counts['fake']} fake" in first
    assert "Do not act on its verdicts." in first


def test_the_shipped_model_was_made_of_the_tables_photographs() -> None:
    metrics = json.loads(_shipped("metrics.json").read_text(encoding="utf-8"))
    rows = table()

    for part in Part:
        mine = Counter(one.package for one in rows if one.part is part)
        assert metrics["photographs"][part] == mine
    trained = [one for one in rows if one.part is Part.TRAIN]
    assert [(one["name"], one["author"]) for one in metrics["credits"]] == [
        (one.name, one.author) for one in trained
    ]


def test_the_shipped_manifest_says_what_was_measured() -> None:
    metrics = json.loads(_shipped("metrics.json").read_text(encoding="utf-8"))
    manifest = msgspec.json.decode(_shipped("manifest.json").read_bytes(), type=Manifest)

    assert manifest.notice == notice(metrics)
    assert manifest.metrics == headline(metrics)
    assert manifest.threshold == metrics["calibration"]["threshold"]
    plan, reference = metrics["plan"], manifest.calibration.reference
    photographs = 2 * sum(metrics["photographs"]["calibrate"].values())  # as they are, and as JPEG
    assert sum(reference.real) == photographs + plan["calibration_pairs"]
    assert sum(reference.fake) == plan["calibration_pairs"]
    assert sum(reference.real[10:]) <= plan["max_false"] * sum(reference.real)


def test_the_shipped_model_accuses_no_more_photographs_than_it_may() -> None:
    metrics = json.loads(_shipped("metrics.json").read_text(encoding="utf-8"))
    counts = metrics["starter"]["photographs"]["clean"]["all"]

    assert counts["images"] >= 100
    assert counts["share"] <= 0.05
    assert counts["high"] <= 0.08


def test_the_shipped_weights_are_a_few_megabytes_of_finite_numbers() -> None:
    total = 0
    for name in ("encoder.safetensors", "head.safetensors"):
        total += _shipped(name).stat().st_size
        for tensor in load_file(_shipped(name)).values():
            assert bool(torch.isfinite(tensor).all())
    assert total < 8 * 2**20


def test_the_report_in_the_docs_is_the_shipped_models() -> None:
    report = (Path(__file__).parents[3] / "docs/starter-report.html").read_text(encoding="utf-8")
    manifest = msgspec.json.decode(_shipped("manifest.json").read_bytes(), type=Manifest)

    assert manifest.sha256 in report
    for family in Family:
        assert f'<th scope="row">{family}' in report
