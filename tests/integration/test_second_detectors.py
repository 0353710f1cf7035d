"""The other published detectors compute what their authors' code computes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from d3.domain.models import EncoderSpec
from d3.network.ferretnet import neighbourhood_median
from d3.testing import score_second_pack
from published import write_second_pack


def test_all_logits_of_the_second_pack_agree(pack: Path) -> None:
    cases = json.loads((pack / "second/expected.json").read_text())["cases"]
    logits = score_second_pack(str(pack / "second"))
    assert list(logits) == [case["image"] for case in cases]
    for case in cases:
        for name in ("ferretnet", "ufd"):
            assert logits[case["image"]][name] == pytest.approx(case[name], abs=1e-4)


@pytest.mark.parametrize(
    ("spec", "depths", "sizes"),
    [
        (EncoderSpec(width=128, layers=3, heads=2, mlp_width=256), [1], (8, 5, 96)),
        (
            EncoderSpec(image_size=64, patch_size=16, width=48, layers=1, heads=3, mlp_width=80),
            [2, 1, 3],
            (12, 3, 130),
        ),
    ],
)
def test_a_pack_of_another_shape_agrees_with_the_published_procedures(
    spec: EncoderSpec, depths: list[int], sizes: tuple[int, int, int], tmp_path: Path
) -> None:
    dim, window, crop = sizes
    second = tmp_path / "pack/second"
    expected = write_second_pack(second, spec, depths, dim=dim, window=window, crop=crop)
    logits = score_second_pack(second)
    assert logits.keys() == expected.keys()
    for name, both in logits.items():
        assert both == pytest.approx(expected[name], abs=1e-4)


@pytest.mark.parametrize("window", [1, 3, 5, 7])
def test_the_median_is_that_of_the_neighbourhood_with_its_centre_as_zero(window: int) -> None:
    images = torch.randn(2, 3, 19, 11, generator=torch.Generator().manual_seed(window))
    padded = torch.nn.functional.pad(images, (window // 2,) * 4)
    around = padded.unfold(2, window, 1).unfold(3, window, 1).flatten(-2).clone()
    around[..., window**2 // 2] = 0
    assert torch.equal(neighbourhood_median(images, window), around.median(dim=-1).values)
