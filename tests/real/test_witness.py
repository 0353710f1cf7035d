"""The published weights of other detectors: pulled, and what FerretNet-S says of real images."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from d3.domain.intervals import wilson
from d3.network.checkpoints import load_probe, read_probe, write_tensors
from tests.real.conftest import Home
from tests.real.fetch import listed

CARD = Path(__file__).parents[2] / "docs/detectors.md"
NAMES = ("fc_weights.pth", "ufd_fc_weights.pth")


@pytest.fixture(scope="module")
def weights(data: Path) -> Path | None:
    """A folder of the published files; without one they come from their authors."""
    named = os.environ.get("D3TEST_WEIGHTS", str(data / "weights"))
    return Path(named) if Path(named).is_dir() else None


@pytest.fixture(scope="module")
def metrics(home: Home, weights: Path | None) -> dict[str, float]:
    """What the pulled model's manifest says, which is then in the home."""
    origin = () if weights is None else ("--from", weights)
    found: dict[str, float] = json.loads(
        home.d3("models", "pull", "ferretnet-s", "--json", *origin)
    )["metrics"]
    return found


def said(home: Home, folder: Path, kind: str) -> list[bool]:
    """Whether each image of a part was called fake."""
    lines = home.d3("detect", "--json", "--model", "ferretnet-s", folder / kind).splitlines()
    found = {row["image_sha256"]: bool(row["is_fake"]) for row in map(json.loads, lines)}
    return [found[one.sha256] for one in listed(kind)]


@pytest.mark.parametrize("kind", ["photos", "generated"])
def test_the_card_says_what_it_says_of_real_images(
    home: Home, data: Path, metrics: dict[str, float], kind: str
) -> None:
    calls = said(home, data, kind)
    share = 100 * sum(calls) / len(calls)
    low, high = (100 * one for one in wilson(sum(calls), len(calls)))
    row = f"{sum(calls)}: {share:.1f} % [{low:.1f} to {high:.1f}]"
    rows = [line for line in CARD.read_text().splitlines() if line.endswith(f"| {row} |")]
    assert any(line.startswith(f"| {len(calls)} ") for line in rows), row
    key = {
        "photos": "measured by D3, photographs called fake (%)",
        "generated": "measured by D3, lossy generated images called fake (%)",
    }
    assert metrics[key[kind]] == round(share, 1)


def test_the_published_probe_is_read_and_folds(weights: Path | None, tmp_path: Path) -> None:
    if weights is None:
        pytest.fail("D3TEST_WEIGHTS names no folder with fc_weights.pth of UniversalFakeDetect.")
    (file,) = (weights / name for name in NAMES if (weights / name).is_file())
    columns, tensors = read_probe(file)
    assert columns == 768
    write_tensors(tmp_path / "head.safetensors", tensors)
    projection = torch.randn(1024, 768, generator=torch.Generator().manual_seed(0))
    write_tensors(tmp_path / "projection.safetensors", {"proj": projection})
    probe = load_probe(
        1024, 768, tmp_path / "projection.safetensors", tmp_path / "head.safetensors"
    )
    features = torch.randn(4, 1024, generator=torch.Generator().manual_seed(1))
    expected = features @ projection @ tensors["weight"].float().T + tensors["bias"].float()
    assert torch.allclose(probe(features), expected[:, 0], atol=1e-4)
