"""Says what a file is that holds no encoder and no head, by its first bytes or its names."""

from __future__ import annotations

import re
from collections.abc import Sequence

_AGAIN = "Download the file itself again."
_CONVERT = "Use the weights as .safetensors, or as a state_dict() saved with torch.save."

_BYTES: tuple[tuple[re.Pattern[bytes], str, str], ...] = tuple(
    (re.compile(start, re.DOTALL | re.IGNORECASE), what, remedy)
    for start, what, remedy in (
        (
            rb"version https://git-lfs",
            "is a Git LFS pointer, not the file itself",
            (
                "Run `git lfs pull` in its repository, or download the file from the repository's "
                "page."
            ),
        ),
        (rb"\s*(<!doctype html|<html|<head|<\?xml|<!--)", "is a web page", _AGAIN),
        (rb"\s*[{\[]\s*[\"{\[\]}]", "is JSON text", _CONVERT),
        (rb"GGUF", "is a GGUF file for llama.cpp", _CONVERT),
        (rb"\x89HDF\r\n", "is an HDF5 file, such as one of Keras", _CONVERT),
        (rb"\x93NUMPY", "is a NumPy array (.npy)", _CONVERT),
        (rb"\x08[\x01-\x1e][\x12\x1a\x3a\x42]", "is an ONNX model", _CONVERT),
        (rb".{4}(TFL3|ET\d\d)", "is a TensorFlow Lite or ExecuTorch program", _CONVERT),
        (rb"\x1f\x8b", "is compressed with gzip", "Unpack it and use the checkpoint inside."),
        (rb"(7z\xbc\xaf|Rar!|\xfd7zXZ|BZh|\x28\xb5\x2f\xfd)", "is compressed", "Unpack it first."),
        (rb".{257}ustar", "is a tar archive", "Unpack it and use the checkpoint inside."),
        (rb"(\xff\xd8\xff|\x89PNG|GIF8|RIFF.{4}WEBP)", "is an image", _CONVERT),
        (rb"%PDF", "is a PDF document", _CONVERT),
    )
)

_NAMES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(name), what)
    for name, what in (
        (r"^model\.diffusion_model\.", "a Stable Diffusion checkpoint"),
        (r"lora_?(A|B|down|up)\b", "a LoRA adapter"),
        (r"\b(down|up)_blocks\.\d", "a U-Net or an autoencoder of diffusers"),
        (
            r"\b(single_|joint_)?transformer_blocks\.\d|\bdouble_blocks\.\d",
            "a diffusion transformer",
        ),
        (r"\battnpool\.", "a CLIP with a ResNet, such as RN50"),
        (r"\battn_pool\.\w", "a CLIP with attentional pooling (CoCa, SigLIP)"),
        (r"\blogit_bias$|\bvision_model\.head\.", "a SigLIP"),
        (r"\blayer\d\.\d+\.(conv\d|downsample)", "a whole ResNet"),
        (r"\bblocks\.\d+\.attn\.(qkv|q_proj)", "a vision transformer of timm (or DINOv2, EVA)"),
        (r"\b(stages|downsample_layers)\.\d", "a ConvNeXt or another network of timm"),
        (r"\bembed_tokens\.|\blm_head\.|\bh\.\d+\.attn\.|\bmodel\.layers\.\d", "a language model"),
        (r"\btext_model\.|\btoken_embedding\b", "only CLIP's text tower"),
        (r"\bencoder\.layers?\.\d", "another transformer (ViT, DINOv2, BERT, ...)"),
        (r"\bfeatures\.\d", "a convolutional network of torchvision"),
        (r"(^|\.)class_embedding$", "a part of a CLIP"),
        (r"(^|\.)query\.weight$", "a D3 head"),
    )
)
_OPTIMISER = re.compile(r"\b(exp_avg|exp_avg_sq|momentum_buffer|square_avg|step)$")
_ENCODER = re.compile(r"(^|\.)(conv1\.weight|embeddings\.patch_embedding\.weight)$")
_TOWER = re.compile(r"(^|\.)class_embedding$")


def describe_bytes(start: bytes) -> tuple[str, str] | None:
    """The end of a sentence about a file, and a remedy; None if its first bytes are unknown.

    Args:
        start: some 300 bytes.
    """
    if not start:
        return "is empty", _AGAIN
    return next(((what, remedy) for form, what, remedy in _BYTES if form.match(start)), None)


def describe_names(names: Sequence[str]) -> tuple[str, str] | None:
    """What a checkpoint with these names is, and a name that shows it; None if unknown.

    Encoders and heads are recognised too, for one may have been given in place of the other.
    """
    if names and all(_OPTIMISER.search(name) for name in names):
        return "an optimiser's state", names[0]
    if set(names) in ({"fc.weight", "fc.bias"}, {"weight", "bias"}):
        return "only a linear layer, such as UniversalFakeDetect's", min(names)
    tower, embedding = _first(_TOWER, names), _first(_ENCODER, names)
    forms = _NAMES if not (tower and embedding) else ((_ENCODER, "CLIP's vision transformer"),)
    found = ((what, _first(form, names)) for form, what in forms)
    return next(((what, name) for what, name in found if name is not None), None)


def _first(form: re.Pattern[str], names: Sequence[str]) -> str | None:
    return next((name for name in names if form.search(name)), None)
