"""What detectors on torch share: passes that fit the memory, side by side where one is small."""

from __future__ import annotations

import threading
import warnings
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import torch
from torch import nn

from d3.adapters.torch.device import at_most
from d3.domain.errors import DeviceOutOfMemory
from d3.domain.images import Pixels
from d3.domain.machine import available_cores
from d3.domain.ports.detector import Logits
from d3.domain.scoring import checked_views


class BatchedDetector(ABC):
    """The larger part of ``Detector``.

    Args:
        device: where the network is.
        views: the most that it can average.
        heads: how many heads' columns it gives.
        encodings: how many images, of all branches, share a forward pass at most.
        threads: that a pass keeps busy on a CPU.
        weights_bytes: see :class:`d3.domain.ports.detector.Detector`.
    """

    engine = "torch"

    def __init__(
        self,
        device: torch.device,
        *,
        views: int,
        heads: int = 1,
        encodings: int,
        threads: int,
        weights_bytes: int,
    ) -> None:
        self._device = device
        self._views = views
        self._heads = heads
        self._encodings = encodings
        self.weights_bytes = weights_bytes
        self._lowering = threading.Lock()
        cores = available_cores()
        # Torch counts the machine's cores. Threads beyond a container's quota only stop each other.
        self._threads = min(threads, cores)
        # Threads that a product is too small for take images of their own instead.
        on_cpu = device.type == "cpu"
        self._parts = (min(torch.get_num_threads(), cores) // threads or 1) if on_cpu else 1
        self._pool = ThreadPoolExecutor(self._parts, "d3-score")
        self._closed = False

    @property
    def device(self) -> str:
        return str(self._device)

    def score(self, pixels: Pixels, views: int) -> Logits:
        self._check_open()
        logits = np.empty((len(pixels), self._heads * checked_views(views, self._views)))
        score, parts = partial(self._score_part, views), min(self._parts, len(pixels))
        if parts > 1:
            list(
                self._pool.map(score, np.array_split(pixels, parts), np.array_split(logits, parts))
            )
        else:
            score(pixels, logits)
        return logits

    def close(self) -> None:
        self._closed = True
        self._pool.shutdown()
        self._free()

    @abstractmethod
    def _forward(self, pixels: Pixels, views: int) -> Logits:
        """Logits of a few images in one pass."""

    def _branches(self, views: int) -> int:  # noqa: ARG002  others have more than one
        """Encodings that an image costs."""
        return 1

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("the detector is closed")

    def _free(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _score_part(self, views: int, pixels: Pixels, logits: Logits) -> None:
        """Fill the logits, as many images at once as there is room for."""
        done, branches = 0, self._branches(views)
        with torch.inference_mode(), at_most(self._threads):
            while done < len(pixels):
                chunk = pixels[done : done + max(1, self._encodings // branches)]
                try:
                    logits[done : done + len(chunk)] = self._forward(chunk, views)
                except (RuntimeError, MemoryError) as error:
                    if not is_out_of_memory(error):
                        raise
                    self._lower(len(chunk), views, error)
                else:
                    done += len(chunk)

    def _lower(self, images: int, views: int, error: Exception) -> None:
        """Halve the number of images that share a pass, if that is possible."""
        branches = self._branches(views)
        if images == 1:
            raise DeviceOutOfMemory(
                f"{self.device} does not have enough memory for one image with {views} views.",
                "Free some of its memory, use fewer views, or set CUDA_DEVICE=cpu.",
            ) from error
        with self._lowering:
            if images * branches > self._encodings:
                return  # another part has done so
            self._encodings = (images // 2) * branches
        self._free()
        warnings.warn(
            f"{self.device} does not have enough memory for {images} images with {views} views at "
            f"once, so D3 now uses batches of {images // 2}. Lower D3_BATCH_SIZE.",
            RuntimeWarning,
            stacklevel=3,
        )


def size_of(network: nn.Module) -> int:
    """The bytes of its weights."""
    return sum(one.nbytes for one in network.state_dict().values())


def is_out_of_memory(error: BaseException) -> bool:
    """Torch has an error class for GPUs; on the CPU only the message tells."""
    return isinstance(
        error, torch.OutOfMemoryError | MemoryError
    ) or "can't allocate memory" in str(error)
