"""What a reader of foreign checkpoints promises."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from d3.domain.errors import ArchitectureUnavailable, CheckpointInvalid
from d3.domain.inputs import Fit
from d3.domain.models import Role, StoredModel
from d3.domain.ports.architectures import Architectures
from d3.testing.models import TINY, tiny_ferretnet, tiny_model, tiny_ufd

Models = dict[str, StoredModel]


class ArchitecturesContract:
    """Override :meth:`architectures`."""

    @pytest.fixture
    def architectures(self) -> Architectures:
        """The reader under test."""
        raise NotImplementedError

    @pytest.fixture
    def models(self, tmp_path: Path) -> Models:
        """Tiny models, whose files are sound checkpoints; D3's encoder holds no projection."""
        d3 = tiny_model(tmp_path)
        ufd, ferretnet = tiny_ufd(tmp_path, beside=d3), tiny_ferretnet(tmp_path)
        return {"d3": d3, "ufd": ufd, "ferretnet": ferretnet}

    @pytest.fixture
    def clip(self, models: Models, tmp_path: Path) -> Path:
        """An encoder's file that holds CLIP's projection too, as published ones do."""
        from safetensors.numpy import load_file, save_file

        parts = [load_file(models["ufd"].paths[role]) for role in ("encoder", "projection")]
        save_file({**parts[0], **parts[1]}, tmp_path / "clip.safetensors")
        return tmp_path / "clip.safetensors"

    @pytest.fixture
    def into(self, tmp_path: Path) -> Path:
        """A folder for what was read."""
        folder = tmp_path / "into"
        folder.mkdir()
        return folder

    def test_it_lists_what_comes_with_d3_and_can_be_used(
        self, architectures: Architectures
    ) -> None:
        assert isinstance(architectures, Architectures)
        listed = {one.name: one for one in architectures.list()}
        assert list(listed) == sorted(listed)
        assert {"d3", "ferretnet", "ufd"} <= listed.keys()
        for name in ("d3", "ferretnet", "ufd"):
            assert listed[name].trouble is None
            assert listed[name].package == ""
            assert all(listed[name].files.values())
        assert (listed["d3"].views, listed["d3"].explains) == (16, True)
        assert (listed["ufd"].views, listed["ufd"].explains) == (1, False)

    @pytest.mark.parametrize("name", ["d3", "ufd", "ferretnet"])
    def test_what_was_read_lies_in_the_folder_and_is_the_same_model(
        self, name: str, architectures: Architectures, models: Models, clip: Path, into: Path
    ) -> None:
        from safetensors.numpy import load_file

        known = models[name]
        files = _wanted(architectures, name, {**known.paths, "encoder": clip})
        found = architectures.read(name, "mine", files, into)
        manifest = found.manifest
        assert (manifest.name, manifest.version, manifest.architecture) == ("mine", 1, name)
        assert manifest.input_spec.fit is known.manifest.input_spec.fit
        assert found.paths.keys() == manifest.files.keys() >= known.paths.keys()
        for role, path in known.paths.items():
            assert found.paths[role].parent == into
            read, expected = load_file(found.paths[role]), load_file(path)
            assert read.keys() == expected.keys()
            assert all((read[one] == expected[one]).all() for one in expected)
        architectures.check(found, "mine.d3")
        architectures.check(known, "known.d3")

    def test_an_encoders_shape_is_read_off_its_tensors(
        self, architectures: Architectures, models: Models, into: Path
    ) -> None:
        paths = models["d3"].paths
        found = architectures.read("d3", "mine", paths, into, heads=4, activation="gelu")
        spec = found.manifest.encoder_spec
        assert (spec.heads, spec.activation) == (4, "gelu")
        for name in ("image_size", "patch_size", "layers", "width", "mlp_width"):
            assert getattr(spec, name) == getattr(TINY, name)

    def test_permutations_are_orders_of_all_patches_and_the_same_everywhere(
        self, architectures: Architectures, models: Models, into: Path
    ) -> None:
        drawn = [
            architectures.read("d3", "mine", models["d3"].paths, into).manifest.permutations
            for _ in range(2)
        ]
        assert drawn[0] == drawn[1]
        assert len(set(drawn[0])) == 16
        assert all(sorted(order) == list(range(TINY.patches)) for order in drawn[0])

    def test_a_d3_keeps_the_projection_for_a_probe_and_is_the_same_model_without(
        self, architectures: Architectures, models: Models, clip: Path, into: Path
    ) -> None:
        paths = models["d3"].paths
        without = architectures.read("d3", "mine", paths, into)
        assert "projection" not in without.paths
        stored = without.manifest.files["encoder"]
        found = architectures.read("d3", "mine", {**paths, "encoder": clip}, into)
        assert found.manifest.sha256 == without.manifest.sha256
        assert found.manifest.files["encoder"] == stored
        head = {"head": models["ufd"].paths["head"]}
        probe = architectures.read("ufd", "probe", head, into, encoder=found)
        assert probe.manifest.files["encoder"] == stored
        assert probe.manifest.input_spec.fit is Fit.CROP

    def test_a_head_alone_gets_the_encoder_and_the_permutations_of_a_stored_model(
        self, architectures: Architectures, models: Models, into: Path
    ) -> None:
        known = models["d3"]
        found = architectures.read("d3", "mine", {"head": known.head}, into, encoder=known)
        assert found.manifest.permutations == known.manifest.permutations
        assert found.encoder == known.encoder
        architectures.check(found, "mine")

    def test_a_probe_on_an_encoder_without_projection_is_refused(
        self, architectures: Architectures, models: Models, into: Path
    ) -> None:
        head = models["ufd"].paths["head"]
        for options in (
            {"files": {"head": head}, "encoder": models["d3"]},
            {"files": {"head": head, "encoder": models["d3"].encoder}},
        ):
            with pytest.raises(CheckpointInvalid, match="projection"):
                architectures.read("ufd", "mine", into=into, **options)

    def test_parts_of_other_widths_are_refused(
        self, architectures: Architectures, models: Models, clip: Path, into: Path, tmp_path: Path
    ) -> None:
        from safetensors.numpy import load_file, save_file

        probe = load_file(models["ufd"].paths["head"])
        save_file({**probe, "weight": probe["weight"][:, 1:]}, tmp_path / "narrow.safetensors")
        files = {"encoder": clip, "head": tmp_path / "narrow.safetensors"}
        with pytest.raises(CheckpointInvalid, match="31 projected features"):
            architectures.read("ufd", "mine", files, into)

    @pytest.mark.parametrize("name", ["d3", "ufd", "ferretnet"])
    def test_files_of_another_kind_are_refused(
        self, name: str, architectures: Architectures, models: Models, clip: Path, into: Path
    ) -> None:
        """Each role in turn is given every file that is another role's."""
        paths = {**models[name].paths, "encoder": clip}
        others = [path for model in models.values() for path in model.paths.values()]
        good = _wanted(architectures, name, paths)
        for role in good:
            for path in {*others, clip} - {good[role], models["d3"].encoder}:
                with pytest.raises(CheckpointInvalid):
                    architectures.read(name, "mine", {**good, role: path}, into)

    @pytest.mark.parametrize("name", ["d3", "ufd", "ferretnet"])
    def test_a_missing_file_a_folder_and_an_empty_file_are_refused_by_name(
        self, name: str, architectures: Architectures, models: Models, clip: Path, into: Path
    ) -> None:
        empty = into / "empty.pth"
        empty.touch()
        good = _wanted(architectures, name, {**models[name].paths, "encoder": clip})
        for role in good:
            for place in (into / "nothing.pth", into, empty):
                with pytest.raises(CheckpointInvalid) as caught:
                    architectures.read(name, "mine", {**good, role: place}, into)
                assert str(into) not in str(caught.value)
                with pytest.raises(CheckpointInvalid, match="shown"):
                    architectures.read(
                        name, "mine", {**good, role: place}, into, called={role: "shown"}
                    )
            without = {one: path for one, path in good.items() if one != role}
            with pytest.raises(CheckpointInvalid, match=f"a file for its {role}"):
                architectures.read(name, "mine", without, into)

    def test_a_file_that_no_role_has_is_refused(
        self, architectures: Architectures, models: Models, into: Path
    ) -> None:
        files = {**models["ferretnet"].paths, "hat": models["d3"].head}
        with pytest.raises(CheckpointInvalid, match="no file for a hat"):
            architectures.read("ferretnet", "mine", files, into)

    def test_an_architecture_that_is_not_there_is_said_to_be_missing(
        self, architectures: Architectures, models: Models, into: Path
    ) -> None:
        with pytest.raises(ArchitectureUnavailable, match="'nope' is not installed"):
            architectures.read("nope", "mine", models["d3"].paths, into)

    @pytest.mark.parametrize("name", ["d3", "ufd", "ferretnet"])
    def test_a_stored_model_whose_files_are_another_models_is_refused(
        self, name: str, architectures: Architectures, models: Models
    ) -> None:
        others = {path for model in models.values() for path in model.paths.values()}
        model = models[name]
        for role, path in model.paths.items():
            for other in others - {path}:
                wrong = StoredModel(model.manifest, {**model.paths, role: other})
                with pytest.raises(CheckpointInvalid):
                    architectures.check(wrong, "wrong.d3")

    @pytest.mark.parametrize("name", ["d3", "ufd", "ferretnet"])
    def test_a_stored_model_without_one_of_its_files_is_refused(
        self, name: str, architectures: Architectures, models: Models
    ) -> None:
        model = models[name]
        for role in model.paths:
            paths = {one: path for one, path in model.paths.items() if one != role}
            with pytest.raises(CheckpointInvalid):
                architectures.check(StoredModel(model.manifest, paths), "wrong.d3")

    @pytest.mark.parametrize("name", ["d3", "ufd", "ferretnet"])
    def test_weights_that_are_no_numbers_are_refused(
        self, name: str, architectures: Architectures, models: Models, tmp_path: Path
    ) -> None:
        from safetensors.numpy import load_file, save_file

        model = models[name]
        for role, path in model.paths.items():
            tensors = load_file(path)
            first = min(tensors)
            tensors[first] = tensors[first] * float("nan")
            save_file(tensors, tmp_path / "nan.safetensors")
            paths = {**model.paths, role: tmp_path / "nan.safetensors"}
            with pytest.raises(CheckpointInvalid, match="not finite"):
                architectures.check(StoredModel(model.manifest, paths), "wrong.d3")


def _wanted(
    architectures: Architectures, name: str, paths: Mapping[Role, Path]
) -> dict[Role, Path]:
    """The files that an architecture wants of these."""
    (info,) = [one for one in architectures.list() if one.name == name]
    return {role: paths[role] for role in info.files}
