"""The request log is written soon, by itself, and takes no result with it."""

from __future__ import annotations

import threading
from contextlib import closing, contextmanager
from dataclasses import replace

import pytest

from d3.adapters.in_process import SystemClock
from d3.domain.errors import EntryRefused, StorageFailed, StorageUnavailable
from d3.domain.history import RequestRecord
from d3.domain.services.history_writer import HistoryWriter
from d3.domain.services.request_log_writer import RequestLogWriter
from tests.support.history import NOON, an_entry
from tests.support.memory.history import MemoryHistory
from unit.test_history_writer import wait_until

RECORD = RequestRecord(
    endpoint="/", method="GET", status_code=200, response_time=0.1, created_at=NOON
)
BAD = replace(RECORD, endpoint="/bad")


class LockedLog(MemoryHistory):
    """Its request log waits at a gate, fails when told, and refuses bad records."""

    def __init__(self):
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()
        self.failures = []

    @contextmanager
    def transaction(self):
        with super().transaction() as transaction:
            plain = transaction.log_many

            def log_many(records):
                if self.failures:
                    raise self.failures.pop(0)
                if BAD in records:
                    raise EntryRefused("no such account")
                plain(records)

            transaction.log_many = log_many
            yield transaction


@pytest.fixture
def history():
    return LockedLog()


@pytest.fixture
def log(history):
    with closing(RequestLogWriter(history, SystemClock(), waiting=10)) as log:
        yield log


def test_records_are_written_soon(history, log):
    log.log(RECORD)
    wait_until(lambda: history.records == (RECORD,))


def test_closing_writes_what_waits(history, log):
    for _ in range(5):
        log.log(RECORD)
    log.close()
    assert len(history.records) == 5
    log.log(RECORD)
    assert log.dropped == 1


def test_what_is_too_much_is_dropped_and_counted(log):
    for _ in range(12):
        log.log(RECORD)
    assert log.dropped == 2


def test_a_record_that_cannot_be_kept_is_dropped_alone(history, log):
    for record in (RECORD, BAD, RECORD):
        log.log(record)
    log.close()
    assert (len(history.records), log.dropped) == (2, 1)


def test_a_log_that_was_away_for_a_moment_loses_nothing(history, log):
    history.failures = [StorageUnavailable("locked")]
    log.log(RECORD)
    log.close()
    assert (len(history.records), log.dropped) == (1, 0)


@pytest.mark.parametrize(
    "failures",
    [[StorageFailed("no rights")], [StorageUnavailable("locked"), StorageUnavailable("locked")]],
)
def test_a_log_that_cannot_be_written_costs_no_result(history, log, failures):
    history.failures = failures
    log.log(RECORD)
    with closing(HistoryWriter(history, SystemClock())) as writer:
        assert writer.submit([an_entry()]).result(10)
    log.close()
    assert log.dropped == 1
