"""D3 on a GPU, alone on a bare machine whose Python has torch.

    PYTHONPATH=src python benchmarks/gpu.py [--parts machine engine ...] [--seconds 240]
    PYTHONPATH=src python benchmarks/gpu.py --device cpu --tiny     # proves that it runs

ViT-L/14 with random weights. ``machine``: the rate of a big matrix product, of the products and of
the attention that an image needs, and of copies. ``engine``: the forms that the forward pass can
take, images a second by batch, the share of that rate, the drift from float32 on the CPU.
``profile``: where a pass spends its time. ``http``: images a second over HTTP, see
``gpu_http.py``, which alone needs more of D3's dependencies than torch, numpy, safetensors and
Pillow.

Figures are printed as JSON lines as soon as they are there; where OUT names a folder they also go
to ``gpu.jsonl`` in it. What fails is printed and the next part goes on; what would not end in time
is left out.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from d3.adapters.torch import TorchEngine
from d3.adapters.torch.engine import TorchDetector
from d3.adapters.torch.graphs import Compile, Graphs, compiled_blocks
from d3.domain.models import EncoderSpec, StoredModel
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
from d3.network import D3Network

PARTS = ["machine", "engine", "profile", "http"]
BATCHES = [1, 2, 4, 8, 16, 32, 64, 128, 256]
TINY = EncoderSpec(image_size=56, patch_size=14, width=64, layers=2, heads=2, mlp_width=128)
SERVED, SERVED_BATCH = "compiled blocks", 32
"""The form that ``d3 serve`` runs, and its largest batch."""
AIM = 0.6
"""The share of the measured bfloat16 rate that is wanted at batch 64."""


@dataclass
class Run:
    """One call of this script: what it measures on, and what it has found."""

    device: str
    spec: EncoderSpec
    until: float
    out: Path | None
    rates: dict[str, float] = field(default_factory=dict)
    batches: list[int] = field(default_factory=lambda: BATCHES)
    best: float = 0.0
    """Images a second of the form that is served."""

    @property
    def cuda(self) -> bool:
        return self.device != "cpu"

    def left(self) -> float:
        return self.until - time.perf_counter()

    def tell(self, part: str, **figures: Any) -> None:
        line = json.dumps({"part": part, **figures}, default=str)
        print(line, flush=True)
        if self.out is not None:
            with (self.out / "gpu.jsonl").open("a", encoding="utf-8") as stream:
                stream.write(line + "\n")

    @contextmanager
    def step(self, name: str, needs: float = 0.0) -> Iterator[bool]:
        """A part that may fail; gives whether there is time for what needs so many seconds."""
        enough, begun = self.left() > needs, time.perf_counter()
        if not enough:
            self.tell("left out", step=name, needs=needs, left=round(self.left()))
        try:
            yield enough
        except Exception:  # noqa: BLE001  the other parts are worth having
            self.tell("failed", step=name, error=traceback.format_exc()[-2500:])
        if enough:
            print(f"# {name}: {time.perf_counter() - begun:.1f} s", flush=True)

    def seconds(self, work: Callable[[], object], rounds: int = 10) -> float:
        """Seconds of the device for one call: the median of rounds."""
        if not self.cuda:
            return in_turns({"it": work}, 2)["it"]
        for _ in range(3):
            work()
        taken = []
        for _ in range(rounds):
            begun, ended = (
                torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
                for _ in range(2)
            )
            begun.record()
            work()
            ended.record()
            ended.synchronize()
            taken.append(begun.elapsed_time(ended) / 1000)
        return float(statistics.median(taken))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    arguments.add_argument("--tiny", action="store_true", help="a tiny network, few rounds")
    arguments.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    arguments.add_argument("--forms", nargs="+", help="of engine; all unless given")
    arguments.add_argument("--seconds", type=float, default=240, help="of all but http")
    arguments.add_argument("--http-seconds", type=float, default=240)
    arguments.add_argument("--workers", type=int, nargs="+", default=[1, 8, 14])
    chosen = arguments.parse_args()
    out = Path(os.environ["OUT"]) if os.environ.get("OUT") else None
    spec = TINY if chosen.tiny else SHAPES["vit-l-14"]
    run = Run(chosen.device, spec, time.perf_counter() + chosen.seconds, out)
    name = torch.cuda.get_device_name(0) if run.cuda else processor()
    run.tell("start", torch=torch.__version__, device=name, cores=os.cpu_count())
    with tempfile.TemporaryDirectory(prefix="d3-gpu-") as folder:
        model = random_model(Path(folder), "random", spec)
        with run.step("matrix product"):
            run.rates = matmul_rates(chosen.device, 10)
            run.tell("machine", **{f"{one}_tflops": r / 1e12 for one, r in run.rates.items()})
        if "http" in chosen.parts and "engine" not in chosen.parts:  # to compare it with
            chosen.parts, chosen.forms = [*chosen.parts, "engine"], [SERVED]
            run.batches = [batch for batch in BATCHES if batch <= SERVED_BATCH]
        parts: dict[str, Callable[[Run, StoredModel], None]] = {
            "machine": machine,
            "engine": partial(engine, only=chosen.forms),
            "profile": profile,
        }
        for name, part in parts.items():
            if name in chosen.parts:
                part(run, model)
        if "http" in chosen.parts:
            with run.step("http", needs=-3600):
                import gpu_http

                run.until = time.perf_counter() + chosen.http_seconds
                gpu_http.measure(run, model, chosen.workers, tiny=chosen.tiny)


def machine(run: Run, _: StoredModel) -> None:
    """The rates of what an image needs, each alone."""
    spec, dtype = run.spec, torch.bfloat16
    tokens, width, hidden = spec.patches + 1, spec.width, spec.mlp_width
    products = {
        "attend": (width, 3 * width),
        "merge": (width, width),
        "expand": (width, hidden),
        "contract": (hidden, width),
    }
    random = partial(torch.randn, device=run.device)
    with run.step("products", needs=20) as go, torch.inference_mode():
        for batch in [1, 4, 8, 16, 32, 64] if go else []:
            rows, tflops = 2 * batch * tokens, {}
            for padded in (rows, -(-rows // 256) * 256):
                for name, (one, other) in products.items():
                    values = random(padded, one).to(dtype)
                    weight, bias = random(other, one).to(dtype), random(other).to(dtype)
                    taken = run.seconds(lambda: functional.linear(values, weight, bias))  # noqa: B023
                    tflops[f"{name}{'' if padded == rows else ' padded'}"] = round(
                        2 * rows * one * other / taken / 1e12, 1
                    )
            run.tell("products", batch=batch, rows=rows, useful_tflops=tflops)
    with run.step("attention", needs=20) as go, torch.inference_mode():
        for batch, length in [
            (32, tokens),
            (32, tokens - 1),
            (32, 8 * (tokens // 8 + 1)),
            (1, tokens),
        ]:
            joined = random(2 * batch, length, 3 * width).to(dtype)
            split = joined.view(2 * batch, length, 3, spec.heads, -1).permute(2, 0, 3, 1, 4)
            query, key, value = split
            names = ["FLASH_ATTENTION", "CUDNN_ATTENTION", "EFFICIENT_ATTENTION", "MATH"]
            taken_us: dict[str, float | str] = {}
            for name in names:
                attend = partial(functional.scaled_dot_product_attention, query, key, value)
                try:
                    with sdpa_kernel(getattr(SDPBackend, name)):
                        taken_us[name] = round(1e6 * run.seconds(attend), 1)
                except RuntimeError as error:  # not every device has every kernel
                    taken_us[name] = str(error)[:80]
            run.tell("attention", batch=batch, length=length, us=taken_us)
    with run.step("copies", needs=5) as go:
        if go and run.cuda:
            data = torch.empty(2**30, dtype=torch.uint8, device=run.device)
            twin = torch.empty_like(data)
            pinned = torch.empty(2**26, dtype=torch.uint8, pin_memory=True)
            rate = 2 * len(data) / run.seconds(lambda: twin.copy_(data))
            up = len(pinned) / run.seconds(lambda: data[: len(pinned)].copy_(pinned, True))
            plain = np.zeros(len(pinned), np.uint8)
            host = in_turns({"it": lambda: np.copyto(pinned.numpy(), plain)}, 5)["it"]
            run.tell(
                "copies", device=rate / 1e9, up=up / 1e9, host=len(pinned) / host / 1e9, unit="GB/s"
            )


@dataclass(frozen=True)
class Form:
    """A form that the forward pass can take.

    Attributes:
        compiled: what the graphs record; None without graphs.
        batches: that are measured.
        needs: seconds that making it may take.
        kernel: of attention, or torch's own choice.
    """

    compiled: Compile | None
    batches: tuple[int, ...] = (8, 32, 64)
    needs: float = 30.0
    precision: str = "bf16"
    kernel: str | None = None


def whole(network: D3Network) -> Any:
    """The network compiled in one piece, as D3 did before it compiled a block."""
    return torch.compile(network, dynamic=False)


def tuned(network: D3Network) -> Any:
    """A block compiled with its products chosen by measuring, activations fused into them."""
    import torch._inductor.config as inductor

    inductor.triton.enable_persistent_tma_matmul = True
    return compiled_blocks(network, mode="max-autotune-no-cudagraphs")


FORMS = {
    "compiled blocks": Form(compiled_blocks, tuple(BATCHES), 60),
    "graphs alone": Form(lambda network: network),
    "eager": Form(None, (1, 8, 32, 64)),
    "compiled blocks, cudnn": Form(compiled_blocks, kernel="CUDNN_ATTENTION"),
    "compiled blocks, efficient": Form(compiled_blocks, kernel="EFFICIENT_ATTENTION"),
    "compiled blocks, fp16": Form(compiled_blocks, precision="fp16"),
    "tuned blocks": Form(tuned, (8, 32, 64), 75),
    "whole network": Form(whole, (64,), 75),
    "compiled blocks, fp32": Form(compiled_blocks, (8,), precision="fp32"),
}


def engine(run: Run, model: StoredModel, only: list[str] | None) -> None:
    """Each form beside the others, then how a batch of 64 is best cut up."""
    pixels = random_pixels(run.spec.image_size, 4 if not run.cuda else max(run.batches))
    reference = TorchEngine("cpu", "fp32").load(model).score(pixels[:4], 2)
    loaded: dict[str, TorchDetector] = {}

    def detector(precision: Any) -> TorchDetector:
        if precision not in loaded:
            own = TorchEngine(0 if run.cuda else "cpu", precision, max(BATCHES), None)
            made = own.load(model)
            assert isinstance(made, TorchDetector)
            loaded[precision] = made
        return loaded[precision]

    for name, form in FORMS.items():
        if only and name not in only:
            continue
        with run.step(name, form.needs) as go:
            if go:
                one_form(run, name, detector(form.precision), pixels, reference)
    with run.step("cuts", needs=20) as go:
        if go and not only:
            cuts(run, detector("bf16"), pixels)
    with run.step("published", needs=15) as go:
        if go and not only:
            score = published_procedure(model, run.device)
            taken = in_turns({"it": lambda: score(pixels[:1]).cpu()}, 5)["it"]
            run.tell("engine", form="published procedure, fp32", batch=1, ms=1000 * taken)


def one_form(
    run: Run, name: str, detector: TorchDetector, pixels: np.ndarray, reference: np.ndarray
) -> None:
    """Make a form's graphs and measure it."""
    form = FORMS[name]
    torch._dynamo.reset()  # noqa: SLF001  each form begins cold
    kernel = sdpa_kernel(getattr(SDPBackend, form.kernel)) if form.kernel else nullcontext()
    batches = [batch for batch in form.batches if batch <= len(pixels)] or [1]
    with kernel:
        made = with_graphs(run, detector, batches, form.compiled)
        far = drift(detector, pixels[:4], reference)
        run.tell("form", form=name, seconds_until_ready=made, drift_of_probability=far)
        for batch in batches:
            rate = throughput(run, detector, pixels[:batch])
            rate["share_of_bf16"] = rate["tflops"] * 1e12 / run.rates.get("bf16", float("nan"))
            run.tell("engine", form=name, batch=batch, **rate)
            if name == SERVED and batch <= SERVED_BATCH:
                alone = rate.get("overlapped_images_per_second", rate["images_per_second"])
                run.best = max(run.best, alone)
            if batch == 64 and name == SERVED:
                run.tell("aim", batch=64, share=rate["share_of_bf16"], wanted=AIM)
    without_graphs(detector)


