"""Sampling of refused requests: a few records a second one by one, the rest as counts.

Anybody can cause refusals without a key. One row and one log line for each would let them fill the
disk and displace the records of others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from d3.domain.history import RequestRecord

_ONE_BY_ONE = 10
_KINDS = 16
_SECONDS = 1.0


class SampledRecords:
    """Passes records on. Used on one event loop only.

    Args:
        hand_on: takes each record or count.
    """

    def __init__(self, hand_on: Callable[[RequestRecord], None]) -> None:
        self._hand_on = hand_on
        self._told = 0
        self._crowd: dict[tuple[str, int], RequestRecord] = {}
        self._running = False

    def add(self, record: RequestRecord) -> None:
        """Pass a record on now, or within a second as a count of similar ones."""
        if not self._running:
            self._running = True
            asyncio.get_running_loop().call_later(_SECONDS, self._begin_anew)
        if self._told < _ONE_BY_ONE:
            self._told += 1
            self._hand_on(record)
            return
        kind = (record.endpoint, record.status_code)
        if kind not in self._crowd and len(self._crowd) >= _KINDS:
            kind = ("", record.status_code)  # there is no limit to made-up paths
        before = self._crowd.get(kind)
        self._crowd[kind] = replace(record, requests=before.requests + 1 if before else 1)

    def _begin_anew(self) -> None:
        crowd, self._crowd = self._crowd, {}
        self._told, self._running = 0, False
        for record in crowd.values():
            self._hand_on(record)
