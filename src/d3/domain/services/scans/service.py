"""Starts and resumes bulk scans, and estimates how long one takes."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace

from d3.domain.errors import (
    D3Error,
    FolderUnreadable,
    ImageNotFound,
    ScanIncomplete,
    ScanNotFound,
    ScanRunning,
)
from d3.domain.images import Pixels
from d3.domain.models import Manifest, notice_of
from d3.domain.panels import PanelRule, check_complete
from d3.domain.ports.clock import Clock
from d3.domain.ports.images import ImageDecoder
from d3.domain.ports.scans import ImageCollection, ScanCluster, ScanLedger
from d3.domain.ports.tracing import NULL_TRACER, Tracer
from d3.domain.scans import (
    S3_SCHEME,
    SHARD_IMAGES,
    NewScan,
    Scan,
    ScanState,
    as_begun,
    check_same,
    checked_scan_name,
)
from d3.domain.scoring import checked_threshold, checked_views
from d3.domain.services.clips import ClipService
from d3.domain.services.detection import ImageJudge
from d3.domain.services.model_host import ModelHost, Panel
from d3.domain.services.pipeline import Pipeline
from d3.domain.services.questions import Question
from d3.domain.services.retrying import RetryingCollection, retry_while_unavailable
from d3.domain.services.scans.pipeline import ScanPipeline
from d3.domain.services.scans.watcher import FinishedShards, Watcher
from d3.domain.services.scans.worker import ScanWorker, release_dead

OUTAGE_SECONDS = 300.0
"""How long a store may be away before a scan gives up; what is stored stays."""

S3_THREADS = 16
"""The fewest that read objects at once; they mostly wait for the network."""

_SAMPLE = 5000


@dataclass(frozen=True, slots=True)
class Estimate:
    """The result of a trial.

    Attributes:
        keys: listed.
        sampled: judged, drawn evenly.
        seconds: that took.
        fakes: of the sampled, called fake.
        uncertain: of the sampled, left open.
        errors: of the sampled, not judged; other files among them.
        trouble: why not everything could be listed; None if it could.
    """

    keys: int
    sampled: int
    seconds: float
    fakes: int
    uncertain: int
    errors: int
    trouble: str | None = None

    @property
    def rate(self) -> float:
        """Keys a second."""
        return self.sampled / self.seconds if self.seconds else 0.0


class ScanService:
    """Starts and resumes scans of this machine.

    Args:
        ledger: gives the ledger; its database must be ready by then.
        isolated: decodes in child processes, so that a crash costs only the image.
        clips: judges clips, where a scan is asked to.
    """

    def __init__(  # noqa: PLR0917  its parts, one by one
        self,
        host: ModelHost,
        decoder: ImageDecoder,
        judge: ImageJudge,
        clock: Clock,
        ledger: Callable[[], ScanLedger],
        collection: Callable[[str], ImageCollection],
        *,
        isolated: ImageDecoder,
        clips: ClipService,
        threads: int,
        batch_size: int,
        tracer: Tracer = NULL_TRACER,
    ) -> None:
        self._host = host
        self._decoder = decoder
        self._judge = judge
        self._isolated = isolated
        self._clips = clips
        self._clock = clock
        self._ledger = ledger
        self._collection = collection
        self._threads = threads
        self._batch_size = batch_size
        self._tracer = tracer

    def collection(self, source: str) -> ImageCollection:
        """The images of a source; outages of its store are waited out.

        Raises:
            D3Error: there is no such source.
        """
        return RetryingCollection(self._collection(source), OUTAGE_SECONDS)

    def find(self, name: str) -> Scan | None:
        """The scan of that name, if it was begun."""
        try:
            return self._ledger().get(checked_scan_name(name))
        except ScanNotFound:
            return None

    def begin(
        self,
        name: str,
        collection: ImageCollection,
        manifest: Manifest,
        *,
        threshold: float | None,
        views: int | None,
        others: Sequence[Manifest] = (),
        rule: PanelRule | None = None,
        stability: bool | None = None,
        video: bool | None = None,
        by_service: bool = False,
    ) -> Scan:
        """Start a scan, or resume the one of that name.

        Args:
            name: the scan's.
            collection: its images.
            manifest: of the model that judges them, or of the panel's chief.
            threshold: in [0, 1]; the scan's, or the model's own, unless given.
            views: 1 to 16; the scan's, or 1, unless given.
            others: manifests of a panel's models beside that one.
            rule: of the panel; the scan's, or the chief's, unless given.
            stability: whether images are judged after harmless changes too; the scan's, or not,
                unless given.
            video: whether videos are judged too; the scan's, or not, unless given.
            by_service: whether the service completes it.

        Raises:
            ScanMismatch: the scan was begun with something else.
        """
        ledger, now = self._ledger(), self._clock.now()
        wanted = NewScan(
            name=checked_scan_name(name),
            source=collection.source,
            model=manifest.reference,
            threshold=manifest.threshold if threshold is None else threshold,
            views=views or 1,
            created_at=now,
            by_service=by_service,
            notice=notice_of([manifest, *others]),
            panel=tuple(one.reference for one in (manifest, *others)) if others else (),
            panel_rule=rule or PanelRule.CHIEF,
            stability=bool(stability),
            video=bool(video),
        )
        scan = ledger.open(wanted)
        kept = replace(
            wanted,
            threshold=scan.threshold if threshold is None else threshold,
            views=views or scan.views,
            panel_rule=rule or scan.panel_rule,
            stability=scan.stability if stability is None else stability,
            video=scan.video if video is None else video,
        )
        check_same(scan, kept)
        if scan.state is ScanState.CANCELLED:
            ledger.set_state(scan.id, ScanState.RUNNING, now)
        release_dead(ledger, scan.id, now)
        return ledger.get(scan.name)

    def start(
        self,
        name: str,
        source: str,
        manifest: Manifest,
        *,
        threshold: float | None,
        views: int | None,
        others: Sequence[Manifest] = (),
        rule: PanelRule | None = None,
        stability: bool | None = None,
        video: bool | None = None,
    ) -> Scan:
        """Start or resume a scan for the service's own worker; see :meth:`begin`.

        Raises:
            D3Error: there is no such source, or the scan was begun with something else.
        """
        collection = self._collection(source)
        collection.check()  # at once, without retries: the caller waits
        return self.begin(
            name,
            collection,
            manifest,
            threshold=None if threshold is None else checked_threshold(threshold),
            views=None if views is None else checked_views(views, manifest.views, manifest.name),
            others=others,
            rule=rule,
            stability=stability,
            video=video,
            by_service=True,
        )

    def cancel(self, name: str) -> Scan:
        """Stop every worker of a scan after its current shard; the scan then.

        Raises:
            ScanNotFound: there is none.
        """
        ledger = self._ledger()
        ledger.set_state(ledger.get(name).id, ScanState.CANCELLED, self._clock.now())
        return ledger.get(name)

    def remove(self, name: str) -> None:
        """Delete a scan that is over, with all its results.

        Raises:
            ScanNotFound: there is none.
            ScanRunning: it is not over.
        """
        ledger = self._ledger()
        scan = ledger.get(name)
        if scan.state is ScanState.RUNNING or ledger.holders(scan.id, self._clock.now()):
            raise ScanRunning(
                f"The scan {scan.name!r} is still being worked on.",
                "Cancel it and wait until its workers have stopped.",
            )
        ledger.remove(scan.id)

    def picture(self, scan: Scan, uri: str, side: int) -> Pixels:
        """One of a scan's images, small, as it is now.

        Raises:
            ImageError: it is none of the scan's, or cannot be read any more.
            StorageFailed: its store is away.
        """
        if not self._ledger().known(scan.id, [uri]):
            raise ImageNotFound("The scan has no such image.", "Take one from its results.")
        return self._isolated.picture(self._collection(scan.source).read(uri), side)

    def resume(self, name: str, watcher: Watcher | None = None) -> Scan:
        """Resume a scan with its own source and model, until it is over.

        Raises:
            ScanNotFound: there is none.
            ScanMismatch: its model, or one of its panel, has changed.
            PanelIncomplete: one of its panel is missing.
            D3Error: something is away for too long or refuses; what is stored stays.
        """
        ledger = self._ledger()
        scan = ledger.get(name)
        self._host.load(scan.model.name, scan.model.version)
        collection = self.collection(scan.source)
        with self._members(scan):
            release_dead(ledger, scan.id, self._clock.now())
        return self.run(scan, collection, watcher)

    def run(self, scan: Scan, collection: ImageCollection, watcher: Watcher | None = None) -> Scan:
        """Work on the scan until it is over; the scan then.

        Raises:
            ScanIncomplete: all is judged but what could not be listed; the scan stays open.
            ScanMismatch: other models are loaded than the scan began with.
            PanelIncomplete: one of its panel is missing.
            D3Error: something is away for too long or refuses; what is stored stays.
        """
        ledger = self._ledger()
        if scan.state is ScanState.RUNNING:
            with self._members(scan) as panel, closing(self._isolated):
                question = Question.of(
                    panel,
                    threshold=scan.threshold,
                    views=scan.views,
                    rule=scan.panel_rule,
                    stability=scan.stability,
                )
                worker = ScanWorker(
                    scan,
                    ledger,
                    collection,
                    self._pipeline(question, collection, video=scan.video),
                    self._clock,
                    outage_seconds=OUTAGE_SECONDS,
                    watcher=watcher,
                    shard_images=SHARD_IMAGES,
                    tracer=self._tracer,
                )
                try:
                    worker.run()
                except ScanIncomplete as error:
                    ledger.note(scan.id, str(error))
                    raise
        return ledger.get(scan.name)

    @contextmanager
    def _members(self, scan: Scan) -> Iterator[Panel]:
        """The models of a scan, in the versions that it began with."""
        names = [one.name for one in scan.members]
        self._host.pin({one.name: one.version for one in scan.members})
        with self._host.panel(names, load=True) as panel:
            check_complete(panel.missing)
            there = tuple(one.reference for one in panel.members)
            kept = replace(as_begun(scan), model=there[0], panel=there if scan.panel else ())
            check_same(scan, kept)
            yield panel

    def run_on(self, cluster: ScanCluster, scan: Scan, watcher: Watcher | None = None) -> Scan:
        """Let a cluster work on the scan until it is over; the scan then.

        Raises:
            D3Error: it cannot go on; what is stored stays.
        """
        ledger, watcher = self._ledger(), watcher or Watcher()
        newly_finished = FinishedShards(ledger, scan)

        def is_over() -> bool:
            found = retry_while_unavailable(lambda: ledger.get(scan.name), OUTAGE_SECONDS)
            return found.state is not ScanState.RUNNING

        def idle() -> None:
            for shard in retry_while_unavailable(newly_finished, OUTAGE_SECONDS):
                watcher.finished(shard)
            watcher.idle()

        if scan.state is ScanState.RUNNING:
            cluster.run(scan.name, is_over, idle)
            idle()
        return ledger.get(scan.name)

    def estimate(
        self,
        collection: ImageCollection,
        *,
        members: Sequence[str] | None = None,
        views: int,
        stability: bool = False,
        seconds: float,
        progress: Callable[[int], None] = lambda _keys: None,
    ) -> Estimate:
        """List everything and judge a sample for so many seconds; stores nothing.

        Args:
            collection: what is listed.
            members: names of the models that judge, the chief first; those in use unless given.
            views: 1 to 16.
            stability: whether images are judged after harmless changes too.
            seconds: for the sample.
            progress: called with the number of files as they are found.
        """
        draw, sample, keys = random.Random(0), list[str](), 0  # noqa: S311  no secret
        trouble = None
        try:
            for keys, one in enumerate(collection.list(None), start=1):
                if len(sample) < _SAMPLE:
                    sample.append(one.uri)
                elif (place := draw.randrange(keys)) < _SAMPLE:
                    sample[place] = one.uri
                progress(keys)
        except FolderUnreadable as error:
            trouble = str(error)
        draw.shuffle(sample)
        with self._host.panel(members, load=True) as panel:
            question = Question.of(panel, threshold=None, views=views, stability=stability)
            with closing(self._pipeline(question, collection)) as pipeline:
                found = self._sample(pipeline, sample, keys, seconds)
        return replace(found, trouble=trouble)

    def _sample(
        self, pipeline: ScanPipeline[int], sample: list[str], keys: int, seconds: float
    ) -> Estimate:
        begun, waiting = self._clock.monotonic(), iter(sample)
        done = errors = 0
        verdicts: Counter[str] = Counter()
        while True:
            spent = self._clock.monotonic() - begun
            while spent < seconds and pipeline.room and (uri := next(waiting, None)) is not None:
                pipeline.put(0, uri)
            if not pipeline.in_flight:
                return Estimate(keys, done, spent, verdicts["fake"], verdicts["uncertain"], errors)
            for _, _, outcome in pipeline.take(1.0):
                done += 1
                if isinstance(outcome, D3Error):
                    errors += 1
                else:
                    verdicts[outcome.verdict.value] += 1

    def _pipeline(
        self, question: Question, collection: ImageCollection, *, video: bool = False
    ) -> ScanPipeline[int]:
        remote = collection.source.startswith(S3_SCHEME)
        pipeline: Pipeline[int, str] = Pipeline(
            self._judge,
            self._decoder,
            isolated=self._isolated,
            threads=max(self._threads, S3_THREADS) if remote else self._threads,
            batch_size=self._batch_size,
            clips=self._clips if video else None,
        )
        return ScanPipeline(pipeline, question, collection)
