"""What makes logits of pixels: D3, UniversalFakeDetect, FerretNet, and what packages add."""

from d3.adapters.torch.architectures.adapter import TorchArchitectures
from d3.adapters.torch.architectures.base import Architecture, Draft
from d3.adapters.torch.architectures.discovery import Installed

__all__ = ["Architecture", "Draft", "Installed", "TorchArchitectures"]
