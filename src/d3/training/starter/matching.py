"""Taking away what gives a forgery away too cheaply: colour, sharpness and noise.

A generated picture is brought to its partner's colour, noise level and sharpness before both leave
through the same file format. What is left to learn is the structure a generator imprints, not that
its pictures are smoother, cleaner or greyer.
"""

from __future__ import annotations

import numpy as np

from d3.training.starter.filters import Image, from_ycbcr, gaussian_blur, laplacian, to_ycbcr

SHARPNESS_JITTER = 0.15  # standard deviation of the log ratio of the two sharpnesses
_LAPLACIAN_GAIN = np.float32(np.sqrt(20.0))  # what the Laplacian makes of white noise's deviation


def match_partner(generated: Image, camera: Image, rng: np.random.Generator) -> Image:
    """Bring a generated picture to its partner's colour, noise and sharpness.

    Both are RGB [S, S, 3] in [0, 1]. Per luma and colour difference: mean and contrast become the
    partner's, grain fills the noise that is missing in smooth areas, and the Laplacian's variance
    becomes the partner's times a random factor near one.
    """
    planes, goal = to_ycbcr(generated), to_ycbcr(camera)
    factors = np.exp(rng.normal(0, SHARPNESS_JITTER, 3))
    grain = _grain(rng, planes.shape)
    for channel, factor in enumerate(factors):
        plane, target = planes[..., channel], goal[..., channel]
        plane = (plane - plane.mean()) * (target.std() / (plane.std() + 1e-6)) + target.mean()
        missing = noise_level(target) ** 2 - noise_level(plane) ** 2
        if missing > 0:
            plane = plane + np.float32(np.sqrt(missing)) * grain[..., channel]
        planes[..., channel] = _match_sharpness(
            plane, noise_level(target), float(laplacian(target).var() * factor)
        )
    return np.clip(from_ycbcr(planes), 0, 1)


def noise_level(plane: Image) -> float:
    """Estimate the noise's standard deviation in the smooth part of a plane [S, S].

    The Laplacian's median absolute value is little moved by edges; scaled for white noise.
    """
    return float(np.median(np.abs(laplacian(plane))) / 0.6745 / _LAPLACIAN_GAIN)


def _grain(rng: np.random.Generator, shape: tuple[int, ...]) -> Image:
    """Draw grain of random coarseness whose `noise_level` is one in every channel."""
    grain = gaussian_blur(rng.standard_normal(shape, dtype=np.float32), rng.uniform(0.0, 0.6))
    return np.asarray(grain / (laplacian(grain).std((0, 1)) / _LAPLACIAN_GAIN), dtype=np.float32)


def _match_sharpness(plane: Image, noise: float, target: float) -> Image:
    """Add or remove detail, at edges rather than in noise, for a Laplacian variance of `target`.

    Adding `gain` times the detail makes the variance a quadratic in the gain; its root nearest
    zero changes the picture least. Out of reach, the minimum or the largest gain has to do.
    """
    detail = plane - gaussian_blur(plane, 1.0)
    energy = gaussian_blur(detail * detail, 1.5)
    detail = detail * (energy / (energy + np.float32(6 * noise**2 + 1e-9)))
    base, change = laplacian(plane).ravel(), laplacian(detail).ravel()
    quadratic, linear = float(change.var()), 2 * float(np.mean(base * change))
    constant = float(base.var()) - target
    root = np.sqrt(max(linear**2 - 4 * quadratic * constant, 0.0))
    gain = (root - linear) / (2 * quadratic + 1e-12)
    return plane + np.float32(np.clip(gain, -0.9, 2.5)) * detail
