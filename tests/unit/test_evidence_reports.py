"""What a report says, for somebody who has to decide; and which model a case is replayed with."""

from __future__ import annotations

import io
import json
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from d3.adapters.evidence.cases import decode_case, encode_case
from d3.adapters.evidence.pdf import _Page
from d3.adapters.evidence.report import reports
from d3.adapters.evidence.scale import scale_svg
from d3.domain.errors import EvidenceContradictory, ReplayImpossible
from d3.domain.evidence import Case, CaseLabel, check_case, format_of
from d3.domain.images import Note
from d3.domain.inputs import CHANGES, Change, Fit, InputSpec
from d3.domain.labels import Label, NewLabel
from d3.domain.models import PUBLISHED, ModelFile, ModelReference
from d3.domain.panels import Agreement, Missing, Opinion, PanelRule, PanelVerdict
from d3.domain.provenance import Provenance, Says, Source, SourceKind
from d3.domain.scoring import (
    AbstainBand,
    Calibration,
    Measured,
    Reason,
    Share,
    Verdict,
    assess,
)
from d3.domain.services.evidence import EvidenceService, find_model
from d3.domain.services.pulling import Sources, published_sources
from d3.domain.services.replaying import ReplayService
from d3.domain.services.reporting import Report, Scale, exact, percent, report_of
from d3.testing.models import tiny_manifest
from tests.support.contracts.registries import RegistryFiles
from tests.support.history import NOON, an_entry
from tests.support.memory.history import MemoryHistory
from tests.support.memory.registry import MemoryRegistry

MEASURED = Measured(0.5, Share(0.012, 0.008, 0.017), Share(0.9, 0.88, 0.92), 2500, 2600, "photos")
CALIBRATION = Calibration(2.0, 0.5, "newsroom", MEASURED)


def a_case(measured: Measured | None = MEASURED, **changes: Any) -> Case:
    """A case of a calibrated model."""
    file = ModelFile("0" * 64, 1)
    manifest = replace(
        tiny_manifest(file, file, "newsroom"), calibration=replace(CALIBRATION, measured=measured)
    )
    of_it: dict[str, Any] = {
        "model": ModelReference("newsroom", 1, manifest.sha256),
        "threshold": 0.5,
        "calibration_name": "newsroom",
        "calibration_scale": 2.0,
        "calibration_bias": 0.5,
    }
    entry = an_entry("photo.jpg", **of_it | changes)
    return Case(made_at=NOON, d3_version="0.1.0", result=entry, manifest=manifest)


def report(case: Case, **changes: Any) -> Report:
    return report_of(case, **{"key_id": "ab" * 32, "heatmap": False} | changes)


def words(case: Case, **changes: Any) -> str:
    """All of a report's text."""
    told = report(case, **changes)
    parts = [told.headline, *told.summary, *told.warnings, told.footer]
    for section in told.sections:
        parts += [section.title, *section.paragraphs, *section.points, *section.commands]
        parts += [f"{name}: {value}" for name, value in section.facts]
    return "\n".join(parts).replace("\u00a0", " ")


def test_the_rates_are_said_for_a_thousand_images() -> None:
    said = words(a_case())
    assert (
        "of 1,000 real photographs like those it was calibrated on, about 12 (95 % interval" in said
    )
    assert "8 to 17) are called generated" in said
    assert "about 900 (95 % interval: 880 to 920)" in said
    assert "2,500 real and 2,600 generated images (photos)" in said


def test_what_a_verdict_is_worth_depends_on_how_many_are_generated() -> None:
    assert "every second one is, then of 100 images that are called generated about 99" in words(
        a_case()
    )
    assert "one in a hundred is, about 43" in words(a_case())


def test_rates_are_not_said_of_a_threshold_or_calibration_they_were_not_measured_for() -> None:
    for case in (
        a_case(threshold=0.6),
        a_case(measured=None),
        a_case(calibration_scale=1.0),
        replace(a_case(), manifest=None),
    ):
        assert case.measured is None
        assert "1,000" not in words(case)
        assert "cannot say how often such a verdict is wrong" in words(case)


