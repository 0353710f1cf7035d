"""Heads in numpy, beside an encoder that OpenVINO runs: D3's, and UniversalFakeDetect's probe."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from d3.domain.errors import CheckpointInvalid, EngineUnavailable
from d3.domain.models import D3, StoredModel

Array: TypeAlias = NDArray[np.float32]


class NumpyHead:
    """The head of a D3.

    Raises:
        CheckpointInvalid: the file does not hold a head of that width.
    """

    def __init__(self, file: Path, width: int) -> None:
        shapes: dict[str, tuple[int, ...]] = {
            f"{name}.weight": (width, width) for name in ("query", "key", "value")
        }
        shapes |= {f"{name}.bias": (width,) for name in ("query", "key", "value")}
        shapes |= {"fc.weight": (1, 2 * width), "fc.bias": (1,)}
        self._weights = _read(file, shapes)
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


class NumpyProbe:
    """CLIP's projection and a linear layer.

    Raises:
        CheckpointInvalid: the files do not hold them.
    """

    def __init__(self, projection: Path, head: Path, width: int, projected: int) -> None:
        self._projection = _read(projection, {"proj": (width, projected)})["proj"]
        layer = _read(head, {"weight": (1, projected), "bias": (1,)})
        self._weight, self._bias = layer["weight"], layer["bias"]

    @property
    def size_bytes(self) -> int:
        """The memory that its weights take."""
        return self._projection.nbytes + self._weight.nbytes

    def logits(self, features: Array) -> Array:
        """Logits (n, max(K, 1)), all the same: it looks at the original alone."""
        logits = features[:, 0] @ self._projection @ self._weight.T + self._bias
        every: Array = np.repeat(logits, max(1, features.shape[1] - 1), axis=1)
        return every


def head_of(model: StoredModel) -> NumpyHead | NumpyProbe:
    """The head of a stored model.

    Raises:
        CheckpointInvalid: its files do not match its manifest.
        EngineUnavailable: OpenVINO does not run models of its architecture.
    """
    spec, paths = model.manifest.encoder_spec, model.paths
    if model.manifest.architecture == D3:
        return NumpyHead(paths["head"], spec.width)
    if model.manifest.architecture == "ufd" and "projection" in paths:
        return NumpyProbe(paths["projection"], paths["head"], spec.width, spec.projection)
    raise EngineUnavailable(
        f"OpenVINO does not run models of the architecture {model.manifest.architecture!r}.",
        "Set D3_ENGINE=torch.",
    )


def _read(file: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Array]:
    try:
        with safe_open(file, framework="np") as stored:
            weights = {name: stored.get_tensor(name).astype(np.float32) for name in shapes}
    except (SafetensorError, OSError, TypeError) as error:
        raise CheckpointInvalid(
            f"The checkpoint {file.name!r} is not a valid head.", "Download or export it again."
        ) from error
    if any(weights[name].shape != shape for name, shape in shapes.items()):
        raise CheckpointInvalid(
            "The head was trained for an encoder of a different width.",
            "Use an encoder and a head of the same width.",
        )
    return weights
