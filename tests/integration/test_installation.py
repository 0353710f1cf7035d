"""How D3 was installed, as pip and uv record it, and the command that adds an extra to it.

A tiny distribution of D3's name with D3's own module is installed in every way. The command is run
as it is printed, and must bring the extra's package: there is no network, only a folder of wheels.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path
from zipfile import ZipFile

import pytest
import uv

from d3.domain import errors, installation

PROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "d3-deepfake"
version = "1.0"
[project.scripts]
d3 = "d3.told:main"
"""
BACKEND = '''
"""Builds D3's stand-in without anything from an index."""
import os
from pathlib import Path
from zipfile import ZipFile

HERE = Path(__file__).parent
METADATA = """Metadata-Version: 2.4
Name: d3-deepfake
Version: 1.0
Provides-Extra: video
Requires-Dist: shown-frames<9,>=1; extra == 'video'
Provides-Extra: other
Requires-Dist: nothing>=1; extra == 'other'
"""

def build(folder, files):
    name = "d3_deepfake-1.0-py3-none-any.whl"
    info = "d3_deepfake-1.0.dist-info"
    files = files | {
        f"{info}/METADATA": METADATA,
        f"{info}/WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
        f"{info}/entry_points.txt": "[console_scripts]\\nd3 = d3.told:main\\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{one},,\\n" for one in files) + f"{info}/RECORD,,\\n"
    with ZipFile(os.path.join(folder, name), "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return name

def build_wheel(folder, config_settings=None, metadata_directory=None):
    sources = (HERE / "src").rglob("*.py")
    return build(folder, {str(one.relative_to(HERE / "src")): one.read_text() for one in sources})

def build_editable(folder, config_settings=None, metadata_directory=None):
    return build(folder, {"_d3.pth": str(HERE / "src")})
'''
TOLD = """
from d3.domain.installation import install_hint

def main():
    print(install_hint("video"))
    print(install_hint("video", public=True))
"""


