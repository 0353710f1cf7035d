"""Reads and writes checkpoints: safetensors, and torch's files through a child process.

No file is trusted: its format, names, shapes and values are checked before use, and each problem
is one sentence.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from d3.domain.errors import CheckpointInvalid
from d3.domain.models import Activation, EncoderSpec, Role
from d3.network import foreign
from d3.network.encoder import Encoder
from d3.network.foreign import ForeignTensors
from d3.network.model import D3Network, DiscrepancyHead, ProbeHead
from d3.network.names import REMEDIES, network_of, part_of, some
from d3.network.recognise import describe_bytes
from d3.network.tricks import Tricks

HEADS_OF_WIDTH = 64
"""A head of attention in CLIP's family is this wide."""

MAX_LAYERS = 200
"""The largest vision transformers have about 60; each costs time even without weights."""

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_BLOCK = re.compile(r"transformer\.resblocks\.(\d+)\.")


def load_network(
    spec: EncoderSpec,
    encoder_file: Path,
    head_file: Path,
    *,
    dtype: torch.dtype | None = None,
    tricks: Tricks = Tricks(),
) -> D3Network:
    """The network in evaluation mode, its weights on the CPU.

    Args:
        spec: the encoder's shape.
        encoder_file: safetensors.
        head_file: safetensors.
        dtype: of the encoder's weights, copied one tensor at a time so that they are never in
            memory twice; None maps them from the file in the file's own precision.
        tricks: which savings evaluation uses.

    Raises:
        CheckpointInvalid: a file does not hold what the specification says.
    """
    head = load_head(spec.width, head_file)
    encoder = load_encoder(spec, encoder_file, dtype=dtype, tricks=tricks)
    return D3Network(encoder, head).eval().requires_grad_(False)


def load_head(width: int, file: Path) -> DiscrepancyHead:
    """D3's head alone, in evaluation mode; see :func:`load_network`."""
    head, tensors = _head_on_meta(width), read_tensors(file)
    check_names_and_shapes(tensors, head.state_dict(), "head")
    head.load_state_dict(tensors, assign=True)
    return head.eval().requires_grad_(False)


def load_probe(width: int, projected: int, projection: Path, head: Path) -> ProbeHead:
    """A probe on CLIP's projected feature, in evaluation mode.

    Args:
        width: of the encoder's feature.
        projected: columns of the projection.
        projection: safetensors with one tensor, ``proj``.
        head: safetensors of the linear layer.

    Raises:
        CheckpointInvalid: a file does not hold what it should.
    """
    with torch.device("meta"), _Unfilled():
        probe = ProbeHead(width, projected)
    tensors = {**read_tensors(projection)}
    tensors |= {f"fc.{name}": one for name, one in read_tensors(head).items()}
    check_names_and_shapes(tensors, probe.state_dict(), "probe")
    probe.load_state_dict(tensors, assign=True)
    return probe.eval().requires_grad_(False)


def load_encoder(
    spec: EncoderSpec,
    file: Path,
    *,
    dtype: torch.dtype | None = None,
    tricks: Tricks = Tricks(),
) -> Encoder:
    """The encoder alone; see :func:`load_network`."""
    encoder, tensors = _on_meta(spec, tricks), read_tensors(file)
    check_names_and_shapes(tensors, encoder.state_dict(), "encoder")
    if dtype is not None:
        tensors = _copied(file, tensors, dtype)
    encoder.load_state_dict(tensors, assign=True)
    return encoder.eval().requires_grad_(False)


def read_encoder(
    file: Path,
    heads: int | None = None,
    activation: Activation = "quick_gelu",
    *,
    called: str | None = None,
) -> tuple[EncoderSpec, dict[str, Tensor]]:
    """An encoder of CLIP's family, from a file of its own or from any that holds it.

    Args:
        file: safetensors or ``.pth``, in the names of OpenAI, open_clip or transformers.
        heads: of the attention; width / 64 unless given.
        activation: of the MLPs.
        called: the file's name in errors; its own unless given.

    Returns:
        Its shape and its tensors, without CLIP's projection.

    Raises:
        CheckpointInvalid: see the module.
    """
    spec, tensors, _ = read_clip(file, heads, activation, called=called)
    return spec, tensors


def read_clip(
    file: Path,
    heads: int | None = None,
    activation: Activation = "quick_gelu",
    *,
    called: str | None = None,
) -> tuple[EncoderSpec, dict[str, Tensor], Tensor | None]:
    """As :func:`read_encoder`, and CLIP's projection where the file has one, not checked yet."""
    called = called or file.name
    tensors = part_of(read_tensors(file, called=called), "encoder", called)
    spec = infer_spec(tensors, heads, activation)
    module = _on_meta(spec)
    projection = tensors.pop("proj", None)
    check_names_and_shapes(tensors, module.state_dict(), "encoder", called)
    check_values(tensors, "encoder", called)
    return spec, tensors, projection