@pytest.mark.parametrize(
    ("verdict", "reason", "headline", "said"),
    [
        (Verdict.FAKE, None, "Made or altered by a generator", "judges"),
        (Verdict.REAL, None, "No sign of a generator", "not proof of a real photograph"),
        (Verdict.UNCERTAIN, Reason.SPREAD, "Undecided", "The views disagree"),
    ],
)
def test_the_verdict_is_said_in_words(
    verdict: Verdict, reason: Reason | None, headline: str, said: str
) -> None:
    told = report(a_case(verdict=verdict, reason=reason))
    assert told.headline == headline
    assert said in told.summary[0]
    assert told.tone == verdict.value


def test_a_demo_models_notice_comes_first_and_takes_the_colour() -> None:
    told = report(a_case(notice="Demo model. Do not act on it."))
    assert told.warnings == ("Demo model. Do not act on it.",)
    assert told.tone == "demo"


def test_a_label_stands_beside_the_verdict_and_never_in_its_place() -> None:
    labelled = replace(a_case(), labels=(a_label(1),), label_changes=1)
    told = report(labelled)
    assert told.headline == report(a_case()).headline
    assert told.sections[-1].title == "What people say the image is"
    assert "did not change it" in words(labelled)
    assert "says: a real photograph; by: ada; source: photographer" in words(labelled)
    assert "earlier" not in words(labelled)
    nobody = replace(labelled, labels=(a_label(1, labelled_by=""),))
    assert "by: nobody with an account" in words(nobody)


def a_label(number: int, **changes: Any) -> CaseLabel:
    said: dict[str, Any] = {"source": "photographer", "note": "", "labelled_by": "ada"}
    return CaseLabel(
        id=number,
        result_id=7,
        label=Label.REAL,
        created_at=NOON,
        user_id=3,
        **said | changes,
    )


def test_a_report_shows_the_newest_labels_and_counts_the_others() -> None:
    labels = tuple(a_label(number, source=f"source-{number}.") for number in range(1040, 940, -1))
    said = words(replace(a_case(), labels=labels, label_changes=1040))
    assert "newest 5 changes. There are 1,035 earlier ones. case.json holds the newest 100." in said
    assert said.count("source-") == 5


def test_a_case_holds_the_newest_labels_and_the_names_of_who_gave_them() -> None:
    history = MemoryHistory()
    (number,) = history.add_many([an_entry()])
    for by in (None, 3, 4):
        label = NewLabel(result_id=number, label=Label.REAL, source="desk", note="a" * 2000)
        history.label([label] * 500, NOON, by=by)
    accounts: Any = SimpleNamespace(usernames=lambda: {3: "ada"})
    clock: Any = SimpleNamespace(now=lambda: NOON)
    service = EvidenceService(
        registry=MemoryRegistry(),
        history=lambda: history,
        accounts=lambda: accounts,
        clock=clock,
        version="0.1.0",
    )
    case = service.of_result(number)
    assert (len(case.labels), case.label_changes) == (100, 1500)
    assert {one.labelled_by for one in case.labels} == {"user 4"}
    assert len(encode_case(case)) < 300_000
    history.label([NewLabel(result_id=number, label=Label.UNKNOWN)], NOON, by=3)
    newest = service.of_result(number).labels[0]
    assert (newest.label, newest.labelled_by) == (Label.UNKNOWN, "ada")


@pytest.mark.parametrize(
    "note", ["\n" * 2000, "\U00024b62" * 2000, "\ufdfd" * 2000, "two\nlines " * 180]
)
def test_no_note_is_too_long_for_a_page(note: str) -> None:
    labels = tuple(a_label(number, note=note) for number in range(5))
    assert reports(replace(a_case(), labels=labels), None, None).pdf.startswith(b"%PDF")


