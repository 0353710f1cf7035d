"""Unloading a model gives its memory back, cycle after cycle."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.homes import Home
from tests.serving import clean_environment

CYCLES = """
import ctypes, gc, json
import numpy as np
import d3
from d3.container import Container

container = Container(settings=d3.Settings.from_environment())
container.serving.override(True)
host = container.host()

def resident():
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    for line in open("/proc/self/status"):
        if line.startswith("VmRSS"):
            return int(line.split()[1])

pixels = np.zeros((1, 224, 224, 3), np.uint8)
figures = []
for _ in range(20):
    host.load().queue.submit(pixels, 1).result()
    loaded = resident()
    host.unload()
    figures.append((loaded, resident()))
print(json.dumps(figures))
"""


@pytest.mark.full
def test_memory_returns_to_the_first_cycles_after_twenty(home: Home, tmp_path: Path) -> None:
    script = tmp_path / "cycles.py"
    script.write_text(CYCLES)
    make_heavier(home, tmp_path)
    done = subprocess.run(
        [sys.executable, script],
        capture_output=True,
        text=True,
        check=True,
        env=clean_environment(**home.environ, CUDA_VISIBLE_DEVICES=""),
        timeout=180,
    )
    figures = json.loads(done.stdout)
    assert len(figures) == 20
    loaded, first = figures[0]
    assert loaded - first >= 4 * 1024, "the model is heavy enough to be missed"
    assert figures[-1][1] <= 1.05 * first
    assert figures[-1][0] <= 1.05 * loaded


def make_heavier(home: Home, tmp_path: Path) -> None:
    """Store a model of 8 MB, so that a leak of it would show; it becomes the active one."""
    import safetensors.torch
    import torch

    import d3
    from d3.domain.models import EncoderSpec
    from d3.network import DiscrepancyHead, Encoder

    spec = EncoderSpec(width=256, layers=2, heads=4, mlp_width=1024, projection=0)
    torch.manual_seed(0)
    tensors = {name: one.contiguous() for name, one in Encoder(spec).state_dict().items()}
    safetensors.torch.save_file(tensors, tmp_path / "encoder.safetensors")
    torch.save(DiscrepancyHead(256).state_dict(), tmp_path / "head.pth")
    with d3.D3(home.settings()) as detector:
        detector.models.import_files(
            "heavy", tmp_path / "encoder.safetensors", tmp_path / "head.pth"
        )
        detector.models.use("heavy")
