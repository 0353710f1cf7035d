"""The flat record of a judged image: tables, files, answers and pages all read its fields.

A field that is added here has a column, stands in every export and, once the API's schema names it,
in every answer.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from types import UnionType
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin, get_type_hints

from d3.domain.clips import MAX_CLIP, ClipVerdict
from d3.domain.images import ImageFacts, Note
from d3.domain.models import ModelReference
from d3.domain.panels import (
    MAX_PANEL,
    Agreement,
    Missing,
    Opinion,
    PanelRule,
    PanelVerdict,
)
from d3.domain.provenance import MAX_SOURCES, Provenance, Says
from d3.domain.scoring import Reason, Verdict

MAX_NOTICE = 1000
"""The most characters of a notice that are kept."""


@dataclass(frozen=True, slots=True)
class Length:
    """The most characters of a text that are kept."""

    characters: int


Text16 = Annotated[str, Length(16)]
Text32 = Annotated[str, Length(32)]
Text64 = Annotated[str, Length(64)]
Text255 = Annotated[str, Length(255)]
Text512 = Annotated[str, Length(512)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRecord:
    """What results and the rows of scans both record of an image; None where it is not known.

    Attributes:
        image_sha256: hexadecimal, see :class:`d3.domain.images.ImageFacts`.
        image_format: such as ``"JPEG"``.
        image_width: pixels.
        image_height: pixels.
        image_frames: frames of a clip or an animation, pages or pictures; of all but clips the
            first is judged.
        image_bytes: length of the file.
        image_note: what is unusual about the file; None where there is nothing to say.
        reason: why the verdict is ``uncertain``; None where it is not.
        notice: what must be said beside the verdict, from the model's manifest; may be empty.
        provenance_says: what the file says about itself; None where nobody looked.
        provenance_sources: where it says so: :meth:`d3.domain.provenance.Provenance.to_json`.
        panel: what each model of a panel said, :meth:`d3.domain.panels.PanelVerdict.to_json`; empty
            where one model judged alone.
        agreement: what they are to each other; None where there are fewer than two.
        stability_probabilities: the probability after each harmless change of the image, a JSON
            object by :class:`d3.domain.inputs.Change`; empty where that was not asked for.
        clip: what was seen over a clip's time, :meth:`d3.domain.clips.ClipVerdict.to_json`; empty
            for a still.
    """

    image_sha256: Text64 | None = None
    image_format: Text32 | None = None
    image_width: int | None = None
    image_height: int | None = None
    image_frames: int | None = None
    image_bytes: int | None = None
    image_note: Annotated[Note, Length(32)] | None = None
    reason: Annotated[Reason, Length(32)] | None = None
    notice: Annotated[str, Length(MAX_NOTICE)] = ""
    provenance_says: Annotated[Says, Length(16)] | None = None
    provenance_sources: Annotated[str, Length(MAX_SOURCES)] = ""
    panel: Annotated[str, Length(MAX_PANEL)] = ""
    agreement: Annotated[Agreement, Length(16)] | None = None
    stability_probabilities: Text512 = ""
    clip: Annotated[str, Length(MAX_CLIP)] = ""

    @property
    def reason_text(self) -> str | None:
        """The reason as a sentence."""
        return None if self.reason is None else self.reason.sentence

    @property
    def image_note_text(self) -> str | None:
        """The note as a sentence."""
        return None if self.image_note is None else self.image_note.sentence

    @property
    def panel_verdict(self) -> PanelVerdict | None:
        """What each model of a panel said; None where one model judged alone."""
        return _read_panel(self.panel) if self.panel else None

    @property
    def opinions(self) -> tuple[Opinion, ...]:
        """What each model of a panel said, the chief first; empty where one model judged alone."""
        found = self.panel_verdict
        return () if found is None else found.opinions

    @property
    def missing(self) -> tuple[Missing, ...]:
        """The models of a panel that gave no opinion."""
        found = self.panel_verdict
        return () if found is None else found.missing

    @property
    def panel_rule(self) -> PanelRule | None:
        """How the opinions became one verdict; None where one model judged alone."""
        found = self.panel_verdict
        return None if found is None else found.rule

    @property
    def stability(self) -> dict[str, float]:
        """The probability after each harmless change; empty where that was not asked for."""
        text = self.stability_probabilities
        return dict(json.loads(text)) if text else {}

    @property
    def clip_verdict(self) -> ClipVerdict | None:
        """What was seen over a clip's time; None for a still."""
        return _read_clip(self.clip) if self.clip else None

    @property
    def provenance(self) -> Provenance | None:
        """What the file says about itself; None where nobody looked."""
        if self.provenance_says is None:
            return None
        found = Provenance.from_json(self.provenance_sources)
        return Provenance(self.provenance_says, found.sources)


_read_panel = lru_cache(maxsize=16)(PanelVerdict.from_json)  # answers read it several times
_read_clip = lru_cache(maxsize=4)(ClipVerdict.from_json)


