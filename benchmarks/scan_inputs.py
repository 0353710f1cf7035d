"""What scans are measured with: photographs, and parts that do nothing."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from d3.domain.images import DecodedImage, ImageFacts, ImageSource, Pixels
from d3.domain.inputs import PixelsWanted
from d3.domain.models import StoredModel
from d3.domain.ports.detector import Logits
from d3.domain.ports.scans import Listed


class Nothing:
    """A detector that does nothing, and the engine that makes it."""

    engine = "nothing"
    device = "cpu"
    precision = "fp32"
    weights_bytes = 0

    def load(self, model: StoredModel) -> Nothing:
        return self

    def score(self, pixels: Pixels, views: int) -> Logits:
        return np.zeros((len(pixels), views))

    def close(self) -> None: ...


class Undecoded:
    """A decoder that looks at nothing."""

    def __init__(self) -> None:
        self._pixels = np.zeros((224, 224, 3), np.uint8)

    def recognises(self, path: Path) -> bool:
        return True

    def decode(
        self,
        source: ImageSource,
        wanted: int | PixelsWanted | None,
        also: Sequence[PixelsWanted] = (),
    ) -> DecodedImage:
        assert isinstance(source, bytes)
        facts = ImageFacts("JPEG", 640, 480, 1, len(source), "0" * 64)
        return DecodedImage(self._pixels, facts)

    def picture(self, source: ImageSource, side: int) -> Pixels:
        return self._pixels

    def close(self) -> None: ...


class Simulated:
    """A store of so many keys, each a small image."""

    source = "s3://simulated/"
    named = False

    def __init__(self, keys: int) -> None:
        self._keys = keys
        self._pixels = np.zeros((16, 16, 3), np.uint8)

    def list(self, after: str | None) -> Iterator[Listed]:
        start = 0 if after is None else int(after) + 1
        for number in range(start, self._keys):
            yield Listed(f"s3://simulated/a/prefix/of/some/length/{number:09}.jpg", str(number))

    def read(self, uri: str) -> ImageSource:
        return self._pixels

    def check(self) -> None: ...


def photographs(folder: Path, images: int) -> list[Path]:
    """JPEGs of 640 x 480, smooth with some noise; ten contents under many names."""
    folder.mkdir()
    draw, contents = np.random.default_rng(0), []
    for _ in range(10):
        smooth = Image.fromarray(draw.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        pixels = np.asarray(smooth.resize((640, 480), Image.Resampling.BICUBIC))
        noisy = np.clip(pixels + draw.normal(0, 6, pixels.shape), 0, 255).astype(np.uint8)
        stream = io.BytesIO()
        Image.fromarray(noisy).save(stream, "JPEG", quality=90)
        contents.append(stream.getvalue())
    files = [folder / f"{number:06}.jpg" for number in range(images)]
    for number, file in enumerate(files):
        file.write_bytes(contents[number % len(contents)])
    return files
