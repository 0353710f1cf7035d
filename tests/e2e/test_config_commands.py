"""``d3 config`` as people run it: what is set, where from, and no secret shown."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from d3.entrypoints.cli.config import without_password
from d3.settings import Settings
from tests.e2e.conftest import Finished, Run


def rows(done: Finished) -> dict[str, dict[str, Any]]:
    return {one["variable"]: one for one in map(json.loads, done.out.splitlines())}


def test_every_setting_is_shown_with_where_it_comes_from(run: Run, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(
        "D3_BATCH_SIZE=8\nD3_PORT=7000\nD3_CORS_ORIGINS=https://A.example/\n"
    )
    done = run("config", "show", "--json", D3_PORT="7001")
    assert (done.code, done.err) == (0, "")
    found = rows(done)
    assert [*found] == [one.metadata["variable"] for one in fields(Settings)]
    file = str(tmp_path / ".env")
    told = {name: (found[name]["value"], found[name]["source"]) for name in found}
    assert told["D3_BATCH_SIZE"] == ("8", file)
    assert told["D3_PORT"] == ("7001", "environment")
    assert told["D3_CORS_ORIGINS"] == ("https://a.example", file)  # as D3 reads it
    assert told["D3_HOST"] == ("127.0.0.1", "default")
    assert found["D3_PORT"]["default"] == "5000"
    assert all(one["about"] for one in found.values())
    changed = run("config", "show", "--changed", "--format", "csv", D3_PORT="7001")
    table = csv.DictReader(io.StringIO(changed.out, newline=""))
    names = {one["variable"] for one in table}
    assert names == {"D3_HOME", "D3_BATCH_SIZE", "D3_PORT", "D3_CORS_ORIGINS"}


def test_no_secret_is_shown_not_even_of_a_setting_that_is_not_valid(run: Run) -> None:
    secret = "s3cr/et"
    environ = {
        one.metadata["variable"]: secret for one in fields(Settings) if one.metadata["secret"]
    }
    environ["D3_REDIS_URL"] = f"redis://ada:{secret}@cache:6379/0"
    environ["D3_DATABASE_URL"] = f"postgresql://db/d3?user=ada&password={secret}"
    for form in ("table", "json", "csv"):
        done = run("config", "show", "--format", form, **environ)
        assert secret not in done.out + done.err
        assert "redis://ada:***@cache:6379/0" in done.out
        assert "postgresql://db/d3?***" in done.out
    assert secret not in run("config", "paths", **environ).out
    wrong = run("config", "show", D3_DATABASE_URL=f"mysql://ada:{secret}@db/d3")
    assert wrong.code == 2
    assert secret not in wrong.out + wrong.err


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("redis://:p@h", "redis://:***@h"),
        ("postgresql://u:p@ss@h/d", "postgresql://u:***@h/d"),
        ("postgresql://u@h/d", "postgresql://u@h/d"),
        ("postgresql://u:p?q@h/d", "postgresql://***"),
        ("postgresql://h/d?password=p@x", "postgresql://***"),
        ("sqlite:////srv/d3.db", "sqlite:////srv/d3.db"),
        ("p", "***"),
    ],
)
def test_what_may_be_a_password_is_left_out_of_a_url(given: str, shown: str) -> None:
    assert without_password(given) == shown


@pytest.mark.parametrize(
    "environ",
    [
        {"MINIO_ENDPOINT": "http://user:s3c@r/et@store:9000"},
        {"MINIO_ENDPOINT": "user:s3c@r/et@store:9000"},
        {"D3_SPOOL": "s3://user:s3c@r/et@store/spool"},
        {"D3_FETCH_ALLOW": "10.0.0.0/8,http://user:s3c@r/et@store"},
        {"D3_MODEL": "http://user:s3c@r/et@store"},
        {"D3_RAY_ADDRESS": "ray://user:s3c@r/et@head:10001"},
    ],
)
def test_no_password_of_an_address_is_shown(run: Run, environ: dict[str, str]) -> None:
    for command in (["config", "show"], ["config", "show", "--json"], ["db", "current"]):
        done = run(*command, **environ)
        assert command[0] == "db" or "***@" in done.out
        assert not {"s3c", "r/et"} & {*re.split(r"[@:\s]", done.out + done.err)}
    kept = run(
        "config", "show", "--changed", "--json", D3_SPOOL="/srv/a@b:c/d", D3_HOME="/home/a@b"
    )
    assert rows(kept)["D3_SPOOL"]["value"] == "/srv/a@b:c/d"
    assert rows(kept)["D3_HOME"]["value"] == "/home/a@b"


def test_settings_that_are_not_valid_are_shown_and_explained(run: Run, tmp_path: Path) -> None:
    done = run("config", "show", "--json", D3_PORT="99x", D3_BATCH_SZE="4", D3_TLS_CERT="/c")
    assert done.code == 2
    found = rows(done)
    assert found["D3_PORT"]["value"] == "99x"
    assert "expected a whole number, 0 to 65535" in found["D3_PORT"]["error"]
    assert "D3_BATCH_SZE is not a setting of D3. Did you mean D3_BATCH_SIZE?" in done.err
    assert "error: D3_TLS_CERT and D3_TLS_KEY: only one of them is set." in done.err
    (tmp_path / ".env").write_bytes(b"D3_PORT=\xff\n")
    unreadable = run("config", "show", "--json")
    assert unreadable.code == 2
    assert "The settings file '.env' cannot be read." in unreadable.err
    assert rows(unreadable)["D3_PORT"]["source"] == "default"


def test_where_files_are_is_told(run: Run, home: Path) -> None:
    done = run("config", "paths", "--json", MINIO_ENDPOINT="store:9000")
    places = {one["name"]: one for one in map(json.loads, done.out.splitlines())}
    assert places["home"] == {"name": "home", "place": str(home), "there": True}
    assert places["models"]["place"] == "s3://d3-models at store:9000"
    assert places["API key"]["place"] == str(home / "api.key")
