"""An architecture for D3: what a blur takes from an image, judged by a small network."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from d3.architectures import Architecture, Fit, InputSpec


class Network(nn.Module):
    """Logits (n,) of normalised images (n, 3, S, S)."""

    def __init__(self, channels: int = 16) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, stride=2, padding=1),
            nn.ReLU(),
        )
        self.logit = nn.Linear(channels, 1)

    def forward(self, images: Tensor) -> Tensor:
        """See the class."""
        residue = images - functional.avg_pool2d(images, 3, stride=1, padding=1)
        logits: Tensor = self.logit(self.layers(residue).mean(dim=(-2, -1)))
        return logits.squeeze(-1)


class HighPass(Architecture):
    """One file, a crop of 128 pixels, one logit."""

    input = InputSpec(size=128, fit=Fit.CROP)

    def config_of(self, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
        """How many channels the checkpoint was made with."""
        return {"channels": len(tensors["layers.0.weight"])}

    def build(self, config: Mapping[str, Any]) -> nn.Module:
        """The network, without its weights."""
        return Network(**config)
