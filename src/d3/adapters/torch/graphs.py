"""The forward pass as CUDA graphs, one for each of a few batch sizes, made in the background.

An eager forward pass of a small batch spends most of its time on starting kernels; a graph starts
them all at once. Until a size's graph is there, and wherever one cannot be made, eager serves.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from d3.domain.images import Pixels
from d3.domain.ports.detector import Logits
from d3.network import D3Network

_WARM_UPS = 3
_LARGEST = 128

Forward = Callable[[Tensor, Tensor], Tensor]


def sizes_up_to(images: int) -> list[int]:
    """Batch sizes that get a graph: powers of two, the smallest first."""
    return [2**power for power in range(8) if 2**power <= min(images, _LARGEST)]


class Graphs:
    """Graphs of a network's forward pass with one view.

    Args:
        network: on a CUDA device, in evaluation mode.
        permutations: (1, patches), on the same device.
        sizes: batch sizes, in the order in which they are made.
    """

    def __init__(self, network: D3Network, permutations: Tensor, sizes: Sequence[int]) -> None:
        self._ready: dict[int, _Graph] = {}
        self._closed = threading.Event()
        self._trouble: str | None = None
        self.maker = threading.Thread(
            target=self._make, args=(network, permutations, sizes), name="d3-graphs", daemon=True
        )
        self.maker.start()

    @property
    def ready(self) -> list[int]:
        """Sizes whose graph is there."""
        return sorted(self._ready)

    def score(self, pixels: Pixels) -> Logits | None:
        """Logits (n, 1) of uint8 pixels (n, S, S, 3), or None where no graph fits."""
        graph = self._ready.get(1 << (len(pixels) - 1).bit_length())
        return graph.score(pixels) if graph is not None else None

    def trouble(self) -> str | None:
        """Why there will be no more graphs, said once."""
        said, self._trouble = self._trouble, None
        return said

    def close(self) -> None:
        """Make no more, and give the memory of those that are there back."""
        self._closed.set()
        self._ready.clear()

    def _make(self, network: D3Network, permutations: Tensor, sizes: Sequence[int]) -> None:
        forward: Forward = torch.compile(network, dynamic=False)
        with torch.cuda.device(permutations.device), torch.inference_mode():
            for size in sizes:
                made = None
                while made is None and not self._closed.is_set():
                    try:
                        made = _Graph(forward, permutations, size, network.encoder.spec.image_size)
                    except Exception as error:  # noqa: BLE001  a compiler may fail in any way
                        if forward is network:
                            self._trouble = _sentence(error, "CUDA graphs cannot be created")
                            return
                        self._trouble = _sentence(error, "torch.compile failed")
                        forward = network
                if self._closed.is_set() or made is None:
                    return
                self._ready[size] = made


class _Graph:
    """One batch size: fixed buffers on both sides, and the kernels between them."""

    def __init__(self, forward: Forward, permutations: Tensor, size: int, side: int) -> None:
        device = permutations.device
        self._staged = torch.zeros((size, side, side, 3), dtype=torch.uint8, pin_memory=True)
        self._pixels = self._staged.to(device)
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
        self._answer = torch.zeros(self._logits.shape, pin_memory=True)

    def score(self, pixels: Pixels) -> Logits:
        count = len(pixels)
        np.copyto(self._staged.numpy()[:count], pixels)
        # What lies in the other rows is scored too and not looked at.
        self._pixels.copy_(self._staged, non_blocking=True)
        self._graph.replay()
        self._answer.copy_(self._logits, non_blocking=True)
        torch.cuda.current_stream(self._pixels.device).synchronize()
        logits: Logits = self._answer[:count].double().numpy()
        return logits


def _sentence(error: Exception, what: str) -> str:
    reason = (str(error).strip().splitlines() or [""])[0][:120]
    return (
        f"{what} ({type(error).__name__}: {reason}). D3 uses the slower path, which gives the same "
        "scores."
    )
