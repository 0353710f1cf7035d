"""open_clip's table of CLIP models: the encoders that D3 can serve, and their weights."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from d3.domain.errors import CheckpointInvalid, SourceUnavailable
from d3.domain.models import Activation, EncoderSpec

_HARMLESS = {"layers", "width", "head_width", "mlp_ratio", "patch_size", "image_size"} | {
    "patch_dropout",  # while it is trained
    "output_tokens",  # beside the class token
}


@dataclass(frozen=True, slots=True)
class ClipEntry:
    """One line of the table whose encoder D3 can serve.

    Attributes:
        name: ``MODEL:TAG``.
        mean: what pixels in [0, 1] are lessened by, for each channel.
        std: and then divided by.
    """

    name: str
    spec: EncoderSpec
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def find_entry(name: str) -> ClipEntry:
    """The table's line of this name; nothing is fetched.

    Args:
        name: ``MODEL:TAG``, such as ``ViT-L-14:laion2b_s32b_b82k``.

    Raises:
        CheckpointInvalid: there is none, or its encoder is no plain vision transformer of CLIP.
        SourceUnavailable: open_clip cannot be imported.
    """
    _check_installed()
    from open_clip import get_model_config, list_pretrained
    from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model

    model, _, tag = name.partition(":")
    tags = list_pretrained_tags_by_model(model)
    config = get_model_config(model) if tags else None
    if config is None:
        near = difflib.get_close_matches(model, {one for one, _ in list_pretrained()}, cutoff=0.4)
        raise CheckpointInvalid(
            f"open_clip's table has no model {model!r}.",
            f"Did you mean {' or '.join(near)}?" if near else "It has ViT-L-14 and many others.",
        )
    known = get_pretrained_cfg(model, tag) if tag else {}
    if not known:
        choices = ", ".join(f"{model}:{one}" for one in tags)
        raise CheckpointInvalid(
            f"open_clip's table has no weights {tag!r} for {model}."
            if tag
            else f"{model} does not say which weights to use.",
            f"Choose one of: {choices}.",
        )
    vision = config["vision_cfg"]
    if reason := _not_plain(vision):
        raise CheckpointInvalid(
            f"D3 cannot use {name} as an encoder: {reason}.",
            "Use one of CLIP's plain vision transformers, such as ViT-L-14:openai.",
        )
    # Which activation it is lies in the weights: where model and tag differ, either may say so.
    quick = bool(config.get("quick_gelu") or known.get("quick_gelu"))
    return ClipEntry(f"{model}:{tag}", _spec(vision, quick=quick), known["mean"], known["std"])


def fetch_entry(name: str) -> Path:
    """The file of an entry's weights, from open_clip's cache or from where the table says.

    Raises:
        SourceUnavailable: it is neither here nor to be had.
    """
    from open_clip.pretrained import download_pretrained, get_pretrained_cfg

    try:
        return Path(download_pretrained(get_pretrained_cfg(*name.split(":", 1))))
    except Exception as error:  # whatever its libraries for the network raise
        raise SourceUnavailable(
            f"open_clip cannot load the weights of {name} ({type(error).__name__}).",
            "They are not in its caches (HF_HOME, ~/.cache/clip) and could not be downloaded. "
            "Check the connection and HF_HUB_OFFLINE, or name the file with --encoder.",
        ) from error


def _check_installed() -> None:
    try:
        import open_clip  # noqa: F401
    except ImportError as error:
        raise SourceUnavailable(
            f"open_clip's table cannot be read here: {error}.",
            "Install open_clip_torch, or name the encoder's file with --encoder.",
        ) from error
    except RuntimeError as error:  # a torchvision that was built for another torch
        raise SourceUnavailable(
            f"open_clip is installed, but cannot be imported: {error}.",
            "Install torch and torchvision from the same index, or use --encoder.",
        ) from error


def _not_plain(vision: Mapping[str, Any]) -> str | None:
    """Why a vision tower cannot be served; None if it can."""
    from open_clip.model import CLIPVisionCfg

    if vision.get("timm_model_name"):
        return f"its vision tower is timm's {vision['timm_model_name']}"
    if isinstance(vision["layers"], list):
        return "its vision tower is a ResNet"
    if vision.get("attentional_pool"):
        return "it pools its tokens by attention"
    if vision.get("pool_type", "tok") != "tok":
        return "it does not pool its tokens with the class token"
    if not isinstance(vision.get("image_size", 224), int):
        return "its images are not square"
    usual = CLIPVisionCfg()
    other = [k for k, v in vision.items() if k not in _HARMLESS and v != getattr(usual, k, None)]
    return f"its vision tower differs from CLIP's in {', '.join(sorted(other))}" if other else None


def _spec(vision: Mapping[str, Any], *, quick: bool) -> EncoderSpec:
    from open_clip.model import CLIPVisionCfg

    known = CLIPVisionCfg(**vision)
    activation: Activation = "quick_gelu" if quick else "gelu"
    return EncoderSpec(
        image_size=known.image_size,
        patch_size=known.patch_size,
        width=known.width,
        layers=known.layers,
        heads=known.width // known.head_width,
        mlp_width=int(known.width * known.mlp_ratio),
        activation=activation,
    )
