"""A service that is told to stop in the middle of work, and workers and forks that fail."""

from __future__ import annotations

import errno
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from d3.container import Container
from d3.domain.scans import ScanCounts
from d3.entrypoints.http import scan_supervisor as scan_keeping
from d3.entrypoints.http.retention import RetentionJob
from d3.entrypoints.http.scan_supervisor import ScanSupervisor
from d3.settings import Settings
from d3.testing import FakeClock
from tests.homes import Home
from tests.serving import assert_problem, d3_serve, wait_until
from tests.support.images import noise, png

SERVE_IMPATIENTLY = (
    "import sys; from d3.entrypoints.serving import server; server.GRACE_SECONDS = 1; "
    "from d3.entrypoints.cli import main; sys.argv = ['d3', *sys.argv[1:]]; sys.exit(main())"
)


def test_told_to_stop_with_a_batch_in_flight_it_answers_and_ends_with_0(
    home: Home, tmp_path: Path
) -> None:
    """The pass that runs ends; beside one that does not, the interpreter would be aborted."""
    files = [("files", (f"{n}.png", png(noise(64, 64, n)))) for n in range(60)]
    environ = home.environ | {"OMP_NUM_THREADS": "1", "D3_MODEL": "starter"}
    with (
        d3_serve(tmp_path, "-c", SERVE_IMPATIENTLY, "serve", "--port", "0", **environ) as served,
        ThreadPoolExecutor(1) as pool,
    ):
        url = served.url()
        place = f"{url}/api/inference/predict-batch"
        before = passes(url)  # of the warm-up
        asked = pool.submit(httpx.post, place, files=files, data={"views": "16"}, timeout=120)
        wait_until(lambda: passes(url) > before)
        assert served.stop() == 0
        assert_problem(asked.result(), 503, "service_stopping")
        assert int(asked.result().headers["retry-after"]) >= 1
    assert "terminate called" not in served.text
    assert "Traceback" not in served.text


def passes(url: str) -> float:
    lines = httpx.get(f"{url}/metrics").text.splitlines()
    return float(next(one for one in lines if one.startswith("d3_batch_images_count ")).split()[1])


def test_a_scans_worker_ends_with_0(home: Home) -> None:
    container = Container(settings=home.settings())
    container.schema().make_ready()
    container.database().close()
    worker = subprocess.Popen(
        [sys.executable, "-m", "d3.entrypoints.scan_worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    with worker:
        assert worker.stdin is not None
        assert worker.stderr is not None
        worker.stdin.write(pickle.dumps(home.settings()))
        worker.stdin.flush()  # and stays open, as long as the service lives
        assert worker.wait(120) == 0, worker.stderr.read()


@pytest.mark.parametrize("failure", [errno.ENOMEM, errno.EMFILE, errno.EAGAIN])
def test_a_fork_that_fails_does_not_end_the_keeper_of_scans(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, failure: int
) -> None:
    class Ledger:
        def unfinished(self) -> list[Any]:
            return [SimpleNamespace(trouble=None, counts=ScanCounts())]

    tries: list[Any] = []
    real = subprocess.Popen

    def popen(*arguments: Any, **named: Any) -> Any:
        tries.append(arguments)
        if len(tries) == 1:
            raise OSError(failure, "no")
        return real([sys.executable, "-c", ""], stdin=subprocess.PIPE)

    monkeypatch.setattr(scan_keeping.subprocess, "Popen", popen)
    keeper, stopping = ScanSupervisor(Ledger, Settings(home=tmp_path)), threading.Event()  # type: ignore[arg-type]
    thread = threading.Thread(target=keeper.run, args=[stopping])
    thread.start()
    try:
        wait_until(lambda: keeper.wake() or len(tries) >= 2)  # type: ignore[func-returns-value]
    finally:
        stopping.set()
        keeper.wake()
        thread.join(20)
    assert not thread.is_alive()


def test_whatever_fails_the_caretaker_goes_on(tmp_path: Path) -> None:
    class Broken:
        tries = 0

        def forget(self, *_: object) -> None:
            self.tries += 1
            raise MemoryError

        purge = forget

    history: Any = Broken()
    settings = Settings(home=tmp_path, history_days=1)
    outbox: Any = Broken()
    retention_job = RetentionJob(history, outbox, FakeClock(), settings)
    retention_job.purge()
    retention_job.purge()
    assert (history.tries, outbox.tries) == (2, 2)
