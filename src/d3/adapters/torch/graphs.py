"""The forward pass as CUDA graphs, one for each of a few batch sizes, made in the background.

An eager forward pass of a small batch spends most of its time on starting kernels; a graph starts
them all at once. Until a size's graph is there, and wherever one cannot be made, eager serves.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from d3.domain.images import Pixels
from d3.domain.ports.detector import Logits
from d3.network import D3Network

_WARM_UPS = 3
_LARGEST = 32
"""A larger batch is scored as several, so that one is copied while another is computed."""
_SMALL = 8
_FULL = 0.75
_COMPILATIONS = 64
"""Of one function: torch would give up after 8, and every size of every model is one."""

Forward = Callable[[Tensor, Tensor], Tensor]
Compile = Callable[[D3Network], Forward]


def sizes_up_to(images: int) -> list[int]:
    """Batch sizes that get a graph: powers of two, the smallest first."""
    return [2**power for power in range(_LARGEST.bit_length()) if 2**power <= min(images, _LARGEST)]


def compiled_blocks(network: D3Network, **options: Any) -> Forward:
    """The network, with one block compiled, which serves as all of them.

    Compiled as a whole, it would take about as many times as long as it has blocks.

    Args:
        network: on a CUDA device, in evaluation mode.
        options: of ``torch.compile``.
    """
    wrap = partial(torch.compile, dynamic=False, **options)
    return D3Network(network.encoder.with_blocks(wrap), network.head).eval()


def split(images: int, sizes: Sequence[int]) -> list[tuple[int, int]]:
    """How to score so many images with graphs: (size, images in it) of each.

    A graph that is nearly full is quicker than two smaller ones; one that is far from full is not.

    Args:
        images: 0 or more.
        sizes: of the graphs, ascending.
    """
    pieces = []
    while images:
        at = next((at for at, size in enumerate(sizes) if size >= images), len(sizes) - 1)
        if at and sizes[at] > _SMALL and images < _FULL * sizes[at]:
            at -= 1
        pieces.append((sizes[at], min(images, sizes[at])))
        images -= pieces[-1][1]
    return pieces


class Graphs:
    """Graphs of a network's forward pass with one view.

    Args:
        network: on a CUDA device, in evaluation mode.
        permutations: (1, patches), on the same device; (0, patches) where no head shuffles.
        heads: of the network.
        sizes: batch sizes, ascending, in the order in which they are made.
        compiled: makes of the network what the graphs record.
    """

    def __init__(
        self,
        network: D3Network,
        permutations: Tensor,
        heads: int,
        sizes: Sequence[int],
        compiled: Compile = compiled_blocks,
    ) -> None:
        self._sizes = sizes
        self._heads = heads
        self._ready: dict[int, _Graph] = {}
        self._closed = threading.Event()
        self._trouble: str | None = None
        self.maker = threading.Thread(
            target=self._make, args=(network, permutations, compiled), name="d3-graphs", daemon=True
        )
        self.maker.start()

    @property
    def ready(self) -> list[int]:
        """Sizes whose graph is there."""
        return sorted(self._ready)

    def start(self, pixels: Pixels) -> Callable[[], Logits] | None:
        """Begin to score uint8 pixels (n, S, S, 3); what is given waits for the logits.

        They are (n, heads). None where no graph fits yet. A graph holds two batches at a time;
        whoever begins a third waits for the first.
        """
        fits = next((size for size in self._sizes if size >= len(pixels)), self._sizes[-1])
        if fits not in self._ready:
            return None
        logits = np.empty((len(pixels), self._heads))
        stages, done = [], 0
        for size, images in split(len(pixels), self.ready):
            part = slice(done, done + images)
            stages.append(self._ready[size].begin(pixels[part], logits[part]))
            done += images

        def finish() -> Logits:
            for stage, wanted in stages:
                stage.finish(wanted)
            return logits

        return finish

    def trouble(self) -> str | None:
        """Why there will be no more graphs, said once."""
        said, self._trouble = self._trouble, None
        return said

    def close(self) -> None:
        """Make no more, and give the memory of those that are there back."""
        self._closed.set()
        self._ready.clear()

    def _make(self, network: D3Network, permutations: Tensor, compiled: Compile) -> None:
        ways = [("torch.compile failed", compiled), ("CUDA graphs cannot be created", _as_it_is)]
        side = network.encoder.spec.image_size
        for failure, way in ways:
            try:
                with (
                    torch.cuda.device(permutations.device),
                    torch.inference_mode(),
                    torch._dynamo.config.patch(recompile_limit=_COMPILATIONS),  # noqa: SLF001
                ):
                    forward = way(network)
                    for size in self._sizes:
                        if self._closed.is_set():
                            return
                        if size not in self._ready:
                            self._ready[size] = _Graph(forward, permutations, size, side)
            except Exception as error:  # noqa: BLE001  a compiler may fail in any way
                self._trouble = _sentence(error, failure)
            else:
                return


def _as_it_is(network: D3Network) -> Forward:
    return network


class _Stage:
    """Pinned memory on both sides of a graph, for one batch on its way.

    Args:
        pixels: of the graph, on the device.
        logits: of the graph, on the device.
    """

    def __init__(self, pixels: Tensor, logits: Tensor) -> None:
        self.pixels = torch.empty(pixels.shape, dtype=pixels.dtype, pin_memory=True)
        self.logits = torch.empty(logits.shape, dtype=logits.dtype, pin_memory=True)
        self.there = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self.wanted: Logits | None = None

    def finish(self, wanted: Logits | None = None) -> None:
        """Wait for the batch on its way, and hand its logits over.

        Args:
            wanted: where they belong; does nothing if that was done. None for whatever there is.
        """
        if self.wanted is not None and (wanted is None or wanted is self.wanted):
            self.there.synchronize()
            self.wanted[:] = self.logits[: len(self.wanted)].numpy()
            self.wanted = None


class _Graph:
    """One batch size: fixed buffers on the device, the kernels between them, and two stages.

    While the device computes what is in one stage, the next batch is copied into the other.
    """

    def __init__(self, forward: Forward, permutations: Tensor, size: int, side: int) -> None:
        device = permutations.device
        self._pixels = torch.zeros((size, side, side, 3), dtype=torch.uint8, device=device)
        stream: torch.cuda.Stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UPS):
                forward(self._pixels, permutations)
        stream.synchronize()
        self._graph = torch.cuda.CUDAGraph()
        # Other threads go on using the device while this one records.
        with torch.cuda.graph(self._graph, stream=stream, capture_error_mode="thread_local"):
            self._logits = forward(self._pixels, permutations)
        self._stages = [_Stage(self._pixels, self._logits) for _ in range(2)]

    def begin(self, pixels: Pixels, logits: Logits) -> tuple[_Stage, Logits]:
        """Start to score; what was begun two calls before is finished first.

        Args:
            pixels: uint8 (n, S, S, 3), n at most the size.
            logits: (n, heads), filled when the stage finishes.

        Returns:
            The stage to wait for, and the logits.
        """
        self._stages.reverse()
        stage, count = self._stages[0], len(pixels)
        stage.finish()
        np.copyto(stage.pixels.numpy()[:count], pixels)
        # What lies in the other rows is scored too and not looked at.
        self._pixels[:count].copy_(stage.pixels[:count], non_blocking=True)
        self._graph.replay()
        stage.logits.copy_(self._logits, non_blocking=True)
        stage.there.record(torch.cuda.current_stream(self._pixels.device))
        stage.wanted = logits
        return stage, logits


def _sentence(error: Exception, what: str) -> str:
    reason = (str(error).strip().splitlines() or [""])[0][:120]
    return (
        f"{what} ({type(error).__name__}: {reason}). D3 uses the slower path, which gives the same "
        "scores."
    )
