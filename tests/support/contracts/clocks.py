"""What a clock promises."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime

import pytest

from d3.domain.ports.clock import Clock


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

    def test_now_is_a_moment_of_our_time_in_utc(self, clock: Clock) -> None:
        assert clock.now().tzinfo is UTC
        assert clock.now() > datetime(2020, 1, 1, tzinfo=UTC)
