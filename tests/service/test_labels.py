"""Labels and bulk deletion through a real socket: who may, what is kept, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from d3.domain.provenance import Says
from tests.service.conftest import Service
from tests.service.test_access import a_key, accounts, bearer
from tests.serving import assert_problem
from tests.support.history import NOON, a_real_entry, an_entry

HISTORY, RESULT, STATS = "/api/inference/history", "/api/inference/result", "/api/inference/stats"
LABELS, DELETE = "/api/inference/labels", "/api/inference/results/delete"


def keep(service: Service, *entries: Any) -> list[int]:
    ids: list[int] = service.application.d3.writer.submit(entries).result()
    return ids


def item(service: Service, id_: int) -> Any:
    return service.http.get(f"{RESULT}/{id_}").json()["result"]


@pytest.mark.on_servers
def test_a_label_is_kept_beside_the_verdict_with_its_history(service: Service) -> None:
    (id_,) = keep(service, an_entry())
    before = item(service, id_)
    assert before["label"] is None
    for n, label in enumerate(("generated", "real")):
        said = {"label": label, "source": "photographer", "note": f"line {n}\nraw 日"}
        answer = service.http.post(f"{RESULT}/{id_}/label", json=said)
        assert answer.status_code == 200
        kept = answer.json()["label"]
        assert {name: kept[name] for name in said} == said
        age = datetime.now(UTC) - datetime.fromisoformat(kept["created_at"])
        assert timedelta(0) <= age < timedelta(minutes=1)
    assert item(service, id_) == before | {"label": "real"}
    listed = service.http.get(f"{RESULT}/{id_}/labels").json()
    assert listed["count"] == 2
    assert [one["label"] for one in listed["labels"]] == ["real", "generated"]
    assert listed["labels"][0] == kept


def test_many_results_get_a_label_or_none_does(service: Service) -> None:
    ids = keep(service, *(an_entry(f"{n}.png") for n in range(4)))
    said = {"label": "real", "ids": [*ids[:3], ids[0]]}
    refused = service.http.post(LABELS, json=said | {"ids": [*ids, 10**9]})
    assert_problem(refused, 404, "result_not_found")
    assert "1000000000" in refused.json()["error"]
    assert service.http.get(HISTORY, params={"label": "none"}).json()["total"] == 4
    assert service.http.post(LABELS, json=said).json() == {"success": True, "count": 3}
    found = service.http.get(HISTORY, params={"label": "real"}).json()["results"]
    assert [one["id"] for one in found] == ids[2::-1]


def test_many_results_are_deleted_and_those_that_are_not_there_are_named(service: Service) -> None:
    ids = keep(service, *(an_entry(f"{n}.png") for n in range(4)))
    asked = {"ids": [ids[2], 10**9, ids[0], ids[0]]}
    answer = service.http.post(DELETE, json=asked).json()
    assert answer == {"success": True, "count": 2, "missing": [10**9]}
    assert service.http.post(DELETE, json=asked).json()["count"] == 0
    assert service.rows() == 2


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({}, "label"),
        ({"label": "fake"}, "label is not valid. Choose from generated, real, unknown."),
        ({"label": None}, "label"),
        ({"label": "real", "note": "n" * 2001}, "note"),
        ({"label": "real", "source": "s" * 256}, "source"),
        ({"label": "real", "source": "two\nlines"}, "source"),
        ({"label": "real", "note": "bell \a"}, "note"),
        ({"label": "real", "note": "\0"}, "note"),
        ({"label": "real", "verdict": "real"}, "verdict"),
        ({"label": "real", "note": 7}, "note"),
    ],
)
def test_a_label_that_is_none_is_refused_with_the_reason(
    service: Service, body: Any, word: str
) -> None:
    (id_,) = keep(service, an_entry())
    for place, more in ((f"{RESULT}/{id_}/label", {}), (LABELS, {"ids": [id_]})):
        problem = assert_problem(service.http.post(place, json=body | more), 400)
        assert word in problem["error"]
    assert item(service, id_)["label"] is None


@pytest.mark.parametrize(
    "ids", [None, [], [0], [-1], [1.5], ["x"], [True], [2**63], "1", [*range(1, 1002)]]
)
def test_ids_that_are_none_are_refused(service: Service, ids: Any) -> None:
    keep(service, an_entry())
    assert_problem(service.http.post(LABELS, json={"label": "real", "ids": ids}), 400)
    assert_problem(service.http.post(DELETE, json={"ids": ids}), 400)
    assert service.rows() == 1


def test_only_results_that_are_there_have_labels(service: Service) -> None:
    for id_ in ("999", "0", "01", "x", str(2**63)):
        said = service.http.post(f"{RESULT}/{id_}/label", json={"label": "real"})
        assert_problem(said, 404, "result_not_found")
        assert_problem(service.http.get(f"{RESULT}/{id_}/labels"), 404, "result_not_found")


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"contains": "MG_1"}, [0]),
        ({"contains": "straSSe"}, [1]),
        ({"contains": "%"}, [1]),
        ({"contains": "n"}, [2, 1, 0]),
        ({"contains": "nothing like it"}, []),
        ({"provenance": "generated"}, [1]),
        ({"provenance": "nothing"}, [0]),
        ({"label": "real"}, [0]),
        ({"label": "none"}, [2]),
        ({"label": "unknown", "contains": ".PNG"}, [1]),
        ({"image_sha256": "B" * 64}, [2]),
    ],
)
def test_pages_exports_and_counts_filter_alike(
    service: Service, asked: dict[str, str], expected: list[int]
) -> None:
    ids = keep(
        service,
        an_entry("IMG_1.png", created_at=NOON, provenance_says=Says.NOTHING),
        an_entry("Straße 100%.png", created_at=NOON, provenance_says=Says.GENERATED),
        a_real_entry("n", created_at=NOON, image_sha256="b" * 64),
    )
    for n, label in ((0, "real"), (1, "unknown")):
        service.http.post(f"{RESULT}/{ids[n]}/label", json={"label": label})
    wanted = [ids[n] for n in expected]
    page = service.http.get(HISTORY, params=asked).json()
    assert [one["id"] for one in page["results"]] == wanted
    stats = service.http.get(STATS, params=asked | {"bucket": "day"}).json()["stats"]
    assert stats["total_inferences"] == len(wanted)
    rows = service.http.get(f"{HISTORY}.csv", params=asked).text.splitlines()
    assert len(rows) == 1 + len(wanted)
    lines = service.http.get(f"{HISTORY}.jsonl", params=asked).text.splitlines()
    assert len(lines) == len(wanted)


def test_exports_carry_the_label(service: Service) -> None:
    (id_,) = keep(service, an_entry(provenance_says=Says.CAMERA))
    service.http.post(f"{RESULT}/{id_}/label", json={"label": "generated"})
    titles, row = service.http.get(f"{HISTORY}.csv").text.splitlines()
    cells = dict(zip(titles.split(","), row.split(","), strict=True))
    assert (cells["label"], cells["provenance_says"]) == ("generated", "camera")
    assert '"label":"generated"' in service.http.get(f"{HISTORY}.jsonl").text


@pytest.mark.parametrize(
    "asked",
    [
        *({"label": "fake"}, {"provenance": "true"}, {"contains": "n" * 256}, {"group": "day"}),
        *({"image_sha256": "abc"}, {"image_sha256": "g" * 64}),
    ],
)
def test_filters_that_are_none_are_refused(service: Service, asked: dict[str, str]) -> None:
    assert_problem(service.http.get(STATS, params=asked), 400)


def test_results_are_counted_by_model_label_and_provenance(service: Service) -> None:
    ids = keep(
        service,
        *(an_entry(model="one", provenance_says=Says.GENERATED) for _ in range(2)),
        a_real_entry(model="two"),
    )
    service.http.post(LABELS, json={"label": "real", "ids": ids[:1]})
    expected = {
        "model": [("one", 2, 2), ("two", 1, 0)],
        "label": [(None, 2, 1), ("real", 1, 1)],
        "provenance": [("generated", 2, 2), (None, 1, 0)],
    }
    for group, counts in expected.items():
        groups = service.http.get(STATS, params={"group": group}).json()["stats"]["groups"]
        found = [(o["name"], o["total_inferences"], o["by_verdict"]["fake"]) for o in groups]
        assert found == counts
    assert "groups" not in service.http.get(STATS).json()["stats"]


def test_a_key_labels_and_deletes_its_own_results_with_the_scope_predict(
    start: Callable[..., Service],
) -> None:
    closed = start(auth="required")
    ada, reader, grace, admin = (
        bearer(a_key(closed, user, *scopes))
        for user, scopes in (
            ("ada", ("predict", "read")),
            ("ada", ("read",)),
            ("grace", ("predict", "read")),
            ("root", ("admin",)),
        )
    )
    (owner,) = (one.id for one in accounts(closed).users() if one.username == "ada")
    mine, theirs = keep(closed, an_entry(user_id=owner), an_entry())

    def label(headers: dict[str, str], id_: int) -> Any:
        return closed.http.post(f"{RESULT}/{id_}/label", json={"label": "real"}, headers=headers)

    def delete(headers: dict[str, str], ids: list[int]) -> Any:
        return closed.http.post(DELETE, json={"ids": ids}, headers=headers)

    for attempt in (label(reader, mine), delete(reader, [mine])):
        assert_problem(attempt, 403)
    for attempt in (label({}, mine), delete({}, [mine])):
        assert_problem(attempt, 401)
    for attempt in (label(grace, mine), label(ada, theirs)):
        assert_problem(attempt, 404, "result_not_found")
    both = closed.http.post(LABELS, json={"label": "real", "ids": [mine, theirs]}, headers=ada)
    assert_problem(both, 404, "result_not_found")
    place = f"{RESULT}/{mine}/labels"
    assert closed.http.get(place, headers=ada).json()["count"] == 0
    assert label(ada, mine).json()["label"]["user_id"] == owner
    assert label(admin, theirs).status_code == 200
    assert closed.http.get(place, headers=reader).json()["count"] == 1
    assert_problem(closed.http.get(place, headers=grace), 404)
    assert delete(grace, [mine]).json()["missing"] == [mine]
    assert delete(ada, [mine, theirs]).json() == {"success": True, "count": 1, "missing": [theirs]}
    assert delete(admin, [theirs]).json()["count"] == 1
