"""A child process that turns an encoder into OpenVINO's form, and tries it.

By itself, because torch and two copies of the weights are then gone with it, and because a compiler
that crashes leaves D3 running. Run as::

    python -m d3.adapters.openvino.export SPEC_JSON ENCODER PRECISION THREADS INTO
"""

from __future__ import annotations

import json
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from d3.domain.models import EncoderSpec

ENCODER = "encoder.xml"
WEIGHTS = "encoder.bin"
POSITIONS = "positions.npy"

_MOST_APART = {"fp32": 1e-3, "bf16": 0.2}


def main(spec: EncoderSpec, encoder: Path, precision: str, threads: int, into: Path) -> None:
    """Write the encoder and its positional embeddings into the folder ``into``.

    Raises:
        ValueError: OpenVINO's features are not torch's.
    """
    # OpenVINO's converter reports its use over the network where this package can be imported.
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]

    import numpy as np
    import openvino
    import torch

    from d3.adapters.openvino.store import compile_options
    from d3.network.checkpoints import load_encoder
    from d3.network.encoder import Encoder, with_class_token
    from d3.network.tricks import Tricks

    class Branches(torch.nn.Module):
        """Pixels (n, S, S, 3) and positions (1 + K, 1 + patches, width) to n * (1 + K) features."""

        def __init__(self, encoder: Encoder) -> None:
            super().__init__()
            self.encoder = encoder

        def forward(self, pixels: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
            patches = self.encoder.embed(pixels)
            tokens = with_class_token(patches).unsqueeze(1) + positions.to(patches.dtype)
            return self.encoder.encode_tokens(tokens.flatten(0, 1)).float()

    # OpenVINO fuses QuickGELU by itself and lays out weights by itself.
    tricks = replace(Tricks(), fused_activation=False, packed_weights=False)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    loaded = load_encoder(spec, encoder, dtype=dtype, tricks=tricks)
    np.save(into / POSITIONS, loaded.positions.float().numpy())
    side = spec.image_size
    images = torch.randint(0, 256, (2, side, side, 3), dtype=torch.uint8)
    branches = loaded.positions.float().expand(3, -1, -1).contiguous()
    shapes = {
        "pixels": {0: torch.export.Dim("images", min=1, max=2**16)},
        "positions": {0: torch.export.Dim("branches", min=1, max=2**16)},
    }
    module = Branches(loaded).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exported = torch.export.export(module, (images, branches), dynamic_shapes=shapes)
        converted = openvino.convert_model(exported)
    openvino.save_model(converted, into / ENCODER, compress_to_fp16=False)
    expected = module(images[:1], branches[:1]).numpy()
    del exported, converted, module, loaded
    compiled = openvino.Core().compile_model(
        into / ENCODER, "CPU", compile_options(precision, threads)
    )
    found = compiled([images[:1].numpy(), branches[:1].numpy()])[0]
    apart = float(np.abs(found - expected).max() / np.abs(expected).max())
    if not apart < _MOST_APART[precision]:
        raise ValueError(f"its features differ from torch's by {apart:.1%}")


if __name__ == "__main__":
    from d3.domain.models import EncoderSpec

    main(
        EncoderSpec(**json.loads(sys.argv[1])),
        Path(sys.argv[2]),
        sys.argv[3],
        int(sys.argv[4]),
        Path(sys.argv[5]),
    )
