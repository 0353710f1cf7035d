"""Detectors: loaded models on a device, and what loads them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
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
        """What runs it, such as ``"torch"``."""
        ...

    @property
    def device(self) -> str:
        """Where it runs, such as ``"cpu"`` or ``"cuda:0"``."""
        ...

    @property
    def precision(self) -> str:
        """Of the encoder: ``"fp32"``, ``"fp16"``, ``"bf16"`` or ``"int8"``."""
        ...

    @property
    def weights_bytes(self) -> int:
        """Memory that the weights take on the device; images come on top."""
        ...

    def score(self, pixels: Pixels, views: int) -> Logits:
        """Raw logits (n, views) of uint8 RGB pixels (n, S, S, 3), S the model's image size.

        A detector that was loaded with other heads beside (:attr:`StoredModel.beside`) gives as
        many columns for each of them, in their order: (n, (1 + heads) * views). A head that has
        fewer views repeats its last one.

        A score depends on the image and the model alone, not on the other images of the call. Each
        image costs ``1 + views`` encodings.

        Raises:
            DeviceOutOfMemory: the device has no room for this many.
        """
        ...

    def close(self) -> None:
        """Free the device's memory; the detector cannot be used afterwards."""
        ...


@runtime_checkable
class EarlyStarter(Protocol):
    """A detector that can begin a pass while its device still computes the one before."""

    def start(self, pixels: Pixels, views: int) -> Callable[[], Logits] | None:
        """Begin to score, as :meth:`Detector.score`; what is given waits for the logits.

        At most two passes are begun at a time, and they are waited for in turn. None where this one
        has to be scored with :meth:`Detector.score`.

        Raises:
            DeviceOutOfMemory: the device has no room for this many.
        """
        ...

    def settle(self, seconds: float) -> None:
        """Wait until passes take as long as they will take from then on, at most so many seconds.

        Any thread may wait.
        """
        ...


@runtime_checkable
class Explainer(Protocol):
    """A detector that can draw heat maps; not every engine's can.

    A patch's logit is the mean over the windows of neighbouring patches that hold it; each window
    is scored alone. Windows are scored in parts, so that other work may come in between.
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
        """Raw logits (grid, grid) of an image's patches, from those of all windows in order."""
        ...


@runtime_checkable
class Engine(Protocol):
    """Loads stored models onto a device."""

    def load(self, model: StoredModel) -> Detector:
        """Load the weights.

        Raises:
            CheckpointInvalid: the files do not match the manifest.
            DeviceUnavailable: the device or precision asked for is not here.
            DeviceOutOfMemory: the device has no room.
        """
        ...


@dataclass(frozen=True, slots=True)
class Timing:
    """What an engine took for a few images in one precision, and what it answered.

    Attributes:
        engine: such as ``"torch"``.
        precision: such as ``"fp32"``.
        alone: seconds for one image.
        together: seconds for each of several images in one call.
        logits: raw logits of the same images, whatever the engine.
    """

    engine: str
    precision: str
    alone: float
    together: float
    logits: tuple[float, ...]

    @property
    def name(self) -> str:
        """Engine and precision."""
        return f"{self.engine} {self.precision}"

    @property
    def seconds(self) -> float:
        """For an image, half of the images alone."""
        return (self.alone + self.together) / 2


@runtime_checkable
class Timings(Protocol):
    """What was measured of models on this machine. None of its methods raises: they warn."""

    def read(self, model: StoredModel) -> Mapping[str, Timing]:
        """By :attr:`Timing.name`; empty where nothing is known."""
        ...

    def keep(self, model: StoredModel, timings: Iterable[Timing]) -> None:
        """Replace what is kept of the model."""
        ...

    def alone(self, model: StoredModel) -> AbstractContextManager[None]:
        """Wait until no other process measures this model on this machine."""
        ...
