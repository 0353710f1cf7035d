"""Detectors on OpenVINO: an encoder compiled for this processor, heads in numpy beside it."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from d3.adapters.cpu_sizing import encodings_at_once, worthwhile_threads
from d3.adapters.openvino.export import ENCODER, POSITIONS, WEIGHTS
from d3.adapters.openvino.form import read_form
from d3.adapters.openvino.heads import Array, NumpyHead, NumpyProbe, head_of
from d3.adapters.openvino.store import PreparedEncoders, compile_options
from d3.adapters.sharing import Shared, check_input, shape_of, shared_permutations
from d3.domain.errors import DeviceOutOfMemory, EngineMissing, EngineUnavailable
from d3.domain.images import Pixels
from d3.domain.installation import extra_missing
from d3.domain.machine import processor
from d3.domain.models import StoredModel
from d3.domain.ports.detector import Logits
from d3.domain.scoring import checked_views

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


@dataclass(frozen=True)
class _Compiled:
    """An encoder that OpenVINO has compiled.

    Attributes:
        model: OpenVINO's; pixels and positions in, features out.
        positions: (1 + patches, width).
        size_bytes: as prepared: OpenVINO does not tell what it holds.
    """

    model: Any
    positions: Array
    size_bytes: int


_ENCODERS: Shared[_Compiled] = Shared()
"""Of this process: models on the same encoder hold it once."""


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
            raise extra_missing(
                EngineMissing,
                "The engine OpenVINO",
                "openvino",
                otherwise="Set D3_ENGINE=torch.",
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
        models = [model, *model.beside]
        check_input(model.manifest)
        spec, machine = model.manifest.encoder_spec, self._machine()
        heads = [head_of(one) for one in models]
        permutations = shared_permutations(models)
        precision = _choose(self._precision, machine["can"])
        try:
            encoder = self._encoder(model, precision, machine)
            detector = OpenVinoDetector(
                encoder,
                heads,
                orders(encoder.positions, permutations),
                precision,
                min(2 * self._batch_size, encodings_at_once(spec)),
                weights_bytes=encoder.size_bytes + sum(one.size_bytes for one in heads),
            )
            # OpenVINO compiles with the first inference: what fails shall fail here.
            detector.warm_up(spec.image_size)
        except (RuntimeError, ValueError, MemoryError, DeviceOutOfMemory) as error:
            raise EngineUnavailable(
                f"OpenVINO cannot run this model on this machine ({_first_line(error)}).",
                "Set D3_ENGINE=torch to hide this warning.",
            ) from error
        return detector

    def _encoder(
        self, model: StoredModel, precision: Precision, machine: dict[str, Any]
    ) -> _Compiled:
        """The model's encoder, which a detector of this process may hold already."""
        spec, files = model.manifest.encoder_spec, model.manifest.files
        threads = worthwhile_threads(spec)

        def load() -> _Compiled:
            if precision == "int8":
                encoder = self._int8_form(model)
            else:
                encoder = _read(self._prepare(model, precision, machine))
            options = compile_options(precision, threads, encoder.group)
            compiled = self._core.compile_model(encoder.graph, "CPU", options)
            return _Compiled(compiled, encoder.positions, encoder.size_bytes)

        file = files.get("int8" if precision == "int8" else "encoder")
        return _ENCODERS.get((file, shape_of(spec), precision, threads), load)

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
        encoder: other detectors may use it too.
        heads: in float32.
        positions: (1 + up to 16, 1 + patches, width), the original's first.
        encodings: how many images and shuffled images share a forward pass at most.
        weights_bytes: of encoder and heads.
    """

    engine = "openvino"
    device = "cpu"

    def __init__(
        self,
        encoder: _Compiled,
        heads: Sequence[NumpyHead | NumpyProbe],
        positions: NDArray[np.float32],
        precision: Precision,
        encodings: int,
        *,
        weights_bytes: int,
    ) -> None:
        self._encoder: _Compiled | None = encoder
        self._request = encoder.model.create_infer_request()
        self._heads = heads
        self._positions = positions
        self.precision: str = precision
        self._encodings = encodings
        self.weights_bytes = weights_bytes

    def score(self, pixels: Pixels, views: int) -> Logits:
        if self._request is None:
            raise RuntimeError("the detector is closed")
        shuffles = len(self._positions) - 1
        views = checked_views(views, max(1, shuffles))
        branches = 1 + min(views, shuffles)
        positions = self._positions[:branches]
        step = max(1, self._encodings // branches)
        logits = np.empty((len(pixels), len(self._heads) * views))
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
            found = [one.logits(features) for one in self._heads]
            logits[start : start + step] = np.concatenate(found, axis=1)
        return logits

    def warm_up(self, side: int) -> None:
        """Score a black image of this side."""
        self.score(np.zeros((1, side, side, 3), np.uint8), 1)

    def close(self) -> None:
        self._request = self._encoder = None


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
    inverse = np.argsort(np.array(permutations, int).reshape(-1, len(positions) - 1), axis=1) + 1
    first = np.zeros((len(permutations), 1), dtype=inverse.dtype)
    return np.concatenate([positions[None], positions[np.concatenate([first, inverse], axis=1)]])


def _announce_preparation() -> None:
    _LOG.warning(
        "Preparing the model for OpenVINO. This happens once on each machine and may take a minute."
    )


def _first_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[-1].strip()[:160]
