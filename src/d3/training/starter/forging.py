"""Training the generators on camera pictures, and letting them redraw pictures.

All families learn to reproduce what the camera saw: absolute error plus the error of the
neighbouring differences, which keeps fine detail. The adversarial family also answers to a critic,
the diffusion-like one learns to remove noise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from d3.training.starter.generators import Critic, Diffusion, Family, new_generator
from d3.training.starter.workers import in_bfloat16, two_at_a_time

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
