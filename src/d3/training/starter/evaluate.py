"""Scores pictures, and measures how well the scores separate each family.

Trivial detectors are measured too, each one number of a picture: pairs that one of them could
separate would teach a network nothing about generators.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from d3.domain.errors import RequestInvalid
from d3.domain.intervals import wilson
from d3.domain.scoring import Calibration, Verdict, assess
from d3.evaluation.bootstrap import interval, resample
from d3.evaluation.calibration import Fitted
from d3.evaluation.dataset import Dataset
from d3.evaluation.metrics import Sample, auroc, average_precision, best_direction_auroc
from d3.network import D3Network
from d3.training.starter.filters import LUMA, Image, laplacian, noise_level, to_ycbcr
from d3.training.starter.generators import Family, Pictures
from d3.training.starter.pairs import Pairs
from d3.training.starter.photographs import opened
from d3.training.starter.postprocessing import jpeg, squash


def laplacian_variance(picture: Pictures) -> float:
    """Return the variance of the luma's Laplacian: sharpness, in squared 8-bit levels."""
    return float(laplacian(_luma(picture)).var())


def noise_deviation(picture: Pictures) -> float:
    """Return the estimated deviation of the luma's noise in smooth areas, in 8-bit levels."""
    return noise_level(_luma(picture))


def colour_noise_deviation(picture: Pictures) -> float:
    """Return the estimated deviation of the blue difference's noise, in 8-bit levels."""
    return noise_level(to_ycbcr(picture.astype(np.float32))[..., 1])


def brightness(picture: Pictures) -> float:
    """Return the mean luma, in 8-bit levels."""
    return float(_luma(picture).mean())


def contrast(picture: Pictures) -> float:
    """Return the standard deviation of the luma, in 8-bit levels."""
    return float(_luma(picture).std())


def colourfulness(picture: Pictures) -> float:
    """Return the mean distance of the pixels' colours from grey, in 8-bit levels."""
    return float(np.linalg.norm(to_ycbcr(picture.astype(np.float32))[..., 1:], axis=-1).mean())


def blockiness(picture: Pictures) -> float:
    """Return how much larger steps across JPEG's 8x8 borders are than other steps: a ratio."""
    steps = np.abs(np.diff(_luma(picture), axis=1))
    across = np.arange(steps.shape[1]) % 8 == 7
    return float(steps[:, across].mean() / (steps[:, ~across].mean() + 1e-6))


def compressed_size(picture: Pictures) -> float:
    """Return the bytes of the picture as a JPEG of quality 90."""
    return float(len(jpeg(picture, 90)))


BASELINES: Mapping[str, Callable[[Pictures], float]] = {
    "laplacian_variance": laplacian_variance,
    "noise_deviation": noise_deviation,
    "colour_noise_deviation": colour_noise_deviation,
    "brightness": brightness,
    "contrast": contrast,
    "colourfulness": colourfulness,
    "blockiness": blockiness,
    "compressed_size": compressed_size,
}


def _luma(picture: Pictures) -> Image:
    return picture.astype(np.float32) @ LUMA


Logits: TypeAlias = NDArray[np.float64]
Figures: TypeAlias = dict[str, float]
Verdicts: TypeAlias = dict[str, float]
Judge: TypeAlias = Callable[[Pictures], Logits]

CONDITIONS: Mapping[str, int] = {"clean": 0, "jpeg90": 90, "jpeg75": 75, "jpeg50": 50}
"""Qualities at which test pictures are compressed once more; 0 leaves them as they are."""

SIDES = ((224, 300), (300, 400), (400, 513))
"""Ranges of the longer side in pixels, first and one past the last."""

REPLICATES = 500


def score(
    network: D3Network,
    pictures: Pictures,
    permutations: Sequence[Sequence[int]],
    batch_size: int = 32,
) -> Logits:
    """Return the mean logit [n] over the permutations, computed in float32."""
    orders = torch.tensor(permutations)
    chunks = []
    with torch.inference_mode():
        for start in range(0, len(pictures), batch_size):
            chunk = torch.from_numpy(pictures[start : start + batch_size])
            chunks.append(network(chunk, orders).mean(dim=1).double().numpy())
    return np.concatenate(chunks)