def parsed(record: ImageRecord) -> dict[str, Any]:
    """What records keep as the text of a JSON object, as JSON documents hold it, by name."""
    provenance = record.provenance
    return {
        "provenance": None if provenance is None else provenance.to_dict(),
        "opinions": [asdict(one) for one in record.opinions],
        "missing": [asdict(one) for one in record.missing],
        "panel_rule": record.panel_rule,
        "stability": record.stability,
        "clip": None if record.clip_verdict is None else asdict(record.clip_verdict),
    }


IMAGE_FACTS = {
    one.name: {"image_bytes": "size_bytes"}.get(one.name, one.name.removeprefix("image_"))
    for one in fields(ImageRecord)
    if one.name.startswith("image_")
}
"""A record's fields about the file, with their names in :class:`d3.domain.images.ImageFacts`."""


def image_fields(image: ImageFacts) -> dict[str, Any]:
    """What a record holds of these facts, by its own names."""
    facts = {field: getattr(image, fact) for field, fact in IMAGE_FACTS.items()}
    if image.provenance is not None:
        facts["provenance_says"] = image.provenance.says
        facts["provenance_sources"] = image.provenance.to_json()
    return facts


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultRecord(ImageRecord):
    """All that is recorded of a verdict: enough to repeat it years later.

    Attributes:
        image_name: display name.
        prediction: probability in [0, 1] that the image is generated, after calibration.
        is_fake: ``prediction > threshold``, and no more than that: where the two could differ, go
            by the verdict.
        verdict: ``fake`` or ``real``; ``uncertain`` where the views or the model's abstain band
            lie on both sides of the threshold, and where the image carries nothing to judge.
        confidence: ``2 * |prediction - 0.5|``, in [0, 1].
        threshold: in [0, 1], the one applied.
        logit: mean over the views, before calibration; None where it was never recorded.
        views: how many permutations were averaged.
        spread: largest minus smallest probability of the views; 0 for one view.
        processing_time: seconds for this image: its decoding and its share of the forward pass.
        model_name: which model answered; None where it was never recorded.
        model_version: likewise.
        model_sha256: likewise.
        engine: what ran it, such as ``"torch"``.
        precision: ``"fp32"``, ``"fp16"``, ``"bf16"`` or ``"int8"``; the head always runs in
            float32.
        calibration_name: where the calibration came from.
        calibration_scale: the logit is multiplied by this before the sigmoid.
        calibration_bias: and this is added.
        abstain_below: the abstain band: a distance in probability under the threshold.
        abstain_above: likewise over it.
        view_logits: each view's raw logit, a JSON list; empty for one view, whose logit is
            ``logit``, and where they were never recorded.
        device: where the engine ran, such as ``"cpu"``; empty where it was never recorded.
        libraries: versions of what decides the numbers; likewise.
    """

    image_name: Text255
    prediction: float
    is_fake: bool
    verdict: Annotated[Verdict, Length(16)]
    confidence: float
    threshold: float
    logit: float | None = None
    views: int = 1
    spread: float = 0.0
    processing_time: float
    model_name: Text255 | None = None
    model_version: int | None = None
    model_sha256: Text64 | None = None
    engine: Text32 = ""
    precision: Text16 = ""
    calibration_name: Text255 = "none"
    calibration_scale: float = 1.0
    calibration_bias: float = 0.0
    abstain_below: float = 0.0
    abstain_above: float = 0.0
    view_logits: Text512 = ""
    device: Text64 = ""
    libraries: Text255 = ""

    @property
    def logits(self) -> tuple[float, ...]:
        """Each view's raw logit; empty where they were never recorded."""
        if self.view_logits:
            return tuple(json.loads(self.view_logits))
        return (self.logit,) if self.views == 1 and self.logit is not None else ()

    @property
    def model(self) -> ModelReference | None:
        """Which model answered; None where it was never recorded."""
        if self.model_name is None or self.model_version is None or self.model_sha256 is None:
            return None
        return ModelReference(self.model_name, self.model_version, self.model_sha256)


class Field(NamedTuple):
    """A field of a record, for whoever stores or writes it.

    Attributes:
        kind: ``str``, an enumeration of words, ``int``, ``float``, ``bool`` or ``datetime``.
        length: the most characters of a text that are kept; None for other kinds.
        optional: whether it may be None.
    """

    kind: type[str | StrEnum | float | datetime]
    length: int | None
    optional: bool


def fields_of(record: type[ImageRecord]) -> dict[str, Field]:
    """The fields of a record by name, in the order of the class."""
    hints = get_type_hints(record, include_extras=True)
    return {one.name: _field(hints[one.name]) for one in fields(record)}


def in_order(first: tuple[str, ...], record: type[ImageRecord]) -> tuple[str, ...]:
    """The columns of a file: those it always had, then the fields that the record has gained."""
    return (*first, *(one.name for one in fields(record) if one.name not in first))


def _field(hint: Any) -> Field:
    optional = get_origin(hint) in {Union, UnionType}
    if optional:
        (hint,) = (one for one in get_args(hint) if one is not type(None))
    length = None
    if get_origin(hint) is Annotated:
        hint, length = hint.__origin__, hint.__metadata__[0].characters
    return Field(hint, length, optional)
