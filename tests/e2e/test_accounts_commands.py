"""``d3 users``, ``d3 keys`` and ``d3 db`` as people run them, on real databases."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from d3.container import Container
from d3.domain.accounts import Scope
from d3.domain.errors import AccessRefused
from d3.domain.history import HistoryFilter
from d3.domain.services.accounts import AccountService
from d3.settings import Settings
from tests.e2e.conftest import Finished, Run
from tests.prototype import PLAIN_KEY, make_prototype
from tests.serving import clean_environment
from tests.support.history import an_entry
from tests.support.servers import PostgresqlServer

D3 = Callable[..., Finished]


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    """A D3_HOME of this test's own."""
    return tmp_path / "fresh"


@pytest.fixture
def d3(run: Run, fresh: Path) -> D3:
    """Run ``d3`` there."""
    return lambda *arguments, **environ: run(*arguments, **({"D3_HOME": str(fresh)} | environ))


@pytest.fixture
def service(fresh: Path) -> AccountService:
    """What the service would ask of the same database."""
    found: AccountService = Container(settings=Settings(home=fresh)).account_service()
    return found


def history_of(settings: Settings):
    return Container(settings=settings).history()


def test_a_user_and_a_key_from_nothing(d3: D3, service: AccountService) -> None:
    done = d3("users", "add", "ada", "--email", "ada@example.org")
    assert (done.code, done.out) == (0, "Added ada (id 1).\n")
    done = d3("keys", "create", "ada", "--name", "laptop", "--scope", "models", "--expires", "90d")
    assert done.code == 0
    key = done.out.removesuffix("\n")
    assert key.startswith("d3_")
    assert "\n" not in key
    assert key not in done.err
    assert "not shown again" in done.err
    reported = service.authenticate(key)
    assert (reported.user_id, reported.scopes) == (1, {Scope.MODELS})


def test_whoever_owns_the_machine_finds_a_way_back(
    d3: D3, service: AccountService, fresh: Path
) -> None:
    keys = [d3("keys", "init").out.strip(), d3("keys", "create", "admin").out.strip()]
    refused = d3("keys", "init")
    assert refused.code == 2
    assert "keys init --replace" in refused.err
    d3("users", "disable", "admin")
    done = d3("keys", "init", "--replace")
    made = done.out.strip()
    assert (fresh / "api.key").read_text().strip() == made
    assert service.authenticate(made).scopes == {Scope.ADMIN}
    with pytest.raises(AccessRefused):  # an account has two live keys at most
        service.authenticate(keys[0])
    assert keys[0].split("_")[1] in done.err
    assert service.authenticate(keys[1])


def test_a_kept_key_is_never_written_over(d3: D3, fresh: Path) -> None:
    fresh.mkdir()
    (fresh / "api.key").write_text("another database's\n")
    done = d3("keys", "init")
    assert done.code == 2
    assert "holds another key" in done.err
    assert (fresh / "api.key").read_text() == "another database's\n"
    assert "live" not in d3("keys", "list", "--json").out


def test_no_list_shows_a_secret(d3: D3) -> None:
    d3("users", "add", "ada")
    key = json.loads(d3("keys", "create", "ada", "--json").out)
    assert key["scopes"] == ["predict", "read"]
    plain, listed = d3("keys", "list"), d3("keys", "list", "ada", "--json")
    assert key["key_id"] in plain.out
    (line,) = listed.out.splitlines()
    shown = json.loads(line)
    assert (shown["key_id"], shown["state"], shown["user_id"]) == (key["key_id"], "live", 1)
    secret = key["key"].split("_")[2]
    assert secret not in plain.out + plain.err + listed.out + listed.err


def test_users_are_listed_disabled_and_enabled(d3: D3, service: AccountService) -> None:
    d3("users", "add", "ada")
    key = d3("keys", "create", "ada").out.strip()
    assert d3("users", "disable", "ada").out == "Disabled ada (id 1).\n"
    with pytest.raises(AccessRefused):
        service.authenticate(key)
    (line,) = d3("users", "list", "--json").out.splitlines()
    assert (json.loads(line)["username"], json.loads(line)["is_active"]) == ("ada", False)
    assert "disabled" in d3("users", "list").out
    d3("users", "enable", "ada")
    assert service.authenticate(key).user_id == 1


