"""The few image filters the renderer and the baselines share, in plain numpy.

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
