"""What docs/deploy.md tells people to type is there and does what the page says."""

from __future__ import annotations

import re
import shlex
import subprocess
from contextlib import closing
from pathlib import Path

import click
import pytest

from d3.adapters.sql import Database, SchemaState, SqlAccounts, SqlHistory, state, upgrade
from d3.domain.accounts import NewKey
from d3.domain.history import HistoryFilter
from d3.entrypoints.cli.app import cli
from d3.settings import Settings
from tests.databases import POSTGRESQL_PROGRAMS
from tests.support.contracts.accounts import NOON
from tests.support.history import an_entry
from tests.support.servers import local_postgresql

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "deploy.md").read_text()
LINES = [
    line
    for block in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
    for line in block.split("\n")
]


def words(line: str) -> list[str]:
    return shlex.split(line.split(" >", maxsplit=1)[0], comments=True)


@pytest.mark.parametrize("line", sorted({line for line in LINES if line.startswith("d3 ")}))
def test_every_command_of_d3_is_one(line):
    command: click.Command = cli
    name, *rest = words(line)
    context = click.Context(cli, info_name=name)
    while isinstance(command, click.Group):
        name, command, rest = command.resolve_command(context, rest)
        assert command is not None, line
    # Raises a usage error for an argument or an option that the command does not have.
    command.make_context(name, rest, parent=context)


@pytest.mark.parametrize("line", sorted({line for line in LINES if re.match(r"pg_|create", line)}))
def test_every_option_of_postgresqls_programs_is_one(line):
    program, *rest = words(line)
    reported = subprocess.run(
        [POSTGRESQL_PROGRAMS / program, "--help"], capture_output=True, text=True, check=True
    )
    for option in rest:
        if option.startswith("--"):
            assert option.split("=")[0] in reported.stdout


def test_every_variable_is_a_setting():
    known = {one.metadata["variable"] for one in Settings.__dataclass_fields__.values()}
    named = set(re.findall(r"`((?:D3|POSTGRES|MINIO)_[A-Z_]+[A-Z])`", PAGE))
    assert named
    assert named <= known


def test_a_dump_of_a_server_is_restored_as_the_page_says(tmp_path):
    with (
        local_postgresql() as server,  # pg_dump refuses a server newer than itself
        server.database() as one,
        server.database() as other,
        closing(Database(one)) as source,
        closing(Database(other)) as target,
    ):
        upgrade(source)
        ada = SqlAccounts(source).add_user("ada", None, NOON)
        key = SqlAccounts(source).create_key(ada.id, NewKey(), NOON)
        SqlHistory(source).add_many([an_entry(user_id=ada.id)] * 3)
        dump = tmp_path / "d3.dump"
        run("pg_dump", "--format=custom", f"--file={dump}", address(source))
        options = ("--no-owner", "--exit-on-error", "--single-transaction")
        run("pg_restore", *options, f"--dbname={address(target)}", str(dump))
        assert state(target) is SchemaState.AT_HEAD
        assert SqlHistory(target).page(HistoryFilter(), 1).total == 3
        assert SqlHistory(target).add_many([an_entry()]) == [4]
        assert SqlAccounts(target).authenticate(key.key, NOON).user_id == ada.id


def address(database: Database) -> str:
    url = database.url.set(drivername="postgresql")
    return url.render_as_string(hide_password=False)


def run(program: str, *arguments: str) -> None:
    done = subprocess.run(
        [POSTGRESQL_PROGRAMS / program, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
