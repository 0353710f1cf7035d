"""What the report of a case says, in the order of a reader who has to decide; HTML and PDF show it.

Whoever reads it may know nothing of detectors. So numbers come with what they mean, and what was
not examined is said.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Literal

from d3.domain.clips import WINDOW, ClipVerdict
from d3.domain.evidence import Case
from d3.domain.heatmaps import MEANING
from d3.domain.history import NewEntry
from d3.domain.inputs import Change, Fit, InputSpec
from d3.domain.labels import Label
from d3.domain.panels import Opinion
from d3.domain.provenance import Provenance, Says, Source, SourceKind
from d3.domain.scoring import Measured, Share, Verdict
from d3.domain.text import display_name

Tone = Literal["fake", "real", "uncertain", "demo"]

_HEADLINES = {
    Verdict.FAKE: "Made or altered by a generator",
    Verdict.REAL: "No sign of a generator",
    Verdict.UNCERTAIN: "Undecided",
}
_SAID = {
    Says.GENERATED: "The file says that the image was generated.",
    Says.CAMERA: "The file says that the image comes from a camera.",
    Says.EDITED: "The file says that the image was edited.",
    Says.NOTHING: "The file says nothing about where the image comes from.",
}
_KINDS = {
    SourceKind.C2PA: "Content Credentials",
    SourceKind.IPTC: "IPTC mark",
    SourceKind.EXIF: "EXIF",
    SourceKind.RECORD: "Generator's record",
    SourceKind.WATERMARK: "Watermark",
}
_CAVEAT = (
    "Anybody can write such statements into a file or remove them. They did not enter the "
    "probability and do not change the verdict. That they are missing proves nothing."
)
_LABELS = {
    Label.REAL: "a real photograph",
    Label.GENERATED: "generated",
    Label.UNKNOWN: "unknown",
}
_NOBODY = "nobody with an account"
_PERCENT = "\u00a0%"
_MEANINGFUL = 0.9995
"""Above this, a rounded percentage would claim certainty."""
_SHOWN_LABELS = 5
"""Changes of labels that a report shows."""
_LONGEST = 500
"""Characters of one statement that a report shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of the report.

    Attributes:
        title: its heading.
        paragraphs: sentences.
        points: a list.
        facts: a table of two columns.
        commands: lines to type, or texts to compare letter by letter.
        heatmap: whether the heat map stands here.
        course: whether the course of a clip stands here.
    """

    title: str
    paragraphs: tuple[str, ...] = ()
    points: tuple[str, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    commands: tuple[str, ...] = ()
    heatmap: bool = False
    course: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """What is drawn on a line from 0 to 1, the probability that the image is generated.

    Attributes:
        prediction: the probability.
        threshold: above it the verdict is ``fake``.
        band: where the model abstains: from, to; both the threshold where it never does.
        views: the lowest and the highest probability of the views; None for one view.
    """

    prediction: float
    threshold: float
    band: tuple[float, float]
    views: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A report.

    Attributes:
        kind: what it is, in a few words.
        image: its display name.
        subtitle: which file it was, and when it was judged.
        headline: the verdict in a few words.
        tone: in which colour it stands.
        summary: the verdict in sentences.
        warnings: what must be read before all else.
        scale: the number, drawn.
        sections: the rest, in order.
        footer: by what it was made, and when.
    """

    kind: str
    image: str
    subtitle: str
    headline: str
    tone: Tone
    summary: tuple[str, ...]
    warnings: tuple[str, ...]
    scale: Scale
    sections: tuple[Section, ...]
    footer: str


