"""The published detector's whole way at its full size, from a local server, with random weights.

A CLIP ViT-L/14 is traced as OpenAI published theirs (about 890 MB), pulled, verified, used, bundled
and taken in elsewhere. ``nox -s published`` runs it and prints what each command took.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from d3.domain.models import EncoderSpec
from tests.clips import FULL_TEXT, whole_clip, write_traced
from tests.published import head_weights
from tests.sources import d3_knowing, mirroring, stand_ins

MOST_BYTES = 2.5 * 2**30
NAME = "d3-vit-l14"

# A small process between, for a child's peak begins at that of whoever started it.
MEASURE = """
import json, os, subprocess, sys, time
begun = time.monotonic()
process = subprocess.Popen(sys.argv[2:])
_, status, usage = os.wait4(process.pid, 0)  # with every child that it waited for: the largest
with open(sys.argv[1], "w") as stream:
    json.dump([time.monotonic() - begun, usage.ru_maxrss * 1024], stream)
os._exit(os.waitstatus_to_exitcode(status))
"""

Measured = Callable[..., str]


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both files, as large as the real ones."""
    folder = tmp_path_factory.mktemp("originals")
    torch.manual_seed(0)
    write_traced(folder / "ViT-L-14.pt", whole_clip(EncoderSpec(), text=FULL_TEXT, projection=768))
    torch.save(head_weights(1024), folder / "classifier.pth")
    return folder


@pytest.fixture
def measured(tmp_path: Path) -> Measured:
    """Runs a command, tells what it took, and gives what it printed."""

    def run(what: str, *command: object, **environ: str) -> str:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("D3_", "CUDA_"))}
        usage = tmp_path / "usage.json"
        done = subprocess.run(
            [sys.executable, "-c", MEASURE, str(usage), *map(str, command)],
            stdout=subprocess.PIPE,
            env=inherited | {"D3_ENGINE": "torch", "CUDA_DEVICE": "cpu"} | environ,
            cwd=tmp_path,
            text=True,
            check=True,
        )
        seconds, peak = json.loads(usage.read_text())
        sys.stderr.write(f"{what:21}{seconds:6.1f} s{peak / 2**30:6.2f} GiB\n")
        assert peak < MOST_BYTES, what
        return done.stdout

    return run


def test_pulled_verified_used_bundled_and_taken_in(
    originals: Path, measured: Measured, pack: Path, tmp_path: Path
) -> None:
    sources = stand_ins(originals)
    size = (originals / "ViT-L-14.pt").stat().st_size
    sys.stderr.write(f"\nViT-L-14.pt: {size:,} bytes\n")
    assert 850e6 < size < 950e6
    d3 = [sys.executable, "-m", "d3"]
    here, there = ({"D3_HOME": str(tmp_path / name)} for name in ("here", "there"))
    image = pack / "images/rgb_224.png"
    with mirroring(originals) as mirror:
        pull = [*d3_knowing(sources), "models", "pull", NAME, "--from", mirror.url]
        assert "width 1024, 24 layers, 16 heads" in measured("pull", *pull, **here)
    assert "is intact" in measured("verify", *d3, "models", "verify", NAME, **here)
    detect = [*d3, "detect", "--json", "--model", NAME, image]
    first = json.loads(measured("load and detect", *detect, **here))
    assert "Wrote" in measured("bundle", *d3, "models", "bundle", NAME, **here)
    taken = measured("import of the bundle", *d3, "models", "import", f"{NAME}.d3bundle", **there)
    assert "Imported" in taken
    second = json.loads(measured("load and detect", *detect, **there))
    assert first["logit"] == second["logit"]
    files = ["--encoder", originals / "ViT-L-14.pt", "--head", originals / "classifier.pth"]
    measured("import of the files", *d3, "models", "import", "mine", *files, **there)
    third = json.loads(measured("load and detect", *detect[:-2], "mine", image, **there))
    assert first["logit"] == third["logit"]
