"""The command line as people run it, and a home that holds the reference pack's model."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import d3


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
    """Run ``d3`` with the arguments, in an empty folder, with nothing set but D3_HOME."""

    def run(*arguments: str | Path, stdin: bytes = b"", **environ: str) -> Finished:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("D3_", "CUDA_"))}
        done = subprocess.run(
            [sys.executable, "-m", "d3", *map(str, arguments)],
            input=stdin,
            capture_output=True,
            cwd=tmp_path,
            env=inherited | {"D3_HOME": str(home)} | environ,
            timeout=300,
            check=False,
        )
        finished = Finished(done.returncode, done.stdout.decode(), done.stderr.decode())
        assert "Traceback" not in finished.err
        return finished

    return run


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