def check_projection(projection: Tensor, width: int, called: str | None = None) -> None:
    """Check that this is CLIP's projection (width, columns).

    Raises:
        CheckpointInvalid: it is not.
    """
    check_values({"proj": projection}, "encoder", called)
    if projection.dim() != 2 or projection.shape[0] != width or projection.shape[1] < 1:  # noqa: PLR2004
        raise CheckpointInvalid(
            f"{_the(called)} encoder's proj has the shape {list(projection.shape)} instead of "
            f"{width} rows.",
            REMEDIES["encoder"],
        )


def read_probe(file: Path, *, called: str | None = None) -> tuple[int, dict[str, Tensor]]:
    """A linear layer on CLIP's projected feature: how many columns it takes, and its tensors.

    Raises:
        CheckpointInvalid: see the module.
    """
    called = called or file.name
    stored = read_tensors(file, called=called)
    layer_of = "fc." if any(f".{name}".endswith(".fc.weight") for name in stored) else ""
    around = network_of(stored, f"{layer_of}weight", called, "probe")
    if layer_of and "query.weight" in around:
        raise CheckpointInvalid(
            f"The checkpoint {called!r} looks like a D3 head and holds no probe.",
            REMEDIES["probe"],
        )
    tensors = {
        name.removeprefix(layer_of): one
        for name, one in around.items()
        if name.startswith(layer_of)
    }
    shape = _shape(tensors, "weight", 2, "probe")
    with torch.device("meta"), _Unfilled():
        layer = nn.Linear(shape[1], 1)
    check_names_and_shapes(tensors, layer.state_dict(), "probe", called)
    check_values(tensors, "probe", called)
    return shape[1], tensors


def read_head(file: Path, *, called: str | None = None) -> tuple[int, dict[str, Tensor]]:
    """A D3 head in the published checkpoint's names: its width and its tensors.

    Raises:
        CheckpointInvalid: see the module.
    """
    called = called or file.name
    tensors = part_of(read_tensors(file, called=called), "head", called)
    width = _shape(tensors, "query.weight", 2, "head")[0]
    check_names_and_shapes(tensors, _head_on_meta(width).state_dict(), "head", called)
    check_values(tensors, "head", called)
    return width, tensors


def infer_spec(
    tensors: Mapping[str, Tensor], heads: int | None = None, activation: Activation = "quick_gelu"
) -> EncoderSpec:
    """The shape of an encoder, from its tensors.

    Raises:
        CheckpointInvalid: they are no vision transformer of CLIP's family.
    """
    width, _, patch_size, _ = _shape(tensors, "conv1.weight", 4, "encoder")
    tokens, _ = _shape(tensors, "positional_embedding", 2, "encoder")
    mlp_width, _ = _shape(tensors, "transformer.resblocks.0.mlp.c_fc.weight", 2, "encoder")
    layers = len({match[1] for name in tensors if (match := _BLOCK.match(name))})
    if layers > MAX_LAYERS:
        raise CheckpointInvalid(f"An encoder has at most {MAX_LAYERS} layers, not {layers:,}.")
    if heads is None and width % HEADS_OF_WIDTH:
        raise CheckpointInvalid(
            f"The encoder's width of {width} is not a multiple of {HEADS_OF_WIDTH}, so its number "
            "of attention heads is unknown.",
            "Set it with --heads.",
        )
    grid = round((tokens - 1) ** 0.5)
    if grid**2 != tokens - 1:
        raise CheckpointInvalid(f"The encoder's {tokens - 1} positions do not form a square.")
    try:
        return EncoderSpec(
            image_size=grid * patch_size,
            patch_size=patch_size,
            width=width,
            layers=layers,
            heads=heads or width // HEADS_OF_WIDTH,
            mlp_width=mlp_width,
            activation=activation,
        )
    except ValueError as error:
        raise CheckpointInvalid(
            f"The shapes of the encoder do not fit together: {error}."
        ) from error


