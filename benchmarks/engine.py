"""Engines side by side on ViT-L/14 with random weights, on the CPU; see RESULTS.md.

    python benchmarks/engine.py prepare          # the weights and what engines make of them, once
    python benchmarks/engine.py int8 --images F  # the int8 form, made with the images in a folder
    python benchmarks/engine.py speed --batch 1  # published, plain, ours, OpenVINO, ORT, int8
    python benchmarks/engine.py tricks           # what each trick is worth
    python benchmarks/engine.py views            # what more permutations cost
    python benchmarks/engine.py drift            # probabilities against float32 eager
    python benchmarks/engine.py memory           # of a process with one detector
    python benchmarks/engine.py picture          # docs/engine.svg of what was measured

On a machine that others use too, one core and CPU time tell more than the clock on the wall::

    OMP_NUM_THREADS=1 taskset -c 0 python benchmarks/engine.py speed --clock cpu

Contestants take turns in every round, so that a noisy machine is noisy for all; each figure is the
median of the rounds, and what counts are the ratios. Every part takes a minute or three; figures
are kept in ``benchmarks/.engine/``, from which the picture is drawn.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from d3.adapters.filesystem import FilesystemRegistry, FolderCollection
from d3.adapters.openvino import OpenVinoEngine
from d3.adapters.openvino.quantizing import QuantizeService
from d3.adapters.openvino.store import PRECISION_HINTS
from d3.adapters.pillow import PillowDecoder
from d3.adapters.torch import TorchEngine
from d3.domain.images import Pixels
from d3.domain.models import StoredModel
from d3.domain.scoring import sigmoid
from d3.entrypoints.bench.measure import (
    SHAPES,
    in_turns,
    matmul_rates,
    operations,
    peak_gib,
    processor,
    published_procedure,
    random_model,
    random_pixels,
    stored_model,
)
from d3.network import PLAIN, D3Network, Tricks
from d3.network.checkpoints import load_network
from d3.network.precision import DTYPES, arithmetics

FOLDER = Path(__file__).parent / ".engine"
INT8 = FOLDER / "models"
PICTURE = Path(__file__).parents[1] / "docs" / "engine.svg"
SPEC = SHAPES["vit-l-14"]
PUBLISHED = "published procedure, fp32"
Contestant = Callable[[Pixels], object]
T = TypeVar("T")
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
clock = time.perf_counter


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    parts: dict[str, Callable[[Any], None]] = {
        "prepare": lambda _: prepare(),
        "int8": lambda chosen: int8(chosen.images),
        "speed": lambda chosen: speed(chosen.batch, chosen.rounds, chosen.only),
        "tricks": lambda chosen: tricks(chosen.rounds, chosen.only),
        "views": lambda chosen: views(chosen.rounds),
        "drift": lambda _: drift(),
        "memory": lambda _: memory(),
        "memory-of": lambda chosen: memory_of(chosen.only[0]),
        "picture": lambda _: picture(),
    }
    arguments.add_argument("part", choices=parts)
    arguments.add_argument("--batch", type=int, default=1)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--only", nargs="+", default=[], help="contestants whose name holds one")
    arguments.add_argument("--images", help="a folder of images for the part int8")
    arguments.add_argument("--clock", choices=CLOCKS, default="wall")
    chosen = arguments.parse_args()
    global clock  # noqa: PLW0603
    clock = CLOCKS[chosen.clock]
    if chosen.part not in ("memory-of", "picture"):
        print(f"{processor()}, torch {torch.__version__}, OpenVINO {openvino_version()}")
    parts[chosen.part](chosen)


@cache
def model() -> StoredModel:
    FOLDER.mkdir(exist_ok=True)
    if (FOLDER / "head.safetensors").exists():
        return stored_model(FOLDER, "random", SPEC)
    return random_model(FOLDER, "random", SPEC)


def contestants() -> dict[str, Callable[[], Contestant]]:
    """What makes each one; the published procedure comes first."""
    makers: dict[str, Callable[[], Contestant]] = {PUBLISHED: lambda: published_procedure(model())}
    makers["plain modules, fp32"] = lambda: network(PLAIN, torch.float32)
    for precision in arithmetics("cpu"):
        makers[f"d3 torch, {precision}"] = lambda precision=precision: detector("torch", precision)  # type: ignore[misc]
    makers["ONNX Runtime, fp32"] = onnx_runtime
    for precision in arithmetics("cpu"):
        makers[f"d3 OpenVINO, {precision}"] = (
            lambda precision=precision: detector("openvino", precision)  # type: ignore[misc]
        )
    if any(INT8.glob("manifests/*/*.json")):
        makers["d3 OpenVINO, int8"] = int8_detector
    return makers


def int8(images: str) -> None:
    """Quantize the model as ``d3 models quantize`` does; how long it took, and its memory."""
    registry = FilesystemRegistry(INT8)
    stored = model()
    registry.put(stored)
    begun, told = time.monotonic(), [""]

    def tell(stage: str, _done: int, _total: int) -> None:
        if told[-1] != stage:
            told.append(stage)
            print(f"{time.monotonic() - begun:6.0f} s  {stage}", flush=True)

    service = QuantizeService(
        registry,
        PillowDecoder(),
        lambda folder: FolderCollection(Path(folder)),
        FOLDER / "openvino",
        tell,
    )
    form = service.quantize(stored.manifest.name, images).manifest.int8
    assert form is not None
    for one in form.candidates:
        kept = "kept" if one.name == form.kept else ""
        print(
            f"{one.name:28}{1000 * one.seconds:8.0f} ms{one.speedup:7.2f}x  drift "
            f"{one.mean_drift:.4f}, {one.max_drift:.4f} at most, {one.flips:.1%} flips {kept}"
        )
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print(f"{time.monotonic() - begun:.0f} s, largest child {peak:.2f} GiB")


def int8_detector() -> Contestant:
    stored = FilesystemRegistry(INT8).open("random")
    loaded = OpenVinoEngine(FOLDER / "openvino", "int8").load(stored)
    return lambda pixels: loaded.score(pixels, 1)


def detector(engine: str, precision: Any, views: int = 1) -> Contestant:
    made = (
        TorchEngine("cpu", precision)
        if engine == "torch"
        else OpenVinoEngine(FOLDER / "openvino", precision)
    )
    loaded = made.load(model())
    return lambda pixels: loaded.score(pixels, views)


def network(tricks: Tricks, dtype: torch.dtype) -> Contestant:
    """Our network without the detector around it: image by image, as the detector does it."""
    stored = model()
    made = load_network(SPEC, stored.encoder, stored.head, dtype=dtype, tricks=tricks)
    made.encoder.pack(2)
    orders = torch.tensor(stored.manifest.permutations[:1])

    @torch.inference_mode()
    def score(pixels: Pixels) -> np.ndarray:
        each = [made(torch.from_numpy(one[None]), orders) for one in pixels]
        logits: np.ndarray = torch.cat(each).numpy()
        return logits

    return score


def onnx_runtime() -> Contestant:
    """Our network, exported by torch, run by ONNX Runtime."""
    import onnxruntime

    file = FOLDER / "plain.onnx"
    if not file.exists():
        export_onnx(file)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    orders = np.array(model().manifest.permutations[:1])
    return lambda pixels: [
        session.run(None, {"pixels": one[None], "permutations": orders})[0] for one in pixels
    ]


def export_onnx(file: Path) -> None:
    stored = model()
    saving = replace(Tricks(), packed_weights=False, fused_activation=False)
    made: D3Network = load_network(SPEC, stored.encoder, stored.head, tricks=saving)
    example = (
        torch.from_numpy(random_pixels(SPEC.image_size, 1)),
        torch.tensor(stored.manifest.permutations[:1]),
    )
    torch.onnx.export(
        made, example, file, input_names=["pixels", "permutations"], dynamo=True, external_data=True
    )


def prepare() -> None:
    model()
    for precision in arithmetics("cpu"):
        detector("openvino", precision)
    onnx_runtime()


def speed(batch: int, rounds: int, only: list[str]) -> None:
    pixels = random_pixels(SPEC.image_size, batch)
    makers = chosen_of(contestants(), only, always=PUBLISHED)
    running = {name: make() for name, make in makers.items()}
    taken = in_turns(
        {name: lambda score=score: score(pixels) for name, score in running.items()},  # type: ignore[misc]
        rounds,
        clock=clock,
    )
    rates = matmul_rates(clock=clock) | {f"OpenVINO {k}": v for k, v in openvino_rates().items()}
    print("matrix product: " + ", ".join(f"{k} {v / 1e9:.0f} GFLOP/s" for k, v in rates.items()))
    print(f"{f'batch {batch}':28}{'ms/image':>10}{'ratio':>8}{'GFLOP/s':>10}{'of most':>9}")
    for name, seconds in taken.items():
        rate = batch * operations(SPEC) / seconds
        print(
            f"{name:28}{1000 * seconds / batch:10.0f}{taken[PUBLISHED] / seconds:8.2f}"
            f"{rate / 1e9:10.0f}{rate / max(rates.values()):9.0%}"
        )
    keep(f"speed-{batch}", {name: 1000 * seconds / batch for name, seconds in taken.items()})


def tricks(rounds: int, only: list[str]) -> None:
    """Every trick taken away from all of them, and all taken away, by precision."""
    pixels = random_pixels(SPEC.image_size, 1)
    dtypes = {name: DTYPES[name] for name in arithmetics("cpu")}
    for name, dtype in chosen_of(dtypes, only).items():
        variants = {"all": Tricks()}
        variants |= {
            f"without {one.name}": replace(Tricks(), **{one.name: False}) for one in fields(Tricks)
        }
        variants["none"] = PLAIN
        running = {what: network(which, dtype) for what, which in variants.items()}
        taken = in_turns(
            {what: lambda score=score: score(pixels) for what, score in running.items()},  # type: ignore[misc]
            rounds,
            clock=clock,
        )
        for what, seconds in taken.items():
            print(f"{name} {what:28}{1000 * seconds:8.0f} ms {seconds / taken['all'] - 1:+8.1%}")
        keep(f"tricks-{name}", {what: 1000 * seconds for what, seconds in taken.items()})


def views(rounds: int) -> None:
    pixels, precision = random_pixels(SPEC.image_size, 1), arithmetics("cpu")[-1]
    running = {
        f"{n} views, {e}": detector(e, precision, n) for e in ("torch", "openvino") for n in (1, 4)
    }
    taken = in_turns(
        {name: lambda score=score: score(pixels) for name, score in running.items()},  # type: ignore[misc]
        rounds,
        clock=clock,
    )
    for engine in ("torch", "openvino"):
        ratio = taken[f"4 views, {engine}"] / taken[f"1 views, {engine}"]
        print(f"{engine}, {precision}: views=4 costs {ratio:.2f} times views=1")


def drift() -> None:
    """The largest difference of a probability from float32 eager, over images of several kinds."""
    pixels = kinds_of_images()
    expected = probabilities(network(PLAIN, torch.float32), pixels)
    print(f"probabilities from {expected.min():.3f} to {expected.max():.3f}")
    for name, make in contestants().items():
        if name != PUBLISHED:  # which draws its own permutations
            found = probabilities(make(), pixels)
            print(f"{name:28}{np.abs(found - expected).max():12.2e}")


def kinds_of_images(count: int = 1) -> Pixels:
    noise = random_pixels(SPEC.image_size, count)
    y, x = np.mgrid[0:224, 0:224]
    smooth = [np.stack([x * (n + 1), y, x + y * n], axis=-1) % 256 for n in range(count)]
    return np.concatenate([noise, noise // 16 + 100, np.array(smooth, dtype=np.uint8)])


def probabilities(score: Contestant, pixels: Pixels) -> np.ndarray:
    logits: Any = score(pixels)
    return np.array([sigmoid(float(np.ravel(one)[0])) for one in logits])


def memory() -> None:
    for name in contestants():
        if name.startswith("d3"):
            command = [sys.executable, __file__, "memory-of", "--only", name]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            print(f"{name:28}{done.stdout.strip()}")


def memory_of(name: str) -> None:
    model()
    score = contestants()[name]()
    loaded = peak_gib()
    for batch in (1, 8):
        score(random_pixels(SPEC.image_size, batch))
    print(f"{loaded:.2f} GiB when loaded, {peak_gib():.2f} GiB at most")


def openvino_version() -> str:
    import openvino

    return str(openvino.get_version()).split("-")[0]


def openvino_rates(side: int = 2048) -> dict[str, float]:
    """Operations a second of OpenVINO's matrix product, by precision."""
    import openvino
    from openvino import opset13

    rates: dict[str, float] = {}
    for name in arithmetics("cpu"):
        given = opset13.parameter([side, side], np.float32)
        weights = opset13.constant(np.random.default_rng(0).random((side, side), np.float32))
        graph = openvino.Model([opset13.matmul(given, weights, False, True)], [given])
        compiled = openvino.Core().compile_model(
            graph,
            "CPU",
            {"INFERENCE_PRECISION_HINT": PRECISION_HINTS[name], "PERFORMANCE_HINT": "LATENCY"},
        )
        values, request = np.ones((side, side), np.float32), compiled.create_infer_request()

        def multiply(request: Any = request, values: Any = values) -> None:
            request.infer([values], share_inputs=True)

        taken = in_turns({name: multiply}, 7, clock=clock)
        rates[name] = 2 * side**3 / taken[name]
    return rates


