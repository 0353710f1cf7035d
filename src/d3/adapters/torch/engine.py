"""Detectors on torch: a stored model loaded onto a device, scoring uint8 pixels."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from d3.adapters.cpu_sizing import encodings_at_once, worthwhile_threads
from d3.adapters.torch.device import Precision, at_most, choose_device, choose_precision
from d3.adapters.torch.graphs import Compile, Graphs, compiled_blocks, sizes_up_to
from d3.domain.errors import DeviceOutOfMemory
from d3.domain.images import Pixels
from d3.domain.models import StoredModel
from d3.domain.ports.detector import Logits
from d3.domain.scoring import checked_views
from d3.network import D3Network, windows
from d3.network.checkpoints import load_network
from d3.network.precision import DTYPES


class TorchEngine:
    """Implements ``Engine``.

    Args:
        device: ``CUDA_DEVICE``'s value; see :func:`d3.adapters.torch.device.choose_device`.
        precision: of the encoder; see :func:`d3.adapters.torch.device.choose_precision`.
        batch_size: images with one view each that share a forward pass at most; bounds memory.
        compiled: makes of a network what a GPU's graphs record; None for no graphs.
    """

    def __init__(
        self,
        device: int | Literal["cpu"] | None = None,
        precision: Precision = "auto",
        batch_size: int = 32,
        compiled: Compile | None = compiled_blocks,
    ) -> None:
        self._device = device
        self._precision = precision
        self._batch_size = batch_size
        self._compiled = compiled

    def load(self, model: StoredModel) -> TorchDetector:
        device = choose_device(self._device)
        precision = choose_precision(self._precision, device)
        spec = model.manifest.encoder_spec
        on_cpu = device.type == "cpu"
        network = load_network(
            spec, model.encoder, model.head, dtype=DTYPES[precision] if on_cpu else None
        )
        encodings = 2 * self._batch_size
        permutations = torch.tensor(model.manifest.permutations)
        # Counted now: packing gives the tensors up.
        weights = _size(network.encoder, DTYPES[precision]) + _size(network.head, torch.float32)
        try:
            if on_cpu:
                encodings = min(encodings, encodings_at_once(spec))
                network.encoder.pack(encodings)
            network.encoder.to(device, DTYPES[precision])
            network.head.to(device, torch.float32)
            return TorchDetector(
                network,
                permutations.to(device),
                precision,
                encodings,
                weights_bytes=weights,
                compiled=self._compiled,
            )
        except torch.OutOfMemoryError as error:
            raise DeviceOutOfMemory(
                f"{device} does not have enough memory for the model {model.manifest.name!r}.",
                "Free some of its memory, choose another CUDA_DEVICE, or set CUDA_DEVICE=cpu.",
            ) from error


class TorchDetector:
    """Implements ``Detector`` and ``Explainer``.

    Args:
        network: in evaluation mode, on its device.
        permutations: (up to 16, patches), on the same device.
        encodings: how many images and shuffled images share a forward pass at most.
        compiled: as of :class:`TorchEngine`.
    """

    def __init__(
        self,
        network: D3Network,
        permutations: torch.Tensor,
        precision: Literal["fp32", "fp16", "bf16"],
        encodings: int = 64,
        *,
        weights_bytes: int,
        compiled: Compile | None = compiled_blocks,
    ) -> None:
        self._network: D3Network | None = network
        self._permutations = permutations
        self._precision = precision
        self._encodings = encodings
        self.weights_bytes = weights_bytes
        self._spec = network.encoder.spec
        self._lowering = threading.Lock()
        self._threads = worthwhile_threads(network.encoder.spec)
        # Threads that a product is too small for take images of their own instead.
        self._parts = 1 if permutations.is_cuda else torch.get_num_threads() // self._threads or 1
        self._pool = ThreadPoolExecutor(self._parts, "d3-score")
        self._graphs = (
            Graphs(network, permutations[:1], sizes_up_to(encodings // 2), compiled)
            if permutations.is_cuda and compiled is not None
            else None
        )

    @property
    def engine(self) -> str:
        return "torch"

    @property
    def device(self) -> str:
        return str(self._permutations.device)

    @property
    def precision(self) -> str:
        return self._precision

    def score(self, pixels: Pixels, views: int) -> Logits:
        if self._network is None:
            raise RuntimeError("the detector is closed")
        permutations = self._permutations[: checked_views(views, len(self._permutations))]
        logits = np.empty((len(pixels), views))
        score, parts = partial(self._score_part, permutations), min(self._parts, len(pixels))
        if parts > 1:
            list(
                self._pool.map(score, np.array_split(pixels, parts), np.array_split(logits, parts))
            )
        else:
            score(pixels, logits)
        return logits

    def start(self, pixels: Pixels, views: int) -> Callable[[], Logits] | None:
        if views != 1 or len(pixels) > self._encodings // 2:
            return None
        return self._graphed(pixels)

    def settle(self, seconds: float) -> None:
        if self._graphs is not None:
            self._graphs.maker.join(seconds)

    def _graphed(self, pixels: Pixels) -> Callable[[], Logits] | None:
        """A forward pass with graphs, begun; None where they are not there."""
        if self._graphs is None:
            return None
        if trouble := self._graphs.trouble():
            warnings.warn(trouble, RuntimeWarning, stacklevel=3)
        with torch.inference_mode():
            return self._graphs.start(pixels)

    @property
    def parts(self) -> int:
        return windows.parts(self._spec)

    def explain_parts(
        self, pixels: Pixels, views: int, start: int, stop: int
    ) -> NDArray[np.float64]:
        if (network := self._network) is None:
            raise RuntimeError("the detector is closed")
        permutations = self._permutations[: checked_views(views, len(self._permutations))]
        with torch.inference_mode(), at_most(self._threads):
            image = torch.from_numpy(pixels[None].copy()).to(permutations.device)
            try:
                found = windows.window_logits(network, image, permutations, start, stop)
                logits: NDArray[np.float64] = found.double().cpu().numpy()
            except (RuntimeError, MemoryError) as error:
                if not _is_out_of_memory(error):
                    raise
                raise DeviceOutOfMemory(
                    f"{self.device} does not have enough memory to explain an image.",
                    "Free some of its memory, use fewer views, or set CUDA_DEVICE=cpu.",
                ) from error
        return logits

    def heat(self, logits: NDArray[np.float64]) -> NDArray[np.float64]:
        heat: NDArray[np.float64] = windows.averaged(torch.from_numpy(logits), self._spec).numpy()
        return heat

    def close(self) -> None:
        self._network = None
        self._pool.shutdown()
        if self._graphs is not None:
            self._graphs.close()
            self._graphs = None
        if self._permutations.is_cuda:
            torch.cuda.empty_cache()

    def _score_part(self, permutations: torch.Tensor, pixels: Pixels, logits: Logits) -> None:
        """Fill logits (n, views), as many images at once as there is room for."""
        done, views = 0, logits.shape[1]
        with torch.inference_mode(), at_most(self._threads):
            while done < len(pixels):
                chunk = pixels[done : done + max(1, self._encodings // (1 + views))]
                try:
                    logits[done : done + len(chunk)] = self._forward(chunk, permutations)
                except (RuntimeError, MemoryError) as error:
                    if not _is_out_of_memory(error):
                        raise
                    self._lower(len(chunk), views, error)
                else:
                    done += len(chunk)

    def _forward(self, pixels: Pixels, permutations: torch.Tensor) -> Logits:
        assert self._network is not None
        if len(permutations) == 1 and (finish := self._graphed(pixels)) is not None:
            return finish()
        # A copy: torch would warn of read-only arrays and refuse reversed ones.
        chunk = torch.from_numpy(pixels.copy()).to(permutations.device)
        logits: Logits = self._network(chunk, permutations).double().cpu().numpy()
        return logits

    def _lower(self, images: int, views: int, error: Exception) -> None:
        """Halve the number of images that share a pass, if that is possible."""
        if images == 1:
            raise DeviceOutOfMemory(
                f"{self.device} does not have enough memory for one image with {views} views.",
                "Free some of its memory, use fewer views, or set CUDA_DEVICE=cpu.",
            ) from error
        with self._lowering:
            if images * (1 + views) > self._encodings:
                return  # another part has done so
            self._encodings = (images // 2) * (1 + views)
        if self._permutations.is_cuda:
            torch.cuda.empty_cache()
        warnings.warn(
            f"{self.device} does not have enough memory for {images} images with {views} views at "
            f"once, so D3 now uses batches of {images // 2}. Lower D3_BATCH_SIZE.",
            RuntimeWarning,
            stacklevel=3,
        )


def _size(part: torch.nn.Module, dtype: torch.dtype) -> int:
    return sum(one.numel() for one in part.parameters()) * dtype.itemsize


def _is_out_of_memory(error: Exception) -> bool:
    """Torch has an error class for GPUs; on the CPU only the message tells."""
    return isinstance(
        error, torch.OutOfMemoryError | MemoryError
    ) or "can't allocate memory" in str(error)
