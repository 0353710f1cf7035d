"""``d3 detect``: a verdict for each image."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import click

from d3.domain.models import notice_of
from d3.domain.panels import Agreement
from d3.domain.provenance import CAUTION
from d3.domain.records import ResultRecord
from d3.domain.scoring import Reason
from d3.domain.services.export import COLUMNS
from d3.entrypoints.cli.clips import (
    belonging,
    clips_among,
    hint_at_videos,
    outcomes_of,
    print_clip,
    sampling_of,
)
from d3.entrypoints.cli.opening import build_container
from d3.entrypoints.cli.options import (
    EVERY,
    FILE,
    MODEL,
    MOST,
    PANEL,
    PANEL_RULE,
    STABILITY,
    THRESHOLD,
    VIEWS,
    check_one_chief,
    check_rule,
)
from d3.entrypoints.cli.output import as_text, complain, counted, out, print_json, printable, remark
from d3.entrypoints.cli.progress import progress
from d3.entrypoints.cli.results import Form, keep_inputs, print_csv, shows
from d3.entrypoints.cli.sources import Link, find_images

if TYPE_CHECKING:
    from d3.domain.detections import Detection, Failure
    from d3.domain.errors import D3Error
    from d3.domain.images import ImageSource
    from d3.domain.models import Manifest

_STYLES = {"fake": "bold red", "real": "green", "uncertain": "yellow"}
_FAKE_FOUND, _COULD_NOT, _UNCERTAIN_FOUND = 1, 2, 3
_RESULT = frozenset(ResultRecord.__dataclass_fields__)
_COLUMNS = [one for one in COLUMNS if one in _RESULT or one in {"reason_text", "image_note_text"}]
"""Of an exported history, those that are known without it."""


@click.command()
@click.argument("paths", nargs=-1, required=True, type=FILE, metavar="PATH...")
@THRESHOLD
@VIEWS
@MODEL
@PANEL
@PANEL_RULE
@STABILITY
@shows
@EVERY
@MOST
@click.option(
    "--frames",
    type=click.Choice(["first", "all"]),
    default="first",
    show_default=True,
    help="Which frames of animated images are judged. With all, every frame of videos too.",
)
@click.option("--video", is_flag=True, help="Judge the videos in folders and patterns too.")
@click.option(
    "--provenance",
    is_flag=True,
    help="Show all that the files say about themselves, and look for invisible watermarks.",
)
@click.option(
    "--prompts", is_flag=True, help="With --provenance: also show the prompts in the files."
)
@click.option(
    "--fail-on-fake",
    is_flag=True,
    help="Exit with code 1 if any verdict is fake. Uncertain verdicts do not count.",
)
@click.option(
    "--fail-on-uncertain",
    is_flag=True,
    help="Exit with code 3 if any verdict is uncertain.",
)
def detect(
    paths: tuple[str, ...],
    *,
    threshold: float | None,
    views: int,
    model: str | None,
    panel: tuple[str, ...] | None,
    panel_rule: str | None,
    stability: bool,
    form: Form,
    every: float | None,
    most: int | None,
    frames: str,
    video: bool,
    provenance: bool,
    prompts: bool,
    fail_on_fake: bool,
    fail_on_uncertain: bool,
) -> int:
    """Tell whether images were made or altered by a generator.

    PATH is an image, a folder, a pattern such as 'photos/**/*.jpg', or - for one image from
    standard input. Searches folders recursively and skips files that are not images.

    PATH can also be a link (https:// or http://), if D3_FETCH_LINKS is True. D3 fetches only from
    public servers. A file of this very name comes first.

    PATH can also be a video, if D3's extra `video` is installed. It is judged by its frames, which
    gives one verdict.

    Exit codes: 0 done; 1 a verdict is fake and --fail-on-fake was used; 2 an error occurred,
    regardless of the verdicts; 3 a verdict is uncertain and --fail-on-uncertain was used, and the
    code is not 1 or 2.
    """
    if prompts and not provenance:
        raise click.UsageError("--prompts needs --provenance.")
    check_one_chief(model, panel)
    container = build_container(model, panel=panel, panel_rule=panel_rule, watermarks=provenance)
    settings, decoder, clips = container.settings(), container.decoder(), container.clips()
    check_rule(panel_rule, settings.panel)
    sampling = sampling_of(clips, every, most, frames)
    is_clip = clips_among(clips, paths, animations=frames == "all", video=video)
    recognises = belonging(decoder, clips, video=video)
    with progress("Looking for images"):
        largest = max(settings.max_image_bytes, settings.max_video_bytes)
        found = find_images(paths, recognises, largest)
        keep_inputs([*paths, *found.sources])
        found.refuse_links(settings)
        found.refuse_if_none_is_an_image(decoder, is_clip)
    shown = _Shown(
        form=form,
        provenance=provenance,
        prompts=container.prompts() if prompts else None,
    )
    shown.begin()
    for name, error in found.problems:
        shown.failure(name, error)
    tally: Counter[str] = Counter(error=len(found.problems))
    manifest, begun = None, time.perf_counter()
    disagreed = 0
    if found.sources:
        with progress("Loading the model"):
            manifest = container.host().load().manifest
            members = [one.manifest for one in container.host().panel_in_use().members]
        begun = time.perf_counter()
        question = {"threshold": threshold, "views": views, "stability": stability}
        outcomes = outcomes_of(container, found, is_clip, sampling, question)
        with progress("Judging", below_rows=True) as tell:
            for row, outcome in enumerate(outcomes):
                first = tally.total() == tally["error"]
                tally[_show(outcome, found.sources[row], shown, first=first)] += 1
                tell("Judging", row + 1, len(found.sources))
        disagreed = shown.panels[Agreement.DISAGREE]
    _summarise(tally, found.passed_over, disagreed, time.perf_counter() - begun)
    hint_at_videos(found.videos_passed_over)
    if provenance and manifest is not None:
        complain(CAUTION, kind="note")
    if manifest is not None:
        _tell_of(manifest, manifest.threshold if threshold is None else threshold)
        if notice := notice_of(members):
            complain(notice, kind="note")
    if tally["error"]:
        return _COULD_NOT
    if fail_on_fake and tally["fake"]:
        return _FAKE_FOUND
    return _UNCERTAIN_FOUND if fail_on_uncertain and tally["uncertain"] else 0


@dataclass(frozen=True, slots=True)
class _Shown:
    """How outcomes are shown.

    Attributes:
        form: table, JSON or CSV.
        provenance: whether rows are followed by all that the file says about itself.
        prompts: finds the prompts in a file; None where nobody asks for them.
        panels: how often the models of a panel agreed and did not; filled while showing.
        missing: models of the panel that are known to be missing, likewise.
    """

    form: Form
    provenance: bool
    prompts: Callable[[ImageSource], list[str]] | None
    panels: Counter[str] = field(default_factory=Counter)
    missing: set[str] = field(default_factory=set)

    def begin(self) -> None:
        """Print what stands above all rows."""
        if self.form is Form.CSV:
            prompts = [] if self.prompts is None else ["prompts"]
            print_csv([*_COLUMNS, "error", "code", *prompts])

    def failure(self, name: str, error: D3Error) -> None:
        """Say what could not be judged, and why."""
        if self.form is Form.JSON:
            print_json({"name": as_text(name), "error": str(error), "code": error.code})
        elif self.form is Form.CSV:
            known = {"image_name": printable(name)}
            prompts = [] if self.prompts is None else [None]
            print_csv([*map(known.get, _COLUMNS), str(error), error.code, *prompts])
        complain(f"{name or repr(name)}: {error}")

    def result(self, detection: Detection, prompts: list[str] | None, *, first: bool) -> None:
        """Print a verdict."""
        if self.form is Form.JSON:
            name = as_text(detection.name)
            document = detection.to_dict() | {"name": name, "image_name": name}
            print_json(document | ({} if prompts is None else {"prompts": prompts}))
        elif self.form is Form.CSV:
            values = [getattr(detection, one) for one in _COLUMNS]
            values[_COLUMNS.index("image_name")] = printable(detection.name)
            print_csv([*values, None, None, *([] if prompts is None else [prompts])])
        else:
            _print_row(detection, header=first)
            _print_opinions(detection)
            print_clip(detection)
            if self.provenance:
                _print_provenance(detection, prompts or [])


def _show(outcome: Detection | Failure, source: ImageSource, shown: _Shown, *, first: bool) -> str:
    """Print one outcome and say under which word it counts."""
    from d3.domain.detections import Failure

    if isinstance(outcome, Failure):
        shown.failure(outcome.name, outcome.error)
        return "error"
    for one in outcome.missing:
        if one.model not in shown.missing:
            shown.missing.add(one.model)
            complain(f"{one.model} gives no opinion: {one.error}", kind="warning")
    if outcome.agreement is not None:
        shown.panels[outcome.agreement] += 1
    content = source.content if isinstance(source, Link) else source
    prompts = None if shown.prompts is None else shown.prompts(content)
    shown.result(outcome, prompts, first=first)
    return outcome.verdict.value


def _print_row(detection: Detection, *, header: bool) -> None:
    from rich.text import Text

    spread = f"{detection.spread:8.3f}" if detection.views > 1 else ""
    if header:
        demo = "     " if detection.notice else ""
        titles = f"{'VERDICT':<10} {demo}{'PROBABILITY':>11}{'  SPREAD' if spread else ''}  IMAGE"
        out().print(Text(titles, style="bold"))
    verdict = detection.verdict.value
    numbers = f" {detection.prediction:11.3f}{spread}  {printable(detection.name)}"
    says, panel = detection.provenance_says, detection.panel_verdict
    if detection.reason is Reason.PANEL:
        panel = None  # the reason says it
    sentences = (
        *(detection.reason_text, detection.image_note_text),
        None if says is None else says.sentence,
        None if panel is None else panel.sentence,
    )
    said = " ".join(filter(None, sentences))
    why = f"  ({said})" if said else ""
    demo, style = ("demo ", "dim") if detection.notice else ("", _STYLES[verdict])
    out().print(Text.assemble((f"{verdict:<10} {demo}", style), numbers[1:], (why, "dim")))


def _print_opinions(detection: Detection) -> None:
    """A line for each opinion of a panel, and one for what harmless changes of the image did."""
    from rich.text import Text

    indent = " " * (5 if detection.notice else 0)
    spread = " " * (8 if detection.views > 1 else 0)
    for one in detection.opinions:
        votes = one.calibrated or one is detection.opinions[0]
        said = "" if one.reason is None else f"  ({one.reason.sentence})"
        out().print(
            Text.assemble(
                (f"  {one.verdict.value:<9}", _STYLES[one.verdict.value]),
                f"{indent}{one.prediction:11.3f}{spread}  {one.model.name}",
                (said if votes else f"{said}  (Not calibrated, so it has no vote.)", "dim"),
            )
        )
    if stability := detection.stability:
        told = ", ".join(f"{change} {value:.3f}" for change, value in stability.items())
        out().print(Text(f"  changed: {told}", style="dim"))


def _print_provenance(detection: Detection, prompts: list[str]) -> None:
    """What the file says about itself: a line for each source, and one for each fact in it."""
    from rich.text import Text

    found = detection.provenance
    for source in () if found is None else found.sources:
        facts = source.to_dict()
        out().print(Text(f"    {facts.pop('kind')}: {facts.pop('says')}"))
        for name, value in facts.items():
            if isinstance(value, bool):
                text = "yes" if value else "no"
            else:
                text = ", ".join(value) if isinstance(value, tuple) else value
            out().print(Text(f"      {name.replace('_', ' ')}: {printable(text)}", style="dim"))
    for prompt in prompts:
        out().print(Text(f"      the prompt: {printable(prompt)}", style="dim"))
    if found is None or not found.sources:
        out().print(Text("    The file says nothing about itself.", style="dim"))


def _summarise(tally: Counter[str], passed_over: int, disagreed: int, seconds: float) -> None:
    judged = tally.total() - tally["error"]
    parts = [f"{tally[word]} {word}" for word in ("fake", "real", "uncertain") if tally[word]]
    parts += [f"{tally['error']} could not be judged"] if tally["error"] else []
    parts += [f"the models disagree on {disagreed}"] if disagreed else []
    parts += [f"{counted(passed_over, 'other file')} skipped"] if passed_over else []
    remark(f"{counted(judged, 'image')} in {seconds:.1f} s: {', '.join(parts)}")


def _tell_of(manifest: Manifest, threshold: float) -> None:
    """How often the verdicts are wrong, where that was measured."""
    measured = manifest.calibration.measured
    if measured is not None and measured.threshold == threshold:
        complain(
            f"Calibration {manifest.calibration.name}: at this threshold, {measured.fpr.value:.1%} "
            f"of {counted(measured.real, 'real image')} and {measured.tpr.value:.1%} of "
            f"{counted(measured.fake, 'generated image')} were judged fake.",
            kind="note",
        )
