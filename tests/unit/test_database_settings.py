"""The prototype's variables and our own choose the database, and no secret shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from d3.adapters.sql import Database
from d3.container import Container
from d3.domain.errors import SettingsInvalid
from d3.settings import Settings


def read(**environ: str) -> Settings:
    return Settings.from_environment(environ, dotenv=None)


def test_nothing_set_means_a_file_at_home(tmp_path):
    assert read(D3_HOME=str(tmp_path)).database == tmp_path / "d3.db"


def test_the_prototypes_variables_choose_its_server():
    settings = read(
        POSTGRES_USER="postgres",
        POSTGRES_PASSWORD="p@ss:/?#%",
        POSTGRES_HOST="localhost",
        POSTGRES_PORT="5433",
        POSTGRES_DB="d3_deepfake",
    )
    url = Database(settings.database).url
    assert (url.username, url.password, url.host) == ("postgres", "p@ss:/?#%", "localhost")
    assert (url.port, url.database) == (5433, "d3_deepfake")


def test_an_ipv6_address_is_a_host_too():
    url = Database(read(POSTGRES_HOST="::1").database).url
    assert (url.host, url.port, url.database) == ("::1", 5432, "d3_deepfake")


def test_a_url_beats_the_prototypes_variables():
    settings = read(D3_DATABASE_URL="sqlite:////tmp/x.db", POSTGRES_HOST="localhost")
    assert settings.database == "sqlite:////tmp/x.db"


def test_secrets_show_nowhere():
    settings = read(D3_DATABASE_URL="postgres://u:hunter2@h/d", POSTGRES_PASSWORD="hunter2")
    assert "hunter2" not in repr(settings)
    with pytest.raises(SettingsInvalid, match="D3_DATABASE_URL") as refusal:
        read(D3_DATABASE_URL="mysql://u:hunter2@h/d")
    assert "hunter2" not in str(refusal.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("POSTGRES_PORT", "0"),
        ("POSTGRES_PORT", "x"),
        ("D3_DATABASE_POOL_SIZE", "0"),
        ("D3_CACHE_ENTRIES", "-1"),
    ],
)
def test_what_cannot_be_used_is_named(name, value):
    with pytest.raises(SettingsInvalid, match=name):
        read(**{name: value})


def test_the_container_wires_one_of_each(tmp_path: Path):
    container = Container(settings=read(D3_HOME=str(tmp_path)))
    container.schema().make_ready()
    assert container.schema().current() == container.schema().head()
    assert container.history() is container.history()
    assert container.history_writer().submit([]).result(10) == []
    assert (tmp_path / "d3.db").is_file()
    container.history_writer().close()
    container.database().close()


def test_a_host_that_is_a_folder_is_the_servers_socket():
    settings = read(POSTGRES_HOST="/run/postgresql", POSTGRES_PORT="5433", POSTGRES_PASSWORD="p@/")
    url = Database(settings.database).url
    assert (url.host, url.password, url.database) == (None, "p@/", "d3_deepfake")
    assert dict(url.query) == {"host": "/run/postgresql", "port": "5433"}
