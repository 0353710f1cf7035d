"""The writer shares transactions, loses nothing acknowledged, and lets only the guilty fail."""

from __future__ import annotations

import threading
import time
from contextlib import closing, contextmanager

import pytest

from d3.adapters.in_process import SystemClock
from d3.domain.errors import (
    CommitInDoubt,
    EntryRefused,
    HistoryOverloaded,
    IdempotencyKeyReused,
    RequestInFlight,
    ReservationLost,
    StorageFailed,
    StorageUnavailable,
)
from d3.domain.history import HistoryFilter
from d3.domain.idempotency import (
    LEASE,
    RENEWAL,
    Completion,
    IdempotencyKey,
    Reservation,
    StoredAnswer,
)
from d3.domain.services.history_writer import HistoryWriter
from d3.testing.fakes import FakeClock
from tests.support.history import an_entry
from tests.support.memory.history import MemoryHistory

ALL = HistoryFilter()


class ObservedHistory(MemoryHistory):
    """Counts its transactions, waits at a gate, and fails when told."""

    def __init__(self):
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()
        self.begun = threading.Event()
        self.sizes = []
        self.failures = []

    @contextmanager
    def transaction(self):
        self.begun.set()
        if self.failures:
            raise self.failures.pop(0)
        assert self.gate.wait(10)
        before = len(self._books.entries)
        with super().transaction() as transaction:
            plain = transaction.add_many

            def add_many(entries):
                if any(entry.image_name == "bad" for entry in entries):
                    raise EntryRefused("bad")
                return plain(entries)

            transaction.add_many = add_many
            yield transaction
        self.sizes.append(len(self._books.entries) - before)

    def expires_at(self, key):
        there = self._books.keys.get((0, key))
        return there and there.expires_at


@pytest.fixture
def history():
    return ObservedHistory()


@pytest.fixture
def writer(history):
    writer = HistoryWriter(history, SystemClock())
    yield writer
    history.gate.set()
    writer.close()


@pytest.fixture
def hold(history, writer):
    """Keeps the owner in one transaction, so that what follows gathers; calls let it go."""
    history.gate.clear()
    first = writer.submit([an_entry("first")])
    assert history.begun.wait(10)

    def release():
        history.gate.set()
        return first.result(10)

    return release


def wait_until(true):
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def reserve(writer, request="one", key="key"):
    return writer.reserve(IdempotencyKey(0, key, request)).result(10)


def test_what_waits_at_the_same_moment_shares_a_transaction(history, writer, hold):
    futures = [writer.submit([an_entry(str(n)), an_entry(str(n))]) for n in range(50)]
    assert writer.waiting == 100
    hold()
    ids = [future.result(10) for future in futures]
    assert history.sizes == [1, 100]
    assert [history.get(first).image_name for first, _ in ids] == [str(n) for n in range(50)]
    assert writer.waiting == 0


def test_an_idle_writer_keeps_nobody_waiting(writer):
    writer.submit([an_entry()]).result(10)
    began = time.perf_counter()
    for _ in range(100):
        writer.submit([an_entry()]).result(10)
    assert time.perf_counter() - began < 1


def test_a_bad_entry_fails_alone(history, writer, hold):
    futures = [writer.submit([an_entry("bad" if n == 17 else "good")]) for n in range(40)]
    hold()
    for n, future in enumerate(futures):
        if n == 17:
            assert isinstance(future.exception(10), EntryRefused)
        else:
            assert history.get(future.result(10)[0]).image_name == "good"
    assert history.page(ALL, 1).total == 40


def test_a_submission_is_kept_whole_or_not_at_all(history, writer):
    future = writer.submit([an_entry("good"), an_entry("bad")])
    assert isinstance(future.exception(10), EntryRefused)
    assert history.page(ALL, 1).total == 0


def test_a_store_that_was_away_for_a_moment_costs_nothing(history, writer):
    history.failures = [StorageUnavailable("away")]
    assert writer.submit([an_entry()]).result(10)


def test_a_store_that_stays_away_fails_each_with_an_error_of_its_own(history, writer, hold):
    futures = [writer.submit([an_entry()]) for _ in range(5)]
    history.failures = [StorageUnavailable("away"), StorageUnavailable("away")]
    hold()
    errors = [future.exception(10) for future in futures]
    assert all(isinstance(error, StorageUnavailable) for error in errors)
    assert len(set(map(id, errors))) == 5
    assert writer.submit([an_entry()]).result(10)


@pytest.mark.parametrize("error", [CommitInDoubt("broke"), StorageFailed("full")])
def test_what_may_have_been_kept_is_not_written_twice(history, writer, error):
    history.failures = [error]
    future = writer.submit([an_entry()])
    assert isinstance(future.exception(10), type(error))
    assert history.sizes == []


def test_too_much_waiting_is_refused(history):
    writer = HistoryWriter(history, SystemClock(), waiting=10)
    history.gate.clear()
    writer.submit([an_entry()])
    assert history.begun.wait(10)
    futures = [writer.submit([an_entry()] * 5) for _ in range(2)]
    with pytest.raises(HistoryOverloaded):
        writer.submit([an_entry()])
    history.gate.set()
    assert [len(future.result(10)) for future in futures] == [5, 5]
    writer.close()


def test_a_batch_larger_than_the_bound_goes_when_nothing_waits(history):
    writer = HistoryWriter(history, SystemClock(), waiting=10, share=3)
    assert len(writer.submit([an_entry()] * 50).result(10)) == 50
    writer.close()