def report_of(case: Case, *, key_id: str | None, heatmap: bool) -> Report:
    """The report of a case.

    Args:
        case: what it is about.
        key_id: of the key that signs the bundle; None for one without, and for a report alone.
        heatmap: whether the bundle holds a heat map.
    """
    result = case.result
    warnings = [result.notice] if result.notice else []
    if key_id is None:
        warnings.append(
            "This report is not signed. Anybody could have made or changed it. It proves nothing."
        )
    sections = [_meaning(case), _provenance(result.provenance)]
    if heatmap:
        sections.append(
            Section(title="Where the score comes from", paragraphs=(MEANING,), heatmap=True)
        )
    if result.panel:
        sections.insert(1, _opinions(result))
    if result.clip_verdict is not None:
        sections.insert(0, _course(result.clip_verdict))
    sections += [_unexamined(case), _image(case), _computed(case), _repeating(case, key_id)]
    if case.labels:
        sections.append(_labels(case))
    return Report(
        kind=f"D3 report on {'a clip' if result.clip else 'an image'}",
        image=display_name(result.image_name),
        subtitle=f"Judged on {moment(result.created_at)}. "
        f"SHA-256 of the file: {result.image_sha256 or 'not recorded'}",
        headline=_HEADLINES[result.verdict],
        tone="demo" if result.notice else result.verdict.value,
        summary=_summary(case),
        warnings=tuple(warnings),
        scale=_scale(case),
        sections=tuple(sections),
        footer=f"Made by D3 {case.d3_version} on {moment(case.made_at)}"
        + (f" for {case.made_by}." if case.made_by else "."),
    )


def percent(share: float) -> str:
    """A share in percent, with one decimal; never rounded to certainty."""
    if share > _MEANINGFUL:
        return f"more than 99.9{_PERCENT}"
    if share < 1 - _MEANINGFUL:
        return f"less than 0.1{_PERCENT}"
    return f"{100 * share:.1f}{_PERCENT}"


def exact(share: float) -> str:
    """A threshold in percent: it was chosen, so 0 and 1 are no roundings."""
    rounded = share in {0, 1} or 1 - _MEANINGFUL < share < _MEANINGFUL
    return f"{100 * share:{'.4g' if rounded else '.12g'}}{_PERCENT}"


def moment(time: datetime) -> str:
    """A time in UTC for people."""
    return f"{time:%Y-%m-%d %H:%M:%S} UTC"


def _summary(case: Case) -> tuple[str, ...]:
    result = case.result
    side = "above" if result.is_fake else "not above"
    judge = f"panel of {len(result.opinions)} models" if result.panel else "model"
    said = {
        Verdict.FAKE: f"The {judge} judges that the image was made or altered by a generator.",
        Verdict.REAL: (
            f"The {judge} finds no sign that a generator made or altered the image. That is not "
            "proof of a real photograph."
        ),
        Verdict.UNCERTAIN: f"The {judge} gives no verdict.",
    }[result.verdict]
    reason = f" {result.reason_text}" if result.reason_text else ""
    whose = f"By {result.model_name}, the" if result.panel else "Its"
    number = (
        f"{whose} probability for a generated image is {percent(result.prediction)}. That is "
        f"{side} the threshold of {exact(result.threshold)}."
    )
    low, high = _scale(case).band
    if low < high:
        number += (
            f" Between {exact(low)} and {exact(high)}, the shaded part of the scale, the model "
            "gives no verdict."
        )
    return tuple(filter(None, (said + reason, number, whose_threshold(case))))


def whose_threshold(case: Case) -> str:
    """What a reader must know of a threshold that is not the model's own; empty where it is."""
    own, applied = case.own_threshold, case.result.threshold
    if own == applied:
        return ""
    if own is None:
        return (
            f"It is not known whether the threshold of {exact(applied)} is the model's own or was "
            "set by the request: the model's manifest is not at hand."
        )
    by_own = case.own_verdict
    would = (
        "it cannot be said what the verdict would be, because not all logits were recorded"
        if by_own is None
        else "the verdict would be the same"
        if by_own is case.result.verdict
        else f"the verdict would be \u201c{_HEADLINES[by_own]}\u201d"
    )
    return (
        f"The threshold of {exact(applied)} was set by the request. The model's own is "
        f"{exact(own)}, by which {would}."
    )


def _course(clip: ClipVerdict) -> Section:
    """What was seen over a clip's time."""
    every = "every frame" if not clip.every else f"one frame every {clip.every:g} s"
    paragraphs = [
        clip.rule,
        (
            f"The probability of the clip is the highest mean of {WINDOW} frames in a row, from "
            f"{clock(clip.highest_from)} to {clock(clip.highest_until)}. Of the frames that carry "
            f"something to judge, {share_of(clip)} lie above the threshold."
        ),
        clip.end_text,
        *clip.note_texts,
    ]
    facts = (
        ("Length", clock(clip.duration)),
        ("Judged", f"{len(clip.frames):,} frames up to {clock(clip.judged_until)}"),
        ("Asked for", f"{every}, {clip.most:,} at most"),
        ("Cuts", f"{clip.cuts:,}"),
    )
    return Section(
        title="The course of the clip",
        paragraphs=tuple(filter(None, paragraphs)),
        facts=facts,
        course=True,
    )


