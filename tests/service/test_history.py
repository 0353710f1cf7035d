"""The history through a real socket: pages, filters, single results, statistics, exports."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from d3.domain.scoring import Verdict
from tests.service.conftest import Service, painted
from tests.serving import assert_problem
from tests.support.history import NOON, an_entry

HISTORY, RESULT, STATS = "/api/inference/history", "/api/inference/result", "/api/inference/stats"


@pytest.fixture
def filled(service: Service) -> Service:
    """Seven results, an hour apart, every third one fake."""
    entries = [
        an_entry(
            f"{'cat' if n % 2 else 'dog'}-{n}.png",
            created_at=NOON + timedelta(hours=n),
            is_fake=n % 3 == 0,
            verdict=Verdict.REAL if n % 3 else Verdict.FAKE,
            processing_time=0.25,
        )
        for n in range(7)
    ]
    service.application.d3.writer.submit(entries).result()
    return service


def names(answer: Any) -> list[str]:
    return [one["image_name"] for one in answer.json()["results"]]


@pytest.mark.on_servers
def test_pages_by_offset_count_everything_and_go_from_new_to_old(filled: Service) -> None:
    first = filled.http.get(HISTORY, params={"limit": 3}).json()
    assert (first["success"], first["count"], first["total"]) == (True, 3, 7)
    assert "next_cursor" not in first
    ids = [
        one["id"]
        for offset in (0, 3, 6, 9)
        for one in filled.http.get(HISTORY, params={"limit": 3, "offset": offset}).json()["results"]
    ]
    assert ids == sorted(ids, reverse=True)
    assert len(ids) == 7


@pytest.mark.on_servers
def test_pages_by_cursor_stay_right_while_rows_arrive(filled: Service) -> None:
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = filled.http.get(HISTORY, params={"limit": 3, "cursor": cursor}).json()
        assert "total" not in page
        seen += [one["image_name"] for one in page["results"]]
        cursor = page["next_cursor"]
        filled.predict(painted(len(seen)))
    assert [name.split("-")[1] for name in seen] == [f"{n}.png" for n in reversed(range(7))]


@pytest.mark.parametrize(
    ("sort", "order", "key"),
    [
        ("created_at", "asc", "created_at"),
        ("prediction", "desc", "prediction"),
        ("image_name", "asc", "image_name"),
        ("image_name", "desc", "image_name"),
    ],
)
def test_results_come_in_the_order_that_is_asked_for(
    filled: Service, sort: str, order: str, key: str
) -> None:
    asked = {"sort": sort, "order": order}
    whole = filled.http.get(HISTORY, params=asked).json()["results"]
    everything = filled.http.get(HISTORY).json()["results"]
    assert whole == sorted(
        everything,
        key=lambda one: (one[key], one["created_at"], one["id"]),
        reverse=order == "desc",
    )
    paged: list[Any] = []
    cursor: str | None = ""
    while cursor is not None:
        page = filled.http.get(HISTORY, params=asked | {"limit": 2, "cursor": cursor}).json()
        paged += page["results"]
        cursor = page["next_cursor"]
    assert paged == whole


def test_an_order_that_is_not_there_and_a_cursor_of_another_are_refused(filled: Service) -> None:
    for wrong in ({"sort": "secret"}, {"order": "up"}, {"sort": "id; DROP TABLE"}):
        assert_problem(filled.http.get(HISTORY, params=wrong), 400)
    by_name = {"sort": "image_name", "limit": 2}
    cursor = filled.http.get(HISTORY, params=by_name | {"cursor": ""}).json()["next_cursor"]
    for other in ({}, {"sort": "prediction"}, {"sort": "image_name", "order": "asc"}):
        answer = filled.http.get(HISTORY, params=other | {"cursor": cursor})
        assert "order" in assert_problem(answer, 400, "invalid_cursor")["error"]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"is_fake": "true"}, [6, 3, 0]),
        ({"is_fake": "false"}, [5, 4, 2, 1]),
        ({"q": "cat"}, [5, 3, 1]),
        ({"q": "at"}, []),
        ({"q": "%"}, []),
        ({"since": (NOON + timedelta(hours=5)).isoformat()}, [6, 5]),
        ({"until": (NOON + timedelta(hours=2)).isoformat()}, [1, 0]),
        ({"since": "2020-01-01T00:00:00Z", "q": "dog", "is_fake": "true"}, [6, 0]),
        ({"model": "nobody"}, []),
        ({"verdict": "uncertain"}, []),
    ],
)
def test_filters_narrow_both_kinds_of_pages_and_the_exports(
    filled: Service, asked: dict[str, str], expected: list[int]
) -> None:
    by_offset = filled.http.get(HISTORY, params=asked)
    by_cursor = filled.http.get(HISTORY, params=asked | {"cursor": ""})
    lines = filled.http.get(f"{HISTORY}.jsonl", params=asked).text.splitlines()
    exported = [json.loads(line)["image_name"] for line in lines]
    wanted = [f"{'cat' if n % 2 else 'dog'}-{n}.png" for n in expected]
    assert names(by_offset) == names(by_cursor) == exported == wanted
    assert by_offset.json()["total"] == len(expected)


@pytest.mark.on_servers
def test_one_result_is_found_deleted_and_gone(filled: Service) -> None:
    newest = filled.http.get(HISTORY).json()["results"][0]
    place = f"{RESULT}/{newest['id']}"
    assert filled.http.get(place).json() == {"success": True, "result": newest}
    deleted = filled.http.delete(place)
    assert (deleted.status_code, deleted.json()["success"]) == (200, True)
    assert_problem(filled.http.get(place), 404, "result_not_found")
    assert_problem(filled.http.delete(place), 404, "result_not_found")
    assert filled.rows() == 6


def test_times_come_with_their_zone(filled: Service) -> None:
    text = filled.http.get(HISTORY).json()["results"][-1]["created_at"]
    assert datetime.fromisoformat(text) == NOON
    assert datetime.fromisoformat(text).utcoffset() == timedelta(0)


@pytest.mark.on_servers
def test_statistics_count_everything_or_a_span(filled: Service) -> None:
    whole = filled.http.get(STATS).json()
    assert whole["success"] is True
    assert whole["stats"] == {
        "total_inferences": 7,
        "total_fake": 3,
        "total_real": 4,
        "fake_percentage": pytest.approx(100 * 3 / 7, abs=0.01),
        "avg_processing_time": pytest.approx(0.25),
        "by_verdict": {"fake": 3, "real": 4, "uncertain": 0},
        "demo": 0,
        "agreement": {"agree": 0, "partial": 0, "disagree": 0},
    }
    span = {"since": NOON.isoformat(), "until": (NOON + timedelta(hours=3)).isoformat()}
    assert filled.http.get(STATS, params=span).json()["stats"]["total_inferences"] == 3


def test_statistics_of_nothing_are_zeros(service: Service) -> None:
    stats = service.http.get(STATS, params={"bucket": "day"}).json()["stats"]
    assert stats.pop("series") == []
    for name in ("by_verdict", "agreement"):
        assert set(stats.pop(name).values()) == {0}
    assert set(stats.values()) == {0}


@pytest.mark.parametrize(("bucket", "buckets"), [("hour", 7), ("day", 1)])
def test_the_series_adds_up_to_the_totals(filled: Service, bucket: str, buckets: int) -> None:
    stats = filled.http.get(STATS, params={"bucket": bucket}).json()["stats"]
    series = stats["series"]
    assert len(series) == buckets
    starts = [datetime.fromisoformat(one["start"]) for one in series]
    assert starts == sorted(starts)
    assert all(start.tzinfo == UTC and start.minute == 0 for start in starts)
    for name in ("total_inferences", "total_fake", "total_real"):
        assert sum(one[name] for one in series) == stats[name]


@pytest.mark.on_servers
def test_the_csv_export_holds_every_row_and_names_a_file(filled: Service) -> None:
    answer = filled.http.get(f"{HISTORY}.csv")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"] == 'attachment; filename="d3-history.csv"'
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [row["image_name"] for row in rows] == names(filled.http.get(HISTORY))
    assert rows[0]["is_fake"] == "true"


def test_an_export_of_nothing_is_a_header_or_nothing(service: Service) -> None:
    assert service.http.get(f"{HISTORY}.csv").text.startswith("id,image_name,prediction,")
    assert service.http.get(f"{HISTORY}.jsonl").text == ""


def test_a_large_export_streams(service: Service) -> None:
    entries = [an_entry(f"{n}.png") for n in range(3000)]
    service.application.d3.writer.submit(entries).result()
    with service.http.stream("GET", f"{HISTORY}.jsonl") as answer:
        assert "content-length" not in answer.headers
        lines = list(answer.iter_lines())
    assert len(lines) == 3000
    assert len({json.loads(line)["id"] for line in lines}) == 3000
