"""Fronts and engine processes: models swapped, processes lost, images scored once for all."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from d3.adapters.in_process import MemoryResultCache
from d3.adapters.limits import CountingLimiter
from d3.adapters.remote import EngineLink, RemoteLimiter, RemoteModelHost
from d3.adapters.remote.queue import RemoteQueue
from d3.domain.errors import (
    CheckpointInvalid,
    EngineAway,
    ExplanationUnavailable,
    ModelNotFound,
    ModelNotLoaded,
    Overloaded,
)
from d3.domain.images import Pixels
from d3.domain.ports.detector import Logits
from d3.domain.ports.queue import Lane
from d3.domain.services.detection import SingleFlight
from tests.serving import wait_until
from tests.support.engines import FakeDetector, FakeEngine
from tests.support.images import noise
from tests.support.remote import EngineProcess, front_of

SECONDS = 8
SHA = "ab" * 32

Start = Callable[..., EngineProcess]
Join = Callable[..., RemoteModelHost]


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of an engine process's socket; such paths are short."""
    return tmp_path_factory.mktemp("e") / "e.sock"


@pytest.fixture
def closing() -> Iterator[list[RemoteModelHost | EngineProcess]]:
    """Closed in the end, the last first."""
    parts: list[RemoteModelHost | EngineProcess] = []
    yield parts
    for part in reversed(parts):
        part.close()


@pytest.fixture
def start(closing: list[RemoteModelHost | EngineProcess]) -> Iterator[Start]:
    held: list[FakeEngine] = []

    def start(engine: FakeEngine, place: Path, **named: object) -> EngineProcess:
        held.append(engine)
        place.unlink(missing_ok=True)
        closing.append(EngineProcess(engine, place, **named))  # type: ignore[arg-type]
        return closing[-1].start()  # type: ignore[return-value]

    yield start
    for engine in held:
        engine.may_score.set()


@pytest.fixture
def join(closing: list[RemoteModelHost | EngineProcess]) -> Join:
    def join(*places: Path, **named: object) -> RemoteModelHost:
        closing.append(front_of(*places, **named))  # type: ignore[arg-type]
        return closing[-1]  # type: ignore[return-value]

    return join


def queue_of(host: RemoteModelHost) -> RemoteQueue:
    model = host.loaded()
    assert model is not None
    assert isinstance(model.queue, RemoteQueue)
    return model.queue


def image(level: int) -> Pixels:
    return np.full((1, 8, 8, 3), level, np.uint8)


def score(level: int) -> float:
    return 8 * level / 255 - 4


def test_one_call_changes_the_model_of_all_fronts(start: Start, join: Join, place: Path) -> None:
    engine = FakeEngine()
    start(engine, place)
    first, second = join(place), join(place)
    assert first.load("other").manifest.name == "other"
    wait_until(lambda: (model := second.loaded()) is not None and model.manifest.name == "other")
    assert first.loaded().reference == second.loaded().reference  # type: ignore[union-attr]
    wait_until(lambda: engine.detectors[0].closed)
    assert second.unload()
    wait_until(lambda: first.loaded() is None)
    with pytest.raises(ModelNotLoaded), first.held():
        pass
    assert not first.unload()
    with pytest.raises(ModelNotFound):
        second.load("nothing")
    with first.using() as model:
        assert model.manifest.name == "tiny"


def test_work_in_flight_ends_with_the_model_it_began_with(
    start: Start, join: Join, place: Path
) -> None:
    engine = FakeEngine()
    start(engine, place)
    host = join(place)
    with host.held() as old:
        engine.may_score.clear()
        asked = old.queue.submit(image(50), 1)
        assert engine.scoring.acquire(timeout=SECONDS)
        host.load("other")
        again = old.queue.submit(image(60), 1)
        engine.may_score.set()
        assert asked.result(SECONDS).logits[0, 0] == pytest.approx(score(50))
        assert again.result(SECONDS).logits[0, 0] == pytest.approx(score(60))
        assert not engine.detectors[0].closed
        assert len(engine.detectors[0].batches) == 2
    wait_until(lambda: engine.detectors[0].closed)
    with pytest.raises(ModelNotLoaded):
        old.queue.submit(image(1), 1)
    assert queue_of(host).submit(image(70), 1).result(SECONDS)


