"""The real data, CLIP's tower as a model of D3, and a head trained on it as a user trains one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from d3.adapters.pillow import PillowDecoder
from d3.domain.images import Pixels
from d3.network import DiscrepancyHead
from tests.real import clip
from tests.real.fetch import listed, missing
from tests.real.matched import packages_in_turn, write_sets
from tests.serving import clean_environment

NEEDED = ("photos", "generated", "clip")
D3 = Callable[..., str]


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder with the data, whole; without it every test here fails."""
    named = os.environ.get("D3TEST_REAL")
    if not named:
        pytest.fail(
            "D3TEST_REAL names no folder of real data: `nox -s real` fetches it, and so does "
            "`python -m tests.real.fetch FOLDER`."
        )
    folder = Path(named).resolve()
    if lacking := missing(folder, NEEDED):
        pytest.fail(
            f"D3TEST_REAL={folder} lacks {lacking[0]} and {len(lacking) - 1} more files: "
            f"`python -m tests.real.fetch {folder} {' '.join(NEEDED)}` fetches them."
        )
    return folder


@pytest.fixture(scope="session")
def pixels(data: Path) -> Pixels:
    """A photograph of each package and four generated images as the encoder takes them."""
    photographs = list(packages_in_turn(listed("photos")))
    first = photographs[: len({one.package for one in photographs})]
    decoder = PillowDecoder()
    files = [data / one.path for one in (*first, *listed("generated")[:4])]
    return np.stack([decoder.decode(file, 224).pixels for file in files])


@dataclass(frozen=True)
class Home:
    """A home of D3 that holds CLIP's tower, as the model ``clip-b16`` with a head of chance.

    Attributes:
        path: D3_HOME.
        d3: runs ``d3`` there and gives what it printed.
    """

    path: Path
    d3: D3


@pytest.fixture(scope="session")
def home(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Imported with the command that users type."""
    folder = tmp_path_factory.mktemp("home")

    def d3(*arguments: str | Path) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "d3", *map(str, arguments)],
            capture_output=True,
            text=True,
            cwd=folder,
            env=clean_environment(D3_HOME=str(folder)),
            timeout=1_800,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    torch.manual_seed(0)
    torch.save(DiscrepancyHead(768).state_dict(), folder / "head.pth")
    files = ("--encoder", data / clip.TOWER, "--head", folder / "head.pth")
    d3("models", "import", "clip-b16", *files)
    return Home(folder, d3)


@dataclass(frozen=True)
class Trained:
    """A head trained on CLIP's tower.

    Attributes:
        home: in which it is the model ``ours``.
        folder: that ``d3 train`` wrote.
        unseen: a data set of other images.
    """

    home: Home
    folder: Path
    unseen: Path


@pytest.fixture(scope="session")
def trained(home: Home, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Ten epochs on 60 images, validated on 40 others."""
    sets = tmp_path_factory.mktemp("sets")
    seen, unseen = write_sets(sets, data, learnt=30, held_out=20)
    options = ("--model", "clip-b16", "--recipe", "paper", "--epochs", "10", "--cache-epochs", "1")
    home.d3("train", seen, "--validation", unseen, *options, "--out", sets / "ours")
    return Trained(home, sets / "ours", unseen)