def evaluate_pairs(
    judge: Judge,
    pairs: Mapping[str, Pairs],
    longer: NDArray[np.int64],
    groups: Mapping[str, Sequence[Family]],
    fitted: Fitted,
    *,
    seed: int,
) -> dict[str, dict[str, Figures]]:
    """Measure under every condition each family, and each named group of families together.

    A family's forgeries stand against all camera pictures. `longer` [n] is the longer side of each
    picture: clean, each group is measured for the pictures of each of :data:`SIDES` too.
    """
    figures: dict[str, dict[str, Figures]] = {}
    for condition, these in pairs.items():
        camera, forged = judge(these.camera), judge(these.generated)

        def measure(
            members: Sequence[Family],
            chosen: NDArray[np.bool_],
            these: Pairs = these,
            camera: Logits = camera,
            forged: Logits = forged,
        ) -> Figures:
            mine = np.isin(these.family, [these.families.index(one) for one in members])
            return _figures(camera[chosen], forged[mine & chosen[these.partner]], fitted, seed=seed)

        every = np.ones(len(camera), bool)
        figures[condition] = {str(one): measure([one], every) for one in these.families}
        for name, members in groups.items():
            figures[condition][name] = measure(members, every)
            if condition == "clean":
                for low, high in SIDES:
                    chosen = (low <= longer) & (longer < high)
                    if chosen.any():
                        figures[condition][f"{name} {low}-{high}"] = measure(members, chosen)
    return figures


def share_of_verdicts(
    fitted: Fitted, logits: Logits, packages: Sequence[str]
) -> dict[str, Verdicts]:
    """Count the verdicts on photographs, for each package and for all of them ("all")."""
    groups = {name: np.array([one == name for one in packages]) for name in dict.fromkeys(packages)}
    groups["all"] = np.ones(len(packages), bool)
    return {name: verdicts(fitted, logits[chosen]) for name, chosen in groups.items()}


def verdicts(fitted: Fitted, logits: Logits) -> Verdicts:
    """Count the verdicts, and the share called fake with its 95 % interval (Wilson)."""
    said = [
        assess(
            [logit],
            threshold=fitted.threshold,
            calibration=Calibration(fitted.scale, fitted.bias),
            abstain_band=fitted.band,
        ).verdict
        for logit in logits.tolist()
    ]
    counts = {str(one): said.count(one) for one in Verdict}
    fake = counts[Verdict.FAKE]
    low, high = wilson(fake, len(said))
    return {**counts, "images": len(said), "share": fake / len(said), "low": low, "high": high}


def evaluate_baselines(pairs: Pairs) -> dict[str, Figures]:
    """Return, per family, the AUROC of each trivial detector in its better direction."""
    camera = {name: [measure(p) for p in pairs.camera] for name, measure in BASELINES.items()}
    results: dict[str, Figures] = {}
    for family in pairs.families:
        forged = pairs.of(family)
        labels = [0] * len(pairs.camera) + [1] * len(forged)
        results[str(family)] = {
            name: best_direction_auroc(labels, camera[name] + [measure(p) for p in forged])
            for name, measure in BASELINES.items()
        }
    return results


def discrimination(real: Logits, forged: Logits, fitted: Fitted, *, seed: int) -> Figures:
    """Return AUROC and average precision, the former with its 95 % interval (bootstrap)."""
    labels = np.repeat([0, 1], [len(real), len(forged)])
    logits = np.concatenate([real, forged])
    predictions = fitted.predictions(logits)
    sample = Sample(labels == 1, predictions, predictions)
    drawn = resample(sample, labels.astype(np.int64), seed=seed, replicates=REPLICATES, at_once=50)
    low, high = interval(drawn["auroc"])
    return {
        "auroc": auroc(labels, logits),
        "auroc_low": low,
        "auroc_high": high,
        "average_precision": average_precision(labels, logits),
        "generated": float(len(forged)),
        "camera": float(len(real)),
    }


def measure_others(
    folder: Path, judge: Judge, fitted: Fitted, *, size: int, seed: int
) -> dict[str, Any]:
    """Measure a data set in one of the layouts of `d3 evaluate`.

    Returns its name, the verdicts on its real images and on those of each generator, and where
    there are both how well the two are separated.

    Raises:
        RequestInvalid: there is no image in it.
    """
    groups: dict[str, list[str]] = {}
    for item in Dataset([folder]).items():
        name = (item.generator or "generated") if item.fake else "real"
        groups.setdefault(name, []).append(item.path)
    if not groups:
        raise RequestInvalid(f"{folder} holds no images.", "Use a folder as for `d3 evaluate`.")
    logits = {
        name: judge(np.stack([squash(opened(Path(path)), size) for path in paths]))
        for name, paths in groups.items()
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


def _figures(camera: Logits, forged: Logits, fitted: Fitted, *, seed: int) -> Figures:
    return {
        **discrimination(camera, forged, fitted, seed=seed),
        "true_positive_rate": float(verdicts(fitted, forged)["share"]),
        "false_positive_rate": float(verdicts(fitted, camera)["share"]),
    }
