"""Everything a request may need, started together and stopped in order."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeAlias, TypeVar

from litestar.di import NamedDependency

from d3.container import Container
from d3.domain.access import truncated
from d3.domain.errors import D3Error, LinksOff, Overloaded
from d3.domain.models import PUBLISHED, STARTER
from d3.domain.ports.images import LinkedImage
from d3.entrypoints.http.authentication import Authenticator
from d3.entrypoints.http.metrics import Metrics
from d3.entrypoints.http.queue_metrics import QueueMetrics
from d3.entrypoints.http.retention import RetentionJob
from d3.entrypoints.http.scan_supervisor import ScanSupervisor
from d3.settings import Settings

T = TypeVar("T")
P = ParamSpec("P")
_LOG = logging.getLogger("d3.http")
_QUERY_THREADS = 8
_CHORE_THREADS = 4
_JOB_SECONDS = 5.0
_CHECK_SECONDS = 1.0
_ANSWER_SECONDS = 3.0
_PASS_SECONDS = 120.0
_FETCHES, _FETCHES_WAITING = 4, 8
_BETTER = f"`d3 models pull {PUBLISHED}` downloads the published detector."


@dataclass(frozen=True, slots=True)
class BackgroundJob:
    """What a service does by itself, in a thread of its own.

    Attributes:
        run: goes on until the event is set.
        patience: seconds in which it has to end then; None for however long it takes.
    """

    run: Callable[[threading.Event], None]
    patience: float | None


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
        self.clock = container.clock()
        self.host = container.host()
        self.models = container.models()
        self.registry = container.registry()
        self.schema = container.schema()
        self.history = container.history()
        self.accounts = container.account_service()
        self.key_cache = container.key_cache()
        self.writer = container.history_writer()
        self.request_log = container.request_log()
        self.cache = container.cache()
        self.prediction = container.prediction()
        self.explaining = container.explaining()
        self.scans = container.scans()
        self.scan_ledger = container.scan_ledger()
        self.follower = container.follower()
        self.scan_supervisor = ScanSupervisor(container.scan_ledger, self.settings)
        self.authenticator = Authenticator(
            self.key_cache,
            container.sessions,
            container.limiter(),
            self.query,
            self.settings.rate_failed_keys,
        )
        self._container = container
        retention = RetentionJob(self.key_cache, self.history, self.clock, self.settings)
        # In the order of their end; a download of the follower's may take minutes more.
        self._jobs = [
            BackgroundJob(self.follower.run, _JOB_SECONDS),
            BackgroundJob(retention.run, _JOB_SECONDS),
            BackgroundJob(self.scan_supervisor.run, None),
        ]
        self._threads: list[tuple[BackgroundJob, threading.Thread]] = []
        self._queries = ThreadPoolExecutor(_QUERY_THREADS, thread_name_prefix="d3-query")
        self._chores = ThreadPoolExecutor(_CHORE_THREADS, thread_name_prefix="d3-chore")
        self._fetchers = ThreadPoolExecutor(_FETCHES, thread_name_prefix="d3-fetch")
        self._fetching = 0
        self._storage_check: Future[None] | None = None
        self._storage_checked_at = 0.0
        self._stopping = threading.Event()
        self.started = False
        self._ended = False
        self._lock = threading.Lock()
        self._watch(metrics)

    def _watch(self, metrics: Metrics) -> None:
        """Report what the parts tell whenever somebody asks."""
        metrics.watch(
            "d3_model_loaded",
            "1 while a model is loaded.",
            lambda: float(self.host.loaded() is not None),
        )
        metrics.watch(
            "d3_history_waiting", "Results waiting to be written.", lambda: self.writer.waiting
        )
        metrics.watch(
            "d3_request_log_dropped",
            "Records of the request log that were lost.",
            lambda: self.request_log.dropped,
        )
        metrics.watch(
            "d3_scan_worker_up",
            "1 while a separate process works on scans.",
            lambda: float(self.scan_supervisor.working),
        )
        if (cache := self.cache) is not None:
            metrics.watch(
                "d3_result_cache_up",
                "1 while the result cache is available.",
                lambda: cache.trouble is None,
            )
            metrics.watch(
                "d3_result_cache_failures",
                "Failed lookups of the result cache.",
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
                _LOG.warning(
                    "the database was upgraded; the database before the upgrade is saved in %s",
                    backup,
                )
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
            for job in self._jobs:
                thread = threading.Thread(target=job.run, args=[self._stopping], daemon=True)
                thread.start()
                self._threads.append((job, thread))
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
        for job, thread in self._threads:
            thread.join(job.patience)
        self._fetchers.shutdown(cancel_futures=True)
        self._container.decoding().shutdown()
        self._container.decoder().close()
        ended = self.host.close(_PASS_SECONDS)
        self.writer.close()
        self.request_log.close()
        self._queries.shutdown()
        self._chores.shutdown()
        self.history.close()
        if self.cache is not None:
            self.cache.close()
        return bool(ended)

    def shown_address(self, address: str) -> str | None:
        """What of a caller's address is recorded."""
        kept = self.settings.log_addresses
        if kept == "none":
            return None
        return truncated(address) if kept == "truncated" else address

    async def query(self, work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """Ask the database on the threads kept for that, never on the event loop."""
        return await asyncio.wrap_future(self._queries.submit(work, *arguments, **named))

    async def chore(self, work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """Load, hash or store on the threads kept for that: such work takes seconds."""
        return await asyncio.wrap_future(self._chores.submit(work, *arguments, **named))

    async def fetch(self, url: str) -> LinkedImage:
        """Fetch what a link leads to.

        Raises:
            LinksOff: the settings say no.
            Overloaded: too many wait already.
            D3Error: it leads to no image.
        """
        if not self.settings.fetch_links:
            raise LinksOff(
                "This service does not fetch links.",
                "Send the image itself, or set D3_FETCH_LINKS=True.",
            )
        if self._fetching >= _FETCHES_WAITING:
            raise Overloaded(
                "Too many links are waiting to be fetched.",
                "Try again in a moment.",
                retry_after=5,
            )
        fetch = self._container.links()  # not before: most services need no HTTP client
        self._fetching += 1
        try:
            return await asyncio.wrap_future(self._fetchers.submit(fetch, url))
        finally:
            self._fetching -= 1

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


D3: TypeAlias = NamedDependency[Services]
"""How a handler asks for the services, in its parameter ``d3``."""


def new(settings: Settings, **replaced: Any) -> Services:
    """The services for these settings; parts of the container may be replaced, for tests."""
    container = Container(settings=settings)
    container.serving.override(True)
    container.decoder.override(container.untrusted_decoder)
    metrics = Metrics()
    queue_metrics = QueueMetrics(metrics.registry)
    container.queue_events.override(queue_metrics)
    for name, part in replaced.items():
        getattr(container, name).override(part)
    services = Services(container, metrics)
    queue_metrics.watch(lambda: model.queue if (model := services.host.loaded()) else None)
    return services
