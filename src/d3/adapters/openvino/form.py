"""The int8 form of an encoder: one file with OpenVINO's graph, its constants, and the positions.

A form may come in a stranger's bundle, so its graph is looked through before OpenVINO reads it: it
holds the operations of an encoder and no others, and its constants lie within the file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

_OPERATIONS = {
    *("Add", "Broadcast", "Clamp", "Concat", "Const", "Convert", "ConvertLike", "Convolution"),
    *("Divide", "Erf", "Exp", "FakeQuantize", "Gather", "Gelu", "MatMul", "Maximum", "Minimum"),
    *("Multiply", "MVN", "Negative", "Pad", "Parameter", "Power", "Range", "ReduceMean"),
    *("ReduceProd", "ReduceSum", "Reshape", "Result", "ScaledDotProductAttention", "Select"),
    *(
        "ShapeOf",
        "Sigmoid",
        "Slice",
        "SoftMax",
        "Softmax",
        "Split",
        "Sqrt",
        "Squeeze",
        "StridedSlice",
    ),
    *("Subtract", "Swish", "Tanh", "Tile", "Transpose", "Unsqueeze", "VariadicSplit"),
}


@dataclass(frozen=True, slots=True)
class Form:
    """What a file of a form holds.

    Attributes:
        graph: OpenVINO's XML: pixels and positions in, features out.
        constants: that the graph points into.
        positions: (1 + patches, width), of the image in its own order.
    """

    graph: bytes
    constants: bytes
    positions: NDArray[np.float32]

    def write(self, target: Path) -> None:
        """Write the file.

        Raises:
            OSError: it cannot be written.
        """
        tensors: dict[str, NDArray[Any]] = {
            "graph": np.frombuffer(self.graph, np.uint8),
            "constants": np.frombuffer(self.constants, np.uint8),
            "positions": self.positions,
        }
        try:
            save_file(tensors, target)
        except SafetensorError as error:  # its word for a full disk too
            raise OSError(0, str(error)) from error


def read_form(file: Path) -> Form:
    """Read and check a form.

    Raises:
        ValueError: it is none, or its graph is not an encoder's.
    """
    try:
        with safe_open(file, framework="np") as stored:
            graph, constants = (stored.get_tensor(name) for name in ("graph", "constants"))
            positions = stored.get_tensor("positions").astype(np.float32)
    except (SafetensorError, OSError, TypeError) as error:
        raise ValueError("the file of its int8 form is not valid") from error
    form = Form(graph.tobytes(), constants.tobytes(), positions)
    _check(form)
    return form


def _check(form: Form) -> None:
    if b"<!" in form.graph:  # entities that grow; OpenVINO writes none
        raise ValueError("the graph of its int8 form is not one of OpenVINO")
    try:
        graph = ET.fromstring(form.graph)  # noqa: S314  without declarations it is plain
    except ET.ParseError as error:
        raise ValueError("the graph of its int8 form is not one of OpenVINO") from error
    for layer in graph.iter("layer"):
        if (kind := layer.get("type")) not in _OPERATIONS:
            raise ValueError(f"the graph of its int8 form has an operation {str(kind)[:40]!r}")
        for data in layer.iter("data"):
            start, size = int(data.get("offset", 0)), int(data.get("size", 0))
            if min(start, size) < 0 or start + size > len(form.constants):
                raise ValueError("the graph of its int8 form points out of its file")
