"""Makes ``watermarks/``: pictures that the library ``invisible-watermark`` 0.2.0 has marked.

Run where that library is installed: ``python tests/data/watermarks.py``. It needs PyTorch, OpenCV
and PyWavelets, so the pictures are committed and the tests do without it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from imwatermark import WatermarkEncoder
from PIL import Image

SIDE = 512
MESSAGES = {
    "sdxl": [int(bit) for bit in f"{0xB3EC907BB19E:b}"],
    "flux": [int(bit) for bit in f"{0x2AFE879CF52E:b}"],
    "sd1": b"StableDiffusionV1",
    "sd2": b"SDV2",
}
FOLDER = Path(__file__).parent / "watermarks"


def scene() -> np.ndarray:
    """Soft hills of colour, (height, width, 3) uint8."""
    rows, columns = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    waves = [
        np.sin(7 * rows + 3 * columns) + np.cos(5 * columns * rows + channel)
        for channel in range(3)
    ]
    return np.clip(128 + 35 * np.stack(waves, -1), 0, 255).astype(np.uint8)


def main() -> None:
    """Mark the scene with each message."""
    FOLDER.mkdir(exist_ok=True)
    unmarked = scene()
    for name, message in MESSAGES.items():
        encoder = WatermarkEncoder()
        encoder.set_watermark("bytes" if isinstance(message, bytes) else "bits", message)
        marked = encoder.encode(np.ascontiguousarray(unmarked[..., ::-1]), "dwtDct")
        Image.fromarray(marked[..., ::-1].copy()).save(FOLDER / f"{name}.webp", lossless=True)


if __name__ == "__main__":
    main()
