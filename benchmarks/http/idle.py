"""D3 whole, with a detector that does nothing; the cache is off, each row is kept."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from d3.domain.images import DecodedImage, ImageFacts, ImageSource, Pixels
from d3.domain.inputs import PixelsWanted
from d3.domain.models import EncoderSpec, Manifest, ModelFile, StoredModel
from d3.domain.ports.detector import Logits
from d3.entrypoints.http import create_app
from d3.entrypoints.http.app import Application
from d3.settings import Settings

SPEC = EncoderSpec(image_size=28, patch_size=14, width=64, layers=1, heads=1, mlp_width=64)
PIXELS = np.zeros((28, 28, 3), dtype=np.uint8)
FACTS = ImageFacts("JPEG", 28, 28, 1, 100_000, "0" * 64)
FILE = ModelFile("0" * 64, 1)


class NoDecoder:
    """Answers grey at once."""

    _numbers = itertools.count()

    def decode(
        self,
        source: ImageSource,
        wanted: int | PixelsWanted | None,
        also: Sequence[PixelsWanted] = (),
    ) -> DecodedImage:
        # Each an image of its own: identical ones in flight would be scored once.
        return DecodedImage(
            PIXELS, replace(FACTS, sha256=f"{os.getpid():032x}{next(self._numbers):032x}")
        )

    def picture(self, source: ImageSource, side: int) -> Pixels:
        return PIXELS

    def recognises(self, path: Path) -> bool:
        return True

    def close(self) -> None:
        pass


class NoDetector:
    """Answers zeros at once."""

    engine, device, precision = "nothing", "none", "fp32"
    weights_bytes = 0

    def score(self, pixels: Pixels, views: int) -> Logits:
        return np.zeros((len(pixels), views))

    def close(self) -> None:
        pass


class Sleeping(NoDetector):
    """A device that takes its time for each image, one pass after the other, as a GPU does."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._free_at = 0.0

    def start(self, pixels: Pixels, views: int) -> Callable[[], Logits]:
        self._free_at = ends = max(self._free_at, time.monotonic()) + len(pixels) * self._seconds

        def wait() -> Logits:
            time.sleep(max(0.0, ends - time.monotonic()))
            return np.zeros((len(pixels), views))

        return wait

    def settle(self, seconds: float) -> None:
        """It is as quick as it gets."""

    def score(self, pixels: Pixels, views: int) -> Logits:
        return self.start(pixels, views)()


class NoEngine:
    """Makes the detector; ``BENCHMARK_DEVICE_MS`` are its milliseconds an image."""

    def load(self, model: StoredModel) -> NoDetector:
        milliseconds = float(os.environ.get("BENCHMARK_DEVICE_MS", "0"))
        return Sleeping(milliseconds / 1000) if milliseconds else NoDetector()


class OneModel:
    """A registry of one model without files."""

    trouble = None
    manifest = Manifest("nothing", 1, SPEC, FILE, FILE, (tuple(range(SPEC.patches)),))

    def active(self) -> str | None:
        return "nothing"

    def describe(self, name: str, version: int | None = None) -> Manifest:
        return self.manifest

    def open(self, name: str, version: int | None = None) -> StoredModel:
        return StoredModel(self.manifest, {})


def application(name: str, **replaced: Any) -> Application:
    """D3 with a detector that does nothing; rows go to a database of this name."""
    folder = Path(os.environ["BENCHMARK_FOLDER"])
    settings = Settings(home=folder, database_url=f"sqlite:///{folder}/{name}.db", cache_entries=0)
    return create_app(settings, engine=NoEngine(), registry=OneModel(), **replaced)
