"""Detectors on torch: a stored model loaded onto a device, scoring uint8 pixels."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from d3.adapters.cpu_sizing import encodings_at_once, worthwhile_threads
from d3.adapters.sharing import Shared, check_input, shape_of, shared_permutations
from d3.adapters.torch.architectures import Architecture, Installed
from d3.adapters.torch.architectures.adapter import guarded
from d3.adapters.torch.architectures.clip import OnClip
from d3.adapters.torch.batched import BatchedDetector, is_out_of_memory, size_of
from d3.adapters.torch.device import Precision, at_most, choose_device, choose_precision
from d3.adapters.torch.graphs import Compile, Graphs, compiled_blocks, sizes_up_to
from d3.adapters.torch.plain import PlainDetector
from d3.domain.errors import ArchitectureUnsuitable, DeviceOutOfMemory
from d3.domain.images import Pixels
from d3.domain.models import StoredModel
from d3.domain.ports.detector import Logits
from d3.domain.scoring import checked_views
from d3.network import D3Network, DiscrepancyHead, Encoder, HeadsBeside, ProbeHead, windows
from d3.network.checkpoints import load_encoder
from d3.network.precision import DTYPES

_ENCODERS: Shared[Encoder] = Shared()
"""Of this process: models on the same encoder hold it once."""


class TorchEngine:
    """Implements ``Engine``.

    Args:
        device: ``CUDA_DEVICE``'s value; see :func:`d3.adapters.torch.device.choose_device`.
        precision: of an encoder; see :func:`d3.adapters.torch.device.choose_precision`.
        batch_size: images with one view each that share a forward pass at most; bounds memory.
        compiled: makes of a network what a GPU's graphs record; None for no graphs.
        installed: where architectures are found.
    """

    def __init__(
        self,
        device: int | Literal["cpu"] | None = None,
        precision: Precision = "auto",
        batch_size: int = 32,
        compiled: Compile | None = compiled_blocks,
        installed: Installed | None = None,
    ) -> None:
        self._device = device
        self._precision = precision
        self._batch_size = batch_size
        self._compiled = compiled
        self._installed = installed or Installed()

    def load(self, model: StoredModel) -> TorchDetector | PlainDetector:
        """Load the weights, and with them those of :attr:`StoredModel.beside`.

        Raises:
            ArchitectureUnavailable: what makes its scores is not installed, or fails to.
            ArchitectureUnsuitable: its architecture has no encoder for other heads.
            CheckpointInvalid: the files do not match the manifest.
            DeviceUnavailable: there is no such device.
            DeviceOutOfMemory: it has no room.
        """
        architecture, device = self._installed.of(model.manifest), choose_device(self._device)
        try:
            if isinstance(architecture, OnClip):
                return self._on_encoder([model, *model.beside], device)
            return self._plain(architecture, model, device)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise DeviceOutOfMemory(
                f"{device} does not have enough memory for the model {model.manifest.name!r}.",
                "Free some of its memory, choose another CUDA_DEVICE, or set CUDA_DEVICE=cpu.",
            ) from error

    def _plain(
        self, architecture: Architecture, model: StoredModel, device: torch.device
    ) -> PlainDetector:
        if model.beside:
            raise ArchitectureUnsuitable(
                f"A {architecture.name} has no encoder that other models could use.",
                "Load each of them by itself.",
            )
        name = model.manifest.name
        network = guarded(
            architecture,
            f"load the model {name!r}",
            lambda: architecture.network(model),
        )
        return PlainDetector(network, architecture, model.manifest, device, self._batch_size)

    def _on_encoder(self, models: Sequence[StoredModel], device: torch.device) -> TorchDetector:
        precision = choose_precision(self._precision, device)
        check_input(models[0].manifest)
        spec, encodings = models[0].manifest.encoder_spec, 2 * self._batch_size
        if device.type == "cpu":
            encodings = min(encodings, encodings_at_once(spec))
        heads = [self._head(one).to(device, torch.float32) for one in models]
        permutations = torch.tensor(shared_permutations(models), dtype=torch.long)
        encoder = self._encoder(models[0], device, DTYPES[precision], encodings)
        detector = TorchExplainer if isinstance(heads[0], DiscrepancyHead) else TorchDetector
        return detector(
            D3Network(encoder, heads[0] if len(heads) == 1 else HeadsBeside(heads)).eval(),
            permutations.view(-1, spec.patches).to(device),
            precision,
            encodings,
            weights_bytes=encoder.elements * DTYPES[precision].itemsize
            + sum(size_of(one) for one in heads),
            compiled=self._compiled,
        )

    def _head(self, model: StoredModel) -> DiscrepancyHead | ProbeHead:
        architecture = self._installed.of(model.manifest)
        if not isinstance(architecture, OnClip):
            raise ArchitectureUnsuitable(
                f"A {architecture.name} has no use for another model's encoder.",
                "Load it by itself.",
            )
        return architecture.head(model)

    def _encoder(
        self, model: StoredModel, device: torch.device, dtype: torch.dtype, encodings: int
    ) -> Encoder:
        """The model's encoder on the device, which a detector of this process may hold already."""
        spec = model.manifest.encoder_spec

        def load() -> Encoder:
            on_cpu = device.type == "cpu"
            encoder = load_encoder(spec, model.encoder, dtype=dtype if on_cpu else None)
            if on_cpu:
                encoder.pack(encodings)
            return encoder.to(device, dtype)

        file = model.manifest.files["encoder"].sha256
        return _ENCODERS.get((file, shape_of(spec), device, dtype), load)