def share_of(clip: ClipVerdict) -> str:
    """The share of a clip's frames above the threshold: counted, so 0 and 1 are no roundings."""
    return f"{100 * clip.share_above:.1f}{_PERCENT}"


def clock(seconds: float) -> str:
    """A time within a clip for people: minutes, seconds and tenths."""
    return f"{int(seconds // 60)}:{seconds % 60:04.1f}"


def _scale(case: Case) -> Scale:
    result = case.result
    views = [case.calibration.probability(logit) for logit in result.logits]
    views = [] if result.clip else views
    return Scale(
        prediction=result.prediction,
        threshold=result.threshold,
        band=(
            max(0.0, result.threshold - result.abstain_below),
            min(1.0, result.threshold + result.abstain_above),
        ),
        views=(min(views), max(views)) if len(views) > 1 else None,
    )


def _meaning(case: Case) -> Section:
    result, measured = case.result, case.measured
    if measured is None:
        why = (
            "The model's rates were measured for another threshold."
            if case.calibration.measured is not None
            else "The model is no longer in the registry, so its rates are not known."
            if case.manifest is None
            else "No rates were measured for this threshold."
        )
        paragraphs = [
            f"{why} So this report cannot say how often such a verdict is wrong.",
            "The probability is the model's own estimate. Models are often too sure."
            if (result.calibration_scale, result.calibration_bias) == (1, 0)
            else f"The probability was calibrated ({result.calibration_name}).",
        ]
    else:
        paragraphs = [_rates(measured), _worth(measured)]
    if result.views > 1:
        paragraphs.append(
            f"The image was judged {result.views} times, with its parts in another order each "
            f"time. The probabilities differ by {100 * result.spread:.1f} percentage points at "
            "most. A large spread is a sign of doubt."
        )
    paragraphs.append(_stability(case))
    return Section(title="What the number means", paragraphs=tuple(filter(None, paragraphs)))


def _opinions(result: NewEntry) -> Section:
    """What each model of a panel said."""
    panel = result.panel_verdict
    assert panel is not None
    facts = [
        (f"{one.model.name} version {one.model.version}", _opinion(one, first=n == 0))
        for n, one in enumerate(panel.opinions)
    ]
    facts += [(one.model, f"gave no opinion: {one.error}") for one in panel.missing]
    return Section(
        title="What each model says",
        paragraphs=(
            panel.sentence,
            panel.rule.sentence,
            "The probabilities of different models mean different things and are never averaged.",
        ),
        facts=tuple(facts),
    )


def _opinion(opinion: Opinion, *, first: bool) -> str:
    said = f"{_HEADLINES[opinion.verdict]}: {percent(opinion.prediction)}"
    parts = [
        f"{said}, threshold {exact(opinion.threshold)}.",
        opinion.reason.sentence if opinion.reason is not None else "",
        f"Calibrated ({opinion.calibration})." if opinion.calibrated else "Not calibrated.",
        "" if opinion.calibrated or first else "It has no vote.",
    ]
    return " ".join(filter(None, parts))


def _stability(case: Case) -> str:
    changed = case.result.stability
    if not changed:
        return ""
    told = [f"{Change(name).words} {percent(one)}" for name, one in changed.items()]
    turned = sum((one > case.result.threshold) != case.result.is_fake for one in changed.values())
    found = {
        0: "All lie on the same side of the threshold as the image as it is.",
        1: "One lies on the other side of the threshold.",
    }.get(turned, f"{turned} lie on the other side of the threshold.")
    return (
        "The image was judged again after harmless changes of it, which gave these probabilities: "
        f"{', '.join(told)}. {found}"
    )


def _rates(measured: Measured) -> str:
    origin = f" ({measured.dataset})" if measured.dataset else ""
    return (
        "At this threshold, of 1,000 real photographs like those it was calibrated on, "
        f"{_of_thousand(measured.fpr)} are called generated. Of 1,000 generated images like those "
        f"it was calibrated on, {_of_thousand(measured.tpr)} are called generated. This was "
        f"measured on {measured.real:,} real and {measured.fake:,} generated images{origin}. On "
        "other kinds of images it may be wrong far more often: other cameras, other generators, "
        "images that were sent through networks which compress them."
    )


