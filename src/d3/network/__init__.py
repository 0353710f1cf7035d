"""The D3 network (Yang et al., CVPR 2025) in torch: encoder, head, permutations, checkpoints."""

from d3.network.encoder import Encoder
from d3.network.head import DiscrepancyHead
from d3.network.model import D3Network
from d3.network.permutations import draw_permutations

__all__ = ["D3Network", "DiscrepancyHead", "Encoder", "draw_permutations"]
