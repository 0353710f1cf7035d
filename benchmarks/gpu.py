"""D3 on a GPU, alone on a bare machine whose Python has torch, timm and torchvision.

    PYTHONPATH=src:wheels python benchmarks/gpu.py [--device cuda] [--quick] [--json FILE]

It needs of D3 the folders ``src`` and ``benchmarks`` alone, and beside torch, timm and torchvision
the wheels of open_clip_torch, ftfy, wcwidth and regex, unpacked into ``wheels``.

ViT-L/14 with random weights: correctness against
float32, throughput by batch and precision, latency of one image, the share of the device's own
matrix product, and all of it end to end with JPEGs decoded by D3's decoder. ``--device cpu
--quick`` proves that it runs.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from d3.adapters.pillow import PillowDecoder
from d3.adapters.torch import TorchEngine
from d3.adapters.torch.engine import TorchDetector
from d3.domain.images import Pixels
from d3.domain.models import StoredModel
from d3.entrypoints.bench.measure import (
    SHAPES,
    in_turns,
    matmul_rates,
    operations,
    processor,
    published_procedure,
    random_model,
    random_pixels,
)
from d3.entrypoints.bench.service import jpeg
from d3.network.precision import arithmetics

GRAPH_SECONDS = 300


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    arguments.add_argument("--quick", action="store_true", help="a small shape, few rounds")
    arguments.add_argument("--json", type=Path, help="where the figures go too")
    chosen = arguments.parse_args()
    cuda = chosen.device == "cuda"
    spec = SHAPES["vit-b-32" if chosen.quick else "vit-l-14"]
    precisions = arithmetics(chosen.device)
    batches = [1, 2] if chosen.quick else [1, 8, 32, 64, 128]
    rounds = 2 if chosen.quick else 10
    figures: dict[str, Any] = {"torch": torch.__version__, "quick": chosen.quick}
    figures["device"] = torch.cuda.get_device_name(0) if cuda else processor()
    rates = matmul_rates(chosen.device, rounds)
    figures["matmul_tflops"] = {name: rate / 1e12 for name, rate in rates.items()}
    show(figures)
    with tempfile.TemporaryDirectory() as folder:
        model = random_model(Path(folder), "random", spec)
        reference = TorchEngine("cpu", "fp32").load(model).score(random_pixels(spec, 4), 2)
        for precision in precisions:
            detector = load(model, precision, batches[-1], cuda=cuda)
            measured = {
                "drift_of_probability": drift(detector, reference, spec),
                "batches": throughput(detector, model, batches, rounds, rates[precision]),
            }
            if precision != "fp32":
                measured["end_to_end"] = end_to_end(
                    detector, model, batches[-1], quick=chosen.quick
                )
            figures[precision] = measured
            show({precision: measured})
            detector.close()
        figures["published"] = baseline(model, chosen.device, rounds)
        show({"published procedure": figures["published"]})
    if chosen.json:
        chosen.json.write_text(json.dumps(figures, indent=1))


def load(model: StoredModel, precision: Any, batch: int, *, cuda: bool) -> TorchDetector:
    """The detector, its graphs there."""
    detector = TorchEngine(0 if cuda else "cpu", precision, batch).load(model)
    if detector._graphs is not None:  # noqa: SLF001
        begun = time.perf_counter()
        detector._graphs.maker.join(GRAPH_SECONDS)  # noqa: SLF001
        ready, trouble = detector._graphs.ready, detector._graphs.trouble()  # noqa: SLF001
        print(
            f"{precision}: graphs {ready} after {time.perf_counter() - begun:.0f} s {trouble or ''}"
        )
    return detector


def drift(detector: TorchDetector, reference: np.ndarray, spec: Any) -> float:
    """The largest difference of a probability from float32 on the CPU, one image and several."""
    pixels = random_pixels(spec, 4)
    found = detector.score(pixels, 2)
    alone = np.concatenate([detector.score(one[None], 1) for one in pixels])
    apart = [np.abs(sigmoid(found) - sigmoid(reference)).max()]
    apart.append(np.abs(sigmoid(alone) - sigmoid(reference[:, :1])).max())
    return float(max(apart))


def sigmoid(logits: np.ndarray) -> np.ndarray:
    odds: np.ndarray = 1 / (1 + np.exp(-logits))
    return odds


def throughput(
    detector: TorchDetector, model: StoredModel, batches: list[int], rounds: int, peak: float
) -> dict[int, dict[str, float]]:
    """Images a second, milliseconds a batch and the share of the matrix product's rate."""
    spec, figures = model.manifest.spec, {}
    for batch in batches:
        pixels = random_pixels(spec, batch)
        name = f"batch {batch}"
        seconds = in_turns({name: lambda p=pixels: detector.score(p, 1)}, rounds)[name]  # type: ignore[misc]
        figures[batch] = {
            "ms": 1000 * seconds,
            "images_per_second": batch / seconds,
            "share_of_matmul": batch * operations(spec) / seconds / peak,
        }
    return figures


def end_to_end(
    detector: TorchDetector, model: StoredModel, batch: int, *, quick: bool
) -> dict[str, float]:
    """Images a second from JPEG bytes to logits, decoding ahead in threads."""
    image, decoder, side = jpeg(), PillowDecoder(), model.manifest.spec.image_size
    total, threads = (4 if quick else 20) * batch, os.cpu_count() or 1

    def read() -> Pixels:
        return np.stack([decoder.decode(image, side).pixels for _ in range(batch)])

    with ThreadPoolExecutor(threads) as pool:
        begun = time.perf_counter()
        list(pool.map(lambda _: decoder.decode(image, side), range(total)))
        decoding = total / (time.perf_counter() - begun)
        waiting: deque[Future[Pixels]] = deque()
        begun, submitted = time.perf_counter(), 0
        scored: list[float] = []
        while len(scored) < total // batch:
            while submitted < total // batch and len(waiting) < 2 * threads:
                waiting.append(pool.submit(read))
                submitted += 1
            pixels = waiting.popleft().result()
            started = time.perf_counter()
            detector.score(pixels, 1)
            scored.append(time.perf_counter() - started)
        rate = total / (time.perf_counter() - begun)
    return {
        "images_per_second": rate,
        "decoder_images_per_second": decoding,
        "device_ms_per_batch": 1000 * statistics.median(scored),
        "threads": threads,
    }


def baseline(model: StoredModel, device: str, rounds: int) -> dict[str, float]:
    """Milliseconds of the published procedure in float32, batch 1."""
    score = published_procedure(model, device)
    pixels = random_pixels(model.manifest.spec, 1)
    taken = in_turns({"published": lambda: score(pixels).cpu()}, rounds)
    return {"batch_1_ms": 1000 * taken["published"]}


def show(figures: dict[str, Any]) -> None:
    print(json.dumps(figures, default=str), flush=True)


if __name__ == "__main__":
    main()
