"""Everything a request may need, started together and stopped in order."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, TypeAlias, TypeVar

from litestar.di import NamedDependency

from d3.container import Container
from d3.domain.access import truncated
from d3.domain.errors import D3Error, LinksOff, Overloaded
from d3.domain.heatmaps import Heatmap
from d3.domain.models import PUBLISHED, STARTER
from d3.domain.ports.clock import Clock
from d3.domain.ports.history import History, ResultCache, Schema
from d3.domain.ports.images import ImageDecoder
from d3.domain.ports.links import LinkedImage, Links
from d3.domain.ports.models import ModelRegistry
from d3.domain.ports.scans import ScanLedger
from d3.domain.services.accounts import AccountService
from d3.domain.services.explaining import ExplanationService
from d3.domain.services.history_writer import HistoryWriter
from d3.domain.services.inference import InferenceService
from d3.domain.services.key_cache import KeyCache
from d3.domain.services.lanes import LanePool
from d3.domain.services.model_follower import ActiveModelFollower
from d3.domain.services.model_host import ModelHost
from d3.domain.services.models import ModelService
from d3.domain.services.request_log_writer import RequestLogWriter
from d3.domain.services.scans.service import ScanService
from d3.entrypoints.http.authentication import Authenticator
from d3.entrypoints.http.bounded_pool import BoundedPool
from d3.entrypoints.http.metrics import Metrics
from d3.entrypoints.http.queue_metrics import QueueMetrics
from d3.entrypoints.http.retention import RetentionJob
from d3.entrypoints.http.scan_supervisor import ScanSupervisor
from d3.entrypoints.http.waiting import Mailbox
from d3.settings import Settings

T = TypeVar("T")
_LOG = logging.getLogger("d3.http")
_QUERY_THREADS = 8
_CHORE_THREADS = 4
_PATIENCE_SECONDS = 5.0
_CHECK_SECONDS = 1.0
_ANSWER_SECONDS = 3.0
_PASS_SECONDS = 120.0
_EXPLANATIONS_WAITING = 8
_FETCHES, _FETCHES_WAITING = 4, 8
_BETTER = f"`d3 models pull {PUBLISHED}` fetches the published detector."


class Services:
    """A running service; made stopped.

    Args:
        container: wires the parts.
        metrics: counts.
    """

    def __init__(self, container: Container, metrics: Metrics) -> None:
        self.settings: Settings = container.settings()
        self.version: str = container.version()
        self.metrics = metrics
        self.host: ModelHost = container.host()
        self.models: ModelService = container.models()
        self.registry: ModelRegistry = container.registry()
        self.schema: Schema = container.schema()
        self.history: History = container.history()
        self.key_cache: KeyCache = container.key_cache()
        self.writer: HistoryWriter = container.history_writer()
        self.request_log: RequestLogWriter = container.request_log()
        self._queries = ThreadPoolExecutor(_QUERY_THREADS, thread_name_prefix="d3-query")
        self._chores = ThreadPoolExecutor(_CHORE_THREADS, thread_name_prefix="d3-chore")
        self.accounts: AccountService = container.account_service()
        self.authenticator = Authenticator(
            self.key_cache,
            container.sessions,
            container.limiter(),
            self.query,
            self.settings.rate_failed_keys,
        )
        self._decoding = LanePool(
            self.settings.decode_threads, self.settings.bulk_percent / 100, "d3-decode"
        )
        self.cache: ResultCache | None = container.cache() if self.settings.cache_entries else None
        self._decoder: ImageDecoder = container.decoder()
        self._mailbox: Mailbox | None = None
        self._storage_check: Future[None] | None = None
        self._storage_checked_at = 0.0
        self._stopping = threading.Event()
        self.inference = InferenceService(
            self.host,
            self._decoder,
            self._decoding,
            self.cache,
            container.clock(),
            self.version,
        )
        self.follower: ActiveModelFollower = container.follower()
        self._following = threading.Thread(
            target=self.follower.run, args=[self._stopping], name="d3-follower", daemon=True
        )
        self.retention_job = RetentionJob(
            self.key_cache, self.history, container.clock(), self.settings
        )
        self._keeping_house = threading.Thread(
            target=self.retention_job.run, args=[self._stopping], name="d3-caretaker", daemon=True
        )
        self.clock: Clock = container.clock()
        self.scan_ledger: ScanLedger = container.scan_ledger()
        self.scans: ScanService = container.scans()
        self.scan_supervisor = ScanSupervisor(container.scan_ledger, self.settings)
        self._keeping_scans = threading.Thread(
            target=self.scan_supervisor.run, args=[self._stopping], name="d3-scans", daemon=True
        )
        self._container = container
        self.explaining: ExplanationService = container.explaining()
        self._explanations = BoundedPool(
            2, _EXPLANATIONS_WAITING, "d3-explain", partial(_too_many, "images", "explained")
        )
        self._fetches = BoundedPool(
            _FETCHES, _FETCHES_WAITING, "d3-fetch", partial(_too_many, "links", "fetched")
        )
        self.started = False
        self._ended = False
        self._lock = threading.Lock()
        metrics.watch("d3_model_loaded", "1 while a model is loaded.", self._is_loaded)
        metrics.watch("d3_history_waiting", "Results to be written.", lambda: self.writer.waiting)
        metrics.watch(
            "d3_request_log_dropped",
            "Records of the request log that were given up.",
            lambda: self.request_log.dropped,
        )
        metrics.watch(
            "d3_scan_worker_up",
            "1 while a process beside the service works on scans.",
            lambda: float(self.scan_supervisor.working),
        )
        if (cache := self.cache) is not None:
            metrics.watch(
                "d3_result_cache_up",
                "1 while the result cache answers.",
                lambda: cache.trouble is None,
            )
            metrics.watch(
                "d3_result_cache_failures",
                "Questions that the result cache did not answer.",
                lambda: cache.failures,
            )

    def start(self, ready: Callable[[Container], None] = lambda _: None) -> None:
        """Bring the embedded database up to date and load the model; does it once.

        A model that cannot be loaded is logged, not raised: the service then says so in
        ``/health/ready`` and answers predictions with 503.

        Args:
            ready: called once the database is, before the model is loaded.

        Raises:
            StorageFailed: the database cannot be used.
        """
        with self._lock:
            if self.started:
                return
            if (backup := self.schema.make_ready()) is not None:
                _LOG.warning("the database was upgraded; %s is how it was before", backup)
            ready(self._container)
            try:
                model = self.host.load()
            except D3Error as error:
                _LOG.error("no model is loaded: %s", error)
            else:
                manifest = model.manifest
                _LOG.info("%s version %d is loaded", manifest.name, manifest.version)
                if manifest.name == STARTER:
                    _LOG.warning("%s %s", manifest.notice, _BETTER)
                elif manifest.notice:
                    _LOG.warning("%s", manifest.notice)
            self._following.start()
            self._keeping_house.start()
            self._keeping_scans.start()
            self.started = True

    def stop(self) -> bool:
        """Finish what is in flight, write what waits, close everything; does it once.

        Returns:
            Whether all of it ended.
        """
        with self._lock:
            if not self._stopping.is_set():
                self._stopping.set()
                self._ended = self._stop()
            return self._ended

    def _stop(self) -> bool:
        self.scan_supervisor.wake()
        if self._following.ident is not None:
            self._following.join(_PATIENCE_SECONDS)  # a download may take minutes more
        self._explanations.shutdown()
        self._fetches.shutdown()
        if self._keeping_house.ident is not None:
            self._keeping_house.join(_PATIENCE_SECONDS)
        if self._keeping_scans.ident is not None:
            self._keeping_scans.join()
        self._decoding.shutdown()
        self._decoder.close()
        ended = self.host.close(_PASS_SECONDS)
        self.writer.close()
        self.request_log.close()
        self._queries.shutdown()
        self._chores.shutdown()
        self.history.close()
        if self.cache is not None:
            self.cache.close()
        return ended

    def shown_address(self, address: str) -> str | None:
        """What of a caller's address is recorded."""
        kept = self.settings.log_addresses
        if kept == "none":
            return None
        return truncated(address) if kept == "truncated" else address

    async def query(self, work: Callable[[], T]) -> T:
        """Ask the database on the threads kept for that, never on the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._queries, work)

    async def chore(self, work: Callable[[], T]) -> T:
        """Load, hash or store on the threads kept for that: such work takes seconds."""
        return await asyncio.get_running_loop().run_in_executor(self._chores, work)

    def explain(
        self, image: bytes, views: int, within: float, show: Callable[[Heatmap], T]
    ) -> Future[T]:
        """Have a heat map drawn; cancelled, it costs no more than what runs at that moment.

        Args:
            image: the encoded file.
            views: 1 to 16 permutations to average.
            within: seconds after which nobody waits.
            show: what is wanted of the map.

        Raises:
            ModelNotLoaded: there is no model to ask.
            ExplanationUnavailable: what runs the model cannot explain, or not in this time.
            Overloaded: too much waits already.
        """
        planned = self.explaining.plan(views, within)
        shown: Future[T] = Future()

        def draw() -> None:
            try:
                result = show(planned.draw(image, shown))
            except BaseException as error:  # noqa: BLE001  the future carries it to whoever waits
                if shown.set_running_or_notify_cancel():
                    shown.set_exception(error)
            else:
                if shown.set_running_or_notify_cancel():
                    shown.set_result(result)

        def never_began(job: Future[None]) -> None:
            if job.cancelled():
                planned.release()
                shown.cancel()

        try:
            self._explanations.submit(draw).add_done_callback(never_began)
        except Overloaded:
            planned.release()
            raise
        return shown

    def fetch(self, url: str) -> Future[LinkedImage]:
        """Fetch what a link leads to.

        Raises:
            LinksOff: the settings say no.
            Overloaded: too many wait already.
        """
        if not self.settings.fetch_links:
            raise LinksOff(
                "This service fetches no links.",
                "Send the image itself; D3_FETCH_LINKS=True would allow it.",
            )
        links: Links = self._container.links()  # not before: most services need no HTTP client
        return self._fetches.submit(lambda: links.fetch(url))

    def wait(self, source: Future[T]) -> asyncio.Future[T]:
        """What a thread is doing, to be awaited on the running event loop."""
        loop = asyncio.get_running_loop()
        if self._mailbox is None or self._mailbox.loop is not loop:
            self._mailbox = Mailbox(loop)
        return self._mailbox.wait(source)

    async def storage_trouble(self) -> str | None:
        """Why results could not be kept now; None where they could.

        Asked often, as readiness is, the database is tried once a second at most.
        """
        now = self.clock.monotonic()
        if self._storage_check is None or (
            self._storage_check.done() and now - self._storage_checked_at >= _CHECK_SECONDS
        ):
            self._storage_checked_at = now
            self._storage_check = self._queries.submit(self.history.check_writable)
        check = asyncio.wrap_future(self._storage_check)
        await asyncio.wait([check], timeout=_ANSWER_SECONDS)
        if not check.done():
            return "it does not answer"
        error = check.exception()
        if error is not None and not isinstance(error, D3Error):
            raise error
        return None if error is None else error.problem

    def _is_loaded(self) -> float:
        return float(self.host.loaded() is not None)


D3: TypeAlias = NamedDependency[Services]
"""How a handler asks for the services, in its parameter ``d3``."""


def _too_many(what: str, done: str) -> Overloaded:
    return Overloaded(
        f"Too many {what} wait to be {done} already.",
        "Try again in a moment.",
        retry_after=_PATIENCE_SECONDS,
    )


def new(settings: Settings, **replaced: Any) -> Services:
    """The services for these settings; parts of the container may be replaced, for tests."""
    container = Container(settings=settings)
    container.queue.override(container.threaded_queue)
    container.decoder.override(container.untrusted_decoder)
    metrics = Metrics()
    queue_metrics = QueueMetrics(metrics.registry)
    container.queue_events.override(queue_metrics)
    for name, part in replaced.items():
        getattr(container, name).override(part)
    services = Services(container, metrics)
    queue_metrics.watch(lambda: model.queue if (model := services.host.loaded()) else None)
    return services