@dataclass(frozen=True)
class World:
    """The stand-in's folder, repository and wheels, and an environment for each installer."""

    folder: Path
    wheels: Path
    pip: Path
    uv: Path

    def run(self, *command: str | Path, **more: str) -> str:
        """Run a command without a network or the caller's settings, and return what it prints."""
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
        offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": self.wheels.as_uri()}
        offline |= {"PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        offline |= {"UV_NO_CONFIG": "1", "UV_FIND_LINKS": str(self.wheels), "UV_OFFLINE": "1"}
        offline |= {"UV_CACHE_DIR": str(self.wheels.parent / "cache"), "UV_NO_INDEX": "1"}
        kept["PATH"] = os.pathsep.join([str(Path(uv.find_uv_bin()).parent), kept["PATH"]])
        done = subprocess.run(
            list(map(str, command)),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env=kept | offline | more,
            cwd=self.wheels,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def install(self, installer: str, *arguments: str) -> Path:
        """Install into the installer's environment what is there afresh, and return its Python."""
        python = (self.pip if installer == "pip" else self.uv) / "bin/python"
        target = ("--python", python) if installer == "uv" else ()
        start = ("uv", "pip") if installer == "uv" else (python, "-m", "pip")
        packages = ("d3-deepfake", "shown-frames")
        self.run("uv", "pip", "uninstall", "--quiet", "--python", python, *packages)
        self.run(*start, "install", "--quiet", *target, *arguments)
        return python


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    here = tmp_path_factory.mktemp("a folder")
    folder = here / "d3's checkout"
    (folder / "src/d3/domain").mkdir(parents=True)
    (folder / "pyproject.toml").write_text(PROJECT)
    (folder / "backend.py").write_text(BACKEND)
    for name in ("__init__.py", "domain/__init__.py"):
        (folder / "src/d3" / name).write_text("")
    (folder / "src/d3/told.py").write_text(TOLD)
    for module in (errors, installation):
        assert module.__file__ is not None
        shutil.copy(module.__file__, folder / "src/d3/domain")
    wheels = here / "wheels"
    wheels.mkdir()
    with ZipFile(wheels / "shown_frames-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("shown_frames.py", "")
        info = "shown_frames-1.0.dist-info"
        metadata = "Metadata-Version: 2.4\nName: shown-frames\nVersion: 1.0\n"
        wheel.writestr(f"{info}/METADATA", metadata)
        kind = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        wheel.writestr(f"{info}/WHEEL", kind)
        wheel.writestr(f"{info}/RECORD", "shown_frames.py,,\n")
    made = World(folder, wheels, here / "by pip", here / "by uv")
    venv.create(made.pip, with_pip=True)
    made.run("uv", "venv", "--quiet", "--python", sys.executable, made.uv)
    build = "import backend, sys; backend.build_wheel(sys.argv[1])"
    made.run(sys.executable, "-c", build, wheels, PYTHONPATH=str(folder))
    for line in ("init --quiet", "add .", "commit --quiet --message=first"):
        who = ("-c", "user.name=ada", "-c", "user.email=ada@example.org")
        made.run("git", *who, "-C", folder, *line.split(), GIT_CONFIG_GLOBAL=os.devnull)
    return made


WAYS: dict[str, Callable[[World], tuple[str, ...]]] = {
    "folder": lambda world: (str(world.folder),),
    "editable": lambda world: ("--editable", str(world.folder)),
    "repository": lambda world: (f"git+{world.folder.as_uri()}",),
    "wheel": lambda world: (str(world.wheels / "d3_deepfake-1.0-py3-none-any.whl"),),
    "index": lambda _: ("d3-deepfake",),
}


CASES = [
    *(pytest.param(way, "uv", id=f"{way}-uv") for way in WAYS),
    *(pytest.param(way, "pip", id=f"{way}-pip") for way in ("folder", "index")),
    *(  # pip takes its time
        pytest.param(way, "pip", id=f"{way}-pip", marks=pytest.mark.full)
        for way in ("editable", "repository", "wheel")
    ),
]


@pytest.mark.parametrize(("way", "installer"), CASES)
def test_the_command_adds_the_extra_however_d3_was_installed(
    world: World, way: str, installer: str
) -> None:
    python = world.install(installer, *WAYS[way](world))
    alone, public = world.run(python.parent / "d3").splitlines()
    name = "'d3-deepfake[video]'" if way == "index" else "'shown-frames<9,>=1'"
    start = f"'{python}' -m pip" if installer == "pip" else "uv pip"
    target = f" --python '{python}'" if installer == "uv" else ""
    assert alone == f"Run {start} install{target} {name}"
    program = "uv pip" if installer == "uv" else "pip"
    assert public == f"Where D3 is installed, run {program} install {name}"
    # In the activated environment, the short command does.
    activated = f". '{python.parent}/activate' && d3"
    (line, _) = world.run("sh", "-c", activated).splitlines()
    assert line == f"Run {program} install {name}"
    world.run("sh", "-c", alone.removeprefix("Run "))
    world.run(python, "-c", "import shown_frames")


def test_a_tool_of_uv_takes_packages_into_its_own_environment(world: World) -> None:
    tools = {"UV_TOOL_DIR": str(world.wheels.parent / "tools")}
    tools["UV_TOOL_BIN_DIR"] = str(world.wheels.parent / "programs")
    world.run("uv", "tool", "install", "--python", sys.executable, world.folder, **tools)
    line = world.run(world.wheels.parent / "programs/d3").splitlines()[0]
    world.run("sh", "-c", line.removeprefix("Run "))
    world.run(world.wheels.parent / "tools/d3-deepfake/bin/python", "-c", "import shown_frames")


def test_pipx_injects_packages(world: World) -> None:
    python = world.install("pip", str(world.folder))
    mark = world.pip / "pipx_metadata.json"
    mark.write_text("{}")  # pipx tells by this file that an environment is its own
    try:
        line = world.run(python.parent / "d3").splitlines()[0]
    finally:
        mark.unlink()
    assert line == "Run pipx inject d3-deepfake 'shown-frames<9,>=1'"


def test_an_image_is_built_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere
    assert installation.install_hint("video").startswith("Add it to D3's image: RUN ")
    monkeypatch.setattr(os, "access", lambda *_: True)
    assert installation.install_hint("video").startswith("Run ")


def test_every_extra_of_this_copy_is_known() -> None:
    extras = distribution(installation.DISTRIBUTION).metadata.get_all("Provides-Extra") or []
    assert {"jxl", "openvino", "parquet", "ray", "train", "video"} <= set(extras)
    for extra in set(extras) - {"heif"}:  # which is empty
        hint = installation.install_hint(extra)
        assert f"[{extra}]" in hint or "'" in hint.removeprefix("Run "), hint


def test_no_message_names_d3s_distribution_to_an_installer() -> None:
    """They ask `d3.domain.installation`, which knows whether an index has it."""
    source = Path(installation.__file__).parents[1]
    found = [
        f"{file.relative_to(source)}: {line.strip()}"
        for file in sorted(source.rglob("*.py"))
        if file != Path(installation.__file__)
        for line in file.read_text(encoding="utf-8").splitlines()
        if "pip install" in line or "d3-deepfake[" in line
    ]
    assert found == []


def test_words_are_quoted_for_windows_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation.os, "name", "nt")
    assert installation._quoted("av>=16") == '"av>=16"'
    assert installation._quoted("d3-deepfake[video]") == "d3-deepfake[video]"
