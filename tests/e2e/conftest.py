"""The command line as people run it, and a home that holds the reference pack's model."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import d3
from d3.entrypoints.cli import main, output
from tests.serving import clean_environment


@dataclass(frozen=True)
class Finished:
    """How a command ended."""

    code: int
    out: str
    err: str


Run = Callable[..., Finished]


@pytest.fixture(scope="session")
def home(pack: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A D3_HOME in which the pack's model is called ``mine``."""
    home = tmp_path_factory.mktemp("home")
    with d3.D3(d3.Settings(home=home)) as detector:
        detector.models.import_files("mine", pack / "visual.safetensors", pack / "classifier.pth")
    return home


@pytest.fixture
def run(home: Path, tmp_path: Path) -> Run:
    """Run ``d3`` in this process, in an empty folder: see :func:`run_here`."""
    return partial(run_here, home, tmp_path)


def run_here(
    home: Path,
    folder: Path,
    *arguments: str | Path,
    stdin: bytes = b"",
    encoding: str = "utf-8",
    **environ: str,
) -> Finished:
    """Run ``d3`` in this process with streams, a folder, settings and warnings of its own.

    So torch is loaded once for all commands. Nothing is set but D3_HOME and what is given.
    """
    environ = clean_environment(D3_HOME=str(home)) | environ
    cleared = dict.fromkeys(os.environ.keys() - environ.keys())
    with (
        pytest.MonkeyPatch.context() as patch,
        warnings.catch_warnings(),
        CliRunner(encoding).isolation(stdin, cleared | environ) as (out, err, _),
    ):
        warnings.resetwarnings()
        patch.chdir(folder)
        output.out.cache_clear()
        output.err.cache_clear()
        patch.setattr(sys, "argv", ["d3", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            main()
    code = left.value.code
    assert isinstance(code, int | None)
    return finished(code or 0, out.getvalue(), err.getvalue(), encoding)


@pytest.fixture
def process(home: Path, tmp_path: Path) -> Run:
    """The same in a process of its own, where that is what is tested."""

    def process(*arguments: str | Path, stdin: bytes = b"", **environ: str) -> Finished:
        done = subprocess.run(
            [sys.executable, "-m", "d3", *map(str, arguments)],
            input=stdin,
            capture_output=True,
            cwd=tmp_path,
            env=clean_environment(D3_HOME=str(home)) | environ,
            timeout=300,
            check=False,
        )
        return finished(done.returncode, done.stdout, done.stderr)

    return process


def finished(code: int, out: bytes, err: bytes, encoding: str = "utf-8") -> Finished:
    """How a command ended, which is never with a traceback."""
    finished = Finished(code, out.decode(encoding), err.decode(encoding))
    assert "Traceback" not in finished.err
    return finished


@pytest.fixture(scope="session")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16 rendered photographs, and what two crude generators make of them; one file is damaged.

    ``grid`` enlarges a small picture by repeating its pixels, ``soft`` by interpolation, both with
    a little noise. The files of a scene are stored alike.
    """
    from PIL import Image

    from d3.training.starter.pairs import photograph_scene

    root = tmp_path_factory.mktemp("rendered") / "pictures"
    kinds = {"grid": Image.Resampling.NEAREST, "soft": Image.Resampling.BILINEAR}
    for name in ("real", *(f"fake/{kind}" for kind in kinds)):
        (root / name).mkdir(parents=True)
    for scene in range(16):
        photograph = photograph_scene(11, scene, 224)
        suffix, options = ("jpg", {"quality": 92}) if scene % 3 else ("png", {})
        Image.fromarray(photograph).save(root / f"real/0{scene:02}.{suffix}", **options)
        small = Image.fromarray(photograph).resize((112, 112), Image.Resampling.BOX)
        noise = np.random.default_rng(scene).normal(0, 2, (224, 224, 3))
        for kind, resampling in kinds.items():
            redrawn = np.asarray(small.resize((224, 224), resampling)) + noise
            pixels = np.clip(redrawn, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / f"fake/{kind}/0{scene:02}.{suffix}", **options)
    (root / "fake/soft/broken.jpg").write_bytes((root / "real/001.jpg").read_bytes()[:900])
    (root / "fake/soft/notes.txt").write_text("not an image")
    return root
