"""A child process that makes int8 forms of an encoder, and measures them.

By itself, because what it needs is then gone with it: NNCF keeps torch and several copies of the
weights, and a compiler that crashes leaves D3 running. Run as::

    python -m d3.adapters.openvino.search learn|measure FOLDER

The folder holds ``job.json`` (:class:`Job`) and two arrays of pixels. Lines of JSON on stdout say
how far it is; the last is what was found.

Quantized is every product with weights but those of the patch embedding. Weights have 8 bits, with
a scale for each row. Activations have fixed ranges, which ``learn`` finds on images after NNCF has
smoothed what is widest (Xiao et al., SmoothQuant, 2023), or scales that are found anew for each
image, token and group of values: slower and more exact. The last products go into the features
most directly, so candidates differ in how many of the last ones are the slower, more exact kind.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Features = NDArray[np.float32]

JOB, LEARNING, HELD_BACK, STATIC, FOUND = (
    "job.json",
    "learning.npy",
    "held_back.npy",
    "static.xml",
    "int8.safetensors",
)
SMOOTHING = 0.65
"""The best of 0.35, 0.5, 0.65, 0.8 and 0.95 on CLIP's ViT-B/16; see benchmarks/RESULTS.md."""
_ROUNDS = 15


@dataclass(frozen=True, slots=True)
class Job:
    """What to do.

    Attributes:
        graph: of the encoder in fp32, prepared for OpenVINO.
        positions: its positions.
        head: safetensors file.
        width: of a feature.
        permutation: of the first view.
        scale: of the calibration.
        bias: likewise.
        threshold: of the model.
        certain_below: under this probability in fp32, an image lies outside the abstain band.
        certain_above: the same over it.
        threads: of OpenVINO.
        max_mean_drift: of a probability.
        max_flips: of the images outside the band.
        min_speedup: over fp32.
    """

    graph: str
    positions: str
    head: str
    width: int
    permutation: tuple[int, ...]
    scale: float
    bias: float
    threshold: float
    certain_below: float
    certain_above: float
    threads: int
    max_mean_drift: float = 0.01
    max_flips: float = 0.01
    min_speedup: float = 1.05


class Candidate(NamedTuple):
    """One way to compute the products.

    Attributes:
        name: for people.
        dynamic: the share of the products, from the last, without a fixed range.
        group: how many values share a scale there; 0: they stay in fp32.
    """

    name: str
    dynamic: float
    group: int


CANDIDATES = (
    Candidate("static", 0, 0),
    Candidate("last third dynamic", 1 / 3, 256),
    Candidate("last half dynamic", 1 / 2, 256),
    Candidate("last two thirds dynamic", 2 / 3, 256),
    Candidate("dynamic, groups of 256", 1, 256),
    Candidate("dynamic, groups of 64", 1, 64),
    Candidate("weights only", 1, 0),
)
"""From quick to careful."""


def learn(folder: Path, job: Job) -> dict[str, Any]:
    """Write the form in which every product has fixed ranges."""
    import nncf
    import numpy as np
    import openvino
    from nncf.quantization.advanced_parameters import (
        AdvancedQuantizationParameters,
        AdvancedSmoothQuantParameters,
    )

    pixels = np.load(folder / LEARNING)
    positions = _branches(job)
    given = 0

    def taken(image: NDArray[np.uint8]) -> list[NDArray[Any]]:
        nonlocal given
        given += 1
        _tell("Learning ranges", given, 2 * len(pixels))
        return [image[None], positions]

    made = nncf.quantize(
        openvino.Core().read_model(job.graph),
        nncf.Dataset(list(pixels), taken),
        subset_size=len(pixels),
        preset=nncf.QuantizationPreset.MIXED,
        model_type=nncf.ModelType.TRANSFORMER,
        # Attention between tokens is computed in fp32 whatever its inputs are: rounding them costs
        # and gains nothing. The pixels' embedding is a small part of the work.
        ignored_scope=nncf.IgnoredScope(
            types=["ScaledDotProductAttention", "Convolution"], validate=False
        ),
        advanced_parameters=AdvancedQuantizationParameters(
            smooth_quant_alphas=AdvancedSmoothQuantParameters(matmul=SMOOTHING)
        ),
    )
    openvino.save_model(made, folder / STATIC, compress_to_fp16=False)
    return {"nncf": nncf.__version__, "openvino": openvino.get_version()}


def measure(folder: Path, job: Job) -> dict[str, Any]:
    """Measure the candidates; write the quickest within the bounds, if there is one.

    Left out is what is slower than one within the bounds.
    """
    import numpy as np

    pixels = np.load(folder / HELD_BACK)
    exact = _Running(job, job.graph, 0)
    expected = _probabilities(exact, job, pixels, "Measuring fp32")
    measured: list[dict[str, Any]] = []
    within: dict[Candidate, float] = {}

    def look_at(one: Candidate) -> float:
        """Measure a candidate; how long fp32 took in turns with it."""
        running = _Running(job, candidate(folder, one), one.group)
        seconds, theirs = _in_turns(running, exact, pixels, f"Timing {one.name}")
        speedup = theirs / seconds
        if speedup > max(within.values(), default=0.0):
            found = _probabilities(running, job, pixels, f"Measuring {one.name}")
            apart = _apart(found, expected, job)
            measured.append({"name": one.name, "seconds": seconds, "speedup": speedup} | apart)
            if apart["mean_drift"] <= job.max_mean_drift and apart["flips"] <= job.max_flips:
                within[one] = speedup
        return theirs

    fp32_seconds = min([look_at(one) for one in CANDIDATES])
    kept = max(within, key=within.__getitem__, default=None)
    if kept is not None and within[kept] < job.min_speedup:
        kept = None
    if kept is not None:
        _write(folder, job, kept)
    return {
        "candidates": measured,
        "fp32_seconds": fp32_seconds,
        "within": [one.name for one in within],
        "kept": kept and kept.name,
        "group": kept and kept.group,
    }


