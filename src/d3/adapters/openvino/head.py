"""D3's attention head in numpy, float32: see :class:`d3.network.head.DiscrepancyHead`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from d3.domain.errors import CheckpointInvalid

Array = NDArray[np.float32]


class NumpyHead:
    """The head of a stored model.

    Args:
        file: its safetensors.
        width: of the features.

    Raises:
        CheckpointInvalid: the file does not hold a head of that width.
    """

    def __init__(self, file: Path, width: int) -> None:
        shapes: dict[str, tuple[int, ...]] = {
            f"{name}.weight": (width, width) for name in ("query", "key", "value")
        }
        shapes |= {f"{name}.bias": (width,) for name in ("query", "key", "value")}
        shapes |= {"fc.weight": (1, 2 * width), "fc.bias": (1,)}
        try:
            with safe_open(file, framework="np") as stored:
                self._weights = {
                    name: stored.get_tensor(name).astype(np.float32) for name in shapes
                }
        except (SafetensorError, OSError, TypeError) as error:
            raise CheckpointInvalid(
                f"The checkpoint {file.name!r} is not a valid head.", "Download or export it again."
            ) from error
        if any(self._weights[name].shape != shape for name, shape in shapes.items()):
            raise CheckpointInvalid(
                "The head was trained for an encoder of a different width.",
                "Use an encoder and a head of the same width.",
            )
        self._width = width

    @property
    def size_bytes(self) -> int:
        """The memory that its weights take."""
        return sum(one.nbytes for one in self._weights.values())

    def logits(self, features: Array) -> Array:
        """Logits (n, K) of features (n, 1 + K, width), the original's first."""
        shuffled = features[:, 1:]
        original = np.broadcast_to(features[:, :1], shuffled.shape)
        pair = np.stack([shuffled, original], axis=-2)
        query, key, value = (self._linear(pair, name) for name in ("query", "key", "value"))
        scores = query @ key.swapaxes(-1, -2) / np.float32(self._width**0.5)
        odds = np.exp(scores - scores.max(axis=-2, keepdims=True))
        attended = odds / odds.sum(axis=-2, keepdims=True) @ value
        logits: Array = self._linear(attended.reshape(*shuffled.shape[:-1], -1), "fc")[..., 0]
        return logits

    def _linear(self, values: Array, name: str) -> Array:
        made: Array = values @ self._weights[f"{name}.weight"].T + self._weights[f"{name}.bias"]
        return made