def test_a_key_is_rotated_and_revoked(d3: D3, service: AccountService) -> None:
    d3("users", "add", "ada")
    old = d3("keys", "create", "ada", "--scope", "read").out.strip()
    rotated = d3("keys", "rotate", old.split("_")[1])
    new = rotated.out.strip()
    assert "still works for a while" in rotated.err
    assert [service.authenticate(key).scopes for key in (old, new)] == [{Scope.READ}] * 2
    refused = d3("keys", "create", "ada")
    assert (refused.code, refused.out) == (2, "")
    assert "d3 keys revoke" in refused.err
    revoked = d3("keys", "revoke", old)  # the whole key, as one finds it in a log
    assert revoked.code == 0
    assert old not in revoked.out + revoked.err
    with pytest.raises(AccessRefused):
        service.authenticate(old)
    last = d3("keys", "rotate", new, "--keep", "0").out.strip()
    with pytest.raises(AccessRefused):
        service.authenticate(new)
    assert service.authenticate(last).user_id == 1


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("users add ada", "d3 users list"),
        ("users disable nobody", "There is no user 'nobody'"),
        ("keys create nobody", "There is no user 'nobody'"),
        ("keys list nobody", "There is no user 'nobody'"),
        ("keys revoke nokey", "d3 keys list"),
        ("keys rotate nokey", "d3 keys list"),
        ("keys create ada --scope everything", "predict"),
        ("keys create ada --expires soon", "Write 90d, 12h"),
        ("keys create ada --expires 0", "longer than 0"),
        ("keys create ada --expires 999999w", "too long"),
        ("keys rotate nokey --keep -1h", "Write 90d, 12h"),
        ("users add grace --email nonsense", "ada@example.org"),
        ("db copy", "are the same"),
        ("db copy --to mysql://u:hunter2@h/d", "mysql"),
        ("db copy --from sqlite:///typo.db --to sqlite:///new.db", "no database to copy from"),
        ("db backup fresh/d3.db", "never replaces a file"),
    ],
)
def test_what_cannot_be_done_is_said_with_a_way_out(
    d3: D3, fresh: Path, service: AccountService, command: str, said: str
) -> None:
    Container(settings=Settings(home=fresh)).schema().make_ready()
    service.add_user("ada")
    done = d3(*command.split())
    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert "hunter2" not in done.err


def test_a_backup_is_a_whole_database(d3: D3, fresh: Path, tmp_path: Path) -> None:
    d3("users", "add", "ada")
    done = d3("db", "backup", "copies/d3.db")
    assert done.code == 0
    copy = tmp_path / "copies" / "d3.db"
    assert [one.name for one in copy.parent.iterdir()] == ["d3.db"]
    (user,) = d3("users", "list", "--json", D3_HOME=str(copy.parent)).out.splitlines()
    assert json.loads(user)["username"] == "ada"


def test_an_embedded_database_moves_to_a_server(
    d3: D3, fresh: Path, postgresql_server: PostgresqlServer
) -> None:
    d3("users", "add", "ada")
    key = d3("keys", "create", "ada").out.strip()
    history_of(Settings(home=fresh)).add_many([an_entry("kept.png", user_id=1)])
    with postgresql_server.database() as url:
        done = d3("db", "copy", D3_DATABASE_URL=url)
        assert done.code == 0
        assert "1  inference_results" in done.out
        container = Container(settings=Settings(database_url=url))
        assert container.account_service().authenticate(key).user_id == 1
        assert container.history().get(1).image_name == "kept.png"
        container.database().close()
        again = d3("db", "copy", D3_DATABASE_URL=url)
        assert again.code == 2
        assert "not empty" in again.err
        back = d3("db", "copy", "--from", url, "--to", "sqlite:///back.db")
        assert back.code == 0


