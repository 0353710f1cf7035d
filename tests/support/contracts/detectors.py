"""What a detector promises, whatever runs it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from d3.domain.errors import ViewsInvalid
from d3.domain.images import Pixels
from d3.domain.models import StoredModel
from d3.domain.ports.detector import Detector, Engine
from d3.testing.models import TINY, tiny_model
from tests.support.images import noise


class DetectorContract:
    """Override :meth:`engine`, and the tolerances where the engine is not float32.

    Attributes:
        tolerance: by how much a logit may differ from the network's in float32 on the CPU.
        batch_tolerance: by how much it may depend on the others of the call.
    """

    tolerance = 1e-4
    batch_tolerance = 1e-5

    @pytest.fixture
    def engine(self) -> Engine:
        """The engine under test."""
        raise NotImplementedError

    @pytest.fixture
    def model(self, tmp_path: Path) -> StoredModel:
        """A tiny model on disk."""
        return tiny_model(tmp_path)

    @pytest.fixture
    def detector(self, engine: Engine, model: StoredModel) -> Iterator[Detector]:
        """The engine's detector of the tiny model."""
        detector = engine.load(model)
        yield detector
        detector.close()

    @pytest.fixture
    def pixels(self) -> Pixels:
        """Seven images (7, S, S, 3)."""
        side = TINY.image_size
        return np.stack([noise(side, side, seed) >> (seed % 4) for seed in range(7)])

    def test_it_is_a_detector(self, engine: Engine, detector: Detector) -> None:
        assert isinstance(engine, Engine)
        assert isinstance(detector, Detector)

    def test_it_says_what_runs_it(self, detector: Detector) -> None:
        assert detector.engine
        assert detector.device
        assert detector.precision in ("fp32", "fp16", "bf16")

    def test_it_says_what_its_weights_take(self, detector: Detector, model: StoredModel) -> None:
        files = model.manifest.encoder.size_bytes + model.manifest.head.size_bytes
        assert files / 4 < detector.weights_bytes < files * 2

    @pytest.mark.parametrize("views", [1, 2, 16])
    def test_there_is_one_logit_for_each_image_and_view(
        self, detector: Detector, pixels: Pixels, views: int
    ) -> None:
        logits = detector.score(pixels, views)
        assert logits.shape == (len(pixels), views)
        assert logits.dtype == np.float64
        assert np.isfinite(logits).all()

    def test_no_images_have_no_logits(self, detector: Detector, pixels: Pixels) -> None:
        assert detector.score(pixels[:0], 3).shape == (0, 3)

    def test_logits_are_the_networks(
        self, detector: Detector, model: StoredModel, pixels: Pixels
    ) -> None:
        import torch

        from d3.network.checkpoints import load_network

        network = load_network(model.manifest.spec, model.encoder, model.head)
        permutations = torch.tensor(model.manifest.permutations)
        with torch.inference_mode():
            expected = network(torch.from_numpy(pixels), permutations).numpy()
        assert np.abs(detector.score(pixels, 16) - expected).max() < self.tolerance

    def test_the_same_question_has_the_same_answer(
        self, detector: Detector, pixels: Pixels
    ) -> None:
        assert np.array_equal(detector.score(pixels, 4), detector.score(pixels, 4))

    def test_a_score_does_not_depend_on_the_batch(self, detector: Detector, pixels: Pixels) -> None:
        alone = np.concatenate([detector.score(one[None], 2) for one in pixels])
        assert np.abs(detector.score(pixels, 2) - alone).max() < self.batch_tolerance
        backwards = detector.score(np.ascontiguousarray(pixels[::-1]), 2)[::-1]
        assert np.abs(backwards - alone).max() < self.batch_tolerance

    def test_more_views_leave_the_first_ones_as_they_are(
        self, detector: Detector, pixels: Pixels
    ) -> None:
        every = detector.score(pixels, 16)
        for views in (1, 3, 8):
            fewer = detector.score(pixels, views)
            assert np.abs(fewer - every[:, :views]).max() < self.batch_tolerance

    def test_views_differ(self, detector: Detector, pixels: Pixels) -> None:
        logits = detector.score(pixels, 16)
        assert all(len(set(row)) > 1 for row in logits.tolist())

    def test_pixels_may_be_read_only_or_strided(self, detector: Detector, pixels: Pixels) -> None:
        expected = detector.score(pixels, 1)
        pixels.flags.writeable = False
        assert np.array_equal(detector.score(pixels, 1), expected)
        assert np.array_equal(detector.score(pixels.copy()[::-1][::-1], 1), expected)
        backwards = detector.score(pixels[::-1], 1)[::-1]
        assert np.abs(backwards - expected).max() < self.batch_tolerance

    @pytest.mark.parametrize("views", [0, -1, 17])
    def test_views_that_the_model_does_not_have_are_refused(
        self, detector: Detector, pixels: Pixels, views: int
    ) -> None:
        with pytest.raises(ViewsInvalid):
            detector.score(pixels, views)

    def test_it_may_be_closed_twice(self, engine: Engine, model: StoredModel) -> None:
        detector = engine.load(model)
        detector.close()
        detector.close()