def test_closing_writes_what_waits_and_refuses_what_comes(history, writer, hold):
    futures = [writer.submit([an_entry()]) for _ in range(20)]
    threading.Timer(0.05, history.gate.set).start()
    writer.close()
    assert all(future.done() for future in futures)
    assert history.page(ALL, 1).total == 21
    with pytest.raises(HistoryOverloaded):
        writer.submit([an_entry()])
    writer.close()


def test_whoever_stopped_waiting_is_left_out(history, writer, hold):
    future = writer.submit([an_entry()])
    assert future.cancel()
    hold()
    assert writer.submit([an_entry()]).result(10)
    writer.close()
    assert history.page(ALL, 1).total == 2


def test_a_writer_lives_on_when_nobody_waits_any_more(history, writer, hold):
    futures = [writer.submit([an_entry()]) for _ in range(3)]
    assert all(future.cancel() for future in futures)
    hold()
    while writer.waiting:
        time.sleep(0.01)
    time.sleep(0.05)
    assert writer.submit([an_entry()]).result(10)


def test_the_same_request_gets_the_same_answer_and_one_row(history, writer):
    held = reserve(writer)
    with pytest.raises(RequestInFlight):
        reserve(writer)
    ids = writer.submit([an_entry()], Completion(held, lambda ids: b"%d" % ids[0])).result(10)
    assert reserve(writer) == StoredAnswer(b"%d" % ids[0])
    with pytest.raises(IdempotencyKeyReused):
        reserve(writer, "another")
    assert history.page(ALL, 1).total == 1


def test_an_answer_needs_no_entry(writer):
    held = reserve(writer)
    assert writer.submit([], Completion(held, lambda ids: b"all bad")).result(10) == []
    assert reserve(writer) == StoredAnswer(b"all bad")


def test_a_request_that_failed_can_be_sent_again(writer):
    writer.release(reserve(writer)).result(10)
    assert isinstance(reserve(writer, "another"), Reservation)


def test_a_key_stays_taken_for_as_long_as_its_request_is_worked_on(history):
    clock = FakeClock()
    with closing(HistoryWriter(history, clock)) as writer:
        held = reserve(writer)
        for _ in range(9):  # three leases long
            clock.advance(RENEWAL.total_seconds())
            writer.submit([an_entry()]).result(10)  # wakes the thread that renews
            wait_until(lambda: history.expires_at("key") == clock.now() + LEASE)
        with pytest.raises(RequestInFlight):
            reserve(writer)
        writer.submit([], Completion(held, lambda ids: b"done")).result(10)
        assert reserve(writer) == StoredAnswer(b"done")


def test_a_key_that_nobody_holds_any_more_is_free_after_its_lease(history):
    """Its request was cancelled while it asked for the key."""
    clock = FakeClock()
    with closing(HistoryWriter(history, clock)) as writer:
        reserve(writer)
        for _ in range(3):
            clock.advance(RENEWAL.total_seconds())
            writer.submit([an_entry()]).result(10)
        writer.submit([an_entry()]).result(10)  # the renewal before has been seen to
        assert isinstance(reserve(writer, "another"), Reservation)


def test_a_key_whose_process_died_is_free_after_a_minute(history):
    clock = FakeClock()
    with closing(HistoryWriter(history, clock)) as dead:
        reserve(dead)
    clock.advance(60)
    with closing(HistoryWriter(history, clock)) as alive:
        assert isinstance(reserve(alive), Reservation)


def test_a_key_is_given_back_when_the_history_has_returned(history):
    clock = FakeClock()
    with closing(HistoryWriter(history, clock)) as writer:
        held = reserve(writer)
        history.failures = [StorageUnavailable("away"), StorageUnavailable("away")]
        assert isinstance(writer.release(held).exception(10), StorageUnavailable)
        clock.advance(RENEWAL.total_seconds())
        writer.submit([an_entry()]).result(10)
        wait_until(lambda: history.expires_at("key") is None)
        assert isinstance(reserve(writer, "another"), Reservation)


def test_a_key_that_was_not_given_back_is_when_the_writer_closes(history):
    writer = HistoryWriter(history, SystemClock())
    held = reserve(writer)
    history.failures = [StorageUnavailable("away"), StorageUnavailable("away")]
    assert writer.release(held).exception(10)
    writer.close()
    assert history.expires_at("key") is None


def test_a_lost_reservation_keeps_no_row_and_harms_no_other(history, writer, hold):
    lost = Completion(Reservation(0, "key", "stranger"), lambda ids: b"")
    futures = [writer.submit([an_entry()]) for _ in range(4)]
    loser = writer.submit([an_entry()], lost)
    hold()
    assert all(future.result(10) for future in futures)
    assert isinstance(loser.exception(10), ReservationLost)
    assert history.page(ALL, 1).total == 5


def test_an_answer_that_cannot_be_made_fails_alone(history, writer, hold):
    held = writer.reserve(IdempotencyKey(0, "key", "one"))
    hold()
    broken = Completion(held.result(10), lambda ids: b"%d" % (1 // 0))
    future = writer.submit([an_entry()], broken)
    assert isinstance(future.exception(10), ZeroDivisionError)
    assert writer.submit([an_entry()]).result(10)


def test_sixty_four_threads_are_all_answered(history, writer):
    reported = []

    def work():
        reported.extend(writer.submit([an_entry()]).result(10)[0] for _ in range(20))

    threads = [threading.Thread(target=work) for _ in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(reported) == sorted(e.id for e in history.iterate(ALL))
    assert len(history.sizes) < 64 * 20
