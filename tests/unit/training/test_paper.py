"""The recipe `paper` does what its authors' code does: for fixed choices, to the pixel."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.conftest import PACK

from d3.adapters.pillow import PillowDecoder
from d3.evaluation.dataset import Item
from d3.network import DiscrepancyHead
from d3.training.paper import fit as paper
from d3.training.paper.augmentation import (
    Changes,
    Choices,
    applied,
    blurred,
    changed,
    drawn,
    installed_codecs,
    resized,
)
from d3.training.paper.fit import PaperPlan, Plateau, State, validation_sets
from d3.training.paper.journal import Epoch

FOLDER = PACK / "training"
EXPECTED = json.loads((FOLDER / "expected.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", EXPECTED["cases"], ids=lambda case: case["result"])
def test_changes_are_those_of_the_authors_code(case: dict[str, Any]) -> None:
    pixels = PillowDecoder().decode(PACK / "images" / case["image"], None).pixels
    image = resized(pixels, 256)
    assert [image.shape[1], image.shape[0]] == case["resized"]
    choices = Choices(
        sigma=case["sigma"],
        quality=case["jpeg_quality"],
        codec=case["jpeg_method"] or "pil",
        corner=tuple(case["crop"]),
        mirrored=case["flip"],
    )
    expected = np.asarray(Image.open(FOLDER / case["result"]).convert("RGB"), int)
    apart = np.abs(applied(image, 224, choices) - expected).max()
    assert apart <= (0 if case["jpeg_quality"] is None else 2)


@pytest.mark.parametrize("number", range(len(EXPECTED["early_stopping"])))
def test_the_rate_falls_where_the_authors_code_lets_it(number: int) -> None:
    plan, course = PaperPlan(), EXPECTED["early_stopping"][number]
    state = State(plan.rate, Plateau(plan.patience, plan.tolerance, plan.later_tolerance))
    for row in course:
        before = state.rate
        state.add(_epoch(state.epoch + 1, [row["accuracy"]]))
        follows = (
            "stop"
            if state.rate < plan.lowest_rate
            else "on"
            if state.rate == before
            else "rate divided by ten"
        )
        assert (state.rate, follows) == (row["rate"], row["then"])


def test_the_mean_of_the_validation_sets_decides_and_a_smaller_loss_where_it_is_equal() -> None:
    state = State(1e-4, Plateau(5, 0.001, 0.002))
    assert state.add(_epoch(1, [0.9, 0.6]))
    assert state.add(_epoch(2, [0.8, 0.8]))
    assert not state.add(_epoch(3, [0.9, 0.7], loss=2.0))
    assert state.add(_epoch(4, [0.9, 0.7], loss=0.5))
    assert state.best.number == 4


@pytest.mark.parametrize("sigma", [1e-3, 0.124, 0.126, 0.7, 1.9, 3.0])
def test_blur_is_scipys_in_whole_numbers(sigma: float) -> None:
    from scipy.ndimage import gaussian_filter

    noise = np.random.default_rng(0).integers(0, 256, (40, 11, 3), np.uint8)
    for pixels in (noise, np.full((40, 11, 3), 255, np.uint8)):
        expected = pixels.copy()
        for channel in range(3):
            plane = expected[:, :, channel]
            gaussian_filter(plane, sigma, output=plane)
        assert np.array_equal(blurred(pixels, sigma), expected)


@pytest.mark.parametrize("shape", [(1, 1), (1, 3000), (3000, 2), (20, 1500), (500, 700)])
@pytest.mark.parametrize("size", [224, 256, 336, 28])
def test_an_image_of_any_shape_can_be_trained_on(shape: tuple[int, int], size: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    always = Changes(chance=1.0)
    for seed in range(2):
        made = changed(pixels, size, always, np.random.default_rng(seed))
        assert made.shape == (size, size, 3)
        assert made.dtype == np.uint8


def test_choices_fill_their_ranges() -> None:
    rng = np.random.default_rng(0)
    made = [drawn((256, 383), 224, Changes(), rng) for _ in range(4000)]
    sigmas = [one.sigma for one in made if one.sigma is not None]
    qualities = {one.quality for one in made} - {None}
    assert qualities == set(range(30, 101))
    assert 0 <= min(sigmas) < 0.01
    assert 2.99 < max(sigmas) <= 3
    assert {one.corner[0] for one in made} == set(range(383 - 224 + 1))
    assert {one.corner[1] for one in made} == set(range(256 - 224 + 1))
    shares = [
        len(sigmas) / len(made),
        sum(one.quality is not None for one in made) / len(made),
        sum(one.codec == "cv2" for one in made) / len(made),
        sum(one.mirrored for one in made) / len(made),
    ]
    assert all(abs(share - 0.5) < 0.03 for share in shares)


def test_without_opencv_pillow_compresses_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert installed_codecs() == ("cv2", "pil")
    monkeypatch.setitem(sys.modules, "cv2", None)  # so an import fails
    made = [drawn((256, 256), 224, Changes(), np.random.default_rng(seed)) for seed in range(50)]
    assert {one.codec for one in made} == {"pil"}


def test_the_head_begins_in_a_narrow_normal_distribution_and_does_not_decay(tmp_path: Any) -> None:
    head, optimiser, _ = paper._start(128, PaperPlan(), tmp_path, torch.device("cpu"))
    for name, parameter in head.named_parameters():
        deviation = float(parameter.detach().square().mean().sqrt())
        tolerance = 4 / math.sqrt(2 * parameter.numel())
        assert parameter.numel() == 1 or abs(deviation / 0.02 - 1) < tolerance, name
    assert isinstance(optimiser, torch.optim.AdamW)
    (group,) = optimiser.param_groups
    assert (group["lr"], group["weight_decay"]) == (1e-4, 0.0)
    assert group["betas"] == (0.9, 0.999)
    again, _, _ = paper._start(128, PaperPlan(), tmp_path, torch.device("cpu"))
    other, _, _ = paper._start(128, replace(PaperPlan(), seed=1), tmp_path, torch.device("cpu"))
    assert torch.equal(head.fc.weight, again.fc.weight)
    assert not torch.equal(head.fc.weight, other.fc.weight)


def test_a_validation_set_is_a_generator_of_a_data_set_with_the_real_images_beside() -> None:
    sources = {
        "first": _items("first", "a:fake", "a:fake", "a:real", ":real", "b:fake"),
        "second": _items("second", "a:fake", ":real", "c:fake"),
        "third": _items("third", "d:fake"),
        "real": _items("real", "e:real"),
    }
    readable = np.ones(10, bool)
    assert {name: rows.tolist() for name, rows in validation_sets(sources, readable).items()} == {
        "a of first": [0, 1, 2, 3],
        "a of second": [5, 6],
        "b": [3, 4],
        "c": [6, 7],
        "d": [3, 6, 8],  # those of no generator, as there are none in its own data set
    }
    readable[[3, 5, 6]] = False
    assert {name: rows.tolist() for name, rows in validation_sets(sources, readable).items()} == {
        "a": [0, 1, 2],
        "b": [2, 4, 9],
        "c": [2, 7, 9],
        "d": [2, 8, 9],
    }


def test_the_sets_are_measured_apart_and_all_together() -> None:
    head = DiscrepancyHead(2)
    for parameter in head.parameters():
        torch.nn.init.zeros_(parameter)
    head.value.weight.data = torch.eye(2)
    head.fc.weight.data = torch.tensor([[1.0, 0, 0, 0]])  # the logit has the feature's sign
    signs = [1, 1, -1, -1, -1]
    features = np.array([[[sign, 0], [sign, 0]] for sign in signs], np.float32)
    sources = {"all": _items("all", "a:fake", "a:fake", "b:fake", ":real", ":real")}
    sets = validation_sets(sources, np.ones(5, bool))
    epoch = paper.validated(head, features, sources["all"], sets, 1, 1e-4, 0.5)
    accuracies = {name: one["accuracy"] for name, one in epoch.generators.items()}
    assert accuracies == {"a": 1.0, "b": pytest.approx(2 / 3)}
    assert epoch.score == pytest.approx(5 / 6)
    assert epoch.figures["accuracy"] == pytest.approx(0.8)


def _epoch(number: int, accuracies: list[float], loss: float = 1.0) -> Epoch:
    sets = {str(place): {"accuracy": one} for place, one in enumerate(accuracies)}
    return Epoch(number, 1e-4, 1.0, loss, {}, sets)


def _items(folder: str, *kinds: str) -> list[Item]:
    """Images of kinds like ``generator:fake``."""
    return [
        Item(f"{folder}/{place}.png", kind.endswith(":fake"), kind.split(":")[0], named=True)
        for place, kind in enumerate(kinds)
    ]