def with_graphs(
    run: Run, detector: TorchDetector, sizes: list[int], compiled: Compile | None
) -> dict[int, float]:
    """Give the detector graphs of these sizes; after how many seconds each was there."""
    network = detector._network  # noqa: SLF001
    assert network is not None
    if compiled is None or not run.cuda:
        return {}
    begun, seen = time.perf_counter(), dict[int, float]()
    graphs = Graphs(network, detector._permutations[:1], 1, sizes, compiled)  # noqa: SLF001
    while graphs.maker.is_alive() and run.left() > 0:
        graphs.maker.join(0.2)
        for size in graphs.ready:
            seen.setdefault(size, round(time.perf_counter() - begun, 1))
    if trouble := graphs.trouble():
        run.tell("trouble", said=trouble)
    detector._graphs = graphs  # noqa: SLF001
    return seen


def without_graphs(detector: TorchDetector) -> None:
    if detector._graphs is not None:  # noqa: SLF001
        detector._graphs.close()  # noqa: SLF001
        detector._graphs = None  # noqa: SLF001
        torch.cuda.empty_cache()


def throughput(run: Run, detector: TorchDetector, pixels: np.ndarray) -> dict[str, float]:
    """Of whole calls, copies included; and the device's own milliseconds where a graph is there."""
    batch = len(pixels)
    taken = in_turns({"it": lambda: detector.score(pixels, 1)}, 10 if run.cuda else 2)["it"]
    figures = {
        "ms": round(1000 * taken, 3),
        "images_per_second": round(batch / taken, 1),
        "tflops": batch * operations(run.spec) / taken / 1e12,
    }
    if detector.start(pixels, 1) is not None:
        figures["overlapped_images_per_second"] = round(batch / overlapped(detector, pixels), 1)
    graphs = detector._graphs  # noqa: SLF001
    if graphs is not None and batch in graphs._ready:  # noqa: SLF001
        replay = graphs._ready[batch]._graph.replay  # noqa: SLF001
        figures["device_ms"] = round(1000 * run.seconds(replay), 3)
    return figures