def test_what_an_engine_process_lost_is_asked_once_more(
    start: Start, join: Join, place: Path
) -> None:
    engine = FakeEngine()
    dead = start(engine, place)
    host = join(place)
    queue = queue_of(host)
    engine.may_score.clear()
    asked = [queue.submit(image(level), 1) for level in (10, 20, 30)]
    assert engine.scoring.acquire(timeout=SECONDS)
    kill(dead)
    wait_until(lambda: queue.trouble is not None)
    with pytest.raises(EngineAway, match="is being restarted"):
        queue.submit(image(1), 1)
    engine.may_score.set()
    successor = FakeEngine()
    start(successor, place)
    for level, future in zip((10, 20, 30), asked, strict=True):
        assert future.result(SECONDS).logits[0, 0] == pytest.approx(score(level))
    assert sum(successor.detectors[0].batches) == 3
    assert queue.trouble is None
    assert queue_of(host) is queue
    wait_until(lambda: queue.waiting(Lane.INTERACTIVE).images == 0)


def test_what_two_engine_processes_lost_fails(start: Start, join: Join, place: Path) -> None:
    engine = FakeEngine()
    engine.may_score.clear()
    process = start(engine, place)
    queue = queue_of(join(place))
    asked = queue.submit(image(10), 1)
    for _ in range(2):
        assert engine.scoring.acquire(timeout=SECONDS)
        kill(process)
        wait_until(lambda: queue.trouble is not None)
        process = start(engine, place)
    with pytest.raises(EngineAway, match="ended while it judged"):
        asked.result(SECONDS)
    engine.may_score.set()


def test_an_engine_process_that_returns_with_another_model_is_not_asked_for_the_old_one(
    start: Start, join: Join, place: Path
) -> None:
    engine = FakeEngine()
    engine.may_score.clear()
    process = start(engine, place)
    host = join(place)
    asked = queue_of(host).submit(image(10), 1)
    kill(process)
    wait_until(lambda: queue_of(host).trouble is not None)
    other = EngineProcess(FakeEngine(), renewed(place))
    other.host.load("other")
    other.server.serve(other.listener)
    with pytest.raises(EngineAway):
        asked.result(SECONDS)
    assert host.loaded().manifest.name == "other"  # type: ignore[union-attr]
    engine.may_score.set()
    other.close()


def test_an_engine_process_without_a_model_says_why_and_recovers(
    start: Start, join: Join, place: Path, closing: list[RemoteModelHost | EngineProcess]
) -> None:
    engine = FakeEngine()
    engine.failure = CheckpointInvalid("The checkpoint is damaged.")
    process = EngineProcess(engine, place)
    closing.append(process)
    with pytest.raises(CheckpointInvalid):
        process.host.load()
    process.server.serve(process.listener)
    host = join(place)
    with pytest.raises(ModelNotLoaded, match=r"The checkpoint is damaged\."), host.held():
        pass
    engine.failure = None
    process.host.load()
    wait_until(lambda: host.loaded() is not None)
    assert host.trouble is None


def test_an_image_is_scored_once_for_all_fronts(start: Start, join: Join, place: Path) -> None:
    engine = FakeEngine()
    start(engine, place, flights=SingleFlight(MemoryResultCache(100, 10_000)))
    queues = [queue_of(join(place)) for _ in range(3)]
    engine.may_score.clear()
    first = queues[0].reserve(1, 192, 1).submit(image(40), SHA)
    assert engine.scoring.acquire(timeout=SECONDS)
    others = [queue.reserve(1, 192, 1).submit(image(40), SHA) for queue in queues]
    alone = queues[1].submit(image(41), 1)
    wait_until(lambda: [asked_by(queue) for queue in queues] == [2, 2, 1])
    engine.may_score.set()
    found = [one.result(SECONDS) for one in (first, *others)]
    assert {one.logits[0, 0] for one in found} == {score(40)}
    assert alone.result(SECONDS).logits[0, 0] == pytest.approx(score(41))
    assert sum(engine.detectors[0].batches) == 2
    known = queues[2].reserve(1, 192, 1).submit(image(40), SHA).result(SECONDS)
    assert known.known
    assert not found[0].known
    assert sum(engine.detectors[0].batches) == 2


