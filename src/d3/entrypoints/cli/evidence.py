"""``d3 evidence``: a verdict as a signed bundle, and whether a bundle is as it was signed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import click

from d3.entrypoints.cli.opening import build_container, opened
from d3.entrypoints.cli.options import (
    FILE,
    JSON,
    MODEL,
    PANEL,
    PANEL_RULE,
    STABILITY,
    THRESHOLD,
    VIEWS,
    check_one_chief,
    check_rule,
)
from d3.entrypoints.cli.output import as_text, complain, out, print_json, printable
from d3.entrypoints.cli.progress import progress
from d3.entrypoints.cli.sources import check_file, fetch_one, is_link

if TYPE_CHECKING:
    from d3.container import Container
    from d3.domain.detections import Detection
    from d3.domain.errors import EvidenceInvalid
    from d3.domain.evidence import Case, OpenedEvidence
    from d3.domain.heatmaps import Heatmap
    from d3.domain.images import Pixels

_PICTURE = 160
"""The longer side of a clip's frame in a report, in pixels."""

_DOES_NOT_HOLD = 1
KEY = click.option(
    "--key",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="PUBLIC.pem",
    help="Public key that must have signed the bundle, from a place that you trust.",
)
BUNDLE = click.argument("bundle", type=click.Path(dir_okay=False, path_type=Path))


class _MakesUnlessTold(click.Group):
    """A group whose command ``make`` need not be named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put ``make`` before what is no command."""
        if args and args[0] not in {*self.commands, *ctx.help_option_names}:
            args = ["make", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_MakesUnlessTold, subcommand_metavar="[make] ID|IMAGE | verify BUNDLE")
def evidence() -> None:
    """Make a signed bundle of evidence, and check one.

    `d3 evidence 12` is short for `d3 evidence make 12`. `d3 replay` scores a case again.
    """


