"""What the handlers work with: the parts of a running service, started and stopped in order."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from functools import partial
from pathlib import Path
from typing import Any, ParamSpec, TypeAlias, TypeVar

from litestar.di import NamedDependency

from d3.container import Container
from d3.domain.access import Caller, truncated
from d3.domain.errors import D3Error, ForkUnsupported, LinksOff, ModelNotLoaded, Overloaded
from d3.domain.models import PUBLISHED, STARTER, Manifest
from d3.domain.ports.images import LinkedImage
from d3.domain.services.model_host import ModelHost, refuse_forked
from d3.domain.webhooks import Delivery
from d3.entrypoints.http.authentication import Authenticate, Authenticator
from d3.entrypoints.http.background import (
    Background,
    LocalBackground,
    RemoteBackground,
    key_uses,
)
from d3.entrypoints.http.metrics import Metrics, QueueMetrics
from d3.settings import Settings

T = TypeVar("T")
P = ParamSpec("P")
_LOG = logging.getLogger("d3.http")
_QUERY_THREADS = 8
_SLOW_THREADS = 4
_CHECK_SECONDS = 1.0
_ANSWER_SECONDS = 3.0
_PASS_SECONDS = 120.0
_FETCHES, _FETCHES_WAITING = 4, 8
_CLIPS_IN_WORK = 8
_TESTS = 16
_PULL_HINT = f"`d3 models pull {PUBLISHED}` downloads the published detector."


class Services:
    """The parts of a service. It does nothing before :meth:`start`.

    Args:
        container: makes the parts.
        metrics: what ``/metrics`` shows.
        background: what is done once for the machine.
        authenticate: the host application's own authentication; None where D3 stands alone.
    """

    def __init__(
        self,
        container: Container,
        metrics: Metrics,
        background: Background,
        authenticate: Authenticate | None = None,
    ) -> None:
        self.settings: Settings = container.settings()
        self.version: str = container.version()
        self.metrics = metrics
        self.clock = container.clock()
        self.tracer = container.tracer()
        self.host = container.host()
        self.models = container.models()
        self.registry = container.registry()
        self.schema = container.schema()
        self.history = container.history()
        self.drift = container.drift()
        self.accounts = container.account_service()
        self.key_cache = container.key_cache()
        self.writer = container.history_writer()
        self.request_log = container.request_log()
        self.cache = container.cache()
        self.prediction = container.prediction()
        self.clips = container.clips()
        self.explaining = container.explaining()
        self.evidence = container.evidence()
        self.evidence_bundles = container.evidence_bundles()
        self.scans = container.scans()
        self.jobs = container.jobs()
        self.encode_png = container.png()
        self.scan_ledger = container.scan_ledger()
        self.webhooks = container.webhooks()
        self.background = background
        self.authenticator = Authenticator(
            self.key_cache,
            container.sessions,
            container.limiter(),
            self.query,
            self.settings.rate_failed_keys,
            host=authenticate,
        )
        self._container = container
        self._key_uses = key_uses(container)
        self._queries = ThreadPoolExecutor(_QUERY_THREADS, thread_name_prefix="d3-query")
        self._slow_threads = ThreadPoolExecutor(_SLOW_THREADS, thread_name_prefix="d3-chore")
        self._fetchers = ThreadPoolExecutor(_FETCHES, thread_name_prefix="d3-fetch")
        self._fetching = 0
        self._clips_in_work = 0
        self._testing = 0
        self._storage_check: Future[None] | None = None
        self._storage_checked_at = 0.0
        self._process: int | None = None
        self._stopped = False
        self._ended = False
        self._lock = threading.Lock()
        self._register_gauges(metrics)

    def _register_gauges(self, metrics: Metrics) -> None:
        """Register the gauges that read the parts' state."""
        metrics.watch(
            "d3_model_loaded",
            "1 while a model is loaded.",
            lambda: float(self.host.loaded() is not None),
            "min",
        )
        metrics.watch(
            "d3_panel_loaded",
            "Models of the panel that are loaded, the one in use among them.",
            lambda: len(panel.members) if (panel := self.host.panel_in_use()) else 0,
            "min",
        )
        metrics.watch(
            "d3_panel_missing",
            "Models of the panel that give no opinion now.",
            lambda: len(panel.silent) if (panel := self.host.panel_in_use()) else 0,
            "max",
        )
        metrics.watch(
            "d3_history_waiting", "Results waiting to be written.", lambda: self.writer.waiting
        )
        self.writer.on_transaction = metrics.history()
        metrics.watch_count(
            "d3_request_log_dropped",
            "Records of the request log that were lost.",
            lambda: self.request_log.dropped,
        )
        metrics.build(self.version)
        self.background.register_gauges(metrics)

    @property
    def runs_here(self) -> bool:
        """Whether it was started, in this very process."""
        return self._process == os.getpid()

    def start(self, ready: Callable[[Container], None] = lambda _: None) -> None:
        """Upgrade the embedded database and load the model. A second call does nothing.

        A model that cannot be loaded is logged, not raised. ``/health/ready`` says so, and
        predictions are answered with 503.

        Args:
            ready: called when the database is ready, before the model is loaded.

        Raises:
            StorageFailed: the database cannot be used.
            ForkUnsupported: the process that this one was forked from started it, or used models.
        """
        with self._lock:
            if self.runs_here:
                return
            if self._process is not None:
                raise ForkUnsupported(
                    "D3's service was started before this process was forked.",
                    "Start it in the child processes only: see docs/embedding.md.",
                )
            if here := not self._container.engine_sockets():  # else models are the engine process's
                refuse_forked()
            make_database_ready(self._container)
            ready(self._container)
            if here:
                self.host.changed = LoadedLog(self.host).tell
            try:
                self.host.start()
            except D3Error as error:
                _LOG.error("no model is loaded: %s", error)
            self.background.start()
            self._key_uses.start()
            self._process = os.getpid()

    def stop(self) -> bool:
        """Finish requests in flight, write waiting results, close everything.

        A second call does nothing.

        Returns:
            Whether everything ended in time.
        """
        with self._lock:
            if not self._stopped:
                self._stopped = True
                self._ended = self._stop()
            return self._ended

    def _stop(self) -> bool:
        self.background.stop()
        self._key_uses.stop()
        self._fetchers.shutdown(cancel_futures=True)
        self.clips.close()
        self._container.decoding().shutdown()
        self._container.decoder().close()
        ended = self.host.close(_PASS_SECONDS)
        self.writer.close()
        self.request_log.close()
        self._queries.shutdown()
        self._slow_threads.shutdown()
        self.history.close()
        if self.cache is not None:
            self.cache.close()
        self.tracer.close()
        return bool(ended)

    def shown_address(self, address: str) -> str | None:
        """The part of a caller's address that is recorded: all, a prefix, or None."""
        kept = self.settings.log_addresses
        if kept == "none":
            return None
        return truncated(address) if kept == "truncated" else address

    async def query(self, work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """Run a database query on the threads for queries, not on the event loop."""
        return await asyncio.wrap_future(self._queries.submit(work, *arguments, **named))

    async def run_slowly(self, work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """Run work of seconds, such as loading a model, on the threads for such work."""
        return await asyncio.wrap_future(self._slow_threads.submit(work, *arguments, **named))

    @contextmanager
    def one_more_clip(self) -> Iterator[None]:
        """Count a clip that is open; each has a process of its own.

        Raises:
            Overloaded: there are too many.
        """
        if self._clips_in_work >= _CLIPS_IN_WORK:
            raise Overloaded(
                "Too many videos are being judged.", "Try again in a moment.", retry_after=10
            )
        self._clips_in_work += 1
        try:
            yield
        finally:
            self._clips_in_work -= 1

    async def fetch(self, url: str) -> LinkedImage:
        """Fetch the image at a URL.

        Raises:
            LinksOff: ``D3_FETCH_LINKS`` is off.
            Overloaded: too many fetches wait already.
            D3Error: the URL gives no image.
        """
        if not self.settings.fetch_links:
            raise LinksOff(
                "This service does not fetch links.",
                "Send the image itself. Its operator can set D3_FETCH_LINKS=True.",
            )
        if self._fetching >= _FETCHES_WAITING:
            raise Overloaded(
                "Too many links are waiting to be fetched.",
                "Try again in a moment.",
                retry_after=5,
            )
        fetch = self._container.links()  # made late: most services need no HTTP client
        self._fetching += 1
        try:
            with self.tracer.span("d3.fetch", "client"):
                work = partial(copy_context().run, fetch, url)  # of which it knows the span
                return await asyncio.wrap_future(self._fetchers.submit(work))
        finally:
            self._fetching -= 1

    async def test_webhook(self, caller: Caller, id_: int) -> Delivery:
        """Send a test event to a webhook.

        Raises:
            Overloaded: too many tests are being sent.
            WebhookNotFound: there is no such webhook.
        """
        if self._testing >= _TESTS:
            raise Overloaded(
                "Too many webhooks are being tested.", "Try again in a moment.", retry_after=5
            )
        self._testing += 1
        try:
            return await self.webhooks.test(caller, id_, self.query)
        finally:
            self._testing -= 1

    async def storage_trouble(self) -> str | None:
        """Why the database could not store a result now; None if it could.

        The database is tried at most once a second, however often readiness is asked for.
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


class LoadedLog:
    """Logs which models are loaded and which members of a panel are missing, once each.

    Args:
        host: holds them.
    """

    def __init__(self, host: ModelHost) -> None:
        self._host = host
        self._told: set[tuple[str, str]] = set()

    def tell(self) -> None:
        """Log what has changed since the last call."""
        if (panel := self._host.panel_in_use()) is None:
            self._told.clear()
            return
        told, self._told = self._told, set()
        said: tuple[str, object]
        for one in panel.members:
            self._told.add(said := (one.manifest.name, one.reference.sha256))
            if said not in told:
                _log_loaded(one.manifest)
        for absent in panel.missing:
            self._told.add(said := (absent.model, absent.code))
            if said not in told and absent.code != ModelNotLoaded.code:  # it is being loaded
                _LOG.warning("the panel goes on without %s: %s", absent.model, absent.error)


def _log_loaded(manifest: Manifest) -> None:
    """Log that a model is loaded, and what must be said of it."""
    _LOG.info("%s version %d is loaded", manifest.name, manifest.version)
    if manifest.name == STARTER:
        _LOG.warning("%s %s", manifest.notice, _PULL_HINT)
    elif manifest.notice:
        _LOG.warning("%s", manifest.notice)


def make_database_ready(container: Container) -> None:
    """Fill an empty database, upgrade an embedded one.

    Raises:
        StorageFailed: the database cannot be used.
    """
    if (backup := container.schema().make_ready()) is not None:
        _LOG.warning(
            "the database was upgraded; the database before the upgrade is saved in %s", backup
        )


D3: TypeAlias = NamedDependency[Services]
"""The type of a handler's parameter ``d3``: the services, injected."""


def new(
    settings: Settings,
    sockets: Sequence[Path] = (),
    authenticate: Authenticate | None = None,
    **replaced: Any,
) -> Services:
    """The services for these settings.

    Args:
        settings: this process's.
        sockets: of the engine processes that run the model, the main one first; none if this
            process runs it.
        authenticate: see :func:`d3.entrypoints.http.create_app`.
        replaced: parts of the container to use instead of its own.
    """
    container = Container(settings=settings)
    container.serving.override(True)
    container.decoder.override(container.untrusted_decoder)
    container.engine_sockets.override(tuple(sockets))
    metrics = Metrics()
    queue_metrics = QueueMetrics(metrics.registry)
    container.queue_events.override(queue_metrics)
    for name, part in replaced.items():
        getattr(container, name).override(part)
    if sockets:
        link = container.engine_links()[0]
        return Services(container, metrics, RemoteBackground(link.call), authenticate)
    services = Services(container, metrics, LocalBackground(container), authenticate)
    queue_metrics.watch(services.host.queues)
    return services
