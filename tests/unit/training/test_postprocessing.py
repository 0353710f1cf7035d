"""Pictures cut from photographs, published alike, and seen as the detector sees them."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from torch import nn

from d3.adapters.pillow import PillowDecoder
from d3.training.starter.generators import Family
from d3.training.starter.pairs import (
    Cutting,
    Source,
    make_test_pairs,
    make_training_pairs,
    photograph_scene,
)
from d3.training.starter.postprocessing import (
    MULTIPLE,
    UNCHANGED_FILE,
    cut,
    draw_postprocessing,
    postprocess,
)

SIZE = 56


@pytest.fixture(scope="module")
def original() -> Image.Image:
    return Image.fromarray(photograph_scene(0, 3, 320)).resize((400, 300))


def test_what_training_sees_is_what_the_decoder_shows(original: Image.Image) -> None:
    file = io.BytesIO()
    original.save(file, "JPEG", quality=80, subsampling=2)
    decoded = PillowDecoder().decode(file.getvalue(), SIZE).pixels

    assert np.array_equal(
        postprocess(np.asarray(original), UNCHANGED_FILE.then_jpeg(80), SIZE), decoded
    )


def test_parts_are_of_every_size_and_shape_and_of_sides_that_generators_take(
    original: Image.Image,
) -> None:
    chance = np.random.default_rng(0)
    shapes = [cut(original, chance, (64, 320)).shape for _ in range(60)]
    longer = [max(shape) for shape in shapes]

    assert all(side % MULTIPLE == 0 for shape in shapes for side in shape[:2])
    assert 64 - MULTIPLE <= min(longer) < 100
    assert 250 < max(longer) <= 320 + MULTIPLE
    assert {height > width for height, width, _ in shapes} == {True, False}


def test_publications_differ_in_format_quality_and_number_of_files() -> None:
    chance = np.random.default_rng(0)
    drawn = [draw_postprocessing(chance) for _ in range(200)]

    assert {kind for one in drawn for kind, _ in one.files} == {"JPEG", "WEBP", "PNG"}
    assert {len(one.files) for one in drawn} == {1, 2}
    assert {one.shrink < 1 for one in drawn} == {True, False}


def _source(original: Image.Image, split: str = "training", seed: int = 0) -> Source:
    return Source(split, [original], seed, Cutting((64, 128), scenes=0.5))


def test_a_pair_differs_in_the_generators_work_alone(original: Image.Image) -> None:
    honest = {family: nn.Identity() for family in Family}
    unmatched = Source("x", [original], 0, Cutting((64, 128), scenes=0.0, matched=0.0))
    pairs = make_training_pairs(honest, unmatched, 8, size=SIZE)

    assert np.abs(pairs.camera.astype(int) - pairs.generated).max() <= 1


def test_pairs_follow_from_seed_split_and_number(original: Image.Image) -> None:
    honest = {family: nn.Identity() for family in Family}

    def made(source: Source) -> bytes:
        return make_training_pairs(honest, source, 4, size=SIZE).camera.tobytes()

    assert made(_source(original)) == made(_source(original))
    assert made(_source(original)) != made(_source(original, split="test"))
    assert made(_source(original)) != made(_source(original, seed=1))


def test_every_family_redoes_every_test_picture_under_every_condition(
    original: Image.Image,
) -> None:
    honest = {family: nn.Identity() for family in Family}
    conditions = {"clean": 0, "jpeg30": 30}
    pairs, longer = make_test_pairs(honest, _source(original), 3, conditions, size=SIZE)

    assert set(pairs) == set(conditions)
    for these in pairs.values():
        assert these.camera.shape == (3, SIZE, SIZE, 3)
        assert np.bincount(these.family).tolist() == [3] * len(Family)
        assert these.partner.tolist() == [row for row in range(3) for _ in Family]
    assert longer.min() >= 64 - MULTIPLE
    assert not np.array_equal(pairs["clean"].camera, pairs["jpeg30"].camera)