def test_an_image_nobody_waits_for_is_not_scored(start: Start, join: Join, place: Path) -> None:
    engine = FakeEngine()
    start(engine, place)
    queue = queue_of(join(place))
    engine.may_score.clear()
    busy = queue.submit(image(1), 1)
    assert engine.scoring.acquire(timeout=SECONDS)
    left = queue.submit(image(2), 1)
    stays = queue.submit(image(3), 1)
    wait_until(lambda: asked_by(queue) == 3)
    assert left.cancel()
    wait_until(lambda: asked_by(queue) == 2)
    engine.may_score.set()
    assert stays.result(SECONDS)
    assert busy.result(SECONDS)
    with pytest.raises(CancelledError):
        left.result(SECONDS)
    assert sum(engine.detectors[0].batches) == 2


def test_the_work_of_a_front_that_dies_is_dropped(start: Start, join: Join, place: Path) -> None:
    engine = FakeEngine()
    process = start(engine, place)
    stays, dies = join(place), join(place)
    engine.may_score.clear()
    busy = queue_of(stays).submit(image(1), 1)
    assert engine.scoring.acquire(timeout=SECONDS)
    lost = [queue_of(dies).submit(image(level), 1) for level in range(5)]
    own = process.host.loaded()
    assert own is not None
    wait_until(lambda: own.queue.waiting(Lane.INTERACTIVE).images == 5)
    for link in dies._links:
        link.close()
    wait_until(lambda: own.queue.waiting(Lane.INTERACTIVE).images == 0)
    assert all(isinstance(one.exception(SECONDS), EngineAway) for one in lost)
    engine.may_score.set()
    assert busy.result(SECONDS)


def test_a_full_queue_refuses_and_says_when_to_come_back(
    start: Start, join: Join, place: Path
) -> None:
    engine = FakeEngine()
    start(engine, place)
    mine, others = queue_of(join(place, images=4)), queue_of(join(place, images=4))
    engine.may_score.clear()
    busy = mine.submit(image(9), 1)
    assert engine.scoring.acquire(timeout=SECONDS)
    slots = mine.reserve(3, 3 * 192, 1)
    asked = [busy, *(slots.submit(image(level), None) for level in (1, 2, 3))]
    with pytest.raises(Overloaded):
        mine.reserve(2, 2 * 192, 1)
    wait_until(lambda: others.waiting(Lane.INTERACTIVE).images == 3)
    with pytest.raises(Overloaded):
        others.reserve(2, 2 * 192, 1)
    others.reserve(1, 192, 1, Lane.BULK).release()
    engine.may_score.set()
    for one in asked:
        one.result(SECONDS)
    wait_until(lambda: others.waiting(Lane.INTERACTIVE).images == 0)
    others.reserve(3, 3 * 192, 1).release(3)


class Explaining(FakeDetector):
    """Draws maps of four parts."""

    parts = 4

    def explain_parts(self, pixels: Pixels, views: int, start: int, stop: int) -> Logits:
        return np.arange(start, stop, dtype=np.float64)

    def heat(self, logits: Logits) -> Logits:
        return logits.reshape(2, 2)


def test_heat_maps_are_drawn_where_the_engine_can(start: Start, join: Join, place: Path) -> None:
    class Engine(FakeEngine):
        def load(self, model: object) -> FakeDetector:
            return Explaining(self, model.manifest)  # type: ignore[attr-defined]

    start(Engine(), place)
    queue = queue_of(join(place))
    slots = queue.reserve_map(1)
    assert queue.waiting(Lane.BULK).images == 4
    heat = slots.submit(noise(8, 8)).result(SECONDS)
    assert np.array_equal(heat, [[0, 1], [2, 3]])
    wait_until(lambda: queue.waiting(Lane.BULK).images == 0)
    queue.reserve_map(1).release()
    assert queue.waiting(Lane.BULK).images == 0


def test_an_engine_that_draws_no_maps_says_so(start: Start, join: Join, place: Path) -> None:
    start(FakeEngine(), place)
    with pytest.raises(ExplanationUnavailable):
        queue_of(join(place)).reserve_map(1)


