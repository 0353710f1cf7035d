"""Taking turns at a detector."""

from d3.adapters.batching.direct import DirectQueue

__all__ = ["DirectQueue"]
