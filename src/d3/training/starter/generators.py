"""The small generators that make the second picture of a pair, and their training.

A family is named by what leaves traces: how it upsamples its latent, or how it was trained. All
take and give pictures [n, 3, S, S] in [-1, 1], S a multiple of four.

All learn to reproduce what the camera saw: absolute error plus the error of neighbouring
differences, which keeps fine detail. The adversarial family also has a critic, the
diffusion-like one learns to remove noise.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from d3.training.starter.parallel import in_bfloat16, two_at_a_time


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


Pictures: TypeAlias = NDArray[np.uint8]

CROP = 64
BATCH = 16
PEAK_RATE = 4e-3
ADVERSARIAL_WEIGHT = 0.1


def train_generators(
    pictures: Pictures,
    *,
    steps: int,
    seed: int,
    coarse: bool = False,
    progress: Callable[[float], None] = lambda _share: None,
) -> dict[Family, nn.Module]:
    """Train one generator of every family on pictures [n, S, S, 3]."""
    seeds = {family: seed + number for number, family in enumerate(Family)}
    fresh = {one: new_generator(one, seed=seeds[one], coarse=coarse) for one in Family}
    critics = {Family.ADVERSARIAL: Critic()}

    def train(family: Family) -> nn.Module:
        return train_generator(
            fresh[family], critics.get(family), pictures, steps=steps, seed=seeds[family]
        )

    generators = {}
    with two_at_a_time() as pool:
        for family, trained in zip(Family, pool.map(train, Family), strict=True):
            generators[family] = trained
            progress(len(generators) / len(Family))
    return generators


def train_generator(
    generator: nn.Module, critic: Critic | None, pictures: Pictures, *, steps: int, seed: int
) -> nn.Module:
    """Train a generator on camera pictures [n, S, S, 3], against a critic if there is one."""
    rng = np.random.default_rng([seed, 3])
    chance = torch.Generator().manual_seed(seed)
    generator = generator.to(memory_format=torch.channels_last)
    update = _Update(generator, steps)
    critic_update = _Update(critic, steps) if critic is not None else None
    for _ in range(steps):
        target = _crops(pictures, rng)
        with in_bfloat16():
            if isinstance(generator, Diffusion):
                loss = _denoising_error(generator, target, chance)
            else:
                redrawn = generator(target).float()
                loss = _reconstruction_error(redrawn, target)
                if critic is not None and critic_update is not None:
                    judged = critic(redrawn.detach()).float(), critic(target).float()
                    critic_update(
                        torch.relu(1 + judged[0]).mean() + torch.relu(1 - judged[1]).mean()
                    )
                    loss = loss - ADVERSARIAL_WEIGHT * critic(redrawn).float().mean()
        update(loss)
    return generator.eval()


def redraw(generator: nn.Module, pictures: Pictures, *, seed: int) -> NDArray[np.float32]:
    """Pass pictures [n, S, S, 3] through a generator; return float32 RGB in [0, 1], same shape."""
    chance = torch.Generator().manual_seed(seed)
    chunks = []
    with torch.inference_mode(), in_bfloat16():
        for start in range(0, len(pictures), BATCH):
            batch = _to_tensor(pictures[start : start + BATCH])
            if isinstance(generator, Diffusion):
                redrawn = generator(batch, torch.randn(batch.shape, generator=chance))
            else:
                redrawn = generator(batch)
            planes = (redrawn.float().clamp(-1, 1) + 1) / 2
            chunks.append(planes.permute(0, 2, 3, 1).numpy())
    return np.ascontiguousarray(np.concatenate(chunks))


class _Update:
    """One optimiser step with clipped gradients under a one-cycle learning rate."""

    def __init__(self, network: nn.Module, steps: int) -> None:
        self._parameters = list(network.parameters())
        self._optimiser = torch.optim.Adam(self._parameters, lr=PEAK_RATE)
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(
            self._optimiser, PEAK_RATE, total_steps=max(steps, 2)
        )

    def __call__(self, loss: Tensor) -> None:
        self._optimiser.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self._parameters, 1.0)
        self._optimiser.step()
        self._schedule.step()


def _reconstruction_error(redrawn: Tensor, target: Tensor) -> Tensor:
    error = redrawn - target
    vertical = error[:, :, 1:] - error[:, :, :-1]
    horizontal = error[..., 1:] - error[..., :-1]
    return error.abs().mean() + vertical.abs().mean() + horizontal.abs().mean()


def _denoising_error(generator: Diffusion, target: Tensor, chance: torch.Generator) -> Tensor:
    low, high = np.log(generator.sigmas[-1]), np.log(generator.sigmas[0])
    sigma = torch.empty(len(target)).uniform_(float(low), float(high), generator=chance).exp()
    noisy = target + sigma[:, None, None, None] * torch.randn(target.shape, generator=chance)
    return _reconstruction_error(generator.denoiser(noisy, sigma).float(), target)


def _crops(pictures: Pictures, rng: np.random.Generator) -> Tensor:
    """Cut random squares whose corners are even, as the mosaic's period is two."""
    crop = min(CROP, pictures.shape[1])
    which = rng.integers(0, len(pictures), BATCH)
    corners = rng.integers(0, (pictures.shape[1] - crop) // 2 + 1, (BATCH, 2)) * 2
    return _to_tensor(
        np.stack(
            [
                pictures[index, top : top + crop, left : left + crop]
                for index, (top, left) in zip(which, corners, strict=True)
            ]
        )
    )


def _to_tensor(pictures: Pictures) -> Tensor:
    planes = torch.from_numpy(np.array(pictures)).permute(0, 3, 1, 2).float().div(127.5).sub(1)
    return planes.contiguous(memory_format=torch.channels_last)