def _of_thousand(share: Share) -> str:
    number = round(1000 * share.value)
    middle = f"about {number:,}" if number or not share.value else "fewer than 1"
    if math.isnan(share.low):
        return middle
    return f"{middle} (95\u00a0% interval: {1000 * share.low:,.0f} to {1000 * share.high:,.0f})"


def _worth(measured: Measured) -> str:
    """What the verdict ``fake`` is worth, by how many of the images checked are generated."""
    right = []
    for share in (1 / 2, 1 / 100):
        hits, alarms = measured.tpr.value * share, measured.fpr.value * (1 - share)
        right.append(100 * hits / (hits + alarms) if hits + alarms > 0 else math.nan)
    if any(map(math.isnan, right)):
        return ""
    return (
        "What such a verdict is worth also depends on how many of the images that are checked are "
        "generated. If every second one is, then of 100 images that are called generated about "
        f"{right[0]:.0f} truly are. If one in a hundred is, about {right[1]:.0f}."
    )


def _provenance(provenance: Provenance | None) -> Section:
    title = "What the file says about itself"
    if provenance is None:
        return Section(title=title, paragraphs=("This was not looked at.",))
    facts = tuple(
        (f"{number}. {_KINDS[source.kind]}", _described(source))
        for number, source in enumerate(provenance.sources, 1)
    )
    return Section(title=title, paragraphs=(_SAID[provenance.says], _CAVEAT), facts=facts)


def _described(source: Source) -> str:
    told = asdict(source)
    told.pop("kind")
    return "; ".join(
        f"{name.replace('_', ' ')}: {_shortened(_plain(value).removesuffix('.'))}"
        for name, value in told.items()
        if value not in (None, "", (), [])
    )


def _shortened(text: str) -> str:
    """A text from outside on one line."""
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}\u2026 (all of it: case.json)"


def _plain(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value))
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _labels(case: Case) -> Section:
    facts = []
    for change in case.labels[:_SHOWN_LABELS]:
        told = [f"says: {_LABELS[change.label]}", f"by: {change.labelled_by or _NOBODY}"]
        told += [f"source: {_shortened(change.source)}"] if change.source else []
        told += [f"note: {_shortened(change.note)}"] if change.note else []
        facts.append((moment(change.created_at), "; ".join(told)))
    earlier = max(case.label_changes, len(case.labels)) - len(facts)
    return Section(
        title="What people say the image is",
        paragraphs=(
            f"The newest label is: {_LABELS[case.labels[0].label]}.",
            "A label is what somebody told D3. It stands beside the verdict and did not change it.",
            f"These are the newest {len(facts)} changes. There are {earlier:,} earlier ones. "
            f"case.json holds the newest {len(case.labels)}."
            if earlier > 0
            else "",
        ),
        facts=tuple(facts),
    )


def _unexamined(case: Case) -> Section:
    result, manifest = case.result, case.manifest
    points = [
        *_seen(None if manifest is None else manifest.input_spec),
        "Which generator it was, which part of the image was altered, and by whom.",
        "Whether a person cropped, retouched or staged the picture.",
        "Whether the picture shows what is claimed of it.",
        "Sound, text, and other pictures from the same source.",
    ]
    if result.clip_verdict is not None:
        judged, held = len(result.clip_verdict.frames), result.image_frames or 0
        points.insert(2, f"The clip has {held:,} frames. {judged:,} of them were judged.")
        points.insert(3, "How the frames follow each other: each was judged by itself.")
        points.insert(4, "What video compression does to a detector that was trained on stills.")
    elif (result.image_frames or 1) > 1:
        frames = f"The file has {result.image_frames} frames or pages. Only the first was judged."
        points.insert(2, frames)
    if result.image_note_text:
        points.insert(2, result.image_note_text)
    return Section(title="What was not examined", points=tuple(points))


