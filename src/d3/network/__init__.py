"""The networks in torch: CLIP's encoder with D3's head or a probe on it, FerretNet, checkpoints."""

from d3.network.encoder import Encoder
from d3.network.ferretnet import FerretNet
from d3.network.model import (
    D3Network,
    DiscrepancyHead,
    HeadsBeside,
    ProbeHead,
    draw_permutations,
)
from d3.network.tricks import PLAIN, Tricks

__all__ = [
    "PLAIN",
    "D3Network",
    "DiscrepancyHead",
    "Encoder",
    "FerretNet",
    "HeadsBeside",
    "ProbeHead",
    "Tricks",
    "draw_permutations",
]
