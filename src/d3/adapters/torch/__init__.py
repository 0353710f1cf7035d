"""The D3 network on torch: CUDA or CPU, float32, float16 or bfloat16."""

from d3.adapters.torch.checkpoints import TorchCheckpoints
from d3.adapters.torch.engine import TorchEngine

__all__ = ["TorchCheckpoints", "TorchEngine"]
