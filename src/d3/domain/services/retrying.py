"""Retries while a store does not answer, so that long work survives an outage."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from d3.domain.backoff import pause_after
from d3.domain.errors import CommitInDoubt, ImageUnreadable, StorageFailed, StorageUnavailable
from d3.domain.images import ImageSource
from d3.domain.ports.scans import ImageCollection, Listed

T = TypeVar("T")
_LOG = logging.getLogger(__name__)
_LONGEST_PAUSE = 5.0
_ATTEMPTS = 4


def retry_while_unavailable(
    work: Callable[[], T], seconds: float, sleep: Callable[[float], None] = time.sleep
) -> T:
    """Retry until the work succeeds or this many seconds were waited.

    Raises:
        StorageFailed: the store refuses, or did not answer for too long.
    """
    waited, failures = 0.0, 0
    while True:
        try:
            return work()
        except (StorageUnavailable, CommitInDoubt) as error:
            if waited >= seconds:
                raise
            if not failures:
                _LOG.warning("waiting for a store: %s", error.problem)
        failures += 1
        pause = pause_after(failures, 0.2, _LONGEST_PAUSE)
        sleep(pause)
        waited += pause


class RetryingCollection:
    """Implements ``ImageCollection`` with another one, and waits while its store is away.

    An image that the store refuses, though it answers otherwise, is an ImageUnreadable.

    Args:
        seconds: that its store may be away.
    """

    def __init__(
        self,
        collection: ImageCollection,
        seconds: float,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._collection = collection
        self._seconds = seconds
        self._sleep = sleep

    @property
    def source(self) -> str:
        return self._collection.source

    @property
    def named(self) -> bool:
        return self._collection.named

    def list(self, after: str | None) -> Iterator[Listed]:
        """The keys after a cursor; after an outage it resumes after the last one."""
        failures = 0
        while True:
            try:
                for one in self._collection.list(after):
                    yield one
                    after, failures = one.cursor, 0
            except StorageUnavailable:
                failures += 1
                if failures == _ATTEMPTS:
                    raise  # the place answers, and does not let itself be listed
                self.check()
                self._sleep(pause_after(failures, 0.5))
            else:
                return

    def read(self, uri: str) -> ImageSource:
        refused: StorageFailed | None = None
        for attempt in range(_ATTEMPTS):
            if attempt:
                self._sleep(pause_after(attempt, 0.5))
            try:
                return self._collection.read(uri)
            except StorageUnavailable as error:
                refused = error
                self.check()
            except StorageFailed as error:
                refused = error
                break
        self.check()
        raise ImageUnreadable(
            "The store did not return this image.", "Check that the store allows reading it."
        ) from refused

    def check(self) -> None:
        retry_while_unavailable(self._collection.check, self._seconds, self._sleep)