def test_the_reader_is_told_of_a_threshold_that_the_request_set() -> None:
    flipped = judged((-1.0, -1.1), threshold=0.001)
    assert flipped.result.verdict is Verdict.FAKE
    box = " ".join(report(flipped).summary).replace("\u00a0", " ")
    assert (
        "The threshold of 0.1 % was set by the request. The model's own is 50 %, by which the "
        "verdict would be \u201cNo sign of a generator\u201d." in box
    )
    assert "this model's threshold" not in words(flipped)
    same = judged((1.0, 1.1), threshold=0.4)
    assert "The model's own is 50 %, by which the verdict would be the same." in words(same)
    assert "set by the request" not in words(judged((1.0, 1.1)))
    unknown = replace(flipped, manifest=None)
    assert "not known whether the threshold of 0.1 % is the model's own" in words(unknown)
    other = replace(flipped, result=replace(flipped.result, model_version=2))
    assert "not known whether" in words(other)
    old = replace(flipped, result=replace(flipped.result, view_logits=""))
    assert "cannot be said what the verdict would be" in words(old)
    pages = reports(flipped, None, None)
    assert "was set by the request" in pages.html.decode()


def judged(logits: tuple[float, ...], **changes: Any) -> Case:
    """A case whose verdict follows from these logits."""
    lack = changes.pop("lack", None)
    case = a_case(
        views=len(logits), view_logits=json.dumps(logits), abstain_below=0.0, abstain_above=0.0
    )
    case = replace(case, result=replace(case.result, reason=lack, **changes))
    score = case.assess(logits)
    result = replace(case.result, **asdict(score))
    return replace(case, format_version=format_of(result), result=result)


JUDGED = judged((1.0, 1.5))
DOUBTED = judged((-1.0, 1.5))
STEADY = dict.fromkeys(CHANGES, 0.9)
TRIED = judged((1.0, 1.5), stability_probabilities=json.dumps(STEADY))
TURNED = judged((1.0, 1.5), stability_probabilities=json.dumps(STEADY | {Change.MIRRORED: 0.2}))
BARE = judged((1.0, 1.5), abstain_above=0.01)
BARE = replace(BARE, result=replace(BARE.result, view_logits=""))


@pytest.mark.parametrize(
    "case",
    [
        JUDGED,
        DOUBTED,
        BARE,
        judged((0.25,)),
        judged((-0.2,), abstain_below=0.1, abstain_above=0.1),
        judged((1.0,), lack=Reason.TOO_SMALL, image_width=12),
        judged((1.0,), lack=Reason.ONE_COLOUR),
        replace(JUDGED, manifest=None),
        replace(DOUBTED, result=replace(DOUBTED.result, reason=None)),
        TRIED,
        TURNED,
        replace(BARE, result=replace(BARE.result, logit=None)),
    ],
)
def test_a_case_that_follows_from_its_numbers_is_accepted(case: Case) -> None:
    check_case(case)


