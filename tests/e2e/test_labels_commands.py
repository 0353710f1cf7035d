"""``d3 labels`` as people run it, on both databases."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from d3.adapters.sql import Database, SqlHistory, upgrade
from d3.domain.history import HistoryFilter
from d3.domain.labels import LabelIs
from tests.e2e.conftest import Finished, Run
from tests.support.history import an_entry

D3 = Callable[..., Finished]


@pytest.fixture(params=["sqlite", "postgresql"])
def history(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqlHistory]:
    """Three results, of two files."""
    with request.getfixturevalue("postgresql_server").database() as url:
        database = Database(url if request.param == "postgresql" else tmp_path / "home" / "d3.db")
        upgrade(database)
        kept = SqlHistory(database)
        kept.add_many([an_entry(image_sha256=sha * 64) for sha in "aba"])
        yield kept
        kept.close()


@pytest.fixture
def d3(run: Run, history: SqlHistory, tmp_path: Path) -> D3:
    """Run ``d3`` there."""
    url = history._database.url.render_as_string(hide_password=False)
    environ = {"D3_HOME": str(tmp_path / "home"), "D3_DATABASE_URL": url}
    return lambda *arguments: run("labels", *arguments, **environ)


def test_a_result_is_labelled_and_what_was_said_is_shown(d3: D3, history: SqlHistory) -> None:
    done = d3("set", "2", "Real", "--source", "agency", "--note", "raw 日")
    assert (done.code, done.out) == (0, "Result 2 is labelled real.\n")
    assert d3("set", "2", "unknown").code == 0
    assert history.page(HistoryFilter(label=LabelIs.UNKNOWN), 9).total == 1
    shown = d3("list", "2").out
    assert [line.split()[0] for line in shown.splitlines() if "20" in line] == ["unknown", "real"]
    first = json.loads(d3("list", "2", "--json").out.splitlines()[-1])
    assert (first["label"], first["source"], first["user_id"]) == ("real", "agency", None)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        *((("set", "2", "fake"), "real, generated, unknown"), (("set", "9", "real"), "id 9")),
        *((("list", "9"), "id 9"), (("set", "x", "real"), "not a valid integer")),
        (("set", "2", "real", "--source", "a\nb"), "control character"),
    ],
)
def test_what_is_no_result_or_no_label_is_said(
    d3: D3, arguments: tuple[str, ...], word: str
) -> None:
    done = d3(*arguments)
    assert done.code == 2
    assert word in done.err


def test_a_table_labels_results_or_says_what_is_wrong(
    d3: D3, history: SqlHistory, tmp_path: Path
) -> None:
    table = tmp_path / "labels.csv"
    table.write_text(f"\ufeffimage_sha256,label,who\n{'a' * 64},real,me\n{'b' * 64},,me\n")
    done = d3("import", str(table))
    assert (done.code, done.out) == (0, "2 results labelled by 1 line.\n")
    assert "1 line without a label passed over" in done.err
    assert "not read: who" in done.err
    assert [one.id for one in history.iterate(HistoryFilter(label=LabelIs.REAL))] == [3, 1]
    table.write_text("id,label\n1,generated\n9,real\n")
    done = d3("import", str(table))
    assert done.code == 2
    assert "Line 3: There is no result with the id 9." in done.err
    assert history.page(HistoryFilter(label=LabelIs.GENERATED), 9).total == 0


def test_files_that_are_no_table_are_refused(d3: D3, tmp_path: Path) -> None:
    (tmp_path / "latin.csv").write_bytes(b"id,label\n1,r\xe9al\n")
    for file, word in (("latin.csv", "UTF-8"), ("nowhere.csv", "No such file"), (".", "directory")):
        done = d3("import", str(tmp_path / file))
        assert done.code == 2
        assert word in done.err