class TorchDetector(BatchedDetector):
    """Implements ``Detector`` with heads on CLIP's encoder.

    Args:
        network: in evaluation mode, on its device.
        permutations: (up to 16, patches), on the same device; none where no head shuffles.
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
        heads = len(network.head.heads) if isinstance(network.head, HeadsBeside) else 1
        super().__init__(
            permutations.device,
            views=max(1, len(permutations)),
            heads=heads,
            encodings=encodings,
            threads=worthwhile_threads(network.encoder.spec),
            weights_bytes=weights_bytes,
        )
        self._network: D3Network | None = network
        self._permutations = permutations
        self.precision: str = precision
        self._graphs = (
            Graphs(network, permutations[:1], heads, sizes_up_to(encodings // 2), compiled)
            if permutations.is_cuda and compiled is not None
            else None
        )

    def start(self, pixels: Pixels, views: int) -> Callable[[], Logits] | None:
        if views != 1 or len(pixels) > self._encodings // 2:
            return None
        return self._graphed(pixels)

    def settle(self, seconds: float) -> None:
        if self._graphs is not None:
            self._graphs.maker.join(seconds)

    def close(self) -> None:
        self._network = None
        if self._graphs is not None:
            self._graphs.close()
            self._graphs = None
        super().close()

    def _branches(self, views: int) -> int:
        return 1 + min(views, len(self._permutations))

    def _graphed(self, pixels: Pixels) -> Callable[[], Logits] | None:
        """A forward pass with graphs, begun; None where they are not there."""
        if self._graphs is None:
            return None
        if trouble := self._graphs.trouble():
            warnings.warn(trouble, RuntimeWarning, stacklevel=3)
        with torch.inference_mode():
            return self._graphs.start(pixels)

    def _forward(self, pixels: Pixels, views: int) -> Logits:
        assert self._network is not None
        if views == 1 and (finish := self._graphed(pixels)) is not None:
            return finish()
        # A copy: torch would warn of read-only arrays and refuse reversed ones.
        chunk = torch.from_numpy(pixels.copy()).to(self._device)
        found = self._network(chunk, self._permutations[:views])
        logits: Logits = found.double().cpu().numpy()
        return logits


class TorchExplainer(TorchDetector):
    """Implements ``Explainer`` too, where the first head is D3's."""

    @property
    def parts(self) -> int:
        return windows.parts(self._own.encoder.spec)

    def explain_parts(
        self, pixels: Pixels, views: int, start: int, stop: int
    ) -> NDArray[np.float64]:
        network = self._own
        permutations = self._permutations[: checked_views(views, self._views)]
        with torch.inference_mode(), at_most(self._threads):
            image = torch.from_numpy(pixels[None].copy()).to(self._device)
            try:
                found = windows.window_logits(network, image, permutations, start, stop)
                logits: NDArray[np.float64] = found.double().cpu().numpy()
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                raise DeviceOutOfMemory(
                    f"{self.device} does not have enough memory to explain an image.",
                    "Free some of its memory, use fewer views, or set CUDA_DEVICE=cpu.",
                ) from error
        return logits

    def heat(self, logits: NDArray[np.float64]) -> NDArray[np.float64]:
        spec = self._own.encoder.spec
        heat: NDArray[np.float64] = windows.averaged(torch.from_numpy(logits), spec).numpy()
        return heat

    @property
    def _own(self) -> D3Network:
        """The network with the first head alone."""
        if (network := self._network) is None:
            raise RuntimeError("the detector is closed")
        head = network.head
        return (
            D3Network(network.encoder, head.heads[0]) if isinstance(head, HeadsBeside) else network
        )