@pytest.mark.parametrize(
    ("case", "lie", "named"),
    [
        (JUDGED, {"verdict": Verdict.REAL}, "verdict"),
        (JUDGED, {"verdict": Verdict.REAL, "is_fake": False}, "is_fake"),
        (JUDGED, {"verdict": Verdict.UNCERTAIN, "reason": Reason.SPREAD}, "reason"),
        (JUDGED, {"verdict": Verdict.UNCERTAIN, "reason": Reason.TOO_SMALL}, "reason"),
        (JUDGED, {"reason": Reason.SPREAD}, "reason"),
        (JUDGED, {"prediction": 0.93}, "prediction"),
        (JUDGED, {"confidence": 0.1}, "confidence"),
        (JUDGED, {"spread": 0.0}, "spread"),
        (JUDGED, {"logit": 1.2}, "logit"),
        (JUDGED, {"logit": None}, "logit"),
        (JUDGED, {"views": 3}, "view_logits"),
        (JUDGED, {"view_logits": '["a", 1]'}, "prediction"),
        (JUDGED, {"view_logits": "[1e999, 1]"}, "prediction"),
        (JUDGED, {"threshold": 0.99}, "is_fake"),
        (JUDGED, {"calibration_scale": 0.0}, "prediction"),
        (JUDGED, {"calibration_bias": -9.0}, "prediction"),
        (JUDGED, {"abstain_above": 0.5}, "verdict"),
        (JUDGED, {"abstain_above": 2.0}, "prediction"),
        (JUDGED, {"model_sha256": "0" * 64}, "manifest"),
        (DOUBTED, {"verdict": Verdict.FAKE, "reason": None}, "verdict"),
        (TRIED, {"verdict": Verdict.UNCERTAIN, "reason": Reason.UNSTABLE}, "reason"),
        *(
            (TRIED, {"stability_probabilities": lie}, named)
            for lie, named in [
                (TURNED.result.stability_probabilities, "verdict"),
                ('{"jpeg": 0.9}', "stability"),
                (json.dumps(STEADY | {Change.JPEG: 1.9}), "stability"),
                (json.dumps(STEADY | {Change.JPEG: "a"}), "prediction"),
                ('["jpeg"]', "prediction"),
                ("[" * 100_000, "prediction"),
            ]
        ),
        (TURNED, {"verdict": Verdict.FAKE, "reason": None}, "verdict"),
        (TURNED, {"stability_probabilities": ""}, "verdict"),
        (BARE, {"verdict": Verdict.REAL}, "verdict"),
        (BARE, {"abstain_above": 0.5}, "verdict"),
        (BARE, {"prediction": 0.2}, "is_fake"),
    ],
)
def test_a_case_that_contradicts_itself_is_refused(
    case: Case, lie: dict[str, Any], named: str
) -> None:
    lying = replace(case, result=replace(case.result, **lie))
    with pytest.raises(EvidenceContradictory, match=rf"contradicts itself.*\b({named})\b"):
        check_case(lying)


def opinion_of(name: str, logit: float, **changes: Any) -> Opinion:
    """What a member with one view says by itself."""
    score = assess((logit,), threshold=0.5, abstain_band=AbstainBand(0.1, 0.1))
    said: dict[str, Any] = {
        **{one: getattr(score, one) for one in ("prediction", "verdict", "reason", "logit")},
        "threshold": 0.5,
        "calibration": "news",
        "calibrated": True,
        "seconds": 0.1,
        "abstain_below": 0.1,
        "abstain_above": 0.1,
    }
    return Opinion(model=ModelReference(name, 1, "e" * 64), **said | changes)


def panelled(*others: Opinion, rule: PanelRule = PanelRule.CHIEF, case: Case = JUDGED) -> Case:
    """A case that these models judged after its own."""
    result = case.result
    assert result.model is not None
    score = replace(case, result=replace(result, stability_probabilities="")).assess(result.logits)
    chief = Opinion(
        **{one: getattr(score, one) for one in ("prediction", "verdict", "reason", "threshold")},
        **{one: getattr(result, one) for one in ("calibration_scale", "calibration_bias")},
        **{one: getattr(result, one) for one in ("abstain_below", "abstain_above")},
        **{one: getattr(result, one) for one in ("engine", "precision", "device")},
        model=result.model,
        logit=score.logit,
        logits=result.logits,
        calibration=result.calibration_name,
        calibrated=True,
        seconds=0.1,
    )
    panel = PanelVerdict(rule, (chief, *others), (Missing("gone", "x", "It is not there."),))
    held = replace(result, panel=panel.to_json(), agreement=panel.agreement)
    case = replace(case, format_version=2, result=held)
    return replace(case, result=replace(held, **asdict(case.assess(result.logits))))


OPPOSED = panelled(opinion_of("other", -3.0))


