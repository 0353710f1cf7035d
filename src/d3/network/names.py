"""Finds encoder and head in a checkpoint, whatever wraps their names.

Tools wrap names: ``module.`` (DataParallel), ``_orig_mod.`` (compile), ``state_dict.``
(Lightning, training files), ``model.`` and any attribute of a class. Encoder and head are
recognised by what they hold, at any depth.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from d3.domain.errors import CheckpointInvalid
from d3.domain.models import Role
from d3.network.recognise import describe_names

REMEDIES: dict[Role, str] = {
    "encoder": (
        "Use the vision transformer of a CLIP checkpoint with the key names of OpenAI, open_clip "
        "or Hugging Face transformers."
    ),
    "head": "Use a head with query, key, value and fc, each with weight and bias.",
    "probe": "Use UniversalFakeDetect's linear layer, with weight and bias, for this encoder.",
}

_WRAPPERS = frozenset(
    ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module")
)
"""Parts of names that DataParallel, compile, FSDP, checkpointing and DeepSpeed put in anywhere."""

MAX_PARTS = 16
"""Up to this many encoders or heads in one file, copies of the same one are recognised."""

_LANDMARKS: dict[Role, tuple[tuple[str, tuple[str, ...]], ...]] = {
    "encoder": (
        (
            "conv1.weight",
            ("class_embedding", "positional_embedding", "transformer.resblocks.0.ln_1.weight"),
        ),
        ("embeddings.patch_embedding.weight", ("embeddings.class_embedding",)),
    ),
    "head": (("fc.weight", ("query.weight",)),),
}
"""By which tensors a part is known: the first, beside any of the others."""

_TRANSFORMERS = {
    "embeddings.class_embedding": "class_embedding",
    "embeddings.patch_embedding": "conv1",
    "embeddings.position_embedding.weight": "positional_embedding",
    "pre_layrnorm": "ln_pre",  # spelled so
    "pre_layernorm": "ln_pre",
    "post_layernorm": "ln_post",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "self_attn.out_proj": "attn.out_proj",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}
_TRANSFORMERS_BLOCK = re.compile(r"encoder\.layers\.(\d+)\.(.+)")
_QKV = re.compile(r"self_attn\.([qkv])_proj\.(weight|bias)")


def part_of(tensors: Mapping[str, Tensor], role: Role, called: str) -> dict[str, Tensor]:
    """The encoder or the head of a checkpoint, under its own names.

    Args:
        tensors: of a whole file.
        role: which of the two.
        called: the file's name in errors.

    Returns:
        Tensors in OpenAI's and open_clip's names, or a head's.

    Raises:
        CheckpointInvalid: there is none, or more than one.
    """
    names = {_unwrapped(name): name for name in tensors}
    if len(names) < len(tensors):
        twice = set(tensors) - set(names.values())
        raise CheckpointInvalid(
            f"The checkpoint {called!r} holds {some(twice)} twice, with and without a prefix.",
            "Save only one state_dict().",
        )
    prefixes = _prefixes(names, role)
    others = _prefixes(names, "head" if role == "encoder" else "encoder")
    if len(others) > MAX_PARTS:
        raise CheckpointInvalid(
            f"The checkpoint {called!r} holds {len(others):,} models.", "Save only one of them."
        )
    if 1 < len(prefixes) <= MAX_PARTS:
        prefixes = _differing(prefixes, names, tensors)
    if not prefixes:
        raise _missing(list(names), role, called)
    if len(prefixes) > 1:
        raise CheckpointInvalid(
            f"The checkpoint {called!r} holds {len(prefixes):,} {role}s, under {some(prefixes)}.",
            "Save only the one that you want to use.",
        )
    (prefix,) = prefixes
    within = tuple(one for one in others if len(one) > len(prefix))
    found = {
        name.removeprefix(prefix): tensors[stored]
        for name, stored in names.items()
        if name.startswith(prefix) and not (within and name.startswith(within))
    }
    if "embeddings.patch_embedding.weight" not in found:
        return found
    # Beside the vision model, not within it, and the other way round.
    projection = names.get(f"{prefix.removesuffix('vision_model.')}visual_projection.weight")
    if projection is not None and tensors[projection].dim() == 2:  # noqa: PLR2004
        found["proj"] = tensors[projection].T
    return _from_transformers(found)


def network_of(
    tensors: Mapping[str, Tensor], landmark: str, called: str, what: str
) -> dict[str, Tensor]:
    """A network of a checkpoint, under its own names.

    Args:
        tensors: of a whole file.
        landmark: the name of one of its tensors, by which it is known.
        called: the file's name in errors.
        what: the network's name in errors.

    Raises:
        CheckpointInvalid: there is none, or more than one.
    """
    names = {_unwrapped(name): name for name in tensors}
    prefixes = [
        name.removesuffix(landmark) for name in names if f".{name}".endswith(f".{landmark}")
    ]
    if not prefixes:
        looks = describe_names(list(names))
        like = f" looks like {looks[0]} and" if looks else ""
        raise CheckpointInvalid(
            f"The checkpoint {called!r}{like} holds no {what}: {landmark} is missing.",
            "Use the file that the authors published, or another of the same network.",
        )
    if len(prefixes) > 1:
        raise CheckpointInvalid(
            f"The checkpoint {called!r} holds {len(prefixes):,} networks, under {some(prefixes)}.",
            "Save only the one that you want to use.",
        )
    (prefix,) = prefixes
    return {
        name.removeprefix(prefix): tensors[stored]
        for name, stored in names.items()
        if name.startswith(prefix)
    }


def some(names: Iterable[str], most: int = 3) -> str:
    """The first few names, safe to show, and how many more."""
    ordered = sorted(re.sub(r"[^\x20-\x7e]", "?", name[:80]) for name in names)
    rest = len(ordered) - most
    return ", ".join(ordered[:most]) + (f" and {rest:,} more" if rest > 0 else "")


def _unwrapped(name: str) -> str:
    return ".".join(word for word in name.split(".") if word not in _WRAPPERS)


def _prefixes(names: Iterable[str], role: Role) -> list[str]:
    """The prefixes of all parts of this kind."""
    known = set(names)
    return [
        prefix
        for landmark, companions in _LANDMARKS[role]
        for name in names
        if name.endswith(landmark)
        and ((prefix := name.removesuffix(landmark)) == "" or prefix.endswith("."))
        and any(prefix + companion in known for companion in companions)
    ]


def _differing(
    prefixes: list[str], names: Mapping[str, str], tensors: Mapping[str, Tensor]
) -> list[str]:
    """Without copies of the same weights, and without running averages of those beside them."""
    plain = [one for one in prefixes if "ema" not in re.split(r"[._]", one)]
    kept: list[str] = []
    for prefix in plain or prefixes:
        own = {name.removeprefix(prefix): name for name in names if name.startswith(prefix)}
        if not any(
            all(
                kin + rest in names and _equal(tensors[names[name]], tensors[names[kin + rest]])
                for rest, name in own.items()
            )
            for kin in kept
        ):
            kept.append(prefix)
    return kept


def _equal(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and torch.equal(one, other)


def _missing(names: list[str], role: Role, called: str) -> CheckpointInvalid:
    """What the file is instead, and which name is missing."""
    forms = _LANDMARKS[role]
    there = [one for one in forms if any(f".{name}".endswith(f".{one[0]}") for name in names)]
    landmark, companions = (there or forms)[0]
    wanted = (landmark, companions[0])
    ends = [one for one in wanted if not any(f".{name}".endswith(f".{one}") for name in names)]
    missing = ends[0] if ends else f"{wanted[1]} beside {wanted[0]}"
    looks = describe_names(names)
    if looks is None:
        has = f"; it has {some(names)}" if names else ""
        return CheckpointInvalid(
            f"The checkpoint {called!r} holds no {role}: {missing} is missing{has}.", REMEDIES[role]
        )
    what, unexpected = looks
    return CheckpointInvalid(
        f"The checkpoint {called!r} looks like {what} and holds no {role}: {missing} is missing "
        f"and {some([unexpected])} is unexpected.",
        REMEDIES[role],
    )


def _from_transformers(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Hugging Face's names renamed to OpenAI's; the three projections of attention joined."""
    found: dict[str, Tensor] = {}
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name == "embeddings.position_ids":
            continue
        block = _TRANSFORMERS_BLOCK.fullmatch(name)
        if block is None:
            found[_renamed(name)] = tensor
        elif projection := _QKV.fullmatch(block[2]):
            joined = f"transformer.resblocks.{block[1]}.attn.in_proj_{projection[2]}"
            parts.setdefault(joined, {})[projection[1]] = tensor
        else:
            found[f"transformer.resblocks.{block[1]}.{_renamed(block[2])}"] = tensor
    for name, three in parts.items():
        if three.keys() == {"q", "k", "v"} and len({one.shape for one in three.values()}) == 1:
            found[name] = torch.cat([three["q"], three["k"], three["v"]])
    return found


def _renamed(name: str) -> str:
    if name in _TRANSFORMERS:
        return _TRANSFORMERS[name]
    stem, _, last = name.rpartition(".")
    return f"{_TRANSFORMERS.get(stem, stem)}.{last}" if stem else name
