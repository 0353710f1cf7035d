"""``d3 history`` as people run it: found, shown, exported and deleted."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from d3.container import Container
from d3.domain.labels import NewLabel, label_of
from d3.domain.scoring import Verdict
from d3.domain.services.export import COLUMNS
from d3.settings import Settings
from tests.e2e.conftest import Finished, Run
from tests.serving import clean_environment
from tests.support.history import NOON, an_entry

D3 = Callable[..., Finished]
HOURS = [NOON + timedelta(hours=number) for number in range(4)]


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    """A D3_HOME with four results, an hour apart; the second is labelled, the last a demo's."""
    container = Container(settings=Settings(home=tmp_path / "fresh"))
    container.schema().make_ready()
    ada = container.account_service().add_user("ada")
    shares = (0.9, 0.1, 0.5, 0.7)
    verdicts = (Verdict.FAKE, Verdict.REAL, Verdict.UNCERTAIN, Verdict.FAKE)
    names = ("=1+1.png", "Cat.png", "dog.png", "cat on a mat.png")
    entries = [
        an_entry(
            name,
            created_at=moment,
            prediction=share,
            verdict=verdict,
            user_id=ada.id if share == 0.5 else None,
            notice="Do not act on it." if share == 0.7 else "",
        )
        for name, moment, share, verdict in zip(names, HOURS, shares, verdicts, strict=True)
    ]
    history = container.history()
    history.add_many(entries)
    history.label([NewLabel(result_id=2, label=label_of("real"))], NOON)
    container.database().close()
    return tmp_path / "fresh"


@pytest.fixture
def d3(run: Run, fresh: Path) -> D3:
    return lambda *arguments: run("history", *arguments, D3_HOME=str(fresh))


def ids(done: Finished) -> list[int]:
    assert done.code == 0, done.err
    return [json.loads(line)["id"] for line in done.out.splitlines()]


def test_results_are_listed_newest_first_for_people_and_programs(d3: D3) -> None:
    plain = d3("list")
    rows = [line.split() for line in plain.out.splitlines() if line.strip()][2:]
    assert [row[0] for row in rows] == ["4", "3", "2", "1"]
    assert rows[0][1:6] == ["2026-03-01", "15:00", "fake", "demo", "0.700"]
    assert rows[2][5] == "real"  # its label
    assert "note: (demo) Do not act on it." in plain.err
    assert ids(d3("list", "--json")) == [4, 3, 2, 1]
    table = list(csv.reader(io.StringIO(d3("list", "--format", "csv").out, newline="")))
    assert tuple(table[0]) == COLUMNS
    assert table[-1][1] == "'=1+1.png"
    empty = d3("list", "--model", "nobodys")
    assert (empty.code, empty.out) == (0, "")
    assert "No stored result matches." in empty.err


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        (["--verdict", "fake"], [4, 1]),
        (["--label", "real"], [2]),
        (["--label", "none", "--limit", "2"], [4, 3]),
        (["--contains", "CAT"], [4, 2]),
        (["--since", "2026-03-01T13:00Z", "--until", "2026-03-01T14:30:00+00:00"], [3, 2]),
        (["--since", "2026-03-01T13:00", "--limit", "1"], [4]),
        (["--until", "2026-03-01"], []),
        (["--user", "ada"], [3]),
        (["--sort", "prediction"], [1, 4, 3, 2]),
        (["--sort", "prediction", "--reverse", "--limit", "2"], [2, 3]),
        (["--all", "--limit", "1"], [4, 3, 2, 1]),
    ],
)
def test_filters_and_orders_are_those_of_the_service(
    d3: D3, filters: list[str], found: list[int]
) -> None:
    assert ids(d3("list", "--json", *filters)) == found


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["--since", "yesterday"], "'yesterday' is not a time. Write 2026-01-31"),
        (["--sha256", "abc"], "A SHA-256 has 64 hexadecimal digits."),
        (["--verdict", "maybe"], "'maybe' is not one of"),
        (["--user", "nobody"], "There is no user 'nobody'"),
    ],
)
def test_a_wrong_filter_is_said(d3: D3, wrong: list[str], said: str) -> None:
    done = d3("list", *wrong)
    assert (done.code, done.out) == (2, "")
    assert said in done.err


def test_one_result_is_shown_with_all_that_is_known(d3: D3) -> None:
    shown = d3("show", "2")
    told = dict(line.rsplit(maxsplit=1) for line in shown.out.splitlines())
    assert (told["verdict"], told["label"], told["image name"]) == ("real", "real", "Cat.png")
    found = json.loads(d3("show", "2", "--json").out)
    assert (found["id"], found["label"], found["image_name"]) == (2, "real", "Cat.png")
    missing = d3("show", "77")
    assert (missing.code, missing.out) == (2, "")


def test_an_export_is_a_file_or_a_pipe(d3: D3, tmp_path: Path) -> None:
    done = d3("export", "all.csv")
    assert done.out == "4 results in all.csv\n"
    piped = d3("export", "-", "--format", "csv")
    assert piped.out.encode() == (tmp_path / "all.csv").read_bytes()
    some = d3("export", tmp_path / "fakes.jsonl", "--verdict", "fake")
    assert some.code == 0
    lines = (tmp_path / "fakes.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in lines] == [4, 1]
    for wrong, said in ((["all.txt"], "must end in .csv or .jsonl"), (["-"], "Name the format")):
        refused = d3("export", *wrong)
        assert refused.code == 2
        assert said in refused.err
    assert not (tmp_path / "all.txt").exists()


def test_results_are_deleted_all_or_none(d3: D3) -> None:
    missing = d3("delete", "1", "77", "--yes")
    assert missing.code == 2
    assert "no result with the id 77" in missing.err
    assert ids(d3("list", "--json")) == [4, 3, 2, 1]
    unasked = d3("delete", "1")
    assert (unasked.code, "Confirm with --yes" in unasked.err) == (2, True)
    done = d3("delete", "1", "2", "1", "-y")
    assert (done.code, done.out) == (0, "Deleted 2 results.\n")
    assert ids(d3("list", "--json")) == [4, 3]


def test_a_reader_that_has_seen_enough_ends_a_list(fresh: Path) -> None:
    """In a process of its own: what is tested is the end of a pipe."""
    container = Container(settings=Settings(home=fresh))
    container.history().add_many([an_entry(f"{'n' * 200}{number}") for number in range(2000)])
    container.database().close()
    line = f'"{sys.executable}" -m d3 history list --all --json | head -1; exit ${{PIPESTATUS[0]}}'
    done = subprocess.run(
        ["bash", "-c", line],
        env=clean_environment(D3_HOME=str(fresh)) | {"PATH": os.environ["PATH"]},
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert len(done.stdout.splitlines()) == 1
