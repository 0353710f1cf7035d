"""Work beside the requests: once in every process, or once for a machine."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from d3.container import Container
from d3.domain.errors import D3Error
from d3.domain.services.event_watch import EventWatch
from d3.entrypoints.http.drift_watch import DriftWatch
from d3.entrypoints.http.machine import register_machine
from d3.entrypoints.http.metrics import Metrics
from d3.entrypoints.http.retention import KeyUses, RetentionJob
from d3.entrypoints.http.scan_supervisor import ScanSupervisor

_JOB_SECONDS = 5.0
_JOBS_SECONDS = 20.0

Troubles = dict[str, str | None]
"""What is wrong, by the part's name; None where nothing is."""


@dataclass(frozen=True, slots=True)
class BackgroundJob:
    """Work that is done in a background thread.

    Attributes:
        run: runs until the event is set.
        end_seconds: seconds to wait for its end then; None to wait as long as it takes.
    """

    run: Callable[[threading.Event], None]
    end_seconds: float | None = _JOB_SECONDS


class JobThreads:
    """Threads of background jobs.

    Args:
        jobs: in the order in which they are stopped.
    """

    def __init__(self, jobs: list[BackgroundJob]) -> None:
        self._jobs = jobs
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begin all jobs."""
        for job in self._jobs:
            thread = threading.Thread(target=job.run, args=[self._stopping], daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self, wake: Callable[[], None] = lambda: None) -> None:
        """Have them end, and wait for that.

        Args:
            wake: wakes a job that waits for something else.
        """
        self._stopping.set()
        wake()
        for job, thread in zip(self._jobs, self._threads, strict=False):
            thread.join(job.end_seconds)


class Background(Protocol):
    """Once for a machine: the model is followed, scans, jobs and webhooks are worked on."""

    def start(self) -> None:
        """Begin."""
        ...

    def stop(self) -> None:
        """End, and wait for that."""
        ...

    def wake_scans(self) -> None:
        """Look for scans to do now."""
        ...

    def wake_jobs(self) -> None:
        """Look for jobs to work on now."""
        ...

    def register_gauges(self, metrics: Metrics) -> None:
        """Register the gauges of what is done in this process."""
        ...

    def troubles(self) -> Troubles:
        """What is wrong with parts that judging an image does not need."""
        ...


class LocalBackground:
    """Implements ``Background`` in this process.

    Args:
        container: makes the parts.
    """

    def __init__(self, container: Container) -> None:
        self._settings = container.settings()
        self._follower = container.follower()
        self._registry = container.registry()
        self._cache = container.cache()
        self._scans = ScanSupervisor(container.scan_ledger, self._settings)
        outbox, self._clock = container.outbox(), container.clock()
        self._jobs = container.job_runner()
        self._drift = DriftWatch(container.drift(), self._clock)
        self._webhooks = container.webhook_delivery()
        watch = EventWatch(outbox, container.host(), lambda: self._drift.latest, self._clock)
        retention = RetentionJob(container.history(), outbox, self._clock, self._settings)
        # The follower may be in a download of minutes.
        self._threads = JobThreads(
            [
                BackgroundJob(self._follower.run),
                BackgroundJob(retention.run),
                BackgroundJob(self._drift.run),
                BackgroundJob(watch.run),
                BackgroundJob(self._webhooks.run),
                BackgroundJob(self._scans.run, None),
                BackgroundJob(self._jobs.run, _JOBS_SECONDS),
            ]
        )

    def start(self) -> None:
        self._threads.start()

    def stop(self) -> None:
        self._threads.stop(self._wake_all)

    def _wake_all(self) -> None:
        self._scans.wake()
        self._jobs.wake()
        self._webhooks.wake()

    def wake_scans(self) -> None:
        self._scans.wake()

    def wake_jobs(self) -> None:
        self._jobs.wake()

    def register_gauges(self, metrics: Metrics) -> None:
        self._jobs.judged = metrics.judged
        metrics.watch(
            "d3_scan_worker_up",
            "1 while a separate process works on scans.",
            lambda: float(self._scans.working),
        )
        metrics.watch(
            "d3_job_worker_up",
            "1 while this process judges images of jobs.",
            lambda: float(self._jobs.working),
        )
        metrics.watch(
            "d3_jobs_running",
            "Jobs in the database that are not over.",
            lambda: self._jobs.totals.running,
            "max",
        )
        metrics.watch(
            "d3_job_items_waiting",
            "Images of jobs that are not over, without a result so far.",
            lambda: self._jobs.totals.waiting,
            "max",
        )
        metrics.watch(
            "d3_spool_bytes",
            "Bytes of files of jobs that wait to be judged.",
            lambda: self._jobs.totals.spooled_bytes,
            "max",
        )
        metrics.watch(
            "d3_spool_limit_bytes",
            "Bytes that these files may take.",
            lambda: self._settings.spool_bytes,
            "max",
        )
        self._register_scans(metrics)
        self._drift.register_gauges(metrics)
        self._register_webhooks(metrics)
        register_machine(metrics, self._settings)
        if (cache := self._cache) is not None:
            metrics.watch(
                "d3_result_cache_up",
                "1 while the result cache is available.",
                lambda: cache.trouble is None,
            )
            metrics.watch_count(
                "d3_result_cache_failures",
                "Failed lookups of the result cache.",
                lambda: cache.failures,
            )

    def _register_scans(self, metrics: Metrics) -> None:
        scans = self._scans
        # Every replica sees the same ledger.
        for name, about, figure in (
            ("running", "Scans of the service that are not over.", lambda: scans.figures.running),
            ("waiting", "Those of them that cannot go on.", lambda: scans.figures.in_trouble),
            ("done_images", "Files of running scans that are through.", lambda: scans.figures.done),
        ):
            metrics.watch(f"d3_scans_{name}", about, figure, "max")

    def _register_webhooks(self, metrics: Metrics) -> None:
        webhooks, now = self._webhooks, self._clock.now

        def oldest() -> float:
            due = webhooks.figures.oldest_due
            return 0.0 if due is None else max(0.0, (now() - due).total_seconds())

        # Every replica sees the same outbox.
        for name, about, figure in (
            ("waiting", "Deliveries that wait to be sent.", lambda: webhooks.figures.waiting),
            ("dead", "Deliveries that were given up.", lambda: webhooks.figures.dead),
            ("oldest_seconds", "How long the oldest waiting one has been due.", oldest),
        ):
            metrics.watch(f"d3_webhooks_{name}", about, figure, "max")
        sent = metrics.counter("d3_webhooks_sent", "Deliveries that were sent.")
        failed = metrics.counter("d3_webhooks_failed", "Attempts that failed.")
        webhooks.on_attempt = lambda well: (sent if well else failed).inc()

    def troubles(self) -> Troubles:
        return {
            "model store": self._registry.trouble,
            "default model": self._follower.trouble,
            "result cache": self._cache.trouble if self._cache is not None else None,
        }


class RemoteBackground:
    """Implements ``Background`` for a front: the main engine process does the work.

    Args:
        call: has this process do something, and gives its answer.
    """

    def __init__(self, call: Callable[[str], Any]) -> None:
        self._call = call

    def start(self) -> None:
        """The engine process has started it."""

    def stop(self) -> None:
        """The engine process stops it."""

    def register_gauges(self, metrics: Metrics) -> None:
        """The engine process has them."""

    def wake_scans(self) -> None:
        try:
            self._call("wake_scans")
        except D3Error:
            return  # it looks for scans when it starts

    def wake_jobs(self) -> None:
        try:
            self._call("wake_jobs")
        except D3Error:
            return  # it looks for jobs every second

    def troubles(self) -> Troubles:
        try:
            return dict(self._call("troubles"))
        except D3Error:
            return {}  # the detector's trouble says why


def key_uses(container: Container) -> JobThreads:
    """The job of every process that lets callers in: it writes when keys were last used."""
    return JobThreads([BackgroundJob(KeyUses(container.key_cache()).run)])
