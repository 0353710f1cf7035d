"""Detectors on OpenVINO: an encoder compiled for this processor, the head in numpy beside it."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from d3.adapters.cpu_sizing import encodings_at_once, worthwhile_threads
from d3.adapters.openvino.export import ENCODER, POSITIONS, WEIGHTS
from d3.adapters.openvino.form import read_form
from d3.adapters.openvino.store import PreparedEncoders, compile_options
from d3.domain.errors import CheckpointInvalid, DeviceOutOfMemory, EngineMissing, EngineUnavailable
from d3.domain.images import Pixels
from d3.domain.machine import processor
from d3.domain.models import StoredModel
from d3.domain.ports.detector import Logits
from d3.domain.scoring import checked_views

Array = NDArray[np.float32]


class NumpyHead:
    """The head of a stored model.

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


if TYPE_CHECKING:
    from numpy.typing import NDArray

_LOG = logging.getLogger(__name__)

Precision = Literal["fp32", "bf16", "int8"]


class _Encoder(NamedTuple):
    """An encoder for OpenVINO to compile.

    Attributes:
        graph: OpenVINO's own, or the file of one.
        positions: (1 + patches, width).
        size_bytes: of the weights.
        group: see :func:`d3.adapters.openvino.store.compile_options`.
    """

    graph: Any
    positions: Array
    size_bytes: int
    group: int = 0


def _read(prepared: Path) -> _Encoder:
    positions = np.load(prepared / POSITIONS)
    return _Encoder(prepared / ENCODER, positions, (prepared / WEIGHTS).stat().st_size)