def test_the_verdict_of_a_panel_follows_from_its_opinions() -> None:
    chief, other = OPPOSED.result.opinions
    assert (chief.verdict, other.verdict) == (Verdict.FAKE, Verdict.REAL)
    assert (OPPOSED.result.verdict, OPPOSED.result.reason) == (Verdict.UNCERTAIN, Reason.PANEL)
    turned = panelled(opinion_of("other", 3.0), case=TURNED)
    assert (turned.result.verdict, turned.result.reason) == (Verdict.UNCERTAIN, Reason.UNSTABLE)
    for case in (
        OPPOSED,
        turned,
        panelled(opinion_of("other", -3.0), rule=PanelRule.ANY),
        panelled(opinion_of("a", -3.0), opinion_of("b", -3.0), rule=PanelRule.MAJORITY),
        panelled(opinion_of("other", -3.0, calibrated=False, calibration="none")),
        panelled(opinion_of("other", 0.1)),
        panelled(),
    ):
        check_case(case)
        check_case(decode_case(encode_case(case)))
        assert decode_case(encode_case(case)) == case


@pytest.mark.parametrize(
    ("lie", "named"),
    [
        ({"verdict": Verdict.FAKE, "reason": None}, "verdict"),
        ({"agreement": Agreement.AGREE}, "agreement"),
        ({"panel": ""}, "agreement"),
        ({"panel": "[]"}, "panel cannot be read"),
        ({"panel": OPPOSED.result.panel.replace('"chief"', '"all"')}, "rule 'all' is unknown"),
        ({"panel": OPPOSED.result.panel.replace(":0.1,", ':"abc",', 1)}, "seconds cannot be"),
        ({"panel": panelled(*[opinion_of("other", -3.0)] * 2).result.panel}, "opinions"),
        ({"panel": panelled(opinion_of("gone", -3.0)).result.panel}, "opinions"),
        ({"panel": panelled(opinion_of("newsroom", -3.0)).result.panel}, "opinions"),
        ({"model_name": "another"}, "opinions"),
    ],
)
def test_a_panel_whose_verdict_was_forged_is_refused(lie: dict[str, Any], named: str) -> None:
    with pytest.raises(EvidenceContradictory, match=rf"\b({named})\b"):
        check_case(replace(OPPOSED, result=replace(OPPOSED.result, **lie)))
    with pytest.raises(EvidenceContradictory, match="format_version"):
        check_case(replace(OPPOSED, format_version=1))


@pytest.mark.parametrize(
    "lie",
    [
        {"prediction": 0.9},
        {"logit": 3.0},
        {"verdict": Verdict.FAKE},
        {"reason": Reason.SPREAD},
        {"threshold": 0.01},
        {"calibration_bias": 4.0},
        {"abstain_below": 0.9},
        {"logits": (-3.0, 2.0)},
        {"calibrated": False},
        {"calibration": "none", "calibrated": True},
    ],
)
@pytest.mark.parametrize("member", [0, 1])
def test_an_opinion_that_contradicts_itself_is_refused(lie: dict[str, Any], member: int) -> None:
    if member == 0 and lie == {"verdict": Verdict.FAKE}:
        lie = {"verdict": Verdict.REAL}
    said = OPPOSED.result.panel_verdict
    assert said is not None
    opinions = list(said.opinions)
    opinions[member] = replace(opinions[member], **lie)
    forged = replace(said, opinions=tuple(opinions))
    result = replace(OPPOSED.result, panel=forged.to_json(), agreement=forged.agreement)
    with pytest.raises(EvidenceContradictory, match=r"\bopinions\b"):
        check_case(replace(OPPOSED, result=result))


def test_a_case_says_format_2_only_where_an_older_d3_would_misread_it() -> None:
    assert format_of(JUDGED.result) == 1
    assert format_of(OPPOSED.result) == format_of(TRIED.result) == 2


