"""Architectures of other packages: found, used, and no harm to the others where one is broken."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from d3.adapters.torch import TorchArchitectures, TorchEngine
from d3.domain.errors import (
    ArchitectureUnavailable,
    ArchitectureUnsuitable,
    CheckpointInvalid,
    DetectorFailed,
    DeviceOutOfMemory,
    ScoreUndefined,
)
from d3.domain.inputs import Fit, InputSpec
from d3.domain.models import StoredModel
from d3.domain.ports.architectures import ArchitectureInfo
from d3.domain.scoring import assess
from d3.network.checkpoints import write_tensors
from d3.testing.models import tiny_ferretnet, tiny_model, tiny_ufd

MEANS = """
    import torch
    from d3.architectures import Architecture, InputSpec

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(3, 1)
        def forward(self, images):
            return self.layer(images.mean(dim=(2, 3))).squeeze(1)

    class Means(Architecture):
        input = InputSpec(32, mean=(0.5, 0.4, 0.3), deviation=(0.5, 0.5, 0.25))
        def build(self, config):
            return Network()
"""
"""A plug-in that judges the mean colours."""

Installs = Callable[..., str]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Installs:
    """Puts a package with an architecture where packages are; its module's name."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(site)

    def install(package: str, name: str, code: str, entry: str = "Means") -> str:
        module = package.replace("-", "_")
        (site / f"{module}.py").write_text(textwrap.dedent(code))
        about = site / f"{module}-1.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (about / "entry_points.txt").write_text(f"[d3.architectures]\n{name} = {module}:{entry}\n")
        monkeypatch.delitem(sys.modules, module, raising=False)
        return module

    return install


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Of the plug-in above."""
    tensors = {
        "layer.weight": torch.tensor([[1.0, -2.0, 3.0]]),
        "layer.bias": torch.tensor([0.25]),
    }
    write_tensors(tmp_path / "means.safetensors", tensors)
    return tmp_path / "means.safetensors"


@pytest.fixture
def into(tmp_path: Path) -> Path:
    (tmp_path / "into").mkdir()
    return tmp_path / "into"


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)


def listed() -> dict[str, ArchitectureInfo]:
    return {one.name: one for one in TorchArchitectures().list()}


def read(weights: Path, into: Path, name: str = "means") -> StoredModel:
    return TorchArchitectures().read(name, "mine", {"network": weights}, into)


def test_what_comes_with_d3_is_registered_like_any_other() -> None:
    ours = {one.name for one in entry_points(group="d3.architectures")}
    assert {"d3", "ferretnet", "ufd"} <= ours


def test_a_package_adds_an_architecture(
    install: Installs, weights: Path, into: Path, pixels: np.ndarray
) -> None:
    install("colour-detector", "means", MEANS)
    info = listed()["means"]
    assert (info.package, info.trouble, list(info.files)) == ("colour-detector", None, ["network"])
    model = read(weights, into)
    manifest = model.manifest
    assert (manifest.architecture, manifest.package) == ("means", "colour-detector")
    TorchArchitectures().check(model, "mine.d3")
    detector = TorchEngine("cpu").load(model)
    assert (detector.engine, detector.device, detector.precision) == ("torch", "cpu", "fp32")
    assert detector.weights_bytes == 16
    values = (pixels / 255 - manifest.input.mean) / manifest.input.deviation
    expected = values.mean(axis=(1, 2)) @ [1, -2, 3] + 0.25
    assert np.abs(detector.score(pixels, 1)[:, 0] - expected).max() < 1e-5
    assert detector.score(pixels[:0], 1).shape == (0, 1)
    detector.close()
    with pytest.raises(RuntimeError, match="closed"):
        detector.score(pixels, 1)


def test_weights_of_training_files_are_read_safely(
    install: Installs, weights: Path, into: Path
) -> None:
    install("colour-detector", "means", MEANS)
    from safetensors.torch import load_file

    torch.save(load_file(weights), weights.with_suffix(".pth"))
    model = read(weights.with_suffix(".pth"), into)
    assert model.paths["network"].suffix == ".safetensors"
    torch.save({"layer.weight": Path("/")}, weights.with_suffix(".pth"))
    with pytest.raises(CheckpointInvalid):
        read(weights.with_suffix(".pth"), into)


def test_an_architecture_of_several_views_and_files(
    install: Installs, into: Path, tmp_path: Path
) -> None:
    code = """
        import torch
        from d3.architectures import Architecture, Fit, InputSpec

        class Network(torch.nn.Module):
            def __init__(self, wide):
                super().__init__()
                self.body = torch.nn.Linear(3, wide)
                self.top = torch.nn.Linear(wide, 4)
            def forward(self, images):
                return self.top(self.body(images.mean(dim=(2, 3))))

        class Wide(Architecture):
            files = {"body": "the features", "top": "four views of them"}
            input = InputSpec(16, Fit.CROP)
            views = 4
            def config_of(self, tensors):
                return {"wide": tensors["body.weight"].shape[0]}
            def build(self, config):
                return Network(config["wide"])
    """
    install("wide-detector", "wide", code, "Wide")
    torch.manual_seed(1)
    layers = {"body": torch.nn.Linear(3, 7), "top": torch.nn.Linear(7, 4)}
    for role, layer in layers.items():
        write_tensors(tmp_path / role, layer.state_dict())
    files = {role: tmp_path / role for role in layers}
    model = TorchArchitectures().read("wide", "mine", files, into)
    assert (model.manifest.config, model.manifest.views) == ({"wide": 7}, 4)
    detector = TorchEngine("cpu").load(model)
    black = np.zeros((2, 16, 16, 3), np.uint8)
    assert np.array_equal(detector.score(black, 4)[:, :2], detector.score(black, 2))
    detector.close()
    told = replace(model, manifest=replace(model.manifest, config={"wide": 8}))
    with pytest.raises(CheckpointInvalid, match="do not match its manifest"):
        TorchArchitectures().check(told, "mine.d3")


def test_of_two_packages_with_one_name_neither_is_used_and_both_are_named(
    install: Installs, weights: Path, into: Path
) -> None:
    install("colour-detector", "means", MEANS)
    install("other-detector", "means", MEANS)
    install("third-detector", "third", MEANS)
    trouble = listed()["means"].trouble
    assert trouble is not None
    assert "colour-detector and other-detector" in trouble
    assert listed()["third"].trouble is None
    with pytest.raises(ArchitectureUnavailable, match="colour-detector and other-detector"):
        read(weights, into)
    assert read(weights, into, "third").manifest.package == "third-detector"


def test_the_name_of_one_of_d3s_own_stays_its_own(
    install: Installs, tmp_path: Path, into: Path
) -> None:
    install("colour-detector", "ferretnet", MEANS)
    with pytest.warns(RuntimeWarning, match="colour-detector .*'ferretnet'"):
        assert listed()["ferretnet"].package == ""
    known = tiny_ferretnet(tmp_path)
    with pytest.warns(RuntimeWarning, match="D3 uses its own"):
        TorchArchitectures().check(known, "known")


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import no_such_module", "ModuleNotFoundError"),
        ("raise SystemExit('no licence')", "SystemExit: no licence"),
        ("def Means(name, package): return 7", "no d3.architectures.Architecture"),
        ("Mean = 1", "AttributeError"),
        ("Means = 1", "it is no d3.architectures.Architecture"),
        ("class Means:\n    def __init__(self): pass", "TypeError"),
    ],
)
def test_a_package_that_cannot_be_imported_is_said_and_the_others_go_on(
    install: Installs, weights: Path, into: Path, code: str, said: str
) -> None:
    install("broken-detector", "broken", code)
    install("colour-detector", "means", MEANS)
    trouble = listed()["broken"].trouble
    assert trouble is not None
    assert said in trouble
    assert "broken-detector" in trouble
    with pytest.raises(ArchitectureUnavailable, match="broken-detector"):
        read(weights, into, "broken")
    TorchEngine("cpu").load(read(weights, into)).close()


def test_a_model_whose_architecture_is_missing_says_which_package_to_install(
    install: Installs, weights: Path, into: Path
) -> None:
    install("colour-detector", "means", MEANS)
    model = read(weights, into)
    gone = replace(model, manifest=replace(model.manifest, architecture="gone"))
    for use in (TorchEngine("cpu").load, lambda one: TorchArchitectures().check(one, "file.d3")):
        with pytest.raises(
            ArchitectureUnavailable, match="The package 'colour-detector' provides it"
        ) as caught:
            use(gone)
        assert "'gone'" in caught.value.problem
    with pytest.raises(ArchitectureUnavailable, match=r"'gone'.* Update D3"):
        TorchEngine("cpu").load(replace(gone, manifest=replace(gone.manifest, package="")))


FAILING = """
    import torch
    from d3.architectures import Architecture, InputSpec

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(3, 1)
        def forward(self, images):
            logits = self.layer(images.mean(dim=(2, 3))).squeeze(1)
            white = images.amin(dim=(1, 2, 3)) > 0.9
            {then}

    class Means(Architecture):
        input = InputSpec(32, mean=(0, 0, 0), deviation=(1, 1, 1))
        def build(self, config):
            return Network()
