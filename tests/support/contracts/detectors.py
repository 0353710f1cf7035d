"""What a detector promises, whatever runs it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from d3.domain.errors import CheckpointInvalid, ViewsInvalid
from d3.domain.images import Pixels
from d3.domain.inputs import Fit, InputSpec
from d3.domain.models import StoredModel
from d3.domain.ports.detector import Detector, Engine, Explainer
from d3.testing.models import TINY, tiny_model, tiny_ufd
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
    def probe(self, model: StoredModel, tmp_path: Path) -> StoredModel:
        """Another head on its encoder, which takes the same pixels."""
        return tiny_ufd(tmp_path, beside=model, fit=Fit.SQUASH)

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

    def test_a_probe_looks_at_the_original_alone(
        self, engine: Engine, probe: StoredModel, pixels: Pixels
    ) -> None:
        import torch

        from d3.network.checkpoints import load_encoder, load_probe

        spec, paths = probe.manifest.encoder_spec, probe.paths
        encoder = load_encoder(spec, probe.encoder)
        head = load_probe(spec.width, spec.projection, paths["projection"], probe.head)
        with torch.inference_mode():
            expected = head(encoder.encode(encoder.embed(torch.from_numpy(pixels)))).numpy()
        detector = engine.load(probe)
        found = detector.score(pixels, 1)
        assert found.shape == (len(pixels), 1)
        assert np.abs(found[:, 0] - expected).max() < self.tolerance
        assert not isinstance(detector, Explainer)
        with pytest.raises(ViewsInvalid):
            detector.score(pixels, 2)
        detector.close()

    def test_heads_beside_one_another_give_what_each_gives_alone(
        self,
        engine: Engine,
        model: StoredModel,
        probe: StoredModel,
        pixels: Pixels,
        tmp_path: Path,
    ) -> None:
        (tmp_path / "other").mkdir()
        theirs = tiny_model(tmp_path / "other", "other", seed=1)
        other = StoredModel(
            replace(model.manifest, name="other", head=theirs.manifest.head),
            {**model.paths, "head": theirs.head},
        )
        each = [engine.load(one) for one in (model, probe, other)]
        together = engine.load(replace(model, beside=(probe, other)))
        turned = engine.load(replace(probe, beside=(model,)))
        for views in (1, 3):
            first, second, third = (
                one.score(pixels, least).repeat(views // least, axis=1)
                for one, least in zip(each, (views, 1, views), strict=True)
            )
            found = together.score(pixels, views)
            assert found.shape == (len(pixels), 3 * views)
            expected = np.concatenate([first, second, third], axis=1)
            assert np.abs(found - expected).max() < self.batch_tolerance
            expected = np.concatenate([second, first], axis=1)
            assert np.abs(turned.score(pixels, views) - expected).max() < self.batch_tolerance
            assert together.score(pixels[:0], views).shape == (0, 3 * views)
        for one in (*each, together, turned):
            one.close()

    def test_models_that_see_other_pixels_are_not_scored_together(
        self, engine: Engine, model: StoredModel, tmp_path: Path
    ) -> None:
        cropping = tiny_ufd(tmp_path, "cropping", beside=model)
        with pytest.raises(ValueError, match="beside"):
            engine.load(replace(model, beside=(cropping,)))

    def test_a_manifest_of_other_pixels_than_the_encoders_is_refused(
        self, engine: Engine, probe: StoredModel
    ) -> None:
        for spec in (InputSpec(57), InputSpec(TINY.image_size, mean=(0.5, 0.5, 0.5))):
            wrong = replace(probe, manifest=replace(probe.manifest, input=spec))
            with pytest.raises(CheckpointInvalid, match="otherwise"):
                engine.load(wrong)

    def test_it_may_be_closed_twice(self, engine: Engine, model: StoredModel) -> None:
        detector = engine.load(model)
        detector.close()
        detector.close()
