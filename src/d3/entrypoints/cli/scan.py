"""``d3 scan``: a whole folder or bucket, resumable."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import click

from d3.domain.formats import named_as_clip
from d3.domain.models import notice_of
from d3.domain.panels import Agreement, PanelRule
from d3.entrypoints.cli.clips import hint_at_videos
from d3.entrypoints.cli.evaluate import loaded, loaded_beside, named_version, tell_voteless
from d3.entrypoints.cli.opening import build_container, opened
from d3.entrypoints.cli.options import (
    FILE,
    JSON,
    MODEL_VERSION,
    PANEL,
    PANEL_RULE,
    STABILITY,
    THRESHOLD,
    check_one_chief,
    check_rule,
    check_views,
)
from d3.entrypoints.cli.output import (
    as_text,
    complain,
    counted,
    err,
    out,
    print_json,
    printable,
    remark,
)
from d3.entrypoints.cli.progress import progress
from d3.entrypoints.cli.results import keep_inputs
from d3.entrypoints.cli.sources import nothing_there

if TYPE_CHECKING:
    from d3.container import Container
    from d3.domain.images import Pixels
    from d3.domain.models import Manifest
    from d3.domain.ports.scans import ImageCollection, ScanLedger
    from d3.domain.scans import Scan, ScanCounts, ScanRow
    from d3.domain.services.scans.service import Estimate
    from d3.domain.services.scans.watcher import Watcher
    from d3.evaluation.scans import Parts

    Work: TypeAlias = Callable[[Scan, ImageCollection, Watcher], Scan]

_COULD_NOT = 2
_NO_SOURCE = "Name a SOURCE: a folder, a pattern, s3://BUCKET/PREFIX or a file with a list."
_LOOK_SECONDS, _LOOK_SECONDS_UNWATCHED = 1.0, 10.0


@click.command()
@click.argument("source", required=False, type=FILE)
@click.option("--scan-id", metavar="ID", help="Scan to continue, or the name of a new one.")
@click.option(
    "--out",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder to write the rows to as well, one file per shard.",
)
@click.option(
    "--format", "form", type=click.Choice(["csv", "parquet"]), help="Format of the files in --out."
)
@MODEL_VERSION
@PANEL
@PANEL_RULE
@STABILITY
@click.option("--video", is_flag=True, help="Judge videos too, each by its frames.")
@THRESHOLD
@click.option(
    "--views",
    type=int,
    callback=check_views,
    help="Number of permutations to average, 1 to 16.  [default: 1]",
)
@click.option(
    "--report",
    type=click.Path(dir_okay=False, path_type=Path),
    help="HTML file for the report.  [default: report.html in --out]",
)
@click.option("--no-report", is_flag=True, help="Do not write a report to --out.")
@click.option(
    "--top",
    type=click.IntRange(0, 1000),
    default=0,
    metavar="N",
    help="Show the N images with the highest predictions in the report.",
)
@click.option(
    "--ray",
    metavar="auto|ADDRESS",
    help="Run on a Ray cluster: this machine's (auto) or the one at HOST:PORT.",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Count the files, judge a sample and estimate the time. Stores nothing.",
)
@click.option(
    "--sample-seconds",
    type=click.IntRange(1, 3600),
    default=60,
    show_default=True,
    help="How long a dry run judges images.",
)
@JSON
def scan(
    source: str | None,
    *,
    scan_id: str | None,
    folder: Path | None,
    form: str | None,
    model: str | None,
    panel: tuple[str, ...] | None,
    panel_rule: str | None,
    stability: bool,
    video: bool,
    threshold: float | None,
    views: int | None,
    report: Path | None,
    no_report: bool,
    top: int,
    ray: str | None,
    dry_run: bool,
    sample_seconds: int,
    as_json: bool,
) -> int:
    """Judge a folder, a bucket or a list of images.

    SOURCE is a folder, a pattern such as 'photos/**/*.jpg', s3://BUCKET/PREFIX on the server of
    MINIO_ENDPOINT, or a file that lists paths and URIs: one per line, or a table (CSV, Parquet).

    Every image gets one row in the database: its verdict, or why it could not be judged. `d3 scans
    export` writes the rows to a file. Files that are images neither by content nor by name are
    skipped.

    With --panel several models judge each image. They are fixed when the scan starts, and one that
    is missing is an error: every row has the opinions of all.

    After an interruption, --scan-id continues the scan with its SOURCE and models. Several
    processes can work on the same scan, also on several machines. With --ray, the nodes of a Ray
    cluster do the work. They need access to the database (PostgreSQL), the source and, with the
    same settings, the models.

    Exit codes: 0 done; 2 no image was found, or an error occurred. If a folder cannot be read, the
    scan stays open. Run the same command again to list the folder again.
    """
    from d3.domain.errors import ScanIncomplete
    from d3.domain.scans import new_scan_name
    from d3.evaluation.scans import check_form

    if form is not None and folder is None:
        raise click.UsageError("--format needs --out.")
    check_form(form)
    report = _report_file(report, None if no_report else folder, top)
    check_one_chief(model, panel)
    container = build_container(panel=panel, panel_rule=panel_rule)
    if report is not None:
        _keep_images(container, report, source)
    known, collection = _opened(container, source, scan_id, dry_run=dry_run)
    chief, *beside = _models_of(container, known, model, panel)
    check_rule(panel_rule, [chief, *beside])
    versions = {} if known is None else {one.name: one.version for one in known.members}
    container.host().pin(versions)
    members, work = _means(container, chief, beside, versions, None if dry_run else ray)
    if dry_run:
        return _dry_run(
            container,
            collection,
            members,
            views=views or 1,
            seconds=sample_seconds,
            stability=stability,
            as_json=as_json,
        )
    name = scan_id or new_scan_name(container.clock().now())
    new_rule = container.settings().panel_rule if known is None else panel_rule
    begun = container.scans().begin(
        name,
        collection,
        members[0],
        threshold=threshold,
        views=views,
        others=members[1:],
        rule=None if new_rule is None else PanelRule(new_rule),
        stability=stability or None,
        video=video or None,
    )
    parts = _parts(container, begun, folder, form)
    _tell_begun(begun, known=known is not None)
    started, problem = time.monotonic(), None
    try:
        with _interruptible(begun), _watching(begun, container.scan_ledger(), parts) as watcher:
            ended = work(begun, collection, watcher)
    except ScanIncomplete as error:
        ended, problem = container.scan_ledger().get(name), error
    if ended.state.value == "done" and parts is not None:
        parts.complete(ended.shards)
    if report is not None and ended.counts.rows:
        _write_report(report, partial(_report, container, ended, collection, top))
    agreement = container.scan_ledger().agreement(ended.id) if ended.panel else {}
    if as_json:
        print_json(to_dict(ended) | ({"agreement": agreement} if ended.panel else {}))
    _summarise(ended, time.monotonic() - started, ended.counts.done - begun.counts.done)
    tell_agreement(agreement)
    tell_voteless(members)
    if ended.notice:
        complain(ended.notice, kind="note")
    return _code(problem, found=ended.counts.rows or ended.state.value != "done")


def _report_file(report: Path | None, folder: Path | None, top: int) -> Path | None:
    """Where the report goes, if one is asked for."""
    file = folder / "report.html" if report is None and folder is not None else report
    if top and file is None:
        raise click.UsageError("--top needs a report. Name one with --report.")
    return file


def _keep_images(container: Container, report: Path, source: str | None) -> None:
    """Refuse a report over the list that is scanned, or over any image."""
    is_image = report.is_file() and container.decoder().recognises(report)
    keep_inputs([source, report if is_image else None], report)


def _tidied(source: str) -> str:
    """Where the images are; a place of this machine by its path from the root on."""
    from d3.domain.folders import absolute
    from d3.domain.scans import S3_SCHEME

    return source if source.startswith(S3_SCHEME) else absolute(source)


def _opened(
    container: Container, source: str | None, scan_id: str | None, *, dry_run: bool
) -> tuple[Scan | None, ImageCollection]:
    """The scan to go on with, and the images, which are looked for before a database is opened."""
    if not source and (dry_run or not scan_id):
        raise click.UsageError(_NO_SOURCE)
    given = _collection(container, _tidied(source)) if source else None
    known = None
    if not dry_run:
        opened(container)
        known = container.scans().find(scan_id) if scan_id else None
    if given is not None:
        return known, given
    if known is None:
        raise click.UsageError(_NO_SOURCE)
    return known, _collection(container, known.source)


def _collection(container: Container, source: str) -> ImageCollection:
    collection: ImageCollection = container.scans().collection(source)
    collection.check()
    return collection


def _code(problem: object, *, found: object) -> int:
    """Say what could not be done, or that there was no image; how the command ends."""
    if problem is None and not found:
        problem = nothing_there()
    if problem is not None:
        complain(str(problem))
    return 0 if problem is None else _COULD_NOT


def _means(
    container: Container,
    chief: str | None,
    others: Sequence[str],
    versions: Mapping[str, int],
    ray: str | None,
) -> tuple[list[Manifest], Work]:
    """The models of a scan, the chief first, and what works on it: this machine, or a cluster."""
    service = container.scans()
    if ray is None:
        manifest = loaded(chief, container)[1]
        return [manifest, *loaded_beside(container, manifest, others)], service.run
    cluster, info = container.scan_cluster(ray), container.models().info
    name, version = named_version(chief)
    # Its workers load the models; this process has no use for them.
    first = info(name or container.host().chosen(), version)
    members = [first, *(info(one, versions.get(one)) for one in others)]
    return members, lambda scan, _, watcher: service.run_on(cluster, scan, watcher)


def to_dict(scan: Scan) -> dict[str, Any]:
    """A scan for programs."""
    return {
        "id": scan.name,
        "state": scan.state.value,
        "source": as_text(scan.source),
        "model": asdict(scan.model),
        "threshold": scan.threshold,
        "views": scan.views,
        "listed_all": scan.listed,
        "created_at": scan.created_at,
        "finished_at": scan.finished_at,
        "trouble": scan.trouble,
        **asdict(scan.counts),
        "notice": scan.notice,
        "panel": [asdict(one) for one in scan.panel],
        "panel_rule": scan.panel_rule if scan.panel else None,
        "stability": scan.stability,
        "video": scan.video,
    }


def _models_of(
    container: Container, known: Scan | None, model: str | None, panel: Sequence[str] | None
) -> list[str | Any]:
    """The models as for --model, the chief first: a scan that was begun keeps its own."""
    if known is None:
        asked = panel or (container.settings().panel if model is None else ())
        return [*asked] if asked else [model]
    chief = model if panel is None else panel[0]
    others = [one.name for one in known.panel[1:]] if panel is None else panel[1:]
    name, version = named_version(chief)
    fixed = known.model
    if name not in (None, fixed.name) or version not in (None, fixed.version):
        return [chief, *others]  # and it will be refused in the words for that
    return [f"{fixed.name}@{fixed.version}", *others]


def _parts(container: Container, scan: Scan, folder: Path | None, form: str | None) -> Parts | None:
    from d3.evaluation.scans import Parts, best_format

    if folder is None:
        return None
    return Parts(folder, scan, container.scan_ledger(), form or best_format())


def _tell_begun(scan: Scan, *, known: bool) -> None:
    if not known:
        remark(f"Scan {scan.name} of {printable(scan.source)}")
        return
    done = f"{counted(scan.counts.rows, 'image')} already judged"
    remark(f"Continuing scan {scan.name}: {done}")


@contextmanager
def _interruptible(scan: Scan) -> Iterator[None]:
    """Where the work is interrupted, a sentence says how to go on."""
    try:
        yield
    except BaseException:
        with suppress(OSError):  # the terminal may be closed
            complain(
                f"Finished results are kept. Run `d3 scan --scan-id {scan.name}` to continue.",
                "note",
            )
        raise


@contextmanager
def _watching(scan: Scan, ledger: ScanLedger, parts: Parts | None) -> Iterator[Watcher]:
    """Done, rate, fakes, errors, time left.

    The numbers are the ledger's, so those of all who share the scan.
    """
    from d3.domain.errors import StorageFailed, StorageUnavailable
    from d3.domain.services.scans.watcher import Watcher

    pause = _LOOK_SECONDS if err().is_interactive else _LOOK_SECONDS_UNWATCHED

    class Shown(Watcher):
        looked = time.monotonic()
        videos = 0

        def passed_over(self, uri: str) -> None:
            self.videos += named_as_clip(uri)

        def finished(self, shard: int) -> None:
            if parts is not None:
                with suppress(StorageUnavailable):  # it is written at the end
                    parts.write(shard)

        def idle(self) -> None:
            now = time.monotonic()
            if now - self.looked < pause:
                return
            self.looked = now
            try:
                told = ledger.get(scan.name)
            except StorageFailed:
                return  # the worker waits for it, and says so
            counts = told.counts
            total = counts.listed if told.listed else None
            found = f"{counts.fake:,} fake, {counts.uncertain:,} uncertain"
            tell("Scanning", counts.done, total, f"{found}, {counts.error:,} errors")

    with progress() as tell:
        tell("Scanning", scan.counts.done)
        watcher = Shown()
        yield watcher
    hint_at_videos(watcher.videos)


def _write_report(file: Path, page: Callable[[], bytes]) -> None:
    from d3.domain.files import put
    from d3.evaluation.files import writing

    with progress("Writing the report"):
        content = page()
        with writing(file.parent):
            put(file, content)
    remark(f"Report: {file}")


def _report(container: Container, scan: Scan, collection: ImageCollection, top: int) -> bytes:
    from d3.domain.scans import stored_uri
    from d3.evaluation.report.page import SIDE, render_scan
    from d3.evaluation.scans import rows_of, summarise

    decoder, clips = container.decoder(), container.clips()

    def picture(row: ScanRow) -> Pixels:
        """The image, or of a clip the frame in the middle of its highest window."""
        source = collection.read(row.uri)
        if (clip := row.clip_verdict) is None:
            return decoder.picture(source, SIDE)
        assert isinstance(source, str | Path | bytes)
        middle = (clip.highest_from + clip.highest_until) / 2
        (found,) = clips.reader.pictures(source, [middle], SIDE)
        pixels: Pixels = found
        return pixels

    summary = summarise(rows_of(container.scan_ledger(), scan.id), scan.source, top)
    return render_scan(
        replace(scan, source=stored_uri(scan.source)),
        summary,
        picture,
    ).encode()


def _summarise(scan: Scan, seconds: float, done: int) -> None:
    counts: ScanCounts = scan.counts
    kinds = [(counts.fake, "fake"), (counts.real, "real"), (counts.uncertain, "uncertain")]
    parts = [f"{number:,} {kind}" for number, kind in kinds if number]
    parts += [f"{counts.error:,} could not be judged"] if counts.error else []
    if counts.passed_over:
        parts.append(f"{counted(counts.passed_over, 'other file')} skipped")
    said = ", ".join(parts) or "nothing to judge"
    remark(
        f"Scan {scan.name} is {scan.state.value}: {counted(counts.rows, 'image')} ({said}); "
        f"{counted(done, 'file')} in this run's {seconds:.1f} s"
    )


def tell_agreement(counts: dict[Agreement, int]) -> None:
    """How often the models of a panel disagreed; nothing where one judged alone."""
    if counts:
        remark(
            f"The models disagree on {counts[Agreement.DISAGREE]:,} of "
            f"{counted(sum(counts.values()), 'image')}; on {counts[Agreement.PARTIAL]:,} more some "
            "are uncertain."
        )


def _dry_run(
    container: Container,
    collection: ImageCollection,
    members: Sequence[Manifest],
    *,
    views: int,
    seconds: int,
    stability: bool,
    as_json: bool,
) -> int:
    with progress("Listing") as tell:

        def listed(keys: int) -> None:
            if keys % 1000 == 0:
                tell("Listing", keys)

        found: Estimate = container.scans().estimate(
            collection,
            members=[one.name for one in members],
            views=views,
            stability=stability,
            seconds=seconds,
            progress=listed,
        )
    notice = notice_of(members)
    left = found.keys / found.rate if found.rate else 0.0
    if as_json:
        more = {"rate": found.rate, "estimated_seconds": left, "notice": notice}
        print_json(asdict(found) | more)
    else:
        _tell_estimate(found, left)
    if notice:
        complain(notice, kind="note")
    return _code(found.trouble, found=found.keys)


def _tell_estimate(found: Estimate, left: float) -> None:
    out().print(f"files      {found.keys:,}")
    out().print(
        f"sample     {found.sampled:,} in {found.seconds:.1f} s: {found.fakes:,} fake, "
        f"{found.uncertain:,} uncertain, {found.errors:,} that are not images or cannot be judged"
    )
    out().print(f"rate       {found.rate:,.1f} files/s")
    out().print(f"estimated  {timedelta(seconds=round(left))}")
