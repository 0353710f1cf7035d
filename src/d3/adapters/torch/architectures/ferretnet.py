"""FerretNet in its published sizes and others, with its own input."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from d3.adapters.torch.architectures.base import Architecture
from d3.domain.errors import CheckpointInvalid
from d3.domain.inputs import Fit, InputSpec
from d3.network import FerretNet

_CROP = 256
_WINDOW = 3
"""Side of the neighbourhood of the published weights; the weights do not tell it."""
_WIDEST = 15
_CHANNELS = 4096
_BLOCK = re.compile(r"feature\.(\d+)\.(\d+)\.")


class Ferret(Architecture):
    """FerretNet (Liang et al., 2025)."""

    files: ClassVar = {"network": "the network's state dict"}
    input: ClassVar = InputSpec(_CROP, Fit.CROP)
    landmark: ClassVar = "cbr1.0.weight"

    def config_of(self, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
        blocks = {(int(one[1]), int(one[2])) for name in tensors if (one := _BLOCK.match(name))}
        stages = [stage for stage, _ in blocks]
        depths = [stages.count(stage) for stage in range(max(stages, default=-1) + 1)]
        widest = tensors.get("cbr2.0.weight")
        if widest is None or not depths or 0 in depths:
            raise CheckpointInvalid(
                "The checkpoint is no FerretNet: its convolutions are not all there.",
                "Use a file of xigua7105/FerretNet, or one trained with it.",
            )
        return {"dim": widest.shape[0], "depths": depths}

    def build(self, config: Mapping[str, Any]) -> FerretNet:
        dim, depths, window = config["dim"], config["depths"], config.get("window", _WINDOW)
        if window not in range(1, _WIDEST + 1, 2):
            raise CheckpointInvalid(
                f"The window of a FerretNet is an odd number up to {_WIDEST}, not {window}.",
                "Correct the model's manifest.",
            )
        if dim % 2 or dim * 2 ** len(depths) > _CHANNELS:
            raise CheckpointInvalid(
                f"A FerretNet of {dim} channels and {len(depths)} stages cannot be made.",
                "Use a file of xigua7105/FerretNet, or one trained with it.",
            )
        return FerretNet(dim, depths, window)
