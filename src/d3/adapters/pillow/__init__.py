"""Images decoded with Pillow, under limits."""

from d3.adapters.pillow.decoder import Limits, PillowDecoder

__all__ = ["Limits", "PillowDecoder"]
