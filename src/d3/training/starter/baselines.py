"""Trivial detectors a pair must not fall to: each is one number of a picture.

Pairs that one of these could tell apart would teach a network nothing about generators.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from d3.training.starter.delivery import jpeg
from d3.training.starter.filters import LUMA, Image, laplacian, to_ycbcr
from d3.training.starter.forging import Pictures
from d3.training.starter.matching import noise_level


def laplacian_variance(picture: Pictures) -> float:
    """Return the variance of the luma's Laplacian: sharpness, in squared 8-bit levels."""
    return float(laplacian(_luma(picture)).var())


def noise_deviation(picture: Pictures) -> float:
    """Return the estimated deviation of the luma's noise in smooth areas, in 8-bit levels."""
    return noise_level(_luma(picture))


def colour_noise_deviation(picture: Pictures) -> float:
    """Return the estimated deviation of the blue difference's noise, in 8-bit levels."""
    return noise_level(to_ycbcr(picture.astype(np.float32))[..., 1])


def brightness(picture: Pictures) -> float:
    """Return the mean luma, in 8-bit levels."""
    return float(_luma(picture).mean())


def contrast(picture: Pictures) -> float:
    """Return the standard deviation of the luma, in 8-bit levels."""
    return float(_luma(picture).std())


def colourfulness(picture: Pictures) -> float:
    """Return the mean distance of the pixels' colours from grey, in 8-bit levels."""
    return float(np.linalg.norm(to_ycbcr(picture.astype(np.float32))[..., 1:], axis=-1).mean())


def blockiness(picture: Pictures) -> float:
    """Return how much larger steps across JPEG's 8x8 borders are than other steps: a ratio."""
    steps = np.abs(np.diff(_luma(picture), axis=1))
    across = np.arange(steps.shape[1]) % 8 == 7
    return float(steps[:, across].mean() / (steps[:, ~across].mean() + 1e-6))


def compressed_size(picture: Pictures) -> float:
    """Return the bytes of the picture as a JPEG of quality 90."""
    return float(len(jpeg(picture, 90)))


BASELINES: Mapping[str, Callable[[Pictures], float]] = {
    "laplacian_variance": laplacian_variance,
    "noise_deviation": noise_deviation,
    "colour_noise_deviation": colour_noise_deviation,
    "brightness": brightness,
    "contrast": contrast,
    "colourfulness": colourfulness,
    "blockiness": blockiness,
    "compressed_size": compressed_size,
}


def _luma(picture: Pictures) -> Image:
    return picture.astype(np.float32) @ LUMA
