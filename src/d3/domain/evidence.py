"""Evidence: a case that can be checked and repeated years later, and what checking it found."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Self

from d3.domain.errors import ReplayImpossible
from d3.domain.history import HistoryEntry, NewEntry
from d3.domain.labels import LabelChange
from d3.domain.models import Manifest
from d3.domain.scoring import AbstainBand, Calibration, Measured, Score, assess

IMAGE_STEM = "image."
"""How the name of an image in a bundle begins."""
FORMAT = "d3-evidence"
FORMAT_VERSION = 1
"""Counts up when a field changes its meaning or goes. Fields may be added without it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """All that is known of one verdict.

    Attributes:
        format: :data:`FORMAT`.
        format_version: :data:`FORMAT_VERSION` of the D3 that wrote it.
        made_at: when the bundle was made, in UTC.
        made_by: for whom; empty without an account.
        d3_version: of the software that made the bundle.
        result: what was recorded of the verdict. Its ``d3_version`` is that of the verdict.
        result_id: in the history; None where it was never stored.
        asked_by: whose request the verdict answered; empty without an account.
        manifest: of the model; None where it is no longer in the registry.
        labels: what people said of the image, newest first.
    """

    format: str = FORMAT
    format_version: int = FORMAT_VERSION
    made_at: datetime
    made_by: str = ""
    d3_version: str
    result: NewEntry
    result_id: int | None = None
    asked_by: str = ""
    manifest: Manifest | None = None
    labels: tuple[LabelChange, ...] = ()

    @property
    def calibration(self) -> Calibration:
        """What was applied to the logits, with its rates where they were measured."""
        result, known = self.result, self.manifest and self.manifest.calibration
        applied = (result.calibration_scale, result.calibration_bias, result.calibration_name)
        same = known and applied == (known.scale, known.bias, known.name)
        return Calibration(*applied, known.measured if known and same else None)

    @property
    def measured(self) -> Measured | None:
        """The rates measured for the threshold applied; None where nobody measured them."""
        known = self.calibration.measured
        return known if known is not None and known.threshold == self.result.threshold else None

    @property
    def label(self) -> LabelChange | None:
        """What people say the image is."""
        return self.labels[0] if self.labels else None

    def assess(self, logits: tuple[float, ...]) -> Score:
        """Read other logits of the image as this verdict was read."""
        result = self.result
        return assess(
            logits,
            threshold=result.threshold,
            calibration=self.calibration,
            abstain_band=AbstainBand(result.abstain_below, result.abstain_above),
            lack=result.reason if result.reason is not None and result.reason.is_lack else None,
        )


def check_image(case: Case, image: bytes) -> None:
    """Check that an image is the one that the case is about.

    Raises:
        ReplayImpossible: it is not, or nobody knows which one that was.
    """
    recorded, found = case.result.image_sha256, hashlib.sha256(image).hexdigest()
    if recorded is None:
        raise ReplayImpossible("The case does not say which image it is about (no SHA-256).")
    if found != recorded:
        raise ReplayImpossible(
            f"This is not the image of the case: its SHA-256 is {found}, and the case's is "
            f"{recorded}.",
            "Name the original file. A copy that was opened and saved again is another file.",
        )


def recorded(entry: HistoryEntry) -> NewEntry:
    """An entry of the history without its place in it."""
    return NewEntry(**{one.name: getattr(entry, one.name) for one in fields(NewEntry)})


@dataclass(frozen=True, slots=True)
class OpenedEvidence:
    """A bundle whose members are as they were written.

    Attributes:
        case: what it says.
        members: its files by name, in order.
        key_id: of the key that signed it; None for a bundle without a signature.
        public_key: that key, PEM; it came with the bundle.
    """

    case: Case
    members: Mapping[str, bytes]
    key_id: str | None = None
    public_key: bytes = b""

    @property
    def image(self) -> bytes | None:
        """The image, where the bundle holds it."""
        return next(
            (one for name, one in self.members.items() if name.startswith(IMAGE_STEM)), None
        )


@dataclass(frozen=True, slots=True)
class Means:
    """By which means logits were computed.

    Attributes:
        engine: such as ``"torch"``.
        precision: such as ``"fp32"``.
        device: such as ``"cpu"``.
        libraries: versions of what decides the numbers.
    """

    engine: str
    precision: str
    device: str
    libraries: str

    @classmethod
    def of(cls, result: NewEntry) -> Self:
        """Those of a recorded verdict."""
        return cls(result.engine, result.precision, result.device, result.libraries)


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """A case that was scored again.

    Attributes:
        before: how the recorded numbers came to be.
        now: how the new ones did.
        logits: raw, one per view.
        score: they read as the recorded verdict was read.
        drift: the largest difference of a probability from the recorded one, of any view.
        allowed: how large it may be between these means.
        holds: whether it is not larger.
        verdict_changed: whether another verdict follows; possible within the drift where the
            probability is near the threshold or the edge of the abstain band.
    """

    before: Means
    now: Means
    logits: tuple[float, ...]
    score: Score
    drift: float
    allowed: float
    verdict_changed: bool

    @property
    def holds(self) -> bool:
        """Whether the recorded numbers hold."""
        return self.drift <= self.allowed