def _seen(spec: InputSpec | None) -> tuple[str, str]:
    """What the model saw of the pixels, and what that can miss."""
    lost = "Small alterations of a large image can be lost."
    if spec is None:
        return "Only the pixels were judged, and of them only a small square.", lost
    square = f"{spec.size} x {spec.size} pixels"
    if spec.fit is Fit.SQUASH:
        return f"Only the pixels were judged, scaled to {square}.", lost
    after = f", after its shorter side was scaled to {spec.resize} pixels" if spec.resize else ""
    return (
        f"Only {square} in the middle of the image were judged{after}.",
        "Alterations outside of them were not seen.",
    )


def _image(case: Case) -> Section:
    result = case.result
    size = (
        f"{result.image_width} x {result.image_height} pixels"
        if result.image_width is not None
        else "not recorded"
    )
    length = "not recorded" if result.image_bytes is None else f"{result.image_bytes:,} bytes"
    return Section(
        title="The image",
        facts=(
            ("Name", display_name(result.image_name)),
            ("SHA-256", result.image_sha256 or "not recorded"),
            ("Format", result.image_format or "not recorded"),
            ("Size", f"{size}, {length}"),
        ),
    )


def _computed(case: Case) -> Section:
    result, manifest = case.result, case.manifest
    logits = ", ".join(f"{logit:.6f}" for logit in result.logits) or "not recorded"
    logits = "of each frame: see case.json" if result.clip else logits
    model = result.model
    facts = [
        ("Judged", moment(result.created_at)),
        ("Asked by", case.asked_by or _NOBODY),
        ("Result", "not stored" if case.result_id is None else f"number {case.result_id}"),
        ("Request", result.request_id or "none"),
        ("Model", "not recorded" if model is None else f"{model.name} version {model.version}"),
        ("Model's SHA-256", model.sha256 if model is not None else "not recorded"),
    ]
    if manifest is not None:
        facts += [(f"SHA-256 of its {role}", file.sha256) for role, file in manifest.files.items()]
    facts += [
        ("Raw logits of the views", logits),
        ("Mean logit", "not recorded" if result.logit is None else f"{result.logit:.6f}"),
        ("Calibration", f"{result.calibration_name}: {_formula(case)}"),
        ("Probability", f"{result.prediction:.6f}"),
        ("Threshold", f"{result.threshold:g}"),
        (
            "Abstain band",
            f"{result.abstain_below:g} below and {result.abstain_above:g} above the threshold",
        ),
        ("Engine", f"{result.engine or 'not recorded'} {result.precision}".strip()),
        ("Device", result.device or "not recorded"),
        ("Libraries", result.libraries or "not recorded"),
        ("D3", result.d3_version or "not recorded"),
    ]
    return Section(title="How it was computed", facts=tuple(facts))


def _formula(case: Case) -> str:
    scale, bias = case.result.calibration_scale, case.result.calibration_bias
    sign = "-" if bias < 0 else "+"
    return f"probability = sigmoid({scale:g} x logit {sign} {abs(bias):g})"


def _repeating(case: Case, key_id: str | None) -> Section:
    commands = [
        "sha256sum IMAGE",
        f"# {case.result.image_sha256 or 'not recorded'}",
        "d3 evidence verify case.zip --key PUBLIC.pem",
        "d3 replay case.zip --image IMAGE",
        "",
        "# without D3:",
        "unzip case.zip -d case && cd case",
        "sha256sum --check --strict SHA256SUMS",
    ]
    paragraphs = [
        "Whoever has the image, the model and this bundle can compute the numbers again.",
        "In fp32, another computer gives the same probability to within 0.0001.",
    ]
    if case.result.clip:
        commands[3] = "d3 detect CLIP --json"
        paragraphs = [
            (
                "Whoever has the clip and the model can judge it again and compare the frames. "
                "case.json holds the numbers of each. A clip cannot be replayed in one step yet."
            )
        ]
    if key_id is not None:
        commands += [
            "openssl pkeyutl -verify -pubin -inkey public-key.pem -rawin \\",
            "    -in SHA256SUMS -sigfile SHA256SUMS.sig",
            "openssl pkey -pubin -in public-key.pem -outform DER | sha256sum",
            f"# {key_id}",
        ]
        paragraphs.append(
            f"The bundle is signed with the key {key_id}. The key in the bundle proves only that "
            "nothing changed since it was signed with that key. Whose key it is, its owner must "
            "tell you in another way, for example at /api/evidence/key."
        )
    return Section(
        title="How to check and repeat it",
        paragraphs=tuple(paragraphs),
        commands=tuple(commands),
    )
