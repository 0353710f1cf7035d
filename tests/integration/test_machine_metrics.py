"""One scrape shows the sums of all processes, whatever happens to each of them."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from prometheus_client import generate_latest, values
from prometheus_client.parser import text_string_to_metric_families

from d3.domain.ports.queue import Lane
from d3.entrypoints.http import machine_metrics
from d3.entrypoints.http.machine_metrics import SharedMetrics
from d3.entrypoints.http.metrics import Metrics, QueueMetrics
from d3.entrypoints.serving import engine
from d3.entrypoints.serving.control import Channel, Control, EngineStart
from d3.settings import Settings

PROCESS = """
import sys
from pathlib import Path
from d3.domain.errors import ImageDamaged
from d3.entrypoints.http.machine_metrics import share_metrics
from d3.entrypoints.http.metrics import Metrics, QueueMetrics
share_metrics(Path(sys.argv[1]))
metrics = Metrics()
queue = QueueMetrics(metrics.registry)
level = 0.0
metrics.watch("a_sum", "Added.", lambda: level)
metrics.watch("a_least", "The least.", lambda: level, "min")
metrics.watch("a_most", "The most.", lambda: level, "max")
def answer(route="/"):
    metrics.observe("GET", route, 200, 0.02, [ImageDamaged("It is damaged.", "Send another.")])
for line in sys.stdin:
    match line.split():
        case ["answer", times]:
            for _ in range(int(times)):
                answer()
        case ["begin"]:
            metrics.in_flight.inc()
        case ["level", value]:
            level = float(value)
            metrics.render()
        case ["forever"]:
            print("going", flush=True)
            n = 0
            while True:
                n += 1
                answer(f"/{n // 20 % 200}")
    print("done", flush=True)
