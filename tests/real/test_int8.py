"""CLIP's ViT-B/16 in int8: found by the command, close to fp32, and no model without measuring."""

from __future__ import annotations

import json
from pathlib import Path

from tests.real.conftest import Trained


def test_a_quick_form_of_a_real_encoder_is_close_to_it(trained: Trained, data: Path) -> None:
    d3_ = trained.home.d3
    images = trained.unseen.parent
    # With so few images one verdict more or less is a per cent.
    options = ("--max-flips", "0.03", "--min-speedup", "0", "--as", "quick", "--json")
    made = json.loads(d3_("models", "quantize", "ours", "--images", images, *options))
    form = made["int8"]
    kept = next(one for one in form["candidates"] if one["name"] == form["kept"])
    assert kept["mean_drift"] <= 0.01
    assert form["measured"] >= 60
    print(json.dumps(form, indent=1))  # noqa: T201  for the record
    files = sorted(trained.unseen.rglob("*.png"))[::8]
    before, after = (
        [json.loads(line) for line in d3_("detect", "--model", name, "--json", *files).splitlines()]
        for name in ("ours", "quick")
    )
    assert {(one["engine"], one["precision"]) for one in after} == {("openvino", "int8")}
    apart = [
        abs(old["prediction"] - new["prediction"]) for old, new in zip(before, after, strict=True)
    ]
    assert 0 < sum(apart) / len(apart) <= 0.02