def test_limits_are_counted_once_for_all_fronts(start: Start, join: Join, place: Path) -> None:
    start(FakeEngine(), place)
    links = [EngineLink(place, f"front-{number}", "1") for number in range(2)]
    limiters = [RemoteLimiter(link) for link in links]
    before = limiters[0].hit("3/minute", "somebody")
    assert before.allowed
    assert limiters[0].trouble is not None, "it was not there yet, and nobody was stopped"
    for link in links:
        assert link.start(SECONDS)
    answers = [limiters[number % 2].hit("3/minute", "somebody") for number in range(5)]
    assert [one.allowed for one in answers] == [True, True, True, False, False]
    assert not limiters[1].look("3/minute", "somebody").allowed
    assert limiters[1].hit("3/minute", "another").remaining == 2
    assert answers[0].limit == CountingLimiter(b"").hit("3/minute", "x").limit
    for link in links:
        link.close()


def test_images_go_to_the_engine_process_with_less_to_do(
    start: Start, join: Join, place: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    places = [place, tmp_path_factory.mktemp("f") / "f.sock"]
    engines = [FakeEngine(), FakeEngine()]
    processes = [start(engine, one) for engine, one in zip(engines, places, strict=True)]
    host = join(*places)
    queue = queue_of(host)
    wait_until(lambda: len(queue._seats) == 2)
    for engine in engines:
        engine.may_score.clear()
    asked = [queue.submit(image(level), 1) for level in range(20)]
    for engine in engines:
        engine.may_score.set()
    for level, future in enumerate(asked):
        assert future.result(SECONDS).logits[0, 0] == pytest.approx(score(level))
    done = [sum(engine.detectors[0].batches) for engine in engines]
    assert sum(done) == 20
    assert min(done) >= 5
    host.load("other")
    assert [len(engine.detectors) for engine in engines] == [2, 2]
    queue = queue_of(host)
    wait_until(lambda: len(queue._seats) == 2)
    engines[1].may_score.clear()
    late = [queue.submit(image(level), 1) for level in range(10)]
    kill(processes[1])
    for level, future in enumerate(late):
        assert future.result(SECONDS).logits[0, 0] == pytest.approx(score(level))
    assert queue.trouble is None
    engines[1].may_score.set()


def test_a_front_of_another_version_is_told_so(
    start: Start, join: Join, place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    start(FakeEngine(), place)
    host = join(place, version="2")
    said = "The engine process is D3 1, and this is D3 2. Restart d3 serve."
    assert host.trouble == said
    assert said in caplog.text
    with pytest.raises(ModelNotLoaded, match="Restart d3 serve"), host.held():
        pass


def test_a_front_ends_while_no_engine_process_answers(place: Path) -> None:
    with socket.socket(socket.AF_UNIX) as nobody:
        nobody.bind(str(place))
        nobody.listen()
        link = EngineLink(place, "front-1", "1")
        assert not link.start(0.1)
        closing = threading.Thread(target=link.close)
        closing.start()
        closing.join(SECONDS)
        assert not closing.is_alive()


@pytest.mark.parametrize("sent", [b"GET / HTTP/1.1\r\n\r\n" * 10, b"", struct.pack("<Q", 1) * 9])
def test_a_stranger_at_the_socket_disturbs_nobody(
    start: Start, join: Join, place: Path, sent: bytes
) -> None:
    start(FakeEngine(), place)
    host = join(place)
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.connect(str(place))
        stranger.sendall(sent)
        stranger.shutdown(socket.SHUT_WR)
        with suppress(ConnectionResetError):
            assert stranger.recv(1) == b""
    assert queue_of(host).submit(image(9), 1).result(SECONDS)


def test_a_front_that_reads_nothing_holds_nobody_up(start: Start, join: Join, place: Path) -> None:
    start(FakeEngine(), place)
    stuck, quick = join(place), join(place)
    queue = queue_of(stuck)
    may_read = threading.Event()
    queue.submit(image(1), 1).add_done_callback(lambda _: may_read.wait(SECONDS))
    asked = [queue.submit(image(1), 16) for _ in range(900)]
    for level in range(50):
        assert queue_of(quick).submit(image(level), 1).result(SECONDS)
    may_read.set()
    assert all(one.result(SECONDS).logits.shape == (1, 16) for one in asked)


def asked_by(queue: RemoteQueue) -> int:
    """Images that the engine process has of this front."""
    return queue._seats[0].load(Lane.INTERACTIVE).own_images


def kill(process: EngineProcess) -> None:
    """End it as a kill would: its connections break, and what it did is lost."""
    threads = threading.Thread(target=process.server.close)
    threads.start()
    threads.join(SECONDS)


def renewed(place: Path) -> Path:
    place.unlink(missing_ok=True)
    return place
