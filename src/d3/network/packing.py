"""Weights packed for oneDNN's kernels, on CPUs.

These are the operators to which torch's own compiler lowers a frozen model's linear layers.
They are not public, so each is tried before use, and not used where it is missing, refuses, or
gives another result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from d3.network.blocks import Product, Products, is_quick, plain_products
from d3.network.layers import QUICK
from d3.network.precision import mkl_is_quicker
from d3.network.tricks import Tricks

_CLOSE = {torch.float32: 1e-4, torch.bfloat16: 5e-2}


@torch.inference_mode()
def packed_products(blocks: Sequence[Any], rows: int, tricks: Tricks) -> dict[int, Products]:
    """Products with packed weights by the block's number; empty where packing does not apply.

    The blocks give up the weights that were packed, one after the other, so that they are never
    all there twice. The last block keeps its own where it sees the class token alone: its products
    are too small to gain.

    Args:
        blocks: in evaluation, on the CPU.
        rows: tokens of the forward pass they are laid out for; other numbers are right too.
        tricks: ``fused_activation`` folds QuickGELU's factor into the weights.
    """
    many = blocks[:-1] if tricks.class_token_only else blocks
    if not many or not _tried(many[0], rows, tricks):
        return {}
    products = {}
    for number, block in enumerate(many):
        products[number] = _pack(block, rows, tricks)
        _give_up_weights(block, tricks)
    return products


def _give_up_weights(block: Any, tricks: Tricks) -> None:
    packed = [block.mlp.c_fc, block.mlp.c_proj]
    if tricks.own_attention:  # else torch's module computes it with its own
        block.attn.in_proj_weight = None
        packed.append(block.attn.out_proj)
    for layer in packed:
        layer.weight = None


def _tried(block: Any, rows: int, tricks: Tricks) -> bool:
    """Whether the packed products of a block answer what its plain ones do."""
    weight = block.mlp.c_fc.weight
    if weight.dtype not in _CLOSE or weight.device.type != "cpu" or mkl_is_quicker(weight.dtype):
        return False
    hidden, width = weight.shape
    tokens, middle = torch.ones(3, width, dtype=weight.dtype), torch.ones(3, hidden).to(weight)
    try:
        packed, plain = _pack(block, rows, tricks), plain_products(block, tricks)
        pairs = [
            (packed.attend(tokens), plain.attend(tokens)),
            (packed.merge(tokens), plain.merge(tokens)),
            (packed.contract(packed.expand(tokens)), plain.contract(plain.expand(tokens))),
            (packed.contract(middle), plain.contract(middle)),
        ]
    except (AttributeError, NotImplementedError, RuntimeError):
        return False
    return all(_same(one, other) for one, other in pairs)


def _same(one: Tensor, other: Tensor) -> bool:
    largest = other.abs().max().item() + 1e-6
    return bool(((one - other).abs().max() <= _CLOSE[other.dtype] * largest).item())


def _pack(block: Any, rows: int, tricks: Tricks) -> Products:
    attention, expand, contract = block.attn, block.mlp.c_fc, block.mlp.c_proj
    made = plain_products(block, tricks)
    if tricks.own_attention:
        merge = attention.out_proj
        made = replace(
            made,
            attend=_product(attention.in_proj_weight, attention.in_proj_bias, rows),
            merge=_product(merge.weight, merge.bias, rows),
        )
    scale, activation = 1.0, block.mlp.gelu
    if tricks.fused_activation and is_quick(block):
        # oneDNN could apply it within the product, but measured slower so in bfloat16.
        scale, activation = QUICK, partial(functional.silu, inplace=True)
    hidden = _product(_times(expand.weight, scale), _times(expand.bias, scale), rows)
    return replace(
        made,
        expand=lambda tokens: activation(hidden(tokens)),
        contract=_product(_times(contract.weight, 1 / scale), contract.bias, rows),
    )


def _times(weight: Tensor, scale: float) -> Tensor:
    return weight if scale == 1 else weight * scale


def _product(weight: Tensor, bias: Tensor, rows: int) -> Product:
    operators = torch.ops.mkldnn
    packed = operators._reorder_linear_weight(weight.detach(), rows)  # noqa: SLF001
    kept = bias.detach().clone()
    apply = operators._linear_pointwise  # noqa: SLF001

    def product(tokens: Tensor) -> Tensor:
        made: Tensor = apply(tokens, packed, kept, "none", [], "")
        return made

    return product
