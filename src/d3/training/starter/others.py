"""Further data sets that a card has figures of: never learned from, not in the threshold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from d3.domain.errors import RequestInvalid
from d3.evaluation.calibration import Fitted
from d3.evaluation.dataset import Dataset
from d3.training.starter.evaluate import Judge, discrimination, verdicts
from d3.training.starter.photographs import opened
from d3.training.starter.published import squash


def measure_others(
    folder: Path, judge: Judge, fitted: Fitted, *, size: int, seed: int
) -> dict[str, Any]:
    """Measure a data set in one of the layouts of `d3 evaluate`.

    Returns its name, the verdicts on its real images and on those of each generator, and where
    there are both how well each generator's are told from the real ones.

    Raises:
        RequestInvalid: there is no image in it.
    """
    shelves: dict[str, list[str]] = {}
    for item in Dataset([folder]).items():
        name = (item.generator or "generated") if item.fake else "real"
        shelves.setdefault(name, []).append(item.path)
    if not shelves:
        raise RequestInvalid(f"{folder} holds no image.", "Give a folder for `d3 evaluate`.")
    logits = {
        name: judge(np.stack([squash(opened(Path(path)), size) for path in paths]))
        for name, paths in shelves.items()
    }
    real = logits.get("real")
    return {
        "name": folder.name,
        "kinds": {
            name: verdicts(fitted, these)
            | (
                {}
                if real is None or name == "real"
                else discrimination(real, these, fitted, seed=seed)
            )
            for name, these in logits.items()
        },
    }