def test_a_report_says_what_each_model_of_a_panel_says() -> None:
    said = words(OPPOSED)
    assert "The panel of 2 models gives no verdict." in said
    assert "By newsroom, the probability for a generated image is" in said
    assert "other version 1: No sign of a generator: 4.7 %, threshold 50 %." in said
    assert "gone: gave no opinion: It is not there." in said
    assert Agreement.DISAGREE.sentence in said
    assert PanelRule.CHIEF.sentence in said
    voteless = words(panelled(opinion_of("other", -3.0, calibrated=False, calibration="none")))
    assert "Not calibrated. It has no vote." in voteless
    assert "The panel of 2 models judges that the image was made" in voteless
    assert "What each model says" not in words(JUDGED)


def test_a_report_of_a_panel_of_which_one_model_is_left_says_that_nothing_is_compared() -> None:
    alone = panelled()
    assert alone.result.agreement is None
    assert "There is nothing to compare: gone gave no opinion." in words(alone)
    assert Agreement.AGREE.sentence not in words(alone)
    with pytest.raises(EvidenceContradictory, match=r"\bagreement\b"):
        check_case(replace(alone, result=replace(alone.result, agreement=Agreement.AGREE)))
    check_case(alone)


def test_provenance_comes_with_its_caveat() -> None:
    sources = (Source(kind=SourceKind.EXIF, says=Says.EDITED, software="A <b>editor</b>"),)
    provenance = Provenance.of(sources)
    said = words(a_case(provenance_says=Says.EDITED, provenance_sources=provenance.to_json()))
    assert "The file says that the image was edited." in said
    assert "did not enter the probability" in said
    assert "software: A <b>editor</b>" in said
    assert "This was not looked at." in words(a_case())


def test_what_was_not_examined_names_the_files_own_limits() -> None:
    said = words(a_case(image_frames=12, image_note=Note.CUT_SHORT))
    assert "12 frames or pages. Only the first was judged." in said
    assert Note.CUT_SHORT.sentence in said


def test_a_report_says_what_changes_of_the_image_gave() -> None:
    said = words(TRIED)
    assert "cropped by 5 % 90.0 %, mirrored 90.0 %. All lie on the same side" in said
    assert report(TURNED).headline == "Undecided"
    assert Reason.UNSTABLE.sentence in words(TURNED)
    assert "mirrored 20.0 %. One lies on the other side of the threshold" in words(TURNED)
    assert "changes of it" not in words(a_case())


@pytest.mark.parametrize(
    ("spec", "seen"),
    [
        (InputSpec(224), "Only the pixels were judged, scaled to 224 x 224 pixels."),
        (InputSpec(256, Fit.CROP), "Only 256 x 256 pixels in the middle of the image were judged."),
        (InputSpec(224, Fit.RESIZE_CROP, 256), "its shorter side was scaled to 256 pixels."),
    ],
)
def test_a_report_says_which_pixels_were_seen(spec: InputSpec, seen: str) -> None:
    case = a_case()
    assert case.manifest is not None
    assert seen in words(replace(case, manifest=replace(case.manifest, input=spec)))


def test_no_number_claims_certainty() -> None:
    assert percent(1.0).replace("\u00a0", " ") == "more than 99.9 %"
    assert percent(0.0).replace("\u00a0", " ") == "less than 0.1 %"
    assert percent(0.5).replace("\u00a0", " ") == "50.0 %"
    thresholds = [exact(one).replace("\u00a0", " ") for one in (0, 0.0001, 0.123456, 0.99999, 1)]
    assert thresholds == ["0 %", "0.01 %", "12.35 %", "99.999 %", "100 %"]


def test_a_calibrated_probability_is_not_called_the_models_own() -> None:
    assert "Models are often too sure" not in words(a_case(measured=None))
    plain = {"calibration_name": "none", "calibration_scale": 1.0, "calibration_bias": 0.0}
    assert "Models are often too sure" in words(a_case(measured=None, **plain))


def test_a_report_says_whether_it_is_signed() -> None:
    assert "ab" * 32 in words(a_case())
    assert "not signed" in words(a_case(), key_id=None)


