"""Whole CLIPs as they are published: two towers, half precision beside float32, three integers.

The modules are open_clip's, whose names are OpenAI's.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from d3.domain.models import EncoderSpec

if TYPE_CHECKING:
    from open_clip.model import CLIP

SMALL_TEXT = {"context_length": 8, "vocab_size": 50, "width": 32, "heads": 2, "layers": 2}
FULL_TEXT = {"context_length": 77, "vocab_size": 49408, "width": 768, "heads": 12, "layers": 12}
"""ViT-L/14's."""


def whole_clip(
    spec: EncoderSpec,
    visual: Mapping[str, Tensor] | None = None,
    text: Mapping[str, int] = SMALL_TEXT,
    projection: int = 16,
) -> CLIP:
    """A CLIP in float32.

    Args:
        spec: of the vision tower.
        visual: its weights; random ones unless said.
        text: what the text tower is like.
        projection: size of the space that both share.
    """
    from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

    vision = CLIPVisionCfg(
        layers=spec.layers,
        width=spec.width,
        head_width=spec.width // spec.heads,
        mlp_ratio=spec.mlp_width / spec.width,
        patch_size=spec.patch_size,
        image_size=spec.image_size,
    )
    quick = spec.activation == "quick_gelu"
    tower = CLIPTextCfg(**text)
    clip = CLIP(projection, vision, tower, quick_gelu=quick, cast_dtype=torch.float16).eval()
    if visual is not None:
        clip.visual.load_state_dict({"proj": clip.visual.proj, **visual})
    return clip


def write_traced(file: Path, clip: CLIP) -> dict[str, Tensor]:
    """Trace a CLIP as OpenAI published theirs and save it; the vision tower's tensors, as saved.

    Its products are float16, its layer norms float32, and its three numbers integers at the root.
    """
    from open_clip.model import convert_weights_to_lp

    convert_weights_to_lp(clip, torch.float16)
    side, length = clip.visual.image_size[0], clip.context_length
    numbers = {
        "input_resolution": side,
        "context_length": length,
        "vocab_size": clip.vocab_size,
    }
    for name, number in numbers.items():
        clip.__dict__.pop(name, None)
        clip.register_buffer(name, torch.tensor(number))
    images = torch.zeros(1, 3, side, side, dtype=torch.float16)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # torch would rather have another format
        inputs = (images, torch.zeros(1, length, dtype=torch.long))
        traced = torch.jit.trace_module(clip, {"forward": inputs}, check_trace=False)
        traced.save(str(file))
    return {name: tensor.detach() for name, tensor in clip.visual.state_dict().items()}
