"""CLIP's vision transformer as D3 uses it: the class token after ``ln_post``, before projection.

The modules are named as open_clip's, so that any checkpoint of that family fits. In evaluation the
way through them is another (:mod:`d3.network.blocks`), because D3 wants the class token alone, and
because a shuffled image needs its patches embedded only once.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from d3.domain.inputs import CLIP_DEVIATION, CLIP_MEAN
from d3.domain.models import EncoderSpec
from d3.network.blocks import Products, Through, class_token, plain_products, through
from d3.network.layers import Transformer
from d3.network.packing import packed_products
from d3.network.tricks import Tricks


def normalise(
    pixels: Tensor,
    mean: Sequence[float] = CLIP_MEAN,
    deviation: Sequence[float] = CLIP_DEVIATION,
) -> Tensor:
    """uint8 RGB (n, S, S, 3) to float32 (n, 3, S, S), by default as CLIP wants them.

    Args:
        pixels: any number of them.
        mean: of red, green and blue in [0, 1]; subtracted.
        deviation: divided by.
    """
    # With numbers, not tensors: a CUDA graph must not copy anything from the host.
    channels = zip((pixels.float() / 255).unbind(-1), mean, deviation, strict=True)
    return torch.stack([(one - own) / spread for one, own, spread in channels], dim=1)


def with_normalisation(
    tensors: Mapping[str, Tensor], mean: Sequence[float], deviation: Sequence[float]
) -> Mapping[str, Tensor]:
    """Weights that do with :func:`normalise` what these do with another mean and deviation.

    Both are a scale and a shift of each channel. The scale goes into the patch embedding; what the
    shift adds to every patch goes into the patches' positions.

    Args:
        tensors: an encoder's.
        mean: of red, green and blue in [0, 1].
        deviation: of the same.
    """
    if (tuple(mean), tuple(deviation)) == (CLIP_MEAN, CLIP_DEVIATION):
        return tensors
    known, other = (
        torch.tensor(pair, dtype=torch.float64).view(2, 3, 1, 1)
        for pair in ((CLIP_MEAN, CLIP_DEVIATION), (tuple(mean), tuple(deviation)))
    )
    embedding = tensors["conv1.weight"].double()
    shift = (embedding * ((known[0] - other[0]) / other[1])).sum(dim=(1, 2, 3))
    positions = tensors["positional_embedding"].double().clone()
    positions[1:] += shift
    return {
        **tensors,
        "conv1.weight": (embedding * (known[1] / other[1])).float(),
        "positional_embedding": positions.float(),
    }


def with_class_token(patches: Tensor) -> Tensor:
    """Patches (..., patches, width) behind a row of zeros, to which its position is yet to come."""
    return nn.functional.pad(patches, (0, 0, 1, 0))


class Encoder(nn.Module):
    """A vision transformer of any size that :class:`EncoderSpec` can say.

    The state dict holds OpenAI's key names (``conv1.weight``, ``transformer.resblocks.0...``),
    without CLIP's projection, which D3 does not use.

    Args:
        tricks: which savings evaluation uses.
    """

    def __init__(self, spec: EncoderSpec, tricks: Tricks = Tricks()) -> None:
        super().__init__()
        self.spec = spec
        self.tricks = tricks
        width, side = spec.width, spec.patch_size
        self.conv1 = nn.Conv2d(3, width, kernel_size=side, stride=side, bias=False)
        self.class_embedding = nn.Parameter(torch.empty(width))
        self.positional_embedding = nn.Parameter(torch.empty(spec.patches + 1, width))
        for embedding in (self.class_embedding, self.positional_embedding):
            nn.init.normal_(embedding, std=width**-0.5)
        self.ln_pre = nn.LayerNorm(width)
        self.transformer = Transformer(spec)
        self.ln_post = nn.LayerNorm(width)
        self.elements = sum(one.numel() for one in self.parameters())
        """Numbers in its weights, counted before :meth:`pack` gives them up."""
        self._packed: dict[int, Products] = {}
        self._through: Through = through

    @property
    def positions(self) -> Tensor:
        """What is added to tokens (1 + patches, width): the class token, then row-major order."""
        first = self.class_embedding + self.positional_embedding[0]
        return torch.cat([first.unsqueeze(0), self.positional_embedding[1:]])

    def permuted_positions(self, permutations: Tensor) -> Tensor:
        """Positions (..., 1 + K, 1 + patches, width) of patches in the original and in K shuffles.

        Args:
            permutations: (..., K, patches): shuffle ``k`` has patch ``[k, i]`` at position ``i``.
        """
        positions = self.positions
        first, patches = positions[:1], positions[1:]
        shuffled = patches[permutations.argsort(dim=-1)]
        own = patches.expand(*permutations.shape[:-2], 1, -1, -1)
        every = torch.cat([own, shuffled], dim=-3)
        return torch.cat([first.expand(*every.shape[:-2], 1, -1), every], dim=-2)

    def embed(self, pixels: Tensor) -> Tensor:
        """Patch embeddings (n, patches, width), in row-major order, of uint8 RGB (n, S, S, 3)."""
        patches: Tensor = self.conv1(normalise(pixels).to(self.conv1.weight.dtype))
        return patches.flatten(2).mT

    def encode(self, patches: Tensor) -> Tensor:
        """Features (n, width) of patch embeddings (n, patches, width) in the order given."""
        return self.encode_tokens(with_class_token(patches) + self.positions)

    def encode_tokens(self, tokens: Tensor) -> Tensor:
        """Features (n, width) of tokens (n, 1 + patches, width) with their positions added.

        The order of the patches is of no consequence: a position is what was added.
        """
        features: Tensor = self.ln_post(self._class_token(self.ln_pre(tokens)))
        return features

    def pack(self, images: int = 1) -> bool:
        """Lay the weights out for this processor, for good; whether that was possible here.

        The encoder is of use for inference alone afterwards: it has given its weights up.

        Args:
            images: encodings that usually share a forward pass.
        """
        if not self.tricks.packed_weights:
            return False
        rows = images * (self.spec.patches + 1)
        self._packed = packed_products(list(self.transformer.resblocks), rows, self.tricks)
        return bool(self._packed)

    def with_blocks(self, wrap: Callable[[Through], Through]) -> Encoder:
        """An encoder on the same weights that goes through a block in another way.

        All blocks are alike, so what ``wrap`` compiles for one of them serves them all.
        """
        twin = copy.copy(self)
        twin._through = wrap(through)  # noqa: SLF001  its own kind
        return twin

    def _class_token(self, tokens: Tensor) -> Tensor:
        if self.training:
            trained: Tensor = self.transformer(tokens)[:, 0]
            return trained
        blocks = list(self.transformer.resblocks)
        products = [
            self._packed.get(number) or plain_products(block, self.tricks)
            for number, block in enumerate(blocks)
        ]
        return class_token(blocks, products, tokens, self.tricks, self._through)
