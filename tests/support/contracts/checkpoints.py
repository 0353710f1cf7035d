"""What a reader of foreign checkpoints promises."""

from __future__ import annotations

from pathlib import Path

import pytest

from d3.domain.errors import CheckpointInvalid
from d3.domain.models import StoredModel
from d3.domain.ports.models import Checkpoints
from d3.testing.models import TINY, tiny_model


class CheckpointsContract:
    """Override :meth:`checkpoints`."""

    @pytest.fixture
    def checkpoints(self) -> Checkpoints:
        """The reader under test."""
        raise NotImplementedError

    @pytest.fixture
    def model(self, tmp_path: Path) -> StoredModel:
        """A tiny model, whose files are sound checkpoints."""
        return tiny_model(tmp_path)

    @pytest.fixture
    def into(self, tmp_path: Path) -> Path:
        """A folder for what was read."""
        folder = tmp_path / "into"
        folder.mkdir()
        return folder

    def test_it_is_a_reader_of_checkpoints(self, checkpoints: Checkpoints) -> None:
        assert isinstance(checkpoints, Checkpoints)

    def test_an_encoders_shape_is_read_off_its_tensors(
        self, checkpoints: Checkpoints, model: StoredModel, into: Path
    ) -> None:
        found = checkpoints.read_encoder(model.encoder, into)
        assert found.spec is not None
        assert found.width == found.spec.width == TINY.width
        for name in ("image_size", "patch_size", "layers", "heads", "mlp_width", "activation"):
            assert getattr(found.spec, name) == getattr(TINY, name)

    def test_the_number_of_attention_heads_can_be_said(
        self, checkpoints: Checkpoints, model: StoredModel, into: Path
    ) -> None:
        found = checkpoints.read_encoder(model.encoder, into, heads=4)
        assert found.spec is not None
        assert found.spec.heads == 4

    def test_a_head_says_which_width_it_takes(
        self, checkpoints: Checkpoints, model: StoredModel, into: Path
    ) -> None:
        found = checkpoints.read_head(model.head, into)
        assert (found.width, found.spec) == (TINY.width, None)

    def test_what_was_read_lies_in_the_folder_as_safetensors_of_the_same_weights(
        self, checkpoints: Checkpoints, model: StoredModel, into: Path
    ) -> None:
        from safetensors.numpy import load_file

        pairs = [
            (checkpoints.read_encoder(model.encoder, into).path, model.encoder),
            (checkpoints.read_head(model.head, into).path, model.head),
        ]
        for read, original in pairs:
            assert read.parent == into
            found, expected = load_file(read), load_file(original)
            assert found.keys() == expected.keys()
            assert all((found[name] == expected[name]).all() for name in expected)

    def test_a_head_is_no_encoder_and_an_encoder_no_head(
        self, checkpoints: Checkpoints, model: StoredModel, into: Path
    ) -> None:
        with pytest.raises(CheckpointInvalid):
            checkpoints.read_encoder(model.head, into)
        with pytest.raises(CheckpointInvalid):
            checkpoints.read_head(model.encoder, into)

    def test_a_missing_file_a_folder_and_an_empty_file_are_refused(
        self, checkpoints: Checkpoints, into: Path
    ) -> None:
        empty = into / "empty.pth"
        empty.touch()
        for place in (into / "nothing.pth", into, empty):
            with pytest.raises(CheckpointInvalid) as caught:
                checkpoints.read_head(place, into)
            assert str(into) not in str(caught.value)

    def test_permutations_are_orders_of_all_patches_and_the_same_for_the_same_seed(
        self, checkpoints: Checkpoints
    ) -> None:
        drawn = checkpoints.draw_permutations(3, 16, 256)
        assert len(set(drawn)) == 16
        assert all(sorted(order) == list(range(256)) for order in drawn)
        assert checkpoints.draw_permutations(3, 16, 256) == drawn
        assert checkpoints.draw_permutations(4, 16, 256) != drawn

    def test_fewer_permutations_are_the_first_of_more(self, checkpoints: Checkpoints) -> None:
        assert (
            checkpoints.draw_permutations(3, 4, 64) == checkpoints.draw_permutations(3, 16, 64)[:4]
        )
