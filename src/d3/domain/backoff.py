"""Retries: how long to wait after a failure, and when to give up a broken transfer."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_MOST_DOUBLINGS = 64
_MOST_DIGITS = 10  # of seconds: three centuries


def pause_after(failures: int, first: float, longest: float = math.inf) -> float:
    """Seconds to wait after so many failures in a row.

    0 after none, ``first`` after one, then twice as long each time, ``longest`` at most.
    """
    if not failures:
        return 0.0
    return min(first * 2.0 ** min(failures - 1, _MOST_DOUBLINGS), longest)


def seconds_asked(retry_after: str) -> float | None:
    """Seconds to wait, as the header ``Retry-After`` says in seconds or as a date; None if not."""
    if retry_after.isascii() and retry_after.isdigit():
        return float(retry_after[:_MOST_DIGITS])
    try:
        moment = parsedate_to_datetime(retry_after).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def resume_while_it_grows(
    transfer: Callable[[], None],
    done: Callable[[], int],
    broken: tuple[type[Exception], ...],
    *,
    fruitless: int,
    pause: float,
) -> None:
    """Resume a transfer as long as it makes progress.

    Args:
        transfer: brings what is missing; returns when all is there.
        done: how many bytes are there.
        broken: the errors after which to resume.
        fruitless: attempts in a row that may bring nothing new; then the last error is raised.
        pause: seconds before the next attempt; doubled after each fruitless one.
    """
    failures, most = 0, done()
    while True:
        try:
            return transfer()
        except broken:
            # Only bytes beyond all before count: a server without ranges may begin for ever.
            failures = 0 if done() > most else failures + 1
            if failures == fruitless:
                raise
            most = max(most, done())
        time.sleep(pause_after(failures + 1, pause))
