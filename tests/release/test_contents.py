"""What the wheel and the sdist hold, against what git tracks."""

from __future__ import annotations

import re
import subprocess
import tarfile
import tomllib
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).resolve().parents[2]
MIB = 1 << 20
NOT_RELEASED = re.compile(r"\.ci/|\.gitignore$")
"""What belongs to the repository alone."""


@pytest.fixture(scope="module")
def wheel(distributions: Path) -> ZipFile:
    (file,) = distributions.glob("*.whl")
    return ZipFile(file)


@pytest.fixture(scope="module")
def metadata(wheel: ZipFile) -> Message:
    (name,) = (one for one in wheel.namelist() if one.endswith(".dist-info/METADATA"))
    return message_from_bytes(wheel.read(name))


@pytest.fixture(scope="module")
def sdist(distributions: Path) -> list[tarfile.TarInfo]:
    (file,) = distributions.glob("*.tar.gz")
    with tarfile.open(file) as archive:
        return [one for one in archive.getmembers() if one.isfile()]


def tracked(folder: str = "") -> set[str]:
    listed = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "-z", "--", folder or "."],
        capture_output=True,
        text=True,
        check=True,
    )
    return {one for one in listed.stdout.split("\0") if one}


def test_the_wheel_is_the_package_and_nothing_else(wheel: ZipFile) -> None:
    names = {one for one in wheel.namelist() if ".dist-info/" not in one}
    assert names == {one.removeprefix("src/") for one in tracked("src/d3")}
    needed = {
        "d3/py.typed",
        "d3/starter/MODEL_CARD.md",
        "d3/starter/head.safetensors",
        "d3/starter/encoder.safetensors",
        "d3/adapters/evidence/fonts/LICENCES.md",
        "d3/entrypoints/http/console/static/htmx.LICENSE.txt",
        "d3/entrypoints/http/console/templates/check.html.j2",
        "d3/adapters/sql/migrations/script.py.mako",
    }
    assert needed <= names
    strange = re.compile(r"(^|/)(tests?|conftest|test_[^/]*|[^/]*_servers?)(\.py|/)")
    assert not [one for one in names if strange.search(one)]


def test_the_wheel_has_its_licence(wheel: ZipFile, metadata: Message) -> None:
    (licence,) = (one for one in wheel.namelist() if one.endswith("licenses/LICENSE"))
    assert wheel.read(licence) == (ROOT / "LICENSE").read_bytes()
    assert metadata["License-Expression"] == "Apache-2.0"
    assert "licen" in wheel.read("d3/starter/MODEL_CARD.md").decode().casefold()


def test_the_sdist_is_what_builds_and_tests_d3(sdist: list[tarfile.TarInfo]) -> None:
    names = {one.name.partition("/")[2] for one in sdist} - {"PKG-INFO"}
    wanted = {one for one in tracked() if not NOT_RELEASED.match(one)}
    assert sorted(wanted - names) == []
    assert sorted(names - wanted - {".gitignore"}) == []  # hatchling adds it to what it reads


def test_both_stay_small(distributions: Path) -> None:
    sizes = {file.name: file.stat().st_size / MIB for file in distributions.iterdir()}
    for name, size in sizes.items():
        assert size < (8 if name.endswith(".whl") else 16), name


def test_the_page_of_an_index_has_no_dead_links(metadata: Message) -> None:
    assert metadata["Description-Content-Type"] == "text/markdown"
    text = metadata.get_payload()
    assert isinstance(text, str)
    assert text.startswith("# D3")
    targets = re.findall(r"\]\(([^)\s]+)", text)
    assert [one for one in targets if not one.startswith(("https://", "#"))] == []


def test_the_metadata_is_the_projects(metadata: Message) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (metadata["Name"], metadata["Version"]) == (project["name"], project["version"])
    assert set(metadata.get_all("Classifier", [])) == set(project["classifiers"])
    needs = {one for one in metadata.get_all("Requires-Dist", []) if "extra ==" not in one}
    assert len(needs) == len(project["dependencies"])
    assert not [one for one in needs if re.match(r"(pytest|moto|playwright|ruff|nox)\b", one)]
    assert set(metadata.get_all("Provides-Extra", [])) == set(project["optional-dependencies"])
