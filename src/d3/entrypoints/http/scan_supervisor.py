"""The background job that keeps a worker process running while there are scans to do."""

from __future__ import annotations

import logging
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from d3.domain.backoff import pause_after
from d3.domain.errors import D3Error
from d3.domain.ports.scans import ScanLedger
from d3.domain.scans import Scan
from d3.settings import Settings

_LOG = logging.getLogger("d3.http")
_MODULE = "d3.entrypoints.scan_worker"
_CHECK_SECONDS = 10.0
_POLL_SECONDS = 0.1
_LONGEST_PAUSE = 60.0
_LONG_RUN_SECONDS = 60.0
_PATIENCE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class ScanFigures:
    """How the service's scans stand.

    Attributes:
        running: those that are not over.
        in_trouble: those of them that could not go on at the last attempt.
        done: their files that are through, images or not.
    """

    running: int = 0
    in_trouble: int = 0
    done: int = 0

    @classmethod
    def of(cls, scans: Sequence[Scan]) -> ScanFigures:
        """The figures of running scans."""
        stuck = sum(one.trouble is not None for one in scans)
        return cls(len(scans), stuck, sum(one.counts.done for one in scans))


class ScanSupervisor:
    """Starts a worker when there are scans to do, and again when it dies.

    Each replica of the service runs a worker. The workers share the scans.

    Args:
        ledger: lists the scans.
        settings: of the service and its worker.
    """

    def __init__(self, ledger: Callable[[], ScanLedger], settings: Settings) -> None:
        self._ledger = ledger
        self._settings = settings
        self._woken = threading.Event()
        self._worker: subprocess.Popen[bytes] | None = None
        self._looked = 0.0
        self.figures = ScanFigures()

    @property
    def working(self) -> bool:
        """Whether a worker is running."""
        return self._worker is not None

    def wake(self) -> None:
        """Look for work now."""
        self._woken.set()

    def run(self, stopping: threading.Event) -> None:
        """Run until the event is set and :meth:`wake` is called. What fails is tried again."""
        failures = 0
        while not stopping.is_set():
            try:
                if self._is_due():
                    failures = 0 if self._run_worker(stopping) else failures + 1
            except Exception:  # noqa: BLE001  scans continue when the cause is gone
                failures += 1
                _LOG.exception("the scan worker could not be started; D3 will try again")
            self._woken.wait(pause_after(failures, 1.0, _LONGEST_PAUSE) or _CHECK_SECONDS)
            self._woken.clear()

    def _run_worker(self, stopping: threading.Event) -> bool:
        """Run a worker to its end; says whether it finished all scans or at least ran for long."""
        begun = time.monotonic()
        code = self._work(stopping)
        if code not in (0, 1) and not stopping.is_set():
            _LOG.error("the scan worker ended with exit code %d; a new one continues", code)
        return code == 0 or time.monotonic() - begun > _LONG_RUN_SECONDS

    def _is_due(self) -> bool:
        self._looked = time.monotonic()
        try:
            scans = self._ledger().unfinished()
            self.figures = ScanFigures.of(scans)
            return bool(scans)
        except D3Error as error:
            _LOG.warning("open scans could not be listed: %s", error)
            return False

    def _work(self, stopping: threading.Event) -> int:
        """Start a worker and wait for its exit code; end it when the service stops."""
        self._worker = worker = subprocess.Popen(
            [sys.executable, "-P", "-m", _MODULE],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C goes to the service, which stops its worker
        )
        _LOG.info("the scan worker is process %d", worker.pid)
        assert worker.stdin is not None
        try:
            with suppress(BrokenPipeError):
                worker.stdin.write(pickle.dumps(self._settings))
                worker.stdin.flush()
            while (code := worker.poll()) is None:
                if stopping.wait(_POLL_SECONDS):
                    return self._end(worker)
                if time.monotonic() - self._looked >= _CHECK_SECONDS:
                    self._is_due()  # for the figures
            return code
        finally:
            with suppress(BrokenPipeError):
                worker.stdin.close()
            self._worker = None

    @staticmethod
    def _end(worker: subprocess.Popen[bytes]) -> int:
        worker.terminate()
        try:
            return worker.wait(_PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            worker.kill()
            return worker.wait()