def test_the_scale_shows_threshold_band_and_views_at_both_ends() -> None:
    for prediction in (0.0, 1.0):
        scale = Scale(prediction=prediction, threshold=0.62, band=(0.5, 0.7), views=(0.0, 1.0))
        drawn = scale_svg(scale, "fake")
        assert "threshold 62\u00a0%" in drawn
        assert "nan" not in drawn


def test_old_rows_with_nothing_recorded_make_a_report() -> None:
    bare = {"image": None, "model": None, "logit": None, "engine": "", "precision": ""}
    case = replace(a_case(**bare), manifest=None)
    assert "not recorded" in words(case)


@pytest.mark.parametrize(("start", "side"), [(60, 84), (200, 55), (230, 84)])
def test_the_heat_map_stays_on_its_page_where_a_smaller_one_fits(
    tmp_path: Path, start: int, side: int
) -> None:
    page, file = _Page(report(a_case()), NOON, tmp_path), io.BytesIO()
    Image.new("RGB", (64, 64)).save(file, "PNG")
    page.set_y(start)
    assert page._picture(file.getvalue())[1] == pytest.approx(side, abs=0.5)
    for font in page.fonts.values():
        font.ttfont.close()


class Pulls:
    """Pulls that bring the published model, or nothing."""

    def __init__(self, files: RegistryFiles, *, brings: bool) -> None:
        self.asked: list[str] = []
        self._files = files
        self._brings = brings

    def sources(self) -> Sources:
        return published_sources()

    def pull(self, name: str) -> None:
        self.asked.append(name)
        if self._brings:
            self._files.put(name)


def replaying(registry: MemoryRegistry, pulls: Pulls) -> ReplayService:
    """A service that looks for models; nothing is scored."""
    unused: Any = None
    pulling: Any = lambda: pulls  # noqa: E731
    return ReplayService(registry=registry, engine=unused, decoder=unused, pulling=pulling)


def test_the_model_is_found_by_its_hash_under_any_name(tmp_path: Path) -> None:
    registry = MemoryRegistry()
    files = RegistryFiles(registry, tmp_path)
    files.put("other", head="another head")
    files.put("renamed", head="another head still")
    found = files.put("renamed")
    wanted = ModelReference("mine", 4, found.sha256)
    assert find_model(registry, wanted) == found
    assert find_model(registry, replace(wanted, name="renamed", version=1)) == found
    assert find_model(registry, replace(wanted, sha256="0" * 64)) is None
    named = files.put("mine")
    assert find_model(registry, wanted) == named  # others may be calibrated otherwise


def test_the_published_model_is_fetched_and_no_other(tmp_path: Path) -> None:
    registry = MemoryRegistry()
    pulls = Pulls(RegistryFiles(registry, tmp_path), brings=True)
    service = replaying(registry, pulls)
    sha256 = RegistryFiles(MemoryRegistry(), tmp_path).put(PUBLISHED).sha256
    model = ModelReference(PUBLISHED, 1, sha256)
    with pytest.raises(ReplayImpossible, match="is not here under any name"):
        service.model_of(a_case(model=replace(model, name="mine")))
    assert pulls.asked == []
    assert service.model_of(a_case(model=model)).name == PUBLISHED
    assert pulls.asked == [PUBLISHED]
    service.model_of(a_case(model=model))
    assert pulls.asked == [PUBLISHED]


def test_a_published_model_with_other_weights_is_not_taken_for_it(tmp_path: Path) -> None:
    registry = MemoryRegistry()
    pulls = Pulls(RegistryFiles(registry, tmp_path), brings=True)
    with pytest.raises(ReplayImpossible, match="SHA-256"):
        replaying(registry, pulls).model_of(a_case(model=ModelReference(PUBLISHED, 1, "0" * 64)))
    with pytest.raises(ReplayImpossible, match="does not say which model"):
        replaying(registry, pulls).model_of(a_case(model=None))
