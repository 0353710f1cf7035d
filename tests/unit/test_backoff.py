"""Pauses double up to a limit, and a transfer goes on as long as it gets further."""

from __future__ import annotations

import pytest

from d3.domain.backoff import pause_after, resume_while_it_grows


def test_pauses_double_up_to_a_limit_however_often_it_fails() -> None:
    assert [pause_after(n, 0.5, 3.0) for n in range(6)] == [0.0, 0.5, 1.0, 2.0, 3.0, 3.0]
    assert pause_after(100_000, 0.5, 3.0) == 3.0  # a week of failures is no overflow


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
