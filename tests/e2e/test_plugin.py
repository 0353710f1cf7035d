"""The example of a plug-in, from a fresh environment: built, installed, found and used."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLUGIN = ROOT / "examples/plugin"
IMAGES = ROOT / "examples/images"

BUILD = "import setuptools.build_meta as backend, sys; backend.build_wheel(sys.argv[1])"
WEIGHTS = (
    "import highpass, torch; torch.manual_seed(0); "
    "torch.save(highpass.Network().state_dict(), 'highpass.pth')"
)


@dataclass(frozen=True)
class Environment:
    """A virtual environment in which D3 and the plug-in are installed.

    Attributes:
        folder: its own.
        home: D3_HOME.
    """

    folder: Path
    home: Path

    def run(self, *arguments: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run its Python."""
        environ = {"PATH": os.defpath, "HOME": str(self.home), "D3_HOME": str(self.home)}
        done = subprocess.run(
            [self.folder / "bin/python", *arguments],
            env=environ | {"CUDA_DEVICE": "cpu", "D3_PRECISION": "fp32", "OMP_NUM_THREADS": "1"},
            cwd=self.home,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stderr
        return done

    def d3(self, *arguments: str | Path, code: int = 0) -> str:
        """What ``d3`` prints."""
        return self.run("-m", "d3", *arguments, code=code).stdout

    @property
    def packages(self) -> Path:
        """Where its packages lie."""
        (found,) = self.folder.glob("lib/python*/site-packages")
        return found


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """D3 comes from this environment, the plug-in as a wheel that was built of the example."""
    folder = tmp_path_factory.mktemp("plugin")
    made = Environment(folder / "venv", folder / "home")
    made.home.mkdir()
    venv.create(made.folder)
    here = [
        one for one in map(os.path.abspath, sys.path) if Path(one).is_dir() and one != str(ROOT)
    ]
    (made.packages / "d3.pth").write_text("\n".join(here))
    source = shutil.copytree(PLUGIN, folder / "source")
    subprocess.run(
        [sys.executable, "-c", BUILD, folder], cwd=source, check=True, capture_output=True
    )
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(made.packages)
    made.run("-c", WEIGHTS)
    made.d3("models", "import", "mine", "--architecture", "highpass", "--file", "highpass.pth")
    return made


def test_it_is_found_imported_and_judges(environment: Environment) -> None:
    listed = environment.d3("models", "architectures", "--json").splitlines()
    (info,) = [one for one in map(json.loads, listed) if one["name"] == "highpass"]
    assert (info["package"], info["trouble"]) == ("d3-highpass", None)
    described = json.loads(environment.d3("models", "info", "mine", "--json"))
    assert (described["package"], described["config"]) == ("d3-highpass", {"channels": 16})
    assert described["input"]["size"] == 128
    rows = environment.d3("detect", "--json", "--model", "mine", IMAGES).splitlines()
    assert len(rows) == len(list(IMAGES.iterdir()))
    assert {json.loads(row)["model"]["name"] for row in rows} == {"mine"}
    first = environment.d3("detect", "--json", "--model", "mine", IMAGES / "camera-01.jpg")
    expected = environment.run("-c", EXPECTED, IMAGES / "camera-01.jpg").stdout
    assert json.loads(first)["logit"] == pytest.approx(float(expected), abs=1e-5)


EXPECTED = """
import sys
import highpass, torch
from PIL import Image
from torchvision.transforms import v2
network = highpass.Network()
network.load_state_dict(torch.load("highpass.pth"))
ways = v2.Compose([
    v2.PILToTensor(), v2.CenterCrop(128), v2.ToDtype(torch.float32, scale=True),
    v2.Normalize((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
])
image = ways(Image.open(sys.argv[1]).convert("RGB"))
print(network.eval()(image[None]).item())
"""


def test_it_is_evaluated_and_bundled(environment: Environment, tmp_path: Path) -> None:
    for kind, pattern in (("real", "camera-*"), ("fake", "generated-*")):
        (tmp_path / "set" / kind).mkdir(parents=True)
        for image in IMAGES.glob(pattern):
            shutil.copy(image, tmp_path / "set" / kind)
    out = tmp_path / "out"
    environment.d3("evaluate", tmp_path / "set", "--model", "mine", "--out", out)
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["groups"]
    bundle = tmp_path / "mine.d3bundle"
    environment.d3("models", "bundle", "mine", "--out", bundle)
    other = Environment(environment.folder, tmp_path)
    assert "Imported mine version 1" in other.d3("models", "import", bundle)


def test_without_it_its_models_say_what_to_install(environment: Environment) -> None:
    metadata = next(environment.packages.glob("d3_highpass-*.dist-info"))
    aside = metadata.rename(metadata.with_suffix(".aside"))
    try:
        done = environment.run(
            "-m", "d3", "detect", "--model", "mine", IMAGES / "camera-01.jpg", code=2
        )
    finally:
        aside.rename(metadata)
    assert "The package 'd3-highpass' provides it" in " ".join(done.stderr.split())


def test_one_that_cannot_be_imported_is_told_and_the_others_go_on(
    environment: Environment,
) -> None:
    module = environment.packages / "highpass.py"
    whole = module.read_text()
    module.write_text(f"import nonesuch\n{whole}")
    try:
        told = environment.d3("models", "architectures", "--json").splitlines()
        judged = environment.d3("detect", "--json", IMAGES / "camera-01.jpg")
        checked = environment.d3("doctor", "--json").splitlines()
    finally:
        module.write_text(whole)
    trouble = {one["name"]: one["trouble"] for one in map(json.loads, told)}
    assert "No module named 'nonesuch'" in trouble["highpass"]
    assert trouble["ferretnet"] is None
    assert json.loads(judged)["verdict"] == "real"
    found = [one for one in map(json.loads, checked) if one["state"] == "warning"]
    assert [one["check"] for one in found if "nonesuch" in one["found"]] == [
        *("architectures", "models")
    ]


def test_the_page_shows_the_very_file_and_it_is_short() -> None:
    page = (ROOT / "docs/detectors.md").read_text()
    shown = re.findall(r"<!-- file: (\S+) -->\n```\w+\n(.*?)```$", page, re.DOTALL | re.MULTILINE)
    assert [name for name, _ in shown] == ["examples/plugin/highpass.py"]
    for name, text in shown:
        assert text == (ROOT / name).read_text()
        assert len(text.splitlines()) < 100