def overlapped(detector: TorchDetector, pixels: np.ndarray, passes: int = 12) -> float:
    """Seconds of a pass where each is begun before the one before is waited for, as served."""
    begun, before = time.perf_counter(), detector.start(pixels, 1)
    for _ in range(passes - 1):
        after = detector.start(pixels, 1)
        assert before is not None
        before()
        before = after
    assert before is not None
    before()
    return (time.perf_counter() - begun) / passes


def cuts(run: Run, detector: TorchDetector, pixels: np.ndarray) -> None:
    """A batch of 64 as pieces of 8, 16, 32 and whole: one is copied while another is computed."""
    batch = pixels[:64]
    for largest in (8, 16, 32, 64):
        made = with_graphs(run, detector, [largest], compiled_blocks)
        run.tell("cuts", pieces_of=largest, made=made, **throughput(run, detector, batch))
        without_graphs(detector)


def drift(detector: TorchDetector, pixels: np.ndarray, reference: np.ndarray) -> float:
    """The largest difference of a probability from float32 on the CPU, one image and several."""
    apart = [np.abs(sigmoid(detector.score(pixels, 2)) - sigmoid(reference)).max()]
    alone = np.concatenate([detector.score(one[None], 1) for one in pixels])
    together = detector.score(pixels, 1)
    apart += [np.abs(sigmoid(one) - sigmoid(reference[:, :1])).max() for one in (alone, together)]
    return float(max(apart))


