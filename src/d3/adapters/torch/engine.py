"""Detectors on torch: a stored model loaded onto a device, scoring uint8 pixels."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch

from d3.adapters.torch.device import DTYPES, Precision, choose_device, choose_precision
from d3.domain.errors import DeviceOutOfMemory
from d3.domain.images import Pixels
from d3.domain.models import StoredModel
from d3.domain.ports import Logits
from d3.domain.scoring import checked_views
from d3.network import D3Network
from d3.network.checkpoints import load_network


class TorchEngine:
    """Fills :class:`d3.domain.ports.Engine`.

    Args:
        device: ``CUDA_DEVICE``'s value; see :func:`d3.adapters.torch.device.choose_device`.
        precision: of the encoder; see :func:`d3.adapters.torch.device.choose_precision`.
        batch_size: images with one view each that share a forward pass at most; bounds memory.
    """

    def __init__(
        self,
        device: int | Literal["cpu"] | None = None,
        precision: Precision = "auto",
        batch_size: int = 32,
    ) -> None:
        self._device = device
        self._precision = precision
        self._batch_size = batch_size

    def load(self, model: StoredModel) -> TorchDetector:
        """Load the weights onto the device."""
        device = choose_device(self._device)
        precision = choose_precision(self._precision, device)
        network = load_network(model.manifest.spec, model.encoder, model.head)
        permutations = torch.tensor(model.manifest.permutations)
        try:
            network.encoder.to(device, DTYPES[precision])
            network.head.to(device, torch.float32)
            return TorchDetector(
                network, permutations.to(device), precision, encodings=2 * self._batch_size
            )
        except torch.OutOfMemoryError as error:
            raise DeviceOutOfMemory(
                f"{device} has no room for the model {model.manifest.name!r}.",
                "Free memory there, choose another CUDA_DEVICE, or set CUDA_DEVICE=cpu.",
            ) from error


class TorchDetector:
    """Fills :class:`d3.domain.ports.Detector`.

    Args:
        network: in evaluation mode, on its device.
        permutations: (up to 16, patches), on the same device.
        precision: of the encoder.
        encodings: how many images and shuffled images share a forward pass at most.
    """

    def __init__(
        self,
        network: D3Network,
        permutations: torch.Tensor,
        precision: Literal["fp32", "fp16", "bf16"],
        encodings: int = 64,
    ) -> None:
        self._network: D3Network | None = network
        self._permutations = permutations
        self._precision = precision
        self._encodings = encodings

    @property
    def engine(self) -> str:
        """``"torch"``."""
        return "torch"

    @property
    def device(self) -> str:
        """Such as ``"cpu"`` or ``"cuda:0"``."""
        return str(self._permutations.device)

    @property
    def precision(self) -> str:
        """``"fp32"``, ``"fp16"`` or ``"bf16"``."""
        return self._precision

    def score(self, pixels: Pixels, views: int) -> Logits:
        """Raw logits (n, views) of uint8 RGB pixels (n, S, S, 3)."""
        if self._network is None:
            raise RuntimeError("the detector is closed")
        permutations = self._permutations[: checked_views(views, len(self._permutations))]
        step = max(1, self._encodings // (1 + views))
        logits = np.empty((len(pixels), views))
        try:
            with torch.inference_mode():
                for start in range(0, len(pixels), step):
                    # A copy: torch would warn of read-only arrays and refuse reversed ones.
                    chunk = torch.from_numpy(pixels[start : start + step].copy())
                    chunk = chunk.to(self._permutations.device)
                    scored = self._network(chunk, permutations)
                    logits[start : start + step] = scored.double().cpu().numpy()
        except torch.OutOfMemoryError as error:
            raise DeviceOutOfMemory(
                f"{self.device} has no room for {step} images with {views} views at once.",
                "Lower D3_BATCH_SIZE.",
            ) from error
        return logits

    def close(self) -> None:
        """Give the device's memory back."""
        self._network = None
        if self._permutations.is_cuda:
            torch.cuda.empty_cache()
