"""The D3 network (Yang et al., CVPR 2025) in torch: encoder, head, permutations, checkpoints."""

from d3.network.encoder import Encoder
from d3.network.model import D3Network, DiscrepancyHead, draw_permutations
from d3.network.tricks import PLAIN, Tricks

__all__ = ["PLAIN", "D3Network", "DiscrepancyHead", "Encoder", "Tricks", "draw_permutations"]
