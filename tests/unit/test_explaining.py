"""Heat maps: their scale, their pictures, and that the network sees a window alone."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import d3
from d3.adapters.batching import ThreadedQueue
from d3.adapters.pillow import PillowDecoder, png
from d3.adapters.torch import TorchEngine
from d3.domain.errors import ExplanationUnavailable
from d3.domain.heatmaps import Heatmap
from d3.domain.images import ImageFacts
from d3.domain.models import ModelReference
from d3.domain.services.explaining import ExplanationService
from d3.domain.services.lanes import LanePool
from d3.domain.services.local_host import LocalModelHost
from d3.network.checkpoints import load_network
from d3.network.windows import SIDE, averaged, parts, window_logits
from d3.testing.fakes import FakeClock
from d3.testing.models import TINY, tiny_model
from d3.training.starter.pairs import photograph_scene
from images import encoded, exif_of, picture
from tests.support.engines import FakeEngine
from tests.support.images import noise


def heatmap(logits: np.ndarray, height: int = 40, width: int = 60) -> Heatmap:
    return Heatmap(
        logits=logits,
        pixels=np.full((height, width, 3), 128, np.uint8),
        image=ImageFacts("PNG", width, height, 1, 1, "0" * 64),
        model=ModelReference("tiny", 1, "0" * 64),
        encode=png,
    )


def test_values_are_distances_from_the_mean_and_the_farthest_is_one() -> None:
    one = heatmap(np.array([[3.0, 1.0], [1.0, 1.0]]))
    assert one.values == pytest.approx(np.array([[1, -1 / 3], [-1 / 3, -1 / 3]]))
    assert not heatmap(np.full((4, 4), 7.0)).values.any()


def test_the_overlay_is_red_where_values_are_high_and_keeps_the_size() -> None:
    one = heatmap(np.array([[3.0, -3.0], [3.0, -3.0]]))
    painted = np.asarray(Image.open(io.BytesIO(one.png())))
    assert painted.shape == (40, 60, 3)
    assert (painted == one.overlay()).all()
    red, _, blue = painted[20, 5].astype(int), None, painted[20, 55].astype(int)
    assert red[0] > 128 > red[2]
    assert blue[2] > 128 > blue[0]


def test_a_window_sees_nothing_of_the_rest(tmp_path: Path) -> None:
    """Patches in a corner count the same whatever lies beyond the windows that hold them."""
    wide = replace(TINY, image_size=8 * 14)
    model = tiny_model(tmp_path, spec=wide)
    network = load_network(wide, model.encoder, model.head, dtype=torch.float32)
    permutations = torch.tensor(model.manifest.permutations[:2])
    side = wide.image_size
    first = noise(side, side, 1)
    second = first.copy()
    second[SIDE * 14 :] = 0
    with torch.inference_mode():
        maps = [
            averaged(window_logits(network, one, permutations, 0, parts(wide)), wide)
            for one in map(torch.from_numpy, (first[None], second[None]))
        ]
    assert maps[0].shape == (8, 8)
    assert torch.equal(maps[0][0], maps[1][0])
    assert not torch.allclose(maps[0][-1], maps[1][-1])


def test_one_window_over_the_whole_image_is_the_score_itself(tmp_path: Path) -> None:
    """On a grid of four there is one window, so every patch has the image's own logit."""
    model = tiny_model(tmp_path)
    detector = TorchEngine("cpu").load(model)
    pixels = noise(TINY.image_size, TINY.image_size, 3)
    logits = detector.heat(detector.explain_parts(pixels, 3, 0, detector.parts))
    assert logits == pytest.approx(np.full((4, 4), detector.score(pixels[None], 3).mean()))
    detector.close()


def test_a_map_is_drawn_as_people_see_the_picture(tmp_path: Path) -> None:
    upright, lying = (
        encoded(picture(120, 90), "JPEG", exif=exif_of(orientation)) for orientation in (1, 6)
    )
    with d3.D3(d3.Settings(home=tmp_path)) as detector:
        seen, stored = detector.explain(lying), detector.explain(upright)
    assert seen.pixels.shape == (120, 90, 3)
    assert np.array_equal(seen.logits, np.rot90(stored.logits, -1))
    assert np.array_equal(seen.pixels, np.rot90(stored.pixels, -1))


def test_an_engine_that_cannot_explain_says_so(tmp_path: Path) -> None:
    from tests.support.memory.registry import MemoryRegistry

    model = tiny_model(tmp_path)
    registry = MemoryRegistry()
    registry.put(model)
    clock = FakeClock()
    host = LocalModelHost(registry, FakeEngine, lambda one: ThreadedQueue(one, clock), "tiny")
    pool = LanePool(1, 0.2, "test")
    service = ExplanationService(host, PillowDecoder(), png, pool, clock)
    with pytest.raises(ExplanationUnavailable, match="D3_ENGINE"):
        service.explain(noise(50, 50, 1))


def test_the_starter_finds_the_region_that_alone_is_generated(tmp_path: Path) -> None:
    """A quarter of a photograph is replaced by an enlarged copy of itself."""
    photographs = [photograph_scene(11, scene, 224) for scene in range(4)]
    found = []
    with d3.D3(d3.Settings(home=tmp_path)) as detector:
        for number, photograph in enumerate(photographs):
            rows, columns = slice(112 * (number % 2), None), slice(0, 112)
            rows = slice(rows.start, rows.start + 112)
            small = Image.fromarray(photograph).resize((112, 112), Image.Resampling.BOX)
            redrawn = np.asarray(small.resize((224, 224), Image.Resampling.NEAREST))
            spliced = photograph.copy()
            spliced[rows, columns] = redrawn[rows, columns]
            values = detector.explain(spliced).logits
            inside = np.zeros((16, 16), bool)
            inside[rows.start // 14 : rows.stop // 14, :8] = True
            found.append(values[inside].mean() - values[~inside].mean())
    assert np.mean(found) > 0
