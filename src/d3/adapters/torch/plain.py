"""Detectors of architectures that bring a network of their own."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext, suppress

import torch
from torch import Tensor, nn

from d3.adapters.cpu_sizing import threads_for
from d3.adapters.torch.architectures import Architecture
from d3.adapters.torch.architectures.discovery import said
from d3.adapters.torch.batched import BatchedDetector, is_out_of_memory, size_of
from d3.adapters.torch.device import at_most
from d3.domain.errors import DetectorFailed
from d3.domain.images import Pixels
from d3.domain.inputs import InputSpec
from d3.domain.models import Manifest
from d3.domain.ports.detector import Logits
from d3.network.encoder import normalise

_PRODUCTS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_IMAGES_ON_CPU = 2
"""More in one pass gain nothing: what lies between the layers would no longer fit the cache."""


class PlainDetector(BatchedDetector):
    """Implements ``Detector`` in float32 with any network that gives logits of normalised pixels.

    What the network raises, or gives in the wrong shape, is an error that names its architecture.

    Args:
        network: in evaluation mode.
        images: that share a forward pass at most.
    """

    precision = "fp32"

    def __init__(
        self,
        network: nn.Module,
        architecture: Architecture,
        manifest: Manifest,
        device: torch.device,
        images: int,
    ) -> None:
        self._network: nn.Module | None = network.to(device)
        self._input = manifest.input_spec
        self._most = manifest.views
        package = f" of the package {architecture.package}" if architecture.package else ""
        self._what = f"The architecture {architecture.name!r}{package}"
        on_cpu = device.type == "cpu"
        super().__init__(
            device,
            views=manifest.views,
            encodings=min(images, _IMAGES_ON_CPU) if on_cpu else images,
            threads=threads_for(_operations(network, self._input)) if on_cpu else 1,
            weights_bytes=size_of(network),
        )

    def close(self) -> None:
        self._network = None
        super().close()

    def _forward(self, pixels: Pixels, views: int) -> Logits:
        assert self._network is not None
        # A copy: torch would warn of read-only arrays and refuse reversed ones.
        chunk = torch.from_numpy(pixels.copy()).to(self._device)
        images = normalise(chunk, self._input.mean, self._input.deviation)
        try:
            with _exact(self._device):
                found = self._network(images)
        except (Exception, SystemExit) as error:
            if is_out_of_memory(error):
                raise
            raise self._failed(f"failed on this image ({said(error)})") from error
        return self._checked(found, len(pixels))[:, :views]

    def _checked(self, found: object, images: int) -> Logits:
        """The logits (images, views) of what the network gave."""
        if not isinstance(found, Tensor):
            raise self._failed(f"gave {type(found).__name__} instead of a tensor")
        shaped = found.unsqueeze(1) if found.dim() == 1 else found
        if shaped.shape != (images, self._most) or shaped.is_complex():
            raise self._failed(
                f"gave logits of the shape {list(found.shape)} for {images} images, not "
                f"{[images, self._most]}"
            )
        logits: Logits = shaped.double().cpu().numpy()
        return logits

    def _failed(self, how: str) -> DetectorFailed:
        return DetectorFailed(f"{self._what} {how}.", "Use another model, or tell its authors.")


def _exact(device: torch.device) -> AbstractContextManager[object]:
    """Convolutions in whole float32, as on a CPU; elsewhere cuDNN would round their inputs."""
    if device.type != "cuda":
        return nullcontext()
    context: AbstractContextManager[object] = torch.backends.cudnn.flags(
        enabled=True, allow_tf32=False
    )
    return context


def _operations(network: nn.Module, spec: InputSpec) -> int:
    """Floating-point operations of the products for one image.

    A network that fails on a black image may do so on every image, and then says so of each.
    """
    operations = 0

    def count(layer: nn.Module, _given: object, made: Tensor) -> None:
        nonlocal operations
        weight = layer.get_parameter("weight")
        operations += 2 * made.numel() * weight[0].numel()

    layers = [one for one in network.modules() if isinstance(one, _PRODUCTS)]
    hooks = [one.register_forward_hook(count) for one in layers]
    black = torch.zeros((1, spec.size, spec.size, 3), dtype=torch.uint8)
    with torch.inference_mode(), at_most(1), suppress(Exception, SystemExit):
        network(normalise(black, spec.mean, spec.deviation))
    for hook in hooks:
        hook.remove()
    return operations
