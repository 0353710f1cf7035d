"""The way through the residual attention blocks in evaluation, on their own parameters.

A block's four products (query-key-value, output, and the MLP's two) are functions, so that the same
way serves plain weights and weights that :mod:`d3.network.packing` has laid out for the processor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from d3.network.layers import QUICK, QuickGELU
from d3.network.tricks import Tricks

Product = Callable[[Tensor], Tensor]
Through = Callable[[Any, "Products", Tensor, Tricks], Tensor]


@dataclass(frozen=True, slots=True)
class Products:
    """The matrix products of a block.

    Attributes:
        attend: tokens to query, key and value, side by side.
        merge: what the heads gathered, back to the tokens' width.
        expand: tokens to the MLP's hidden layer, its activation applied.
        contract: the hidden layer to tokens.
    """

    attend: Product
    merge: Product
    expand: Product
    contract: Product


def plain_products(block: Any, tricks: Tricks) -> Products:
    """A block's products with its weights as they are."""
    attention, expand, contract = block.attn, block.mlp.c_fc, block.mlp.c_proj
    scale = QUICK if tricks.fused_activation and is_quick(block) else None
    return Products(
        attend=partial(
            functional.linear, weight=attention.in_proj_weight, bias=attention.in_proj_bias
        ),
        merge=attention.out_proj,
        expand=partial(_scaled_silu, expand, scale) if scale else block.mlp[:2],
        contract=partial(_scaled, contract, 1 / scale) if scale else contract,
    )


def is_quick(block: Any) -> bool:
    """Whether the block's activation is QuickGELU."""
    return isinstance(block.mlp.gelu, QuickGELU)


def class_token(
    blocks: Sequence[Any],
    products: Sequence[Products],
    tokens: Tensor,
    tricks: Tricks,
    through: Through,
) -> Tensor:
    """The class token (n, width) after all blocks, of tokens (n, length, width).

    ``through`` is the function below, or the same compiled.
    """
    *others, last = zip(blocks, products, strict=True)
    for block, product in others:
        tokens = through(block, product, tokens, tricks)
    if not tricks.class_token_only:
        return through(*last, tokens, tricks)[:, 0]
    block, product = last
    attend = _fold if tricks.folded_keys else _query_once
    first = tokens[:, 0] + product.merge(attend(block, block.ln_1(tokens)))
    return first + product.contract(product.expand(block.ln_2(first)))


def through(block: Any, product: Products, tokens: Tensor, tricks: Tricks) -> Tensor:
    """Tokens (n, length, width) after one whole block."""
    normal = block.ln_1(tokens)
    if tricks.own_attention:
        tokens = tokens + product.merge(_attention(product.attend(normal), block.attn.num_heads))
    else:
        tokens = tokens + block.attention(normal)
    return tokens + product.contract(product.expand(block.ln_2(tokens)))


def _attention(joined: Tensor, heads: int) -> Tensor:
    """Mixed values (n, length, width) of query, key and value (n, length, 3 * width)."""
    count, length, width = joined.shape
    split = joined.view(count, length, 3, heads, width // (3 * heads))
    query, key, value = split.permute(2, 0, 3, 1, 4)
    mixed: Tensor
    if joined.is_cpu and joined.dtype != torch.float32:
        # torch's fused attention has no fast bfloat16 kernel on most processors.
        weights = (query * (query.shape[-1] ** -0.5)) @ key.mT
        mixed = weights.softmax(dim=-1) @ value
    else:
        mixed = functional.scaled_dot_product_attention(query, key, value)
    return mixed.transpose(1, 2).reshape(count, length, -1)


def _query_once(block: Any, tokens: Tensor) -> Tensor:
    """What the class token attends to, (n, width): one query, all keys and values."""
    attention = block.attn
    count, length, width = tokens.shape
    weight, bias = attention.in_proj_weight, attention.in_proj_bias
    query = functional.linear(tokens[:, :1], weight[:width], bias[:width])
    both = functional.linear(tokens, weight[width:], bias[width:])
    query = query.view(count, 1, attention.num_heads, -1).transpose(1, 2)
    key, value = both.view(count, length, 2, attention.num_heads, -1).permute(2, 0, 3, 1, 4)
    mixed: Tensor = functional.scaled_dot_product_attention(query, key, value)
    return mixed.transpose(1, 2).reshape(count, width)


def _fold(block: Any, tokens: Tensor) -> Tensor:
    """The same, with the keys' weight folded into the query, the values' into the mixed tokens.

    The keys' bias adds the same to every score of the one query, so the softmax forgets it.
    """
    attention = block.attn
    count, _, width = tokens.shape
    heads = attention.num_heads
    query_weight, key_weight, value_weight = attention.in_proj_weight.view(
        3, heads, width // heads, width
    )
    query_bias, _, value_bias = attention.in_proj_bias.view(3, heads, 1, width // heads)
    # (heads, n, ...): one product for each head, all images in it.
    query = tokens[:, 0] @ query_weight.mT + query_bias
    asked = (query * (width // heads) ** -0.5) @ key_weight
    weights = (asked.transpose(0, 1) @ tokens.mT).softmax(dim=-1)
    mixed = (weights @ tokens).transpose(0, 1)
    values = mixed @ value_weight.mT + value_bias
    gathered: Tensor = values.transpose(0, 1).reshape(count, width)
    return gathered


def _scaled_silu(layer: nn.Linear, scale: float, tokens: Tensor) -> Tensor:
    return functional.silu(_scaled(layer, scale, tokens, scale_bias=True), inplace=True)


def _scaled(layer: nn.Linear, scale: float, tokens: Tensor, *, scale_bias: bool = False) -> Tensor:
    """The layer's product times ``scale``, which costs the product nothing."""
    flat = tokens.reshape(-1, tokens.shape[-1])
    bias = layer.bias * scale if scale_bias else layer.bias
    made = torch.addmm(bias, flat, layer.weight.t(), alpha=scale)
    return made.view(*tokens.shape[:-1], -1)
