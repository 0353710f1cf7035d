"""What a clock promises."""

from __future__ import annotations

import itertools

import pytest

from d3.domain.ports import Clock

_YEAR_2020 = 1_577_836_800


class ClockContract:
    """Override :meth:`clock`."""

    @pytest.fixture
    def clock(self) -> Clock:
        """The clock under test."""
        raise NotImplementedError

    def test_it_is_a_clock(self, clock: Clock) -> None:
        assert isinstance(clock, Clock)

    def test_monotonic_seconds_never_run_backwards(self, clock: Clock) -> None:
        readings = [clock.monotonic() for _ in range(100)]
        assert all(earlier <= later for earlier, later in itertools.pairwise(readings))

    def test_now_counts_seconds_since_the_epoch(self, clock: Clock) -> None:
        assert _YEAR_2020 < clock.now() < 4 * _YEAR_2020