"""
Process = subprocess.Popen[str]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[], Process]]:
    """Starts processes that count; they are killed in the end."""
    with ExitStack() as stack:

        def started() -> Process:
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", PROCESS, str(tmp_path / "metrics")],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            stack.callback(process.kill)
            return process

        yield started


def tell(process: Process, words: str) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    print(words, file=process.stdin, flush=True)
    assert process.stdout.readline().strip() in {"done", "going"}


def kill(process: Process) -> None:
    process.kill()
    process.wait()


@pytest.fixture
def machine(tmp_path: Path) -> SharedMetrics:
    """What a scrape shows; it counts nothing itself."""
    return SharedMetrics(tmp_path / "metrics")


def scraped(machine: SharedMetrics) -> dict[str, float]:
    """The values of a scrape by name and labels; each series is there once."""
    text = generate_latest(machine.registry).decode()
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            series = sample.name + "".join(f" {k}={v}" for k, v in sorted(sample.labels.items()))
            assert series not in found
            found[series] = sample.value
    return found


ANSWERED = "d3_http_requests_total method=GET route=/ status=200"


def test_counts_of_all_processes_are_added(
    start: Callable[[], Process], machine: SharedMetrics
) -> None:
    one, other = start(), start()
    tell(one, "answer 3")
    tell(other, "answer 4")
    found = scraped(machine)
    assert found[ANSWERED] == 7
    assert found["d3_images_total outcome=damaged_image"] == 7
    assert found["d3_http_request_seconds_count method=GET route=/"] == 7
    assert found["d3_http_request_seconds_bucket le=0.025 method=GET route=/"] == 7
    assert found["d3_http_request_seconds_sum method=GET route=/"] == pytest.approx(7 * 0.02)


def test_each_gauge_is_the_sum_the_least_or_the_most(
    start: Callable[[], Process], machine: SharedMetrics
) -> None:
    for value in (2, 5):
        tell(start(), f"level {value}")
    found = scraped(machine)
    assert (found["a_sum"], found["a_least"], found["a_most"]) == (7, 2, 5)


def test_a_gauge_is_refreshed_without_a_scrape_of_its_process(
    start: Callable[[], Process], machine: SharedMetrics
) -> None:
    process = start()
    tell(process, "begin")
    tell(process, "level 5")
    assert scraped(machine)["a_most"] == 5
    assert scraped(machine)["d3_http_requests_in_flight"] == 1


def test_a_killed_process_is_counted_on_by_its_successor_in_the_same_files(
    start: Callable[[], Process], machine: SharedMetrics, tmp_path: Path
) -> None:
    files: set[Path] = set()
    for number in range(1, 6):
        process = start()
        tell(process, "answer 2")
        tell(process, "begin")
        assert scraped(machine)[ANSWERED] == 2 * number
        assert scraped(machine)["d3_http_requests_in_flight"] == 1
        files = files or set(tmp_path.rglob("*"))
        kill(process)
        assert scraped(machine)[ANSWERED] == 2 * number
        assert "d3_http_requests_in_flight" not in scraped(machine)  # nobody is there
    assert set(tmp_path.rglob("*")) == files


def test_a_process_and_the_one_that_replaces_it_count_beside_each_other(
    start: Callable[[], Process], machine: SharedMetrics
) -> None:
    old = start()
    tell(old, "answer 1")
    new = start()
    tell(new, "answer 10")
    tell(old, "answer 100")
    kill(old)
    tell(new, "answer 1000")
    assert scraped(machine)[ANSWERED] == 1111


def test_a_kill_in_the_middle_of_a_write_breaks_no_scrape_and_loses_no_count(
    start: Callable[[], Process], machine: SharedMetrics
) -> None:
    dice = random.Random(0)
    before = 0.0
    for _ in range(5):
        process = start()
        tell(process, "forever")  # counts, and makes new series all the time
        until = time.monotonic() + dice.uniform(0.01, 0.2)
        while time.monotonic() < until:
            generate_latest(machine.registry)
        kill(process)
        found = scraped(machine)
        answered = sum(n for name, n in found.items() if name.startswith("d3_http_requests_total"))
        assert answered > before
        before = answered


def test_no_write_needs_space_on_the_disk(machine: SharedMetrics, tmp_path: Path) -> None:
    """On a full disk, a write to a mapped file without space would end the process."""
    files = list((tmp_path / "metrics").glob("*.db"))
    assert len(files) == 5
    for file in files:
        assert file.stat().st_blocks * 512 >= file.stat().st_size > 0


def test_what_is_shared_has_the_names_of_what_is_not(
    start: Callable[[], Process], machine: SharedMetrics
) -> None:
    tell(start(), "answer 1")
    alone = Metrics()
    QueueMetrics(alone.registry)
    names = {family.name for family in machine.registry.collect()}
    own = {family.name for family in alone.registry.collect()}
    labelled = {"d3_cache_lookups", "d3_stage_seconds", "d3_queue_dropped", "d3_panel_results"}
    # Of those with labels nothing has been counted yet.
    assert own - labelled <= names <= own | {"a_sum", "a_least", "a_most"}


def test_alone_a_process_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    metrics = Metrics()
    metrics.watch("a_level", "Its level.", lambda: 3.0, "min")
    QueueMetrics(metrics.registry).watch(list)
    metrics.observe("GET", "/", 200, 0.1, [])
    text = metrics.render()[0].decode()
    assert "a_level 3.0" in text
    assert f'd3_queue_images{{lane="{Lane.BULK.value}"}} 0.0' in text
    assert machine_metrics.shared is None
    assert values.ValueClass is values.MutexValue
    assert "PROMETHEUS_MULTIPROC_DIR" not in os.environ
    assert list(tmp_path.iterdir()) == []


def test_an_engine_without_room_for_its_files_says_so_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run").touch()  # where the folder would be
    supervisors, engines = Channel.pair()
    given = EngineStart(Settings(home=tmp_path), 0, socket.socket(), Control(engines))
    monkeypatch.setattr(EngineStart, "receive", lambda: given)
    for module, name in ((engine, "configure_logs"), (signal, "signal")):
        monkeypatch.setattr(module, name, lambda *_, **__: None)
    with given.listener, closing(supervisors), closing(engines):
        assert engine.main() == 1
        (message,) = supervisors.received() or []
    assert message["failed"].startswith("The files for metrics cannot be created (")
    assert machine_metrics.shared is None
