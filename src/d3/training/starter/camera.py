"""The rendered camera: optics, Bayer mosaic, shot and read noise, demosaicing and tone.

The order is a real camera's, so its traces are too: colour noise correlated by the demosaicing,
noise that grows with the square root of the light, colour fringes, a falling-off towards corners.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image as PillowImage

from d3.training.starter.filters import (
    Image,
    convolve,
    downscale_by_two,
    from_ycbcr,
    gaussian_blur,
    to_ycbcr,
)


@dataclass(frozen=True, slots=True)
class CameraSettings:
    """One camera and one exposure."""

    blur: float  # standard deviation of the lens blur, in sensor pixels
    vignette: float  # share of light lost in the corners
    fringe: float  # relative size difference of the red and blue images
    exposure: float  # gain before the sensor
    full_well: float  # electrons at white: fewer means noisier
    read_noise: float  # electrons
    pattern: int  # which of the four Bayer arrangements
    gradient_corrected: bool  # Malvar-He-Cutler instead of bilinear demosaicing
    balance: tuple[float, float]  # red and blue gains of the white balance
    gamma: float
    contrast: float  # strength of the tone curve's S
    saturation: float
    chroma_smoothing: float  # pixels: in-camera denoising of colour only
    sharpening: float  # in-camera unsharp masking


def draw_camera(rng: np.random.Generator) -> CameraSettings:
    """Draw a camera and an exposure."""
    return CameraSettings(
        blur=rng.uniform(0.25, 0.8),
        vignette=rng.uniform(0.0, 0.4),
        fringe=rng.uniform(-0.003, 0.003),
        exposure=rng.uniform(0.7, 1.3),
        full_well=float(np.exp(rng.uniform(np.log(400), np.log(8000)))),
        read_noise=rng.uniform(1.0, 6.0),
        pattern=int(rng.integers(4)),
        gradient_corrected=bool(rng.random() < 0.6),
        balance=(rng.uniform(1.2, 2.0), rng.uniform(1.2, 2.0)),
        gamma=rng.uniform(2.0, 2.4),
        contrast=rng.uniform(0.0, 0.6),
        saturation=rng.uniform(0.8, 1.3),
        chroma_smoothing=float(rng.choice([0.0, 0.5, 0.8])),
        sharpening=float(rng.choice([0.0, 0.3, 0.7])),
    )


def photograph(scene: Image, settings: CameraSettings, rng: np.random.Generator) -> Image:
    """Take a picture of a scene drawn at twice the sensor's resolution.

    `scene` is linear RGB [2S, 2S, 3] in [0, 1]; the picture is gamma-encoded RGB [S, S, 3] in
    [0, 1], float32, before any file format.
    """
    light = downscale_by_two(gaussian_blur(_fringe(scene, settings.fringe), 2 * settings.blur))
    light *= settings.exposure * _falloff(light.shape[0], settings.vignette)[..., None]
    gains = np.array([settings.balance[0], 1.0, settings.balance[1]], dtype=np.float32)
    rows, columns = divmod(settings.pattern, 2)
    raw = _mosaic(light / gains, rows, columns)
    electrons = rng.poisson(np.clip(raw, 0, 1) * settings.full_well).astype(np.float32)
    electrons += settings.read_noise * rng.standard_normal(raw.shape, dtype=np.float32)
    raw = electrons / np.float32(settings.full_well)
    white = _mosaic(np.broadcast_to(gains, light.shape), rows, columns)
    demosaic = _gradient_corrected if settings.gradient_corrected else _bilinear
    return _develop(np.clip(demosaic(raw * white, rows, columns), 0, 1), settings)


def _develop(linear: Image, settings: CameraSettings) -> Image:
    """Turn linear RGB into a finished picture: tone, colour, smoothing, sharpening."""
    toned = linear ** np.float32(1 / settings.gamma)
    smooth_step = toned * toned * (3 - 2 * toned)
    toned = toned + np.float32(settings.contrast) * (smooth_step - toned)
    ycbcr = to_ycbcr(toned)
    ycbcr[..., 1:] = np.float32(settings.saturation) * gaussian_blur(
        ycbcr[..., 1:], settings.chroma_smoothing
    )
    luma = ycbcr[..., 0]
    ycbcr[..., 0] = luma + np.float32(settings.sharpening) * (luma - gaussian_blur(luma, 1.0))
    return np.clip(from_ycbcr(ycbcr), 0, 1)


def _fringe(scene: Image, fringe: float) -> Image:
    """Scale red up and blue down about the centre, as lateral chromatic aberration does."""
    size = scene.shape[0]
    channels = [scene[..., 1]] * 3
    for channel, scale in ((0, 1 + fringe), (2, 1 - fringe)):
        edge = (1 - scale) * size / 2
        sheet = PillowImage.fromarray(np.ascontiguousarray(scene[..., channel]))
        moved = sheet.transform(
            (size, size),
            PillowImage.Transform.AFFINE,
            (scale, 0, edge, 0, scale, edge),
            resample=PillowImage.Resampling.BILINEAR,
        )
        border = int(abs(edge)) + 2
        plane = np.array(moved)
        plane[:border], plane[-border:] = plane[border], plane[-border - 1]
        plane[:, :border], plane[:, -border:] = (
            plane[:, border : border + 1],
            plane[:, -border - 1 : -border],
        )
        channels[channel] = plane
    return np.stack(channels, axis=-1)


def _falloff(size: int, strength: float) -> Image:
    axis = np.linspace(-1, 1, size, dtype=np.float32) ** 2
    return 1 - np.float32(strength / 2) * (axis[:, None] + axis[None, :])


def _sites(shape: tuple[int, ...], row: int, column: int) -> Image:
    """Return the mask of one Bayer site: every second pixel from (row, column)."""
    mask = np.zeros(shape[:2], dtype=np.float32)
    mask[row % 2 :: 2, column % 2 :: 2] = 1
    return mask


def _mosaic(colour: Image, rows: int, columns: int) -> Image:
    """Keep at each pixel the one colour its filter lets through; red starts at (rows, columns)."""
    raw = colour[..., 1].copy()
    raw[rows::2, columns::2] = colour[rows::2, columns::2, 0]
    raw[1 - rows :: 2, 1 - columns :: 2] = colour[1 - rows :: 2, 1 - columns :: 2, 2]
    return raw


_CROSS: Image = np.array([[0, 1, 0], [1, 4, 1], [0, 1, 0]], np.float32) * np.float32(0.25)
_SQUARE: Image = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]], np.float32) * np.float32(0.25)


def _bilinear(raw: Image, rows: int, columns: int) -> Image:
    red = _sites(raw.shape, rows, columns)
    blue = _sites(raw.shape, rows + 1, columns + 1)
    return np.stack(
        [
            convolve(raw * red, _SQUARE),
            convolve(raw * (1 - red - blue), _CROSS),
            convolve(raw * blue, _SQUARE),
        ],
        axis=-1,
    )


# Malvar, He and Cutler, "High-quality linear interpolation for demosaicing" (2004), figure 2.
_GREEN = np.array(
    [[0, 0, -1, 0, 0], [0, 0, 2, 0, 0], [-1, 2, 4, 2, -1], [0, 0, 2, 0, 0], [0, 0, -1, 0, 0]],
    np.float32,
) * np.float32(0.125)
_SAME_ROW = np.array(
    [
        [0, 0, 0.5, 0, 0],
        [0, -1, 0, -1, 0],
        [-1, 4, 5, 4, -1],
        [0, -1, 0, -1, 0],
        [0, 0, 0.5, 0, 0],
    ],
    np.float32,
) * np.float32(0.125)
_SAME_COLUMN = np.ascontiguousarray(_SAME_ROW.T)
_DIAGONAL = np.array(
    [
        [0, 0, -1.5, 0, 0],
        [0, 2, 0, 2, 0],
        [-1.5, 0, 6, 0, -1.5],
        [0, 2, 0, 2, 0],
        [0, 0, -1.5, 0, 0],
    ],
    np.float32,
) * np.float32(0.125)


def _gradient_corrected(raw: Image, rows: int, columns: int) -> Image:
    red = _sites(raw.shape, rows, columns)
    blue = _sites(raw.shape, rows + 1, columns + 1)
    green_by_red = _sites(raw.shape, rows, columns + 1)
    green_by_blue = _sites(raw.shape, rows + 1, columns)
    green = np.where(red + blue > 0, convolve(raw, _GREEN), raw)
    in_row, in_column = convolve(raw, _SAME_ROW), convolve(raw, _SAME_COLUMN)
    across = convolve(raw, _DIAGONAL)
    return np.stack(
        [
            raw * red + in_row * green_by_red + in_column * green_by_blue + across * blue,
            green,
            raw * blue + in_row * green_by_blue + in_column * green_by_red + across * red,
        ],
        axis=-1,
    )