def write_tensors(file: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors as safetensors."""
    safetensors.torch.save_file({k: v.contiguous() for k, v in tensors.items()}, file)


def read_tensors(file: Path, *, called: str | None = None) -> Mapping[str, Tensor]:
    """All tensors of a safetensors or ``.pth`` file, mapped, not copied.

    Raises:
        CheckpointInvalid: it is neither, is damaged, or exceeds the limits.
    """
    called = called or file.name
    try:
        if not file.is_file():  # nor a pipe, which would be waited for
            raise FileNotFoundError
        with file.open("rb") as stream:
            start = stream.read(300)
    except (OSError, ValueError) as error:
        raise CheckpointInvalid(
            f"The checkpoint {called!r} cannot be read.",
            "Check that the file exists and that you are allowed to read it.",
        ) from error
    if start[8:9] == b"{":
        return _read_safetensors(file, called)
    if start.startswith(foreign.STARTS):
        return ForeignTensors(file, called)
    problem, remedy = describe_bytes(start) or (
        "is neither a safetensors file nor a file saved by torch",
        "Save the module's state_dict() with torch.save or safetensors.",
    )
    raise CheckpointInvalid(f"The checkpoint {called!r} {problem}.", remedy)


def check_names_and_shapes(
    tensors: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    role: Role,
    called: str | None = None,
) -> None:
    """Compare tensors with those of a module's state dict, which may be on the meta device.

    Raises:
        CheckpointInvalid: a name is missing or unknown, or a shape differs.
    """
    the, remedy = _the(called), REMEDIES.get(role, "Use a file of this network.")
    if missing := expected.keys() - tensors.keys():
        raise CheckpointInvalid(f"{the} {role} does not have {some(missing)}.", remedy)
    if unknown := tensors.keys() - expected.keys():
        do = "does" if len(unknown) == 1 else "do"
        raise CheckpointInvalid(
            f"{the} {role} has {some(unknown)}, which {do} not belong there.", remedy
        )
    for name, wanted in expected.items():
        if tensors[name].shape != wanted.shape:
            raise CheckpointInvalid(
                f"{the} {role}'s {name} has the shape {list(tensors[name].shape)} instead of "
                f"{list(wanted.shape)}.",
                "Use an encoder and a head of the same width." if role in REMEDIES else remedy,
            )


def check_values(tensors: Mapping[str, Tensor], role: Role, called: str | None = None) -> None:
    """Check that every tensor holds finite floating-point numbers.

    Raises:
        CheckpointInvalid: one does not.
    """
    the = _the(called)
    for name, tensor in tensors.items():
        if tensor.dtype not in _FLOATS:
            raise CheckpointInvalid(
                f"{the} {role}'s {name} holds {str(tensor.dtype).removeprefix('torch.')} values.",
                "Store the weights as float32, float16 or bfloat16.",
            )
        if not bool(torch.isfinite(tensor).all()):
            raise CheckpointInvalid(
                f"{the} {role}'s {name} holds values that are not finite numbers.",
                "Its training diverged, or the file is damaged.",
            )


def _the(called: str | None) -> str:
    """The beginning of a sentence about a part of the file."""
    return "The" if called is None else f"In {called!r}, the"


def _read_safetensors(file: Path, called: str) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load_file(file)
    except (safetensors.SafetensorError, OSError, ValueError, KeyError) as error:
        raise CheckpointInvalid(
            f"The checkpoint {called!r} is not a valid safetensors file.",
            "Download or export it again.",
        ) from error


def _copied(file: Path, names: Iterable[str], dtype: torch.dtype) -> dict[str, Tensor]:
    """Copies of a safetensors file's tensors in another precision.

    The file is opened anew for each: pages that were read count as this process's memory for as
    long as the file is mapped.
    """
    tensors = {}
    try:
        for name in names:
            with safetensors.safe_open(file, framework="pt") as stored:
                tensors[name] = stored.get_tensor(name).to(dtype, copy=True)
    except (safetensors.SafetensorError, OSError) as error:  # changed since it was checked
        raise CheckpointInvalid(
            f"The checkpoint {file.name!r} is not a valid safetensors file.",
            "Download or export it again.",
        ) from error
    return tensors


def _shape(
    tensors: Mapping[str, Tensor], name: str, dimensions: int, role: Role
) -> tuple[int, ...]:
    if name not in tensors:
        raise CheckpointInvalid(f"The {role} does not have {name}.", REMEDIES[role])
    shape = tuple(tensors[name].shape)
    if len(shape) != dimensions or 0 in shape:
        raise CheckpointInvalid(f"The {role}'s {name} has the shape {list(shape)}.")
    return shape


class _Unfilled(TorchFunctionMode):
    """Parameters of modules made within it get no values.

    They are to be loaded, and random numbers on the meta device make torch import its compiler,
    which takes longer than all the rest of it.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _FILLING or getattr(func, "__module__", "") == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


_FILLING = (Tensor.normal_, Tensor.uniform_)


def _on_meta(spec: EncoderSpec, tricks: Tricks = Tricks()) -> Encoder:
    with torch.device("meta"), _Unfilled():
        return Encoder(spec, tricks)


def _head_on_meta(width: int) -> DiscrepancyHead:
    with torch.device("meta"), _Unfilled():
        return DiscrepancyHead(width)