"""


@pytest.mark.parametrize(
    ("then", "said"),
    [
        ("return logits if not white.any() else 1 / 0", "ZeroDivisionError"),
        ("return logits if not white.any() else 'fake'", "str instead of a tensor"),
        ("return logits if not white.any() else images", r"shape \[1, 3, 32, 32\]"),
        ("return logits if not white.any() else logits[:0]", r"shape \[0\] for 1 images"),
        ("return logits if not white.any() else logits + 1j", "gave logits"),
        ("return logits if not white.any() else exit('no licence')", "SystemExit: no licence"),
    ],
)
def test_a_network_that_fails_on_an_image_is_named_and_fails_on_that_image_alone(
    install: Installs, weights: Path, into: Path, then: str, said: str
) -> None:
    install("failing-detector", "means", FAILING.format(then=then))
    detector = TorchEngine("cpu").load(read(weights, into))
    white, black = np.full((1, 32, 32, 3), 255, np.uint8), np.zeros((1, 32, 32, 3), np.uint8)
    with pytest.raises(DetectorFailed, match=said) as caught:
        detector.score(white, 1)
    assert "'means' of the package failing-detector" in caught.value.problem
    assert np.isfinite(detector.score(black, 1)).all()
    detector.close()


def test_logits_that_are_no_numbers_are_no_score(
    install: Installs, weights: Path, into: Path
) -> None:
    install("failing-detector", "means", FAILING.format(then="return logits / 0 * 0"))
    detector = TorchEngine("cpu").load(read(weights, into))
    logits = detector.score(np.ones((1, 32, 32, 3), np.uint8), 1)
    with pytest.raises(ScoreUndefined):
        assess(logits[0].tolist(), threshold=0.5)


@pytest.mark.parametrize(
    ("method", "use"),
    [
        ("def config_of(self, tensors): return 1 / 0", "read these files"),
        ("def check(self, model, called): return 1 / 0", "check 'mine.d3'"),
        ("def network(self, model): return 1 / 0", "load the model 'mine'"),
        ("def network(self, model): raise SystemExit(3)", "load the model 'mine'"),
    ],
)
def test_a_class_that_raises_is_named(
    install: Installs, weights: Path, into: Path, method: str, use: str
) -> None:
    install("failing-detector", "means", f"{MEANS}\n        {method}\n")

    def every_use() -> None:
        model = read(weights, into)
        TorchArchitectures().check(model, "mine.d3")
        TorchEngine("cpu").load(model)

    with pytest.raises(ArchitectureUnavailable, match=f"failing-detector failed to {use}"):
        every_use()


def test_a_tensor_that_is_looked_for_in_vain_is_named(
    install: Installs, weights: Path, into: Path
) -> None:
    looks = "def config_of(self, tensors): return {'wide': len(tensors['hat.weight'])}"
    install("colour-detector", "means", f"{MEANS}\n        {looks}\n")
    with pytest.raises(CheckpointInvalid, match=r"'means.safetensors' is no means: .*hat.weight"):
        read(weights, into)


def test_a_file_that_is_not_there_or_is_anothers_is_refused_at_load(
    install: Installs, weights: Path, into: Path, tmp_path: Path
) -> None:
    install("colour-detector", "means", MEANS)
    model = read(weights, into)
    other = tiny_ferretnet(tmp_path).paths["network"]
    paths: list[dict[str, Path]] = [{}, {"network": into / "nothing"}, {"network": other}]
    for one in paths:
        with pytest.raises(CheckpointInvalid):
            TorchEngine("cpu").load(replace(model, paths=one))


def test_a_network_without_room_for_a_batch_scores_smaller_ones(
    install: Installs, weights: Path, into: Path, pixels: np.ndarray
) -> None:
    full = "raise MemoryError" if len(pixels) else ""
    install(
        "large-detector",
        "means",
        FAILING.format(then=f"return logits if len(images) < 2 else exec({full!r})"),
    )
    detector = TorchEngine("cpu").load(read(weights, into))
    with pytest.warns(RuntimeWarning, match="uses batches of 1"):
        assert detector.score(pixels, 1).shape == (5, 1)
    detector.close()


def test_a_network_without_room_for_one_image_says_so(
    install: Installs, weights: Path, into: Path, pixels: np.ndarray
) -> None:
    install("large-detector", "means", FAILING.format(then="raise MemoryError"))
    detector = TorchEngine("cpu").load(read(weights, into))
    with pytest.raises(DeviceOutOfMemory):
        detector.score(pixels[:1], 1)


def test_ferretnet_tells_its_size_by_its_weights(tmp_path: Path, into: Path) -> None:
    known = tiny_ferretnet(tmp_path)
    found = TorchArchitectures().read("ferretnet", "mine", known.paths, into)
    assert found.manifest.config == {"dim": 8, "depths": [1]}
    assert found.manifest.input == InputSpec(256, Fit.CROP)


@pytest.mark.parametrize(
    "config", [{"window": 4}, {"window": 99}, {"dim": 7}, {"depths": [1] * 40}]
)
def test_a_manifest_that_asks_for_a_ferretnet_that_cannot_be_is_refused(
    tmp_path: Path, config: dict[str, Any]
) -> None:
    known = tiny_ferretnet(tmp_path)
    told = replace(known.manifest, config={**known.manifest.config, **config})
    with pytest.raises(CheckpointInvalid):
        TorchEngine("cpu").load(replace(known, manifest=told))


def test_a_network_of_its_own_has_no_place_for_other_heads(tmp_path: Path) -> None:
    d3 = tiny_model(tmp_path)
    ferretnet = tiny_ferretnet(tmp_path)
    probe = tiny_ufd(tmp_path, beside=d3, fit=Fit.SQUASH)
    for model in (replace(ferretnet, beside=(probe,)), replace(d3, beside=(ferretnet,))):
        with pytest.raises(ArchitectureUnsuitable):
            TorchEngine("cpu").load(model)