@evidence.command()
@click.argument("of", type=FILE, metavar="ID|IMAGE")
@click.option(
    "-o",
    "--output",
    "--out",
    "target",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Zip file to write. It must not exist.  [default: d3-ID.zip or IMAGE-evidence.zip, in the "
    "current folder]",
)
@click.option(
    "--image",
    type=FILE,
    metavar="IMAGE",
    help="The image of result ID, for the heat map. D3 does not store images.",
)
@click.option("--with-image", is_flag=True, help="Put the image itself into the bundle.")
@click.option(
    "--unsigned", is_flag=True, help="Do not sign. Such a bundle proves nothing, and says so."
)
@THRESHOLD
@VIEWS
@MODEL
@PANEL
@PANEL_RULE
@STABILITY
@click.pass_context
def make(
    ctx: click.Context,
    of: str,
    *,
    target: Path | None,
    image: str | None,
    with_image: bool,
    unsigned: bool,
    threshold: float | None,
    views: int,
    model: str | None,
    panel: tuple[str, ...] | None,
    panel_rule: str | None,
    stability: bool,
) -> None:
    """Write all that is known of a verdict to a signed zip file.

    ID is the number of a stored result. IMAGE is a file, which is judged now; write ./12 if its
    name is a number. IMAGE can also be a link, if D3_FETCH_LINKS is True. The bundle holds
    case.json, report.html, report.pdf, hashes and a signature with the key of `d3 keys sign-init`,
    and the heat map if the image is at hand.
    """
    from d3.domain.errors import StorageFailed
    from d3.domain.evidence import check_image
    from d3.domain.files import put, storage_errors

    stored = of.isascii() and of.isdecimal()
    _check_options(ctx, stored=stored, image=image, with_image=with_image)
    target = target or Path(f"d3-{of}.zip" if stored else f"{_name_of(of).stem}-evidence.zip")
    if str(target) == "-":
        raise click.UsageError("-o needs the name of a file: a bundle is not written to stdout.")
    if target.exists():
        raise StorageFailed(f"The file {str(target)!r} already exists.", "Choose another with -o.")
    check_one_chief(model, panel)
    container = build_container(model, panel=panel, panel_rule=panel_rule)
    check_rule(panel_rule, container.settings().panel)
    bundles = container.evidence_bundles()
    if not unsigned:
        bundles.keys.key()  # before anything that takes long
        if bundles.keys.is_exposed():
            complain(
                f"Others on this machine can read {bundles.keys.path} and sign in your name. "
                "Run `chmod 600` on it.",
                "warning",
            )
    if stored:
        case = opened(container).evidence().of_result(int(of))
        content = None if image is None else _read(image, container)
        if content is not None:
            check_image(case, content)
    else:
        content = _read(of, container)
        name = _name_of(of).name
        question = {"threshold": threshold, "views": views, "stability": stability}
        with progress("Judging"):
            detection = _judged(container, content, name, question)
        case = container.evidence().of_detection(detection)
    bundle = bundles.pack(
        case,
        heatmap=_heatmap(container, case, content),
        image=content if with_image else None,
        pictures=_pictures(container, case, content),
        signed=not unsigned,
    )
    with storage_errors(f"{str(target)!r} cannot be written"):
        put(target, bundle, only_new=True)
    out().print(f"{_verdict(case)}: {printable(str(target))}", markup=False)
    if case.result.reason_text:
        complain(case.result.reason_text, "note")
    if case.result.notice:
        complain(case.result.notice, "note")
    if unsigned:
        complain("The bundle is not signed. It proves nothing.", "warning")


@evidence.command()
@BUNDLE
@KEY
@JSON
def verify(bundle: Path, *, key: Path | None, as_json: bool) -> int:
    """Check that BUNDLE is as it was signed, and that its verdict follows from its numbers.

    Every byte is checked. Exit codes: 0 it holds; 1 it was changed, contradicts itself, is not
    signed, or was signed with another key; 2 it could not be checked.
    """
    from d3.domain.errors import EvidenceInvalid
    from d3.domain.evidence import check_case

    container = build_container()
    try:
        found = container.evidence_bundles().open(bundle, key)
        check_case(found.case)
    except EvidenceInvalid as error:
        return refuse(bundle, error, as_json=as_json)
    if as_json:
        print_json(_described(found) | key_facts(container, found, key))
    else:
        _show(bundle, found)
    caution(container, found, key)
    return _DOES_NOT_HOLD if found.key_id is None else 0


def refuse(bundle: Path, error: EvidenceInvalid, *, as_json: bool) -> int:
    """Say why a bundle does not hold; the exit code."""
    if as_json:
        print_json({"holds": False, "error": str(error), "code": error.code})
    complain(f"{printable(str(bundle))}: {error}")
    return _DOES_NOT_HOLD


def key_facts(container: Container, found: OpenedEvidence, key: Path | None) -> dict[str, Any]:
    """By which key the bundle was signed, and whether it is known here; for JSON."""
    signed = found.key_id is not None
    known = signed and (key is not None or found.key_id == _own_key_id(container))
    return {"signed": signed, "key_id": found.key_id, "key_is_known": known}


def caution(container: Container, found: OpenedEvidence, key: Path | None) -> None:
    """Say whose threshold led to the verdict, and what the signature proves."""
    from d3.domain.services.reporting import whose_threshold

    if told := whose_threshold(found.case):
        complain(told, "warning")
    if found.key_id is None:
        complain("The bundle is not signed. Anybody could have made it, so it proves nothing.")
    elif key is not None:
        complain(f"The key is the one in {printable(str(key))}.", "note")
    elif key_facts(container, found, key)["key_is_known"]:
        complain("The key is the one that signs on this machine.", "note")
    else:
        complain(
            "The key came with the bundle. It proves only that nothing changed since it was signed "
            "with that key. Compare its fingerprint with the one that its owner publishes, or name "
            "their key with --key.",
            "warning",
        )


def _check_options(
    ctx: click.Context, *, stored: bool, image: str | None, with_image: bool
) -> None:
    """Refuse options that would be ignored."""
    if stored:
        for name in ("threshold", "views", "model", "panel", "panel_rule", "stability"):
            if ctx.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT:
                option = name.replace("_", "-")
                raise click.UsageError(f"--{option} is for an image, not for a stored result.")
        if with_image and image is None:
            raise click.UsageError("--with-image needs --image: D3 does not store images.")
    elif image is not None:
        raise click.UsageError("--image is for a stored result; the image was named already.")


def _name_of(image: str) -> Path:
    """The name of a file, also behind a link: without its query, which may be secret."""
    return Path(unquote(urlsplit(image).path)) if is_link(image) else Path(image)


def _read(image: str, container: Container) -> bytes:
    """The file, read once: what is judged is what is hashed."""
    if is_link(image):
        return fetch_one(container, image).data
    settings = container.settings()
    most = settings.max_video_bytes
    if not container.clips().is_clip(image):
        check_file(Path(image), container.decoder())
        most = settings.max_image_bytes
    with Path(image).open("rb") as stream:
        return stream.read(most + 1)


def _judged(container: Container, content: bytes, name: str, question: dict[str, Any]) -> Detection:
    """The verdict on an image or a clip."""
    clips = container.clips()
    detection: Detection = (
        clips.judge(content, clips.sampling(), name=name, **question)
        if clips.is_clip(content)
        else container.detection().detect(content, name=name, **question)
    )
    return detection


def _pictures(container: Container, case: Case, content: bytes | None) -> Sequence[Pixels]:
    """Of a clip's frames, where the clip is at hand."""
    clip = case.result.clip_verdict
    if clip is None or content is None:
        return ()
    times = container.evidence_bundles().shown_times(clip)
    pictures: Sequence[Pixels] = container.clips().reader.pictures(content, times, _PICTURE)
    return pictures


def _heatmap(container: Container, case: Case, content: bytes | None) -> Heatmap | None:
    """The heat map by the case's model; without it a word on the reason, but for clips."""
    from d3.domain.errors import D3Error

    if content is None or case.result.clip:
        return None
    if (manifest := case.manifest) is None:
        complain("The bundle has no heat map, because the model is no longer here.", "note")
        return None
    try:
        loaded = container.host().loaded()
        with progress("Drawing the heat map"):
            if loaded is None or loaded.manifest.sha256 != manifest.sha256:
                container.host().load(manifest.name, manifest.version)
            return container.explaining().explain(content, views=case.result.views)
    except D3Error as error:
        complain(f"The bundle has no heat map. {error}", "note")
        return None


def _verdict(case: Case) -> str:
    result = case.result
    demo = " demo" if result.notice else ""
    name = printable(result.image_name)
    return f"{result.verdict.value}{demo}  {result.prediction:.3f}  {name}"


def _own_key_id(container: Container) -> str | None:
    from d3.domain.errors import D3Error

    try:
        return str(container.evidence_bundles().keys.key().public.key_id)
    except D3Error:
        return None


def _described(found: OpenedEvidence) -> dict[str, Any]:
    case = found.case
    return {
        "holds": found.key_id is not None,
        "format_version": case.format_version,
        "made_at": case.made_at,
        "d3_version": case.d3_version,
        "image_name": as_text(case.result.image_name),
        "image_sha256": case.result.image_sha256,
        "verdict": case.result.verdict.value,
        "prediction": case.result.prediction,
        "threshold": case.result.threshold,
        "own_threshold": case.own_threshold,
        "own_verdict": case.own_verdict,
        "model": case.result.model,
        "members": {
            name: hashlib.sha256(content).hexdigest() for name, content in found.members.items()
        },
    }


def _show(bundle: Path, found: OpenedEvidence) -> None:
    case = found.case
    lines = {
        "verdict": _verdict(case),
        "SHA-256": case.result.image_sha256 or "not recorded",
        "judged": f"{case.result.created_at:%Y-%m-%d %H:%M:%S} UTC",
        "made": f"{case.made_at:%Y-%m-%d %H:%M:%S} UTC by D3 {case.d3_version}",
        "key": found.key_id or "none",
    }
    out().print(f"{printable(str(bundle))}: no byte was changed.", markup=False)
    for name, value in lines.items():
        out().print(f"  {name:<8} {value}", markup=False)
