"""Pauses double up to a limit, and a transfer goes on as long as it gets further."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from d3.domain.backoff import pause_after, resume_while_it_grows, seconds_asked


def test_pauses_double_up_to_a_limit_however_often_it_fails() -> None:
    assert [pause_after(n, 0.5, 3.0) for n in range(6)] == [0.0, 0.5, 1.0, 2.0, 3.0, 3.0]
    assert pause_after(100_000, 0.5, 3.0) == 3.0  # a week of failures is no overflow


def test_a_service_asks_to_wait_for_seconds_or_until_a_date() -> None:
    assert seconds_asked("7") == 7
    in_an_hour = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    assert seconds_asked(in_an_hour) == pytest.approx(3600, abs=60)
    assert seconds_asked("Fri, 02 Jan 1970 00:00:00 GMT") == 0


@pytest.mark.parametrize(
    "said", ["", "soon", "-1", "nan", "1e3", "Fri, 31 Dec 9999 23:59:59 -2300", "\u0667"]
)
def test_what_is_neither_asks_for_nothing(said: str) -> None:
    assert seconds_asked(said) is None


class Transfer:
    """Gets to the given places, one at an attempt, and breaks there; whole after the last."""

    def __init__(self, *places: int) -> None:
        self._places = list(places)
        self.done = 0

    def go_on(self) -> None:
        if self._places:
            self.done = self._places.pop(0)
            raise ConnectionError(self.done)

    def run(self) -> None:
        resume_while_it_grows(
            self.go_on, lambda: self.done, (ConnectionError,), fruitless=3, pause=0.0
        )


def test_a_transfer_goes_on_as_long_as_it_gets_further() -> None:
    Transfer(1, 1, 1, 2, 2, 2, 3, 3, 3).run()


def test_a_transfer_that_begins_again_and_again_is_given_up() -> None:
    with pytest.raises(ConnectionError, match="7"):
        Transfer(9, 5, 6, 7, 8).run()
