"""What a model registry promises."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from d3.domain.errors import ModelDamaged, ModelNameInvalid, ModelNotFound, ModelProtected
from d3.domain.models import DERIVED_NOTICE, Int8Form, Manifest, ModelFile, StoredModel, file_of
from d3.domain.ports.models import ModelRegistry
from d3.testing.models import tiny_ferretnet, tiny_manifest, tiny_model, tiny_ufd

BAD_NAMES = [
    "",
    ".",
    "..",
    "../up",
    "a/b",
    "a\\b",
    "nul\0byte",
    "a" * 300,
    ".hidden",
    "-dash",
    "new\nline",
    "ünï",
    "a..b",
]


class RegistryFiles:
    """Puts models whose files are a few bytes into a registry.

    Args:
        registry: under test.
        folder: for the files before they are stored.
    """

    def __init__(self, registry: ModelRegistry, folder: Path) -> None:
        self._registry = registry
        self._folder = folder
        self._numbers = itertools.count()

    def file(self, content: str) -> Path:
        """A file of this content."""
        path = self._folder / f"{next(self._numbers)}.safetensors"
        path.write_text(content)
        return path

    def put(
        self,
        name: str,
        encoder: str = "an encoder",
        head: str = "a head",
        notice: str = "",
        int8: str | None = None,
        *,
        created_at: str = "",
    ) -> Manifest:
        """Store a model of these two contents, or three."""
        files = self.file(encoder), self.file(head)
        manifest = tiny_manifest(file_of(files[0]), file_of(files[1]), name)
        manifest = replace(manifest, notice=notice, created_at=created_at)
        if int8 is None:
            return self._registry.put(stored(manifest, *files))
        form = self.file(int8)
        return self._registry.put(
            stored(replace(manifest, int8=int8_form(file_of(form))), *files, form)
        )


def stored(manifest: Manifest, encoder: Path, head: Path, int8: Path | None = None) -> StoredModel:
    """A model of files that nobody has checked."""
    paths = {"encoder": encoder, "head": head} | ({"int8": int8} if int8 is not None else {})
    return StoredModel(manifest, paths)


def int8_form(file: ModelFile) -> Int8Form:
    """What is known of an int8 form that nobody measured."""
    return Int8Form(
        file=file,
        group=256,
        kept="static",
        candidates=(),
        fp32_seconds=1.0,
        max_mean_drift=0.01,
        max_flips=0.01,
        learnt=0,
        measured=0,
        images_sha256="",
        base_sha256="",
        tools={},
    )


class ModelRegistryContract:
    """Override :meth:`registry` with an empty one, and :meth:`tamper`."""

    @pytest.fixture
    def registry(self) -> ModelRegistry:
        """The registry under test, empty."""
        raise NotImplementedError

    @pytest.fixture
    def shelf(
        self, registry: ModelRegistry, tmp_path_factory: pytest.TempPathFactory
    ) -> RegistryFiles:
        """Stores small models in it."""
        return RegistryFiles(registry, tmp_path_factory.mktemp("shelf"))

    def tamper(self, registry: ModelRegistry, file: ModelFile, content: bytes | None) -> None:
        """Behind the registry's back, replace a stored file's content; None removes it."""
        raise NotImplementedError

    def test_it_is_a_registry_and_empty(self, registry: ModelRegistry) -> None:
        assert isinstance(registry, ModelRegistry)
        assert registry.list() == []
        assert registry.active() is None
        assert registry.trouble is None

    def test_what_was_put_is_opened(self, registry: ModelRegistry, shelf: RegistryFiles) -> None:
        manifest = shelf.put("mine")
        assert registry.describe("mine") == manifest
        model = registry.open("mine")
        assert model.manifest == manifest
        assert model.encoder.read_text() == "an encoder"
        assert model.head.read_text() == "a head"

    def test_the_time_of_storing_is_noted(self, shelf: RegistryFiles) -> None:
        assert shelf.put("mine").created_at.endswith("Z")

    def test_what_must_be_said_of_an_encoder_follows_it(
        self, registry: ModelRegistry, shelf: RegistryFiles
    ) -> None:
        shelf.put("demo", notice="Demo model: calls 9 of 100 real photographs fake.")
        said = shelf.put("mine", head="my head").notice
        assert said == DERIVED_NOTICE
        assert shelf.put("copy").notice == registry.describe("demo").notice
        assert shelf.put("another", encoder="another encoder", head="my head").notice == ""
        registry.delete("demo")
        assert registry.describe("mine").notice == registry.open("mine").manifest.notice == said
        assert shelf.put("later", head="another head").notice == said
        assert shelf.put("own", notice="Another sentence.").notice == "Another sentence."

    def test_the_same_name_again_is_the_next_version(
        self, registry: ModelRegistry, shelf: RegistryFiles
    ) -> None:
        assert [shelf.put("mine", head=f"head {n}").version for n in range(3)] == [1, 2, 3]
        assert registry.describe("mine").version == 3
        assert registry.open("mine", 2).head.read_text() == "head 1"
        assert [one.manifest.version for one in registry.list()] == [3]

    def test_the_list_goes_by_name_and_marks_the_active_one(
        self, registry: ModelRegistry, shelf: RegistryFiles
    ) -> None:
        for name in ("b", "c", "a"):
            shelf.put(name)
        registry.activate("c")
        listed = [(one.manifest.name, one.active) for one in registry.list()]
        assert listed == [("a", False), ("b", False), ("c", True)]
        assert registry.active() == "c"

    def test_a_file_that_is_not_the_manifests_is_not_stored(
        self, registry: ModelRegistry, shelf: RegistryFiles
    ) -> None:
        encoder, head = shelf.file("an encoder"), shelf.file("a head")
        manifest = tiny_manifest(file_of(encoder), file_of(head), "mine")
        with pytest.raises(ModelDamaged):
            registry.put(stored(manifest, encoder, shelf.file("another head")))
        with pytest.raises(ModelDamaged):
            registry.put(stored(manifest, encoder.with_name("missing"), head))
        assert registry.list() == []
        with pytest.raises(ModelNotFound):
            registry.describe("mine")

    def test_what_is_not_there_is_not_found(
        self, registry: ModelRegistry, shelf: RegistryFiles
    ) -> None:
        shelf.put("mine")
        for ask in (
            registry.describe,
            registry.open,
            registry.verify,
            registry.delete,
            registry.activate,
        ):
            with pytest.raises(ModelNotFound):
                ask("other")
        for ask in (registry.describe, registry.open, registry.delete):
            with pytest.raises(ModelNotFound):
                ask("mine", 2)

    @pytest.mark.parametrize("name", BAD_NAMES)
    def test_a_name_that_cannot_be_is_refused(self, registry: ModelRegistry, name: str) -> None:
        for ask in (
            registry.describe,
            registry.open,
            registry.verify,
            registry.delete,
            registry.activate,
        ):
            with pytest.raises(ModelNameInvalid):
                ask(name)

    @pytest.mark.parametrize("content", [b"tampered..", b"", b"an encoder and more", None])
    def test_a_tampered_file_is_never_opened(
        self, registry: ModelRegistry, shelf: RegistryFiles, content: bytes | None
    ) -> None:
        manifest = shelf.put("mine")
        self.tamper(registry, manifest.encoder, content)
        with pytest.raises(ModelDamaged, match="encoder"):
            registry.open("mine")
        assert registry.describe("mine") == manifest

    @pytest.mark.parametrize("content", [b"tampered..", b"", None])
    def test_verifying_looks_at_the_stored_files_not_at_a_copy(
        self, registry: ModelRegistry, shelf: RegistryFiles, content: bytes | None
    ) -> None:
        manifest = shelf.put("mine")
        registry.open("mine")
        assert registry.verify("mine") == manifest
        self.tamper(registry, manifest.head, content)
        with pytest.raises(ModelDamaged, match="head"):
            registry.verify("mine")

    @pytest.mark.parametrize("content", [b"tampered..", b"", None])
    def test_putting_a_damaged_model_again_mends_it(
        self, registry: ModelRegistry, shelf: RegistryFiles, content: bytes | None
    ) -> None:
        manifest = shelf.put("mine")
        self.tamper(registry, manifest.encoder, content)
        shelf.put("mine")
        assert registry.open("mine").encoder.read_text() == "an encoder"

    def test_a_removed_model_is_gone_and_its_name_free(
        self, registry: ModelRegistry, shelf: RegistryFiles
    ) -> None:
        shelf.put("mine")
        shelf.put("mine", head="another head")
        registry.delete("mine")
        assert registry.list() == []
        with pytest.raises(ModelNotFound):
            registry.open("mine")
        assert shelf.put("mine").version == 1

    def test_one_version_can_be_removed(
        self, registry: ModelRegistry, shelf: RegistryFiles
    ) -> None:
        for head in ("a", "b", "c"):
            shelf.put("mine", head=head)
        registry.delete("mine", 3)
        assert registry.describe("mine").version == 2
        registry.delete("mine", 1)
        assert registry.open("mine").head.read_text() == "b"
        with pytest.raises(ModelNotFound):
            registry.describe("mine", 1)

    def test_an_int8_form_comes_and_goes_with_its_version(
        self, registry: ModelRegistry, shelf: RegistryFiles
    ) -> None:
        plain, quick = shelf.put("mine"), shelf.put("mine", int8="a form")
        assert plain.sha256 != quick.sha256
        model = registry.open("mine")
        assert model.manifest == registry.verify("mine") == quick
        assert model.encoder.read_text() == "an encoder"
        assert model.int8 is not None
        assert model.int8.read_text() == "a form"
        assert registry.open("mine", 1).int8 is None
        shelf.put("mine", int8="another form")
        registry.delete("mine", 3)
        assert registry.open("mine").paths == model.paths
        assert quick.int8 is not None
        self.tamper(registry, quick.int8.file, b"tamper")
        with pytest.raises(ModelDamaged, match="int8"):
            registry.verify("mine")
        registry.delete("mine", 2)
        assert registry.open("mine").manifest == plain

    def test_an_int8_form_that_is_not_there_is_not_stored(
        self, registry: ModelRegistry, shelf: RegistryFiles
    ) -> None:
        encoder, head, form = (shelf.file(one) for one in ("an encoder", "a head", "a form"))
        manifest = tiny_manifest(file_of(encoder), file_of(head), "mine")
        with pytest.raises(ModelDamaged, match="int8"):
            registry.put(stored(replace(manifest, int8=int8_form(file_of(form))), encoder, head))
        with pytest.raises(ModelDamaged, match="int8"):
            registry.put(stored(manifest, encoder, head, form))
        assert registry.list() == []

    def test_a_model_of_one_file_is_stored_verified_and_removed(
        self, registry: ModelRegistry, tmp_path: Path
    ) -> None:
        model = tiny_ferretnet(tmp_path, "witness")
        manifest = registry.put(model)
        assert (manifest.architecture, manifest.version) == ("ferretnet", 1)
        assert registry.describe("witness") == registry.verify("witness") == manifest
        opened = registry.open("witness")
        assert opened.manifest == manifest
        assert opened.paths.keys() == {"network"}
        assert opened.paths["network"].read_bytes() == model.paths["network"].read_bytes()
        self.tamper(registry, manifest.files["network"], None)
        with pytest.raises(ModelDamaged, match="network"):
            registry.verify("witness")
        registry.delete("witness")
        assert registry.list() == []

    def test_an_encoder_is_shared_by_models_of_two_architectures(
        self, registry: ModelRegistry, tmp_path: Path
    ) -> None:
        first = tiny_model(tmp_path, "first")
        second = tiny_ufd(tmp_path, "second", beside=first)
        registry.put(first)
        manifest = registry.put(second)
        assert manifest.encoder == registry.describe("first").encoder
        registry.delete("first")
        opened = registry.open("second")
        assert opened.paths.keys() == {"encoder", "projection", "head"}
        for role, path in second.paths.items():
            assert opened.paths[role].read_bytes() == path.read_bytes()

    def test_a_part_that_is_not_there_is_not_stored(
        self, registry: ModelRegistry, tmp_path: Path
    ) -> None:
        model = tiny_ufd(tmp_path, "mine", beside=tiny_model(tmp_path))
        paths = {role: path for role, path in model.paths.items() if role != "projection"}
        with pytest.raises(ModelDamaged, match="projection"):
            registry.put(replace(model, paths=paths))
        assert registry.list() == []

    def test_a_shared_encoder_survives_the_removal_of_one_of_two_models(
        self, registry: ModelRegistry, shelf: RegistryFiles
    ) -> None:
        shelf.put("one", head="head one")
        shelf.put("two", head="head two")
        registry.delete("one")
        assert registry.open("two").encoder.read_text() == "an encoder"

    def test_a_damaged_model_can_be_removed(
        self, registry: ModelRegistry, shelf: RegistryFiles
    ) -> None:
        self.tamper(registry, shelf.put("mine").head, None)
        registry.delete("mine")
        assert registry.list() == []

    def test_the_active_model_stays(self, registry: ModelRegistry, shelf: RegistryFiles) -> None:
        shelf.put("mine")
        shelf.put("mine", head="another head")
        shelf.put("other")
        registry.activate("mine")
        with pytest.raises(ModelProtected):
            registry.delete("mine")
        registry.delete("mine", 1)
        with pytest.raises(ModelProtected):
            registry.delete("mine", 2)
        registry.activate("other")
        registry.delete("mine")
        assert [one.manifest.name for one in registry.list()] == ["other"]

    def test_models_put_at_once_get_versions_of_their_own(
        self, registry: ModelRegistry, shelf: RegistryFiles
    ) -> None:
        with ThreadPoolExecutor(4) as pool:
            stored = list(pool.map(lambda n: shelf.put("mine", head=f"head {n}"), range(8)))
        assert sorted(manifest.version for manifest in stored) == list(range(1, 9))
        for manifest in stored:
            assert registry.open("mine", manifest.version).manifest == manifest
