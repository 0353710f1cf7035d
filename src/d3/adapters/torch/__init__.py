"""Networks on torch: CUDA or CPU, float32, float16 or bfloat16; and what is read of checkpoints."""

from d3.adapters.torch.architectures import TorchArchitectures
from d3.adapters.torch.engine import TorchEngine

__all__ = ["TorchArchitectures", "TorchEngine"]