def candidate(folder: Path, which: Candidate) -> Any:
    """The graph of a candidate."""
    import openvino

    graph = openvino.Core().read_model(folder / STATIC)
    ranges = [
        one
        for one in graph.get_ordered_ops()
        if one.get_type_name() == "FakeQuantize"
        and one.input_value(0).get_node().get_type_name() != "Constant"
    ]
    first = round(len(ranges) * (1 - which.dynamic))
    for one in ranges[first:]:
        for target in list(one.output(0).get_target_inputs()):
            target.replace_source_output(one.input_value(0))
    graph.validate_nodes_and_infer_types()
    return graph


class _Running:
    """An encoder that OpenVINO has compiled."""

    def __init__(self, job: Job, graph: Any, group: int) -> None:
        import openvino

        from d3.adapters.openvino.store import compile_options

        options = compile_options("int8", job.threads, group)
        compiled = openvino.Core().compile_model(graph, "CPU", options)
        self._request = compiled.create_infer_request()
        self._positions = _branches(job)

    def features(self, image: NDArray[np.uint8]) -> Features:
        """Features (2, width) of an image and its first shuffle."""
        found: Features = self._request.infer([image[None], self._positions])[0].copy()
        return found


def _branches(job: Job) -> Features:
    import numpy as np

    from d3.adapters.openvino.engine import orders

    return orders(np.load(job.positions), (job.permutation,))


def _probabilities(
    running: _Running, job: Job, pixels: NDArray[np.uint8], stage: str
) -> NDArray[np.float64]:
    import numpy as np

    from d3.adapters.openvino.heads import NumpyHead
    from d3.domain.scoring import Calibration

    found = []
    for number, image in enumerate(pixels):
        _tell(stage, number, len(pixels))
        found.append(running.features(image))
    _tell(stage, len(pixels), len(pixels))
    logits = NumpyHead(Path(job.head), job.width).logits(np.stack(found))[:, 0]
    calibration = Calibration(job.scale, job.bias)
    return np.array([calibration.probability(one) for one in logits.tolist()])


def _apart(found: NDArray[np.float64], expected: NDArray[np.float64], job: Job) -> dict[str, float]:
    import numpy as np

    apart = np.abs(found - expected)
    certain = (expected <= job.certain_below) | (expected >= job.certain_above)
    flipped = ((found > job.threshold) != (expected > job.threshold))[certain]
    return {
        # What is not a number is as far away as can be.
        "mean_drift": float(np.nan_to_num(apart, nan=1.0).mean()),
        "max_drift": float(np.nan_to_num(apart, nan=1.0).max()),
        "flips": float(flipped.mean()) if len(flipped) else 0.0,
    }


def _in_turns(
    one: _Running, other: _Running, pixels: NDArray[np.uint8], stage: str
) -> tuple[float, float]:
    """The least seconds an image of two, who take turns so that a noisy machine is so for both.

    The least, because what else the machine does only adds to it.
    """
    taken: tuple[list[float], list[float]] = ([], [])
    for lap in range(_ROUNDS + 1):
        _tell(stage, lap, _ROUNDS + 1)
        image = pixels[lap % len(pixels)]
        times = [time.perf_counter()]
        for running in (one, other):
            running.features(image)
            times.append(time.perf_counter())
        if lap == 0:
            continue  # OpenVINO compiles with the first inference
        for seconds, (begun, ended) in zip(taken, pairwise(times), strict=True):
            seconds.append(ended - begun)
    _tell(stage, _ROUNDS + 1, _ROUNDS + 1)
    return min(taken[0]), min(taken[1])


def _write(folder: Path, job: Job, kept: Candidate) -> None:
    import numpy as np
    import openvino

    from d3.adapters.openvino.form import Form, read_form

    file = folder / "kept.xml"
    openvino.save_model(candidate(folder, kept), file, compress_to_fp16=False)
    constants = file.with_suffix(".bin").read_bytes()
    Form(file.read_bytes(), constants, np.load(job.positions)).write(folder / FOUND)
    read_form(folder / FOUND)


_say = sys.stdout


def _tell(stage: str, done: int, total: int) -> None:
    print(json.dumps({"stage": stage, "done": done, "total": total}), file=_say, flush=True)


def main(step: str, folder: Path) -> None:
    """Do one step; what libraries print goes to stderr."""
    global _say  # noqa: PLW0603
    _say = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    # NNCF and OpenVINO report their use over the network where this package can be imported.
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    job = Job(**json.loads((folder / JOB).read_text(encoding="utf-8")))
    found = learn(folder, job) if step == "learn" else measure(folder, job)
    print(json.dumps({"found": found}), file=_say, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
