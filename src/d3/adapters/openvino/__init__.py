"""The D3 network on OpenVINO: processors, float32 or bfloat16, no torch once it is prepared."""

from d3.adapters.openvino.engine import OpenVinoEngine

__all__ = ["OpenVinoEngine"]