class OpenVinoEngine:
    """Implements ``Engine``, on the CPU alone.

    Args:
        folder: where encoders in OpenVINO's form are kept.
        precision: of the encoder; ``auto``, ``fast`` and ``fp16`` are ``fp32`` here, and ``int8``
            loads models that have an int8 form, which is prepared already.
        batch_size: images with one view each that share a forward pass at most.

    Raises:
        EngineMissing: OpenVINO is not installed.
    """

    def __init__(
        self,
        folder: Path,
        precision: Literal["auto", "fast", "fp32", "fp16", "bf16", "int8"] = "auto",
        batch_size: int = 32,
    ) -> None:
        try:
            import openvino
        except ImportError as error:
            raise EngineMissing(
                "OpenVINO is not installed.",
                "Run pip install '.[openvino]', or set D3_ENGINE=torch.",
            ) from error
        self._core = openvino.Core()
        self._version = openvino.get_version()
        self._folder = folder
        self._precision = precision
        self._batch_size = batch_size

    def load(self, model: StoredModel) -> OpenVinoDetector:
        """Compile the encoder, prepared once for each machine.

        Raises:
            EngineUnavailable: OpenVINO cannot run the model on this machine.
            CheckpointInvalid: the files are not what the manifest says.
        """
        spec = model.manifest.encoder_spec
        head = NumpyHead(model.head, spec.width)
        machine = self._machine()
        precision = _choose(self._precision, machine["can"])
        threads = worthwhile_threads(spec)
        try:
            if precision == "int8":
                encoder = self._int8_form(model)
            else:
                encoder = _read(self._prepare(model, precision, machine))
            detector = OpenVinoDetector(
                self._core.compile_model(
                    encoder.graph, "CPU", compile_options(precision, threads, encoder.group)
                ),
                head,
                orders(encoder.positions, model.manifest.permutations),
                precision,
                min(2 * self._batch_size, encodings_at_once(spec)),
                weights_bytes=encoder.size_bytes + head.size_bytes,
            )
            # OpenVINO compiles with the first inference: what fails shall fail here.
            detector.warm_up(spec.image_size)
        except (RuntimeError, ValueError, MemoryError, DeviceOutOfMemory) as error:
            raise EngineUnavailable(
                f"OpenVINO cannot run this model on this machine ({_first_line(error)}).",
                "Set D3_ENGINE=torch to hide this warning.",
            ) from error
        return detector

    def prepared(self, model: StoredModel) -> Path:
        """The folder of the model's encoder in fp32, prepared for OpenVINO on this machine.

        Raises:
            EngineUnavailable: OpenVINO cannot prepare it.
        """
        return self._prepare(model, "fp32", self._machine())

    def _machine(self) -> dict[str, Any]:
        """What a prepared encoder depends on beside its weights."""
        try:
            capabilities = list(self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
            name = str(self._core.get_property("CPU", "FULL_DEVICE_NAME"))
        except RuntimeError as error:
            raise EngineUnavailable(
                "OpenVINO does not support this CPU.", "Set D3_ENGINE=torch."
            ) from error
        return {"openvino": self._version, "processor": name, "can": capabilities}

    def _prepare(self, model: StoredModel, precision: str, machine: dict[str, Any]) -> Path:
        store = PreparedEncoders(self._folder, machine, _announce_preparation)
        return store.get(model, precision, worthwhile_threads(model.manifest.encoder_spec))

    def _int8_form(self, model: StoredModel) -> _Encoder:
        """The model's int8 form, as its file has it.

        Raises:
            ValueError: the file holds no sound form of this model's encoder.
        """
        known = model.manifest.int8
        if model.int8 is None or known is None:
            raise ValueError("it has no int8 form")
        form, spec = read_form(model.int8), model.manifest.encoder_spec
        if form.positions.shape != (1 + spec.patches, spec.width):
            raise ValueError("its int8 form is of another encoder")
        graph = self._core.read_model(form.graph, form.constants)
        return _Encoder(graph, form.positions, len(form.constants), known.group)


class OpenVinoDetector:
    """Implements ``Detector``.

    Args:
        encoder: compiled; pixels and positions in, features out.
        head: in float32.
        positions: (1 + up to 16, 1 + patches, width), the original's first.
        encodings: how many images and shuffled images share a forward pass at most.
        weights_bytes: of encoder and head, as prepared: OpenVINO does not tell what it holds.
    """

    engine = "openvino"
    device = "cpu"

    def __init__(
        self,
        encoder: Any,
        head: NumpyHead,
        positions: NDArray[np.float32],
        precision: Precision,
        encodings: int,
        *,
        weights_bytes: int,
    ) -> None:
        self._request = encoder.create_infer_request()
        self._head = head
        self._positions = positions
        self.precision: str = precision
        self._encodings = encodings
        self.weights_bytes = weights_bytes

    def score(self, pixels: Pixels, views: int) -> Logits:
        if self._request is None:
            raise RuntimeError("the detector is closed")
        branches = 1 + checked_views(views, len(self._positions) - 1)
        positions = self._positions[:branches]
        step = max(1, self._encodings // branches)
        logits = np.empty((len(pixels), views))
        for start in range(0, len(pixels), step):
            chunk = np.ascontiguousarray(pixels[start : start + step])
            try:
                features = self._request.infer([chunk, positions])[0]
            except (RuntimeError, MemoryError) as error:
                raise DeviceOutOfMemory(
                    f"OpenVINO does not have enough memory for {len(chunk)} images with {views} "
                    f"views at once ({_first_line(error)}).",
                    "Free some memory, or use fewer views.",
                ) from error
            features = features.reshape(len(chunk), branches, -1)
            logits[start : start + step] = self._head.logits(features)
        return logits

    def warm_up(self, side: int) -> None:
        """Score a black image of this side."""
        self.score(np.zeros((1, side, side, 3), np.uint8), 1)

    def close(self) -> None:
        self._request = None


def _choose(asked: str, capabilities: list[str]) -> Precision:
    """The precision asked for if the processor has it, else float32 with a warning.

    Raises:
        EngineUnavailable: int8 was asked for, which only a model's int8 form can be.
    """
    if asked in ("auto", "fast", "fp32"):
        return "fp32"
    if asked == "int8":
        if not multiplies_int8():
            raise EngineUnavailable("This CPU has no int8 instructions (VNNI).")
        return "int8"
    if asked == "bf16" and "BF16" in capabilities:
        return "bf16"
    warnings.warn(
        f"{asked} is not faster on this CPU, so D3 uses fp32. Leave D3_PRECISION unset to hide "
        "this warning.",
        RuntimeWarning,
        stacklevel=3,
    )
    return "fp32"


def multiplies_int8() -> bool:
    """Whether the CPU adds up products of int8 without overflow; elsewhere int8 gains nothing."""
    flags = processor().get("flags")
    return flags is None or any(one in flags for one in ("avx512_vnni", "avx_vnni", "amx_int8"))


def orders(
    positions: NDArray[np.float32], permutations: tuple[tuple[int, ...], ...]
) -> NDArray[np.float32]:
    """Positions (1 + K, 1 + patches, width): the original's, then each shuffle's."""
    inverse = np.argsort(np.array(permutations), axis=1) + 1
    first = np.zeros((len(permutations), 1), dtype=inverse.dtype)
    return np.concatenate([positions[None], positions[np.concatenate([first, inverse], axis=1)]])


def _announce_preparation() -> None:
    _LOG.warning(
        "Preparing the model for OpenVINO. This happens once on each machine and may take a minute."
    )


def _first_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[-1].strip()[:160]
