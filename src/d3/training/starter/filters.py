"""Image filters in plain numpy, and matching of a picture's colour, sharpness and noise.

Images are float32 arrays [height, width] or [height, width, channels]; borders repeat the edge.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Image: TypeAlias = NDArray[np.float32]

LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
_TO_YCBCR = np.array(
    [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]],
    dtype=np.float32,
)
_FROM_YCBCR = np.linalg.inv(_TO_YCBCR).astype(np.float32)


def convolve_axis(image: Image, kernel: NDArray[np.float32], axis: int) -> Image:
    """Correlate one axis with an odd-length kernel."""
    reach = len(kernel) // 2
    padding = [(0, 0)] * image.ndim
    padding[axis] = (reach, reach)
    padded = np.pad(image, padding, mode="edge")
    length = image.shape[axis]
    total = np.zeros_like(image)
    window: list[slice] = [slice(None)] * image.ndim
    for offset, weight in enumerate(kernel):
        window[axis] = slice(offset, offset + length)
        total += weight * padded[tuple(window)]
    return total


def convolve(image: Image, kernel: NDArray[np.float32]) -> Image:
    """Correlate with a small two-dimensional odd-sized kernel, channel by channel."""
    rows, columns = kernel.shape[0] // 2, kernel.shape[1] // 2
    padding = [(rows, rows), (columns, columns)] + [(0, 0)] * (image.ndim - 2)
    padded = np.pad(image, padding, mode="edge")
    height, width = image.shape[:2]
    total = np.zeros_like(image)
    for row, column in zip(*np.nonzero(kernel), strict=True):
        total += kernel[row, column] * padded[row : row + height, column : column + width]
    return total


def gaussian_blur(image: Image, sigma: float) -> Image:
    """Blur with a Gaussian of `sigma` pixels; below a twentieth of a pixel nothing changes."""
    if sigma < 0.05:
        return image
    reach = max(1, round(3 * sigma))
    steps = np.arange(-reach, reach + 1, dtype=np.float32)
    kernel = np.exp(-0.5 * (steps / np.float32(sigma)) ** 2)
    kernel /= kernel.sum()
    return convolve_axis(convolve_axis(image, kernel, 0), kernel, 1)


def laplacian(image: Image) -> Image:
    """Return the four-neighbour Laplacian (centre weight -4)."""
    spread = [(1, 1), (1, 1)] + [(0, 0)] * (image.ndim - 2)
    padded = np.pad(image, spread, mode="edge")
    return np.asarray(
        padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:] - 4 * image,
        dtype=np.float32,
    )


def to_ycbcr(rgb: Image) -> Image:
    """Convert RGB to luma and two colour differences (zero for grey)."""
    return rgb @ _TO_YCBCR.T


def from_ycbcr(ycbcr: Image) -> Image:
    """Undo `to_ycbcr`."""
    return ycbcr @ _FROM_YCBCR.T


def downscale_by_two(image: Image) -> Image:
    """Average each 2x2 block: what a pixel of half the resolution collects."""
    return np.asarray(
        (image[::2, ::2] + image[1::2, ::2] + image[::2, 1::2] + image[1::2, 1::2]) / 4,
        dtype=np.float32,
    )


SHARPNESS_JITTER = 0.15  # standard deviation of the log ratio of the two sharpnesses
_LAPLACIAN_GAIN = np.float32(np.sqrt(20.0))  # what the Laplacian makes of white noise's deviation


def match_partner(generated: Image, camera: Image, rng: np.random.Generator) -> Image:
    """Match a generated picture's colour, noise and sharpness to its partner's.

    Otherwise a network would learn that generated pictures are smoother, cleaner or greyer, instead
    of the structure that a generator leaves. Both are RGB [S, S, 3] in [0, 1]. Per luma and colour
    difference, mean and contrast become the partner's, grain adds the noise that is missing in
    smooth areas, and the Laplacian's variance becomes the partner's times a random factor near one.
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
