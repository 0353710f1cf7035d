"""Optimisations of the encoder that do not change its result."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tricks:
    """What is on; each is exact up to rounding, and each can be turned off and measured alone.

    They apply in evaluation alone: training goes through the modules as they are.

    Attributes:
        permuted_positions: the patches are embedded once for all branches, and a shuffled branch
            permutes the positions instead of the patches.
        one_forward: all branches of all images share a forward pass.
        class_token_only: the last layer computes its query, output and MLP for the class token
            alone, since only that leaves the encoder.
        folded_keys: the last layer multiplies its key and value weights into the one query and the
            one mixture of tokens, instead of into every token; needs ``class_token_only``.
        own_attention: query, key and value in one product without copies, and the attention that
            measured best: scaled dot product, or on a CPU in reduced precision two plain products.
        fused_activation: QuickGELU in one pass over its input instead of three: its factor goes
            into the products on both sides of it, and what is left is SiLU.
        packed_weights: on a CPU, weights are laid out once as oneDNN's kernels want them.
    """

    permuted_positions: bool = True
    one_forward: bool = True
    class_token_only: bool = True
    folded_keys: bool = True
    own_attention: bool = True
    fused_activation: bool = True
    packed_weights: bool = True


PLAIN = Tricks(
    permuted_positions=False,
    one_forward=False,
    class_token_only=False,
    folded_keys=False,
    own_attention=False,
    fused_activation=False,
    packed_weights=False,
)
"""No trick at all: the modules as they are, one branch after the other."""
