"""The process beside the service that works on its scans; started by the service, for it alone.

It gets the settings on its standard input, which the service holds open as long as it lives: a
service that was killed takes its worker with it, and the next one's worker goes on from there.
"""

from __future__ import annotations

import logging
import os
import pickle
import signal
import sys
import threading

from d3.container import Container, working
from d3.domain.errors import D3Error
from d3.domain.scans import Scan
from d3.entrypoints.logs import configure_logs
from d3.settings import Settings

_LOG = logging.getLogger("d3.scans")
_NICENESS = 10
_LAST_SECONDS = 15.0
_PIPE_BYTES = 4096


def main() -> int:
    """Work until no scan is left; 0, or 1 where one could not go on."""
    settings: Settings = pickle.load(sys.stdin.buffer)  # noqa: S301  from the service that began us
    configure_logs(settings.log_format, settings.log_level)
    signal.signal(signal.SIGTERM, _stop)
    threading.Thread(target=_end_with_the_service, daemon=True).start()
    os.nice(_NICENESS)  # who waits for an answer comes first
    with working(settings) as container:
        return int(_work(container))


def _work(container: Container) -> bool:
    """Work on each scan, the oldest first; whether one could not go on."""
    ledger, stuck = container.scan_ledger(), set[int]()
    while due := [one for one in ledger.unfinished() if one.id not in stuck]:
        scan = due[0]
        _LOG.info("scan %s continues at %d images", scan.name, scan.counts.rows)
        try:
            ended = _run(container, scan)
        except D3Error as error:
            _LOG.error("scan %s cannot continue: %s", scan.name, error, exc_info=error.__cause__)
            ledger.note(scan.id, str(error))
            stuck.add(scan.id)
        else:
            ledger.note(scan.id, None)
            _LOG.info("scan %s is %s: %d images", ended.name, ended.state, ended.counts.rows)
    return bool(stuck)


def _run(container: Container, scan: Scan) -> Scan:
    settings, scans = container.settings(), container.scans()
    if settings.ray_address is None:
        return scans.resume(scan.name)
    cluster = container.scan_cluster(settings.ray_address, isolate=settings.isolate_decoding)
    return scans.run_on(cluster, scan)


def _stop(*_: object) -> None:
    raise SystemExit(0)


def _end_with_the_service() -> None:
    # Past the buffer: its lock, held here, would abort the process when the interpreter ends.
    while os.read(sys.stdin.fileno(), _PIPE_BYTES):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(_LAST_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