def test_the_prototypes_database_is_adopted(d3: D3, fresh: Path, service: AccountService) -> None:
    fresh.mkdir()
    container = Container(settings=Settings(home=fresh))
    make_prototype(container.database())
    refused = d3("users", "list")
    assert refused.code == 2
    assert "d3 db upgrade" in refused.err
    assert "the original prototype's" in d3("db", "current").out
    done = d3("db", "upgrade")
    assert done.code == 0
    assert "The database before the upgrade is saved in" in done.err
    (kept,) = fresh.glob("d3.db.before-upgrade-of-prototype.*")
    with closing(sqlite3.connect(kept)) as before:
        assert before.execute("SELECT api_key FROM users ORDER BY id").fetchone() == (PLAIN_KEY,)
    assert service.authenticate(PLAIN_KEY).user_id == 1
    assert d3("users", "list", "--json").out.count("\n") == 4
    container.database().close()


def test_an_older_database_is_kept_before_a_command_upgrades_it(d3: D3, fresh: Path) -> None:
    from d3.adapters.sql import Database, SqlAccounts, upgrade
    from tests.support.contracts.accounts import NOON

    old = Database(fresh / "d3.db")
    upgrade(old, "0001")
    SqlAccounts(old).add_user("ada", None, NOON)
    old.close()
    done = d3("users", "list", "--json")
    assert json.loads(done.out)["username"] == "ada"
    assert "The database before the upgrade is saved in" in done.err
    (kept,) = fresh.glob("d3.db.before-upgrade-of-0001.*")
    with closing(sqlite3.connect(kept)) as connection:
        assert connection.execute("SELECT username FROM users").fetchone() == ("ada",)


def test_deleting_a_user_asks_what_becomes_of_their_results(d3: D3, fresh: Path) -> None:
    for name in ("ada", "grace"):
        d3("users", "add", name)
    settings = Settings(home=fresh)
    history = history_of(settings)
    history.add_many([an_entry("hers.png", user_id=1)])
    delete = ("users", "delete", "ada")
    for options in ([], ["--yes"]):
        refused = d3(*delete, *options)
        assert refused.code == 2
        assert "ada has 1 result and 0 jobs. Say --results keep or" in refused.err
    unconfirmed = d3(*delete, "--results", "delete")
    assert (unconfirmed.code, unconfirmed.out) == (2, "")
    assert "Confirm with --yes" in unconfirmed.err
    assert d3(*delete, "--results", "delete", "--give-to", "grace", "--yes").code == 2
    assert d3(*delete, "--results", "keep", "--give-to", "nobody", "--yes").code == 2
    assert d3(*delete, "--results", "keep", "--give-to", "ada", "--yes").code == 2
    assert "ada" in d3("users", "list").out
    done = d3(*delete, "--results", "keep", "--give-to", "grace", "--yes")
    assert (done.code, done.out) == (0, "Deleted ada.\n")
    assert "1 result and 0 jobs belong to grace now" in done.err
    assert "No admin has a valid key" in done.err
    assert "`d3 keys init --replace` creates one" in done.err
    assert history.get(1).user_id == 2
    gone = json.loads(d3("users", "delete", "grace", "--results", "delete", "-y", "--json").out)
    assert (gone["results"], gone["results_kept"], gone["username"]) == (1, False, "grace")
    missing = d3(*delete, "--yes")
    assert missing.code == 2
    assert "There is no user 'ada'" in missing.err
    d3("users", "add", "lin")
    assert d3("users", "delete", "lin", "--yes").code == 0  # there is nothing to decide


def test_somebody_at_a_terminal_is_asked(fresh: Path) -> None:
    """Over a real terminal, whose answers decide."""
    import os
    import pty
    import subprocess
    import sys

    settings = Settings(home=fresh)
    service: AccountService = Container(settings=settings).account_service()
    Container(settings=settings).schema().make_ready()
    service.add_user("ada")
    history_of(settings).add_many([an_entry("hers.png", user_id=1)])
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "d3", "users", "delete", "ada"],
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=fresh,
        env=clean_environment(D3_HOME=str(fresh)),
    )
    os.write(ours, b"sell\ndelete\ny\n")
    out, err = process.communicate(timeout=120)
    os.close(theirs)
    os.close(ours)
    assert (process.returncode, out) == (0, b"Deleted ada.\n"), err
    assert b"This deletes ada, 1 result" in err
    assert b"'sell' is not one of" in err
    assert history_of(settings).page(HistoryFilter(), 10).total == 0