def chosen_of(every: dict[str, T], only: Iterable[str], always: str = "") -> dict[str, T]:
    wanted = list(only)
    if not wanted:
        return every
    return {k: v for k, v in every.items() if k == always or any(one in k for one in wanted)}


def keep(name: str, figures: dict[str, float]) -> None:
    file = FOLDER / f"{name}.json"
    before = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps(before | figures, indent=1))


def picture() -> None:
    """Bars of milliseconds an image, by batch size, from what ``speed`` has kept."""
    measured = {
        batch: json.loads((FOLDER / f"speed-{batch}.json").read_text())
        for batch in (1, 8)
        if (FOLDER / f"speed-{batch}.json").exists()
    }
    longest = max(max(figures.values()) for figures in measured.values())
    rows, top = [], 40
    for batch, figures in measured.items():
        rows.append(f'<text x="10" y="{top}" font-weight="bold">batch {batch}, ms an image</text>')
        for name, value in figures.items():
            top += 24
            width, colour = 380 * value / longest, "#2f6f8f" if name.startswith("d3") else "#b0b7bd"
            rows.append(f'<text x="10" y="{top}">{name}</text>')
            rows.append(
                f'<rect x="220" y="{top - 13}" width="{width:.1f}" height="16" fill="{colour}"/>'
                f'<text x="{226 + width:.1f}" y="{top}">{value:.0f}</text>'
            )
        top += 40
    PICTURE.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 680 {top - 10}" '
        'font-family="sans-serif" font-size="13" fill="#222"><rect width="100%" height="100%" '
        'fill="white"/><text x="10" y="18">ViT-L/14 on a processor: less is better</text>'
        + "".join(rows)
        + "</svg>\n"
    )


if __name__ == "__main__":
    main()
