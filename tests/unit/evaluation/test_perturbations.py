from __future__ import annotations

import numpy as np
import pytest
from tests.support.images import noise, png

from d3.adapters.pillow import PillowDecoder
from d3.evaluation.perturbations import (
    SWEEPS,
    UNCHANGED,
    PerturbingDecoder,
    blurred,
    recompressed,
    recompressed_twice,
    scaled,
)

PIXELS = noise(40, 60, seed=1)


def roughness(pixels: np.ndarray) -> float:
    return float(np.abs(np.diff(pixels.astype(float), axis=0)).mean())


def test_the_papers_ranges_are_swept() -> None:
    assert [one.level for one in SWEEPS["jpeg"]] == [100, 90, 80, 70, 60, 50, 40, 30]
    assert [one.level for one in SWEEPS["blur"]] == [0.5, 1, 1.5, 2]
    names = [one.name for sweep in SWEEPS.values() for one in sweep]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    "perturbation", [p for s in SWEEPS.values() for p in s], ids=lambda p: p.name
)
def test_every_perturbation_changes_the_picture_alike_each_time(perturbation) -> None:
    first, second = perturbation.change(PIXELS), perturbation.change(PIXELS)
    assert np.array_equal(first, second)
    assert first.dtype == np.uint8
    assert first.shape != PIXELS.shape or not np.array_equal(first, PIXELS)


def test_blur_is_the_gaussians() -> None:
    dot = np.zeros((31, 31, 3), np.uint8)
    dot[15, 15] = 255
    spread = blurred(dot, 1.0)[:, :, 0].astype(float)
    taps = np.exp(-0.5 * np.arange(-4, 5) ** 2)
    expected = 255 * np.outer(taps, taps) / taps.sum() ** 2
    assert np.abs(spread[11:20, 11:20] - expected).max() <= 0.51


def test_stronger_means_smoother() -> None:
    assert roughness(blurred(PIXELS, 2)) < roughness(blurred(PIXELS, 0.5)) < roughness(PIXELS)
    plain = np.full((9, 9, 3), (10, 200, 90), np.uint8)
    assert np.array_equal(blurred(plain, 2), plain)


def test_scaling_scales_and_two_jpegs_are_not_one() -> None:
    assert scaled(PIXELS, 0.5).shape == (20, 30, 3)
    assert scaled(noise(1, 1), 0.25).shape == (1, 1, 3)
    assert not np.array_equal(recompressed_twice(PIXELS, 90), recompressed(PIXELS, 90))


def test_a_perturbed_image_keeps_the_facts_of_its_file() -> None:
    plain = PillowDecoder()
    file = png(PIXELS)
    changed = PerturbingDecoder(plain, SWEEPS["resize"][2]).decode(file, 28)
    assert changed.facts == plain.decode(file, 28).facts
    assert not np.array_equal(changed.pixels, plain.decode(file, 28).pixels)
    same = PerturbingDecoder(plain, UNCHANGED).decode(file, 28)
    assert np.array_equal(same.pixels, plain.decode(file, 28).pixels)
