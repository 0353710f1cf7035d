"""Refusals and warnings in a crowd: few are told one by one, and none is lost from the count."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime

import pytest

from d3.domain.history import RequestRecord
from d3.entrypoints.http.middleware import telemetry
from d3.entrypoints.http.middleware.telemetry import SampledRecords
from d3.entrypoints.logs import FewWarnings


def refused(path: str, status: int = 401) -> RequestRecord:
    return RequestRecord(
        endpoint=path,
        method="GET",
        status_code=status,
        response_time=0.001,
        created_at=datetime.now(UTC),
    )


def test_a_crowd_is_counted_whole_by_address_and_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry, "_SECONDS", 0.01)
    kept: list[RequestRecord] = []

    async def flood() -> None:
        records = SampledRecords(kept.append)
        for number in range(1000):
            records.add(refused(f"/made-up/{number}" if number % 2 else "/a"))
        assert len(kept) == 10
        await asyncio.sleep(0.05)
        records.add(refused("/later"))

    asyncio.run(flood())
    assert sum(one.requests for one in kept) == 1001
    assert len(kept) < 40
    assert max(one.requests for one in kept if one.endpoint == "/a") > 400
    assert (kept[-1].endpoint, kept[-1].requests) == ("/later", 1)


def test_warnings_are_held_back_and_told_with_the_next() -> None:
    few = FewWarnings(most=3)

    def shown(second: int, level: int = logging.WARNING) -> str | None:
        record = logging.LogRecord("d3", level, "", 0, "strange", (), None)
        record.created = float(second)
        return record.getMessage() if few.filter(record) else None

    assert [shown(1) for _ in range(5)] == ["strange"] * 3 + [None] * 2
    assert shown(1, logging.ERROR) == "strange"
    assert shown(2) == "strange (2 earlier warnings were left out)"
