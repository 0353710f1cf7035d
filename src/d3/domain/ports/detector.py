"""Detectors: loaded models on a device, and what loads them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

from d3.domain.images import Pixels
from d3.domain.models import StoredModel

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Logits: TypeAlias = "NDArray[np.float64]"
"""Raw logits (n, views)."""


@runtime_checkable
class Detector(Protocol):
    """A loaded model on a device. One owner calls it at a time."""

    @property
    def engine(self) -> str:
        """What runs it."""
        ...

    @property
    def device(self) -> str:
        """Where it runs."""
        ...

    @property
    def precision(self) -> str:
        """Of the encoder."""
        ...

    @property
    def weights_bytes(self) -> int:
        """What the weights take; what images in flight take comes on top."""
        ...

    def score(self, pixels: Pixels, views: int) -> Logits:
        """Raw logits (n, views) of uint8 RGB pixels (n, S, S, 3), S the model's image size.

        A score depends on the image and the model alone, not on the others of the call. Each image
        costs ``1 + views`` encodings.

        Raises:
            DeviceOutOfMemory: the device has no room for this many.
        """
        ...

    def close(self) -> None:
        """Give the device's memory back; the detector is of no use afterwards."""
        ...


@runtime_checkable
class Explainer(Protocol):
    """A detector that can say where its scores come from; not every engine's can.

    Each patch's logit is the mean over the windows of neighbouring patches that hold it, each shown
    to the network alone. They are shown in parts, so that others may come in between.
    """

    @property
    def parts(self) -> int:
        """How many; each costs about as much as an image with as many views."""
        ...

    def explain_parts(
        self, pixels: Pixels, views: int, start: int, stop: int
    ) -> NDArray[np.float64]:
        """Raw logits (windows,) of parts ``start`` to ``stop``, of uint8 RGB pixels (S, S, 3).

        Raises:
            DeviceOutOfMemory: the device has no room.
        """
        ...

    def heat(self, logits: NDArray[np.float64]) -> NDArray[np.float64]:
        """Raw logits (grid, grid) of an image's patches, of those of all windows in order."""
        ...


@runtime_checkable
class Engine(Protocol):
    """Makes detectors of stored models."""

    def load(self, model: StoredModel) -> Detector:
        """Load the weights onto the device.

        Raises:
            CheckpointInvalid: the files are not what the manifest says.
            DeviceUnavailable: the device or precision asked for is not here.
            DeviceOutOfMemory: the device has no room.
        """
        ...
