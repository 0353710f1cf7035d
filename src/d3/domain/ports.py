"""What the domain needs from outside, each need a Protocol; adapters fill them in.

Ports are synchronous. What queues hands out ``concurrent.futures.Future``s, so that waiting never
holds a thread; the queue in front of a detector has :mod:`d3.domain.ports_queue` to itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

from d3.domain.images import DecodedImage, ImageSource, Pixels
from d3.domain.models import Activation, EncoderSpec, Manifest, ModelSummary, StoredModel

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Logits: TypeAlias = "NDArray[np.float64]"
"""Raw logits (n, views)."""


@runtime_checkable
class ImageDecoder(Protocol):
    """Turns what was handed in into pixels, under limits. Safe to call from many threads."""

    def decode(self, source: ImageSource, size: int | None) -> DecodedImage:
        """Check the limits, decode the first frame to RGB and resize it to ``size`` x ``size``.

        Without a size it stays as large as it is.

        Raises:
            ImageError: the source is not there, no image, damaged, or beyond a limit.
        """
        ...

    def picture(self, source: ImageSource, side: int) -> Pixels:
        """The first frame as people see it, turned, and scaled down where a side is longer.

        Raises:
            ImageError: as for :meth:`decode`.
        """
        ...

    def recognises(self, path: Path) -> bool:
        """Whether the file's first bytes are those of an image; its name is not looked at.

        Raises:
            ImageNotFound: the file cannot be read.
        """
        ...

    def close(self) -> None:
        """Give back what it holds; called when nothing is being decoded any more."""
        ...


@runtime_checkable
class Detector(Protocol):
    """A loaded model on a device. One owner calls it at a time.

    Attributes:
        engine: what runs it, such as ``"torch"``.
        device: where, such as ``"cpu"`` or ``"cuda:0"``.
        precision: ``"fp32"``, ``"fp16"`` or ``"bf16"``.
        weights_bytes: the memory that the weights take there.
    """

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
class Drawing(Protocol):
    """Makes pictures for people. Safe to call from many threads."""

    def png(self, pixels: Pixels, text: Mapping[str, str] | None = None) -> bytes:
        """Uint8 RGB pixels (height, width, 3) as a PNG file, with texts in it by their keyword."""
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


@dataclass(frozen=True, slots=True)
class CheckpointFile:
    """A checkpoint found sound and converted.

    Attributes:
        path: a safetensors file with the field's key names, lying in the folder asked for.
        width: of the features it makes (encoder) or takes (head).
        spec: of an encoder; None for a head.
    """

    path: Path
    width: int
    spec: EncoderSpec | None = None


@runtime_checkable
class Checkpoints(Protocol):
    """Reads checkpoints that came from elsewhere, safely, and converts them."""

    def read_encoder(
        self,
        file: Path,
        into: Path,
        heads: int | None = None,
        activation: Activation = "quick_gelu",
        *,
        called: str | None = None,
    ) -> CheckpointFile:
        """Check an encoder (``.safetensors`` or ``.pth``) and convert it into the folder ``into``.

        Args:
            file: holds it, by itself or among other things.
            into: a folder that is there.
            heads: of the attention; width / 64 unless said.
            activation: of the MLPs.
            called: what to blame the file as; its name unless said.

        Raises:
            CheckpointInvalid: wrong format, names, shapes, or values that are not finite.
        """
        ...

    def read_head(self, file: Path, into: Path, *, called: str | None = None) -> CheckpointFile:
        """Likewise for a head."""
        ...

    def read_open_clip(self, name: str, into: Path) -> CheckpointFile:
        """Likewise for an encoder of open_clip's table, ``MODEL:TAG``, which open_clip fetches.

        Raises:
            CheckpointInvalid: there is none, or it is no plain vision transformer of CLIP.
            SourceUnavailable: its weights are neither in open_clip's cache nor to be had.
        """
        ...

    def draw_permutations(self, seed: int, count: int, patches: int) -> tuple[tuple[int, ...], ...]:
        """``count`` orders of ``patches`` patches, the same for the same seed everywhere."""
        ...


@runtime_checkable
class ModelRegistry(Protocol):
    """Where models are kept. Nothing half written is ever visible; files are known by SHA-256.

    Attributes:
        trouble: why the store behind it cannot be used, as of the last attempt; None while it can.
    """

    @property
    def trouble(self) -> str | None:
        """Why the store cannot be used."""
        ...

    def list(self) -> list[ModelSummary]:
        """The newest version of every model, by name."""
        ...

    def describe(self, name: str, version: int | None = None) -> Manifest:
        """The manifest of one version, by default the newest.

        Raises:
            ModelNotFound: there is none.
        """
        ...

    def open(self, name: str, version: int | None = None) -> StoredModel:
        """The model's files, checked against their SHA-256.

        Raises:
            ModelNotFound: there is none.
            ModelDamaged: a file is missing or is not the one recorded.
        """
        ...

    def verify(self, name: str, version: int | None = None) -> Manifest:
        """Read the stored files themselves, not a copy, and compare their SHA-256.

        Raises:
            ModelNotFound: there is none.
            ModelDamaged: a file is missing or is not the one recorded.
        """
        ...

    def put(self, manifest: Manifest, encoder: Path, head: Path) -> Manifest:
        """Store a model as the next version of its name; its manifest comes back with the version.

        Raises:
            ModelProtected: the name belongs to a packaged model.
            ModelDamaged: a file is not the one the manifest records.
            StorageFailed: it cannot be written.
        """
        ...

    def delete(self, name: str, version: int | None = None) -> None:
        """Remove one version or all, and the files no other model needs.

        Raises:
            ModelNotFound: there is none.
            ModelProtected: it belongs to the package, or is the active one.
        """
        ...

    def active(self) -> str | None:
        """The name chosen with :meth:`activate`, if any."""
        ...

    def activate(self, name: str) -> None:
        """Make this model the one used when none is named.

        Raises:
            ModelNotFound: there is none.
        """
        ...


@dataclass(frozen=True, slots=True)
class BareHead:
    """A head's checkpoint that lies in a store without a manifest, put there by hand.

    Attributes:
        name: the model's that it may become; the file's own.
        size_bytes: of the file.
        modified: ISO 8601 in UTC, when it was put there.
    """

    name: str
    size_bytes: int
    modified: str


@runtime_checkable
class BareHeads(Protocol):
    """A registry in which people may leave bare heads."""

    def bare_heads(self) -> Sequence[BareHead]:
        """Those that are there, by name."""
        ...

    def fetch_head(self, head: BareHead, into: Path) -> Path:
        """The head's file, unchecked, brought into the folder.

        Raises:
            ModelNotFound: it is gone.
        """
        ...

    def remove_head(self, head: BareHead) -> None:
        """Take the head's file away."""
        ...


@runtime_checkable
class Clock(Protocol):
    """Tells the time."""

    def now(self) -> datetime:
        """The moment, in UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that never run backwards."""
        ...
