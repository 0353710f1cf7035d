"""Images decoded with Pillow, under limits, and pictures made with it."""

from d3.adapters.pillow.decoder import Limits, PillowDecoder
from d3.adapters.pillow.drawing import PICTURES, png

__all__ = ["PICTURES", "Limits", "PillowDecoder", "png"]