def sigmoid(logits: np.ndarray) -> np.ndarray:
    odds: np.ndarray = 1 / (1 + np.exp(-logits))
    return odds


def profile(run: Run, model: StoredModel) -> None:
    """The kernels of a pass of 32, compiled, that take the most time."""
    with run.step("profile", needs=30) as go:
        if not go:
            return
        own = TorchEngine(0 if run.cuda else "cpu", "bf16", 64, None).load(model)
        assert isinstance(own, TorchDetector)
        network, batch = own._network, 32 if run.cuda else 2  # noqa: SLF001
        assert network is not None
        forward = compiled_blocks(network) if run.cuda else network
        pixels = torch.from_numpy(random_pixels(run.spec.image_size, batch)).to(run.device)
        kinds = [torch.profiler.ProfilerActivity.CPU]
        kinds += [torch.profiler.ProfilerActivity.CUDA] if run.cuda else []
        with torch.inference_mode():
            for _ in range(3):
                forward(pixels, own._permutations[:1])  # noqa: SLF001
            with torch.profiler.profile(activities=kinds) as seen:
                for _ in range(3):
                    forward(pixels, own._permutations[:1])  # noqa: SLF001
                if run.cuda:
                    torch.cuda.synchronize()
        time_of = "self_device_time_total" if run.cuda else "self_cpu_time_total"
        kernels = [one for one in seen.key_averages() if getattr(one, time_of) > 0]
        if run.cuda:
            kernels = [one for one in kernels if "CUDA" in str(one.device_type)]
        total = sum(getattr(one, time_of) for one in kernels)
        for one in sorted(kernels, key=lambda one: -getattr(one, time_of))[:14]:
            own_us = getattr(one, time_of)
            run.tell(
                "profile",
                share=round(own_us / total, 4),
                us_a_pass=round(own_us / 3, 1),
                calls=one.count // 3,
                kernel=one.key[:110],
            )
        own.close()


if __name__ == "__main__":
    main()
