"""``d3 jobs`` as people run it, on both databases."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from d3.adapters.sql import Database, SqlJobLedger, upgrade
from d3.domain.errors import ImageDamaged
from d3.domain.jobs import ItemPlace, NewItem, NewJob, NewShard
from d3.domain.webhooks import Callback, new_secret
from tests.e2e.conftest import Finished, Run
from tests.support.history import NOON, an_entry

D3 = Callable[..., Finished]
ID = "0123456789abcdef"


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """With a job of three items: one is judged, one is wrong, one waits."""
    with request.getfixturevalue("postgresql_server").database() as url:
        database = Database(url if request.param == "postgresql" else tmp_path / "home" / "d3.db")
        upgrade(database)
        ledger = SqlJobLedger(database)
        new = NewJob(
            name=ID,
            created_at=NOON,
            expires_at=NOON + timedelta(days=7),
            threshold=0.25,
            panel=("mine", "other"),
            callback=Callback("https://example.net/x", new_secret()),
        )
        items = tuple(NewItem(number=n, name="=1+1.png", external_id=f"x{n}") for n in (1, 2, 3))
        shards = [
            NewShard(number=0, place=ItemPlace.LINK, items=items[:2]),
            NewShard(number=1, place=ItemPlace.LINK, items=items[2:]),
        ]
        ledger.start(ledger.begin(new), new, shards, NOON)
        held = ledger.claim("me", {ItemPlace.LINK}, [], NOON, NOON)
        assert held is not None
        outcomes = {1: an_entry(), 2: ImageDamaged("It is damaged.")}
        ledger.store(held.key, outcomes, NOON)
        yield database
        database.close()


@pytest.fixture
def d3(run: Run, database: Database, tmp_path: Path) -> D3:
    """Run ``d3 jobs`` there."""
    url = database.url.render_as_string(hide_password=False)
    environ = {"D3_HOME": str(tmp_path / "home"), "D3_DATABASE_URL": url}
    return lambda *arguments: run("jobs", *arguments, **environ)


def test_jobs_are_listed_shown_and_cancelled(d3: D3) -> None:
    listed = d3("list").out.splitlines()
    assert listed[3].split() == [ID, "running", *"311001", "2026-03-01", "12:00"]
    (found,) = map(json.loads, d3("list", "--json").out.splitlines())
    assert (found["id"], found["counts"]["waiting"]) == (ID, 1)
    assert json.loads(d3("show", ID, "--json").out) == found
    shown = d3("show", ID).out
    for said in ("waiting      1", "threshold    0.25", "callback     https://example.net/x"):
        assert said in shown
    assert (found["views"], found["panel"], found["panel_rule"]) == (1, ["mine", "other"], None)
    assert "secret" not in str(found)
    cancelled = json.loads(d3("cancel", ID, "--json").out)
    assert (cancelled["id"], cancelled["state"]) == (ID, "cancelled")
    assert d3("cancel", ID).out == f"Job {ID} is cancelled.\n"
    assert json.loads(d3("show", ID, "--json").out)["counts"]["cancelled"] == 1


def test_a_job_is_exported_with_its_results(d3: D3, tmp_path: Path) -> None:
    for form in ("csv", "jsonl"):
        done = d3("export", ID, str(tmp_path / f"job.{form}"))
        assert (done.code, done.out) == (0, f"3 rows in {tmp_path / f'job.{form}'}\n")
    with (tmp_path / "job.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [one["state"] for one in rows] == ["judged", "error", "waiting"]
    assert [one["external_id"] for one in rows] == ["x1", "x2", "x3"]
    assert rows[0]["name"] == "'=1+1.png"
    assert (rows[0]["verdict"], rows[1]["verdict"]) == ("fake", "")
    assert (rows[1]["code"], rows[1]["error"]) == ("damaged_image", "It is damaged.")
    lines = (tmp_path / "job.jsonl").read_text(encoding="utf-8").splitlines()
    first, second, _ = map(json.loads, lines)
    assert first["result"]["id"] == first["inference_id"] == 1
    assert (second["result"], second["inference_id"]) == (None, None)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("show", "nothing"), "no job with this id"),
        (("cancel", "nothing"), "no job with this id"),
        (("export", ID, "job.txt"), ".csv or .jsonl"),
        (("export", "nothing", "job.csv"), "no job with this id"),
    ],
)
def test_what_is_no_job_is_said(d3: D3, arguments: tuple[str, ...], word: str) -> None:
    done = d3(*arguments)
    assert done.code == 2
    assert word in done.err
