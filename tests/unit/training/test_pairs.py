from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image as PillowImage
from torch import nn

from d3.training.starter.camera import draw_camera, photograph
from d3.training.starter.evaluate import BASELINES, laplacian_variance
from d3.training.starter.filters import Image, laplacian, match_partner, noise_level
from d3.training.starter.generators import SEEN, UNSEEN, Family, Pictures, train_generators
from d3.training.starter.pairs import Pairs, file_format_of, forge_scenes, photograph_scenes
from d3.training.starter.postprocessing import FileFormat, draw_file_format, encode, jpeg
from d3.training.starter.scenes import render_scene

SIZE = 64
SCENES = range(10, 16)


@pytest.fixture(scope="module")
def generators() -> dict[Family, nn.Module]:
    return train_generators(photograph_scenes(0, range(4), SIZE), steps=3, seed=0)


@pytest.fixture(scope="module")
def pairs(generators: dict[Family, nn.Module]) -> Pairs:
    return made(generators)


def stored_pixels(picture: Image, file_format: FileFormat) -> Pictures:
    """The pixels of a picture in [0, 1] after it was stored."""
    content, _ = encode(picture, file_format)
    return np.asarray(PillowImage.open(io.BytesIO(content)))


def made(generators: dict[Family, nn.Module]) -> Pairs:
    """Six scenes, two of the families' turns each, each stored in its file format."""
    family = np.arange(2 * len(SCENES)) % len(generators)
    camera, generated = [], []
    for scene, _, pair in forge_scenes(generators, SCENES, family, seed=0, size=SIZE):
        for into, picture in zip((camera, generated), pair, strict=True):
            into.append(stored_pixels(picture, file_format_of(0, scene)))
    partner = np.repeat(np.arange(len(SCENES)), 2)
    return Pairs(np.stack(camera[::2]), np.stack(generated), partner, family, tuple(generators))


def test_a_seed_and_a_number_name_a_scene() -> None:
    assert np.array_equal(render_scene(3, 5, SIZE), render_scene(3, 5, SIZE))
    assert not np.array_equal(render_scene(3, 5, SIZE), render_scene(3, 6, SIZE))
    assert not np.array_equal(render_scene(3, 5, SIZE), render_scene(4, 5, SIZE))


def test_a_scene_is_light_between_black_and_white() -> None:
    for number in range(20):
        scene = render_scene(0, number, SIZE)
        assert scene.shape == (SIZE, SIZE, 3)
        assert scene.dtype == np.float32
        assert scene.min() >= 0
        assert scene.max() <= 1


def test_the_camera_halves_the_side_and_adds_noise() -> None:
    scene = np.full((2 * SIZE, 2 * SIZE, 3), 0.3, np.float32)
    rng = np.random.default_rng(0)

    picture = photograph(scene, draw_camera(rng), rng)

    assert picture.shape == (SIZE, SIZE, 3)
    assert picture.std() > 0
    assert picture.min() >= 0
    assert picture.max() <= 1


def test_every_family_is_either_seen_or_held_out() -> None:
    assert sorted((*SEEN, *UNSEEN)) == sorted(Family)


def test_pairs_are_the_same_each_time(generators: dict[Family, nn.Module], pairs: Pairs) -> None:
    again = made(generators)

    assert np.array_equal(again.camera, pairs.camera)
    assert np.array_equal(again.generated, pairs.generated)


def test_families_take_turns(pairs: Pairs) -> None:
    assert np.bincount(pairs.family).tolist() == [2] * len(Family)
    assert pairs.partner.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert sum(len(pairs.of(family)) for family in Family) == len(pairs.generated)


def test_a_pair_shares_its_content_size_and_colour() -> None:
    honest = {family: nn.Identity() for family in Family}
    pairs = made(honest)

    assert pairs.camera.shape[1:] == pairs.generated.shape[1:] == (SIZE, SIZE, 3)
    for row, forgery in enumerate(pairs.generated):
        partner = pairs.camera[pairs.partner[row]].astype(float)
        assert np.abs(forgery.mean((0, 1)) - partner.mean((0, 1))).max() < 8
        others = [np.abs(forgery - camera.astype(float)).mean() for camera in pairs.camera]
        assert int(np.argmin(others)) == pairs.partner[row]


def test_matching_gives_the_partners_noise_and_sharpness() -> None:
    rng = np.random.default_rng(0)
    camera = photograph_scenes(0, [7], 128)[0].astype(np.float32) / 255
    blurred = (camera + np.roll(camera, 1, 0) + np.roll(camera, 1, 1)) / 3

    matched = match_partner(blurred, camera, rng)

    def sharpness(picture: np.ndarray) -> float:
        return float(laplacian(picture.mean(-1)).var())

    assert sharpness(blurred) < 0.5 * sharpness(camera)
    assert sharpness(matched) == pytest.approx(sharpness(camera), rel=0.5)
    assert noise_level(matched[..., 1]) == pytest.approx(noise_level(camera[..., 1]), rel=0.5)


def test_delivery_treats_both_pictures_alike() -> None:
    picture = photograph_scenes(0, [1], SIZE)[0] / np.float32(255)
    file_format = FileFormat(quality=80, subsampling=2)

    assert np.array_equal(stored_pixels(picture, file_format), stored_pixels(picture, file_format))
    lossless = stored_pixels(picture, FileFormat(quality=0, subsampling=0))
    assert np.abs(lossless / 255 - picture).max() < 1 / 255


def test_deliveries_are_drawn_from_good_to_lossless() -> None:
    rng = np.random.default_rng(0)
    qualities = {draw_file_format(rng).quality for _ in range(300)}

    assert 0 in qualities
    assert min(qualities - {0}) >= 80


def test_jpeg_of_higher_quality_is_larger() -> None:
    pixels = photograph_scenes(0, [1], SIZE)[0]
    assert len(jpeg(pixels, 95)) > len(jpeg(pixels, 50))


def test_sharpness_of_a_checkerboard_is_exact() -> None:
    board = np.indices((SIZE, SIZE)).sum(0) % 2
    inner = np.zeros((SIZE + 2, SIZE + 2))
    inner[1:-1, 1:-1] = 4 * (1 - 2 * board)  # every neighbour is the other colour
    picture = np.repeat(board[..., None].astype(np.uint8), 3, axis=-1)

    # At the border the repeated edge is a neighbour of the pixel's own colour.
    sides = np.full(SIZE, 4.0)
    sides[[0, -1]] -= 1
    steps = (sides[:, None] + sides[None, :] - 4) * (1 - 2 * board)
    assert laplacian_variance(picture) == pytest.approx(steps.var(), rel=1e-5)


@pytest.mark.parametrize("name", BASELINES)
def test_a_trivial_detector_gives_one_finite_number(name: str, pairs: Pairs) -> None:
    assert np.isfinite(BASELINES[name](pairs.camera[0]))
