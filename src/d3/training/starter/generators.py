"""The small generators that forge the second picture of a pair, one class of network per family.

A family is named by what leaves traces: how it brings its latent back to full resolution, and how
it was trained. All take and give pictures [n, 3, S, S] in [-1, 1], S a multiple of four.
"""

from __future__ import annotations

from enum import StrEnum

import torch
from torch import Tensor, nn


class Family(StrEnum):
    """The generator families, named by their upsampler or their training."""

    TRANSPOSED = "transposed"
    NEAREST = "nearest"
    PIXELSHUFFLE = "pixelshuffle"
    ADVERSARIAL = "adversarial"
    BILINEAR = "bilinear"
    DIFFUSION = "diffusion"


SEEN = (Family.TRANSPOSED, Family.NEAREST, Family.PIXELSHUFFLE, Family.ADVERSARIAL)
UNSEEN = (Family.BILINEAR, Family.DIFFUSION)


FINE_SIGMAS = (0.08, 0.04, 0.02)
COARSE_SIGMAS = (0.3, 0.15, 0.07, 0.03)


def _convolution(inputs: int, outputs: int, size: int = 3, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, padding_mode="replicate")


def _doubling(family: Family, inputs: int, outputs: int) -> nn.Module:
    """Return the layer that doubles the resolution the family's way."""
    match family:
        case Family.TRANSPOSED:
            return nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1)
        case Family.ADVERSARIAL:
            return nn.ConvTranspose2d(inputs, outputs, 3, stride=2, padding=1, output_padding=1)
        case Family.PIXELSHUFFLE:
            return nn.Sequential(_convolution(inputs, 4 * outputs), nn.PixelShuffle(2))
        case Family.BILINEAR:
            smooth = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
            return nn.Sequential(smooth, _convolution(inputs, outputs))
        case Family.NEAREST | Family.DIFFUSION:
            return nn.Sequential(nn.Upsample(scale_factor=2), _convolution(inputs, outputs))


class Residual(nn.Module):
    """Two convolutions beside an identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.SiLU(), _convolution(width, width), nn.SiLU(), _convolution(width, width)
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return features of the same shape."""
        changed: Tensor = self.body(features)
        return features + changed


class Autoencoder(nn.Module):
    """Compress a picture to a half or a quarter of its side, and bring it back.

    The latent has `latent` channels where the side is halved, and twice as many at a quarter.
    """

    def __init__(
        self, family: Family, width: int = 32, latent: int = 8, *, doublings: int = 1
    ) -> None:
        super().__init__()
        side = 2**doublings
        wide = width * doublings
        self.encode = nn.Sequential(
            nn.PixelUnshuffle(side),
            _convolution(3 * side**2, wide),
            Residual(wide),
            _convolution(wide, latent * doublings, 1),
        )
        layers: list[nn.Module] = [_convolution(latent * doublings, wide), Residual(wide)]
        for narrow in (width, width // 2)[-doublings:]:
            layers += [_doubling(family, wide, narrow), Residual(narrow)]
            wide = narrow
        self.decode = nn.Sequential(*layers, _convolution(width // 2, 3))

    def forward(self, pictures: Tensor) -> Tensor:
        """Return the pictures as they come back."""
        redrawn: Tensor = self.decode(self.encode(pictures))
        return redrawn


class Denoiser(nn.Module):
    """Guess the clean picture from a noisy one and the noise's standard deviation."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.PixelUnshuffle(2), _convolution(12, width))
        self.level = nn.Linear(1, width)
        self.fine = Residual(width)
        self.down = _convolution(width, width, stride=2)
        self.coarse = nn.Sequential(Residual(width), Residual(width), nn.Upsample(scale_factor=2))
        self.up = nn.Sequential(
            Residual(width),
            _doubling(Family.DIFFUSION, width, width // 2),
            Residual(width // 2),
            _convolution(width // 2, 3),
        )

    def forward(self, noisy: Tensor, sigma: Tensor) -> Tensor:
        """Take pictures [n, 3, S, S] and sigma [n]; return the guess of the same shape."""
        features = self.stem(noisy) + self.level(sigma.log()[:, None])[..., None, None]
        features = self.fine(features)
        guess: Tensor = self.up(features + self.coarse(self.down(features)))
        return guess


class Diffusion(nn.Module):
    """Noise a picture a little and denoise it in a few DDIM steps, image to image."""

    def __init__(self, width: int = 32, sigmas: tuple[float, ...] = FINE_SIGMAS) -> None:
        super().__init__()
        self.denoiser = Denoiser(width)
        self.sigmas = sigmas

    def forward(self, pictures: Tensor, noise: Tensor) -> Tensor:
        """Take pictures and standard normal noise of the same shape."""
        noisy = pictures + self.sigmas[0] * noise
        for sigma, lower in zip(self.sigmas, (*self.sigmas[1:], 0.0), strict=True):
            guess = self.denoiser(noisy, torch.full_like(noisy[:, 0, 0, 0], sigma))
            noisy = guess + (lower / sigma) * (noisy - guess)
        return noisy


class Critic(nn.Module):
    """The adversary of the adversarial family: one verdict per 8x8 patch."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.PixelUnshuffle(2),
            _convolution(12, width),
            nn.LeakyReLU(0.2),
            _convolution(width, 2 * width, stride=2),
            nn.LeakyReLU(0.2),
            _convolution(2 * width, 1),
        )

    def forward(self, pictures: Tensor) -> Tensor:
        """Return verdicts [n, 1, S / 4, S / 4]; higher is more like a camera's."""
        verdicts: Tensor = self.body(pictures)
        return verdicts


def new_generator(family: Family, *, seed: int, coarse: bool = False) -> nn.Module:
    """Return the untrained generator of a family; seeds torch's global random numbers.

    A coarse one has a latent of a quarter of the picture's side instead of half, or stronger noise:
    what it leaves is still there when the picture is made smaller.
    """
    torch.manual_seed(seed)
    if family is Family.DIFFUSION:
        return Diffusion(sigmas=COARSE_SIGMAS if coarse else FINE_SIGMAS)
    return Autoencoder(family, doublings=2 if coarse else 1)
