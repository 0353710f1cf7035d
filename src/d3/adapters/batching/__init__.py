"""Taking turns at a detector."""

from d3.adapters.batching.policy import Bounds
from d3.adapters.batching.threaded import ThreadedQueue
from d3.adapters.batching.turns import Turns

__all__ = ["Bounds", "ThreadedQueue", "Turns"]
