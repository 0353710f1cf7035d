"""An engine without weights: quick, countable, and held up on demand."""

from __future__ import annotations

import threading

import numpy as np

from d3.domain.errors import D3Error
from d3.domain.images import Pixels
from d3.domain.models import Manifest, StoredModel
from d3.domain.ports.detector import Logits


class FakeEngine:
    """Implements ``Engine``; its detectors score by the mean pixel.

    Attributes:
        may_load: cleared, a load waits until it is set.
        may_score: cleared, scoring waits until it is set.
        loading: released once for each load that has begun.
        scoring: released once for each forward pass that has begun.
        failure: raised by the next load, while it is not None.
        detectors: every one that was made.
    """

    def __init__(self) -> None:
        self.may_load = threading.Event()
        self.may_score = threading.Event()
        self.may_load.set()
        self.may_score.set()
        self.loading = threading.Semaphore(0)
        self.scoring = threading.Semaphore(0)
        self.failure: D3Error | None = None
        self.detectors: list[FakeDetector] = []

    def load(self, model: StoredModel) -> FakeDetector:
        """A detector, when that is allowed."""
        self.loading.release()
        self.may_load.wait()
        if self.failure is not None:
            raise self.failure
        self.detectors.append(FakeDetector(self, model.manifest))
        return self.detectors[-1]


class FakeDetector:
    """Implements ``Detector``.

    Attributes:
        manifest: of the model it stands for.
        batches: the number of images in each forward pass so far.
        closed: whether its memory was given back.
    """

    engine = "fake"
    device = "cpu"
    precision = "fp32"
    weights_bytes = 0

    def __init__(self, engine: FakeEngine, manifest: Manifest) -> None:
        self._engine = engine
        self.manifest = manifest
        self.batches: list[int] = []
        self.closed = False

    def score(self, pixels: Pixels, views: int) -> Logits:
        """Logits between -4 and 4: the brighter, the more generated; views differ a little."""
        if self.closed:
            raise RuntimeError("the detector is closed")
        self.batches.append(len(pixels))
        self._engine.scoring.release()
        self._engine.may_score.wait()
        brightness = pixels.reshape(len(pixels), -1).mean(axis=1) / 255.0
        logits: Logits = 8 * brightness[:, None] - 4 + 0.01 * np.arange(views)
        return logits

    def close(self) -> None:
        """Give nothing back, and remember it."""
        self.closed = True
