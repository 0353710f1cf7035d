"""The prototype's ``.env``, as its README shows it, starts ``d3 serve``."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from tests.databases import on_a_port
from tests.prototype import ENVIRONMENT
from tests.service.conftest import painted
from tests.serving import d3_serve
from tests.support.servers import LocalPostgresql, local_postgresql
from tests.support.stores import free_port, s3_server


@pytest.fixture(scope="module")
def server() -> Iterator[LocalPostgresql]:
    with local_postgresql() as server:
        server.execute("ALTER USER postgres PASSWORD 'your_password'")
        server.execute("CREATE DATABASE d3_deepfake")
        yield server


def test_with_its_servers_there_the_service_keeps_results_in_them(
    server: LocalPostgresql, tmp_path: Path
) -> None:
    with on_a_port(server) as port, s3_server("first") as store:
        text = ENVIRONMENT.replace("POSTGRES_PORT=5432", f"POSTGRES_PORT={port}")
        text = text.replace("localhost:9000", store.endpoint)
        (tmp_path / ".env").write_text(text)
        with d3_serve(tmp_path, D3_HOME=str(tmp_path / "home")) as served:
            url = served.url()
            answer = httpx.post(
                f"{url}/api/inference/predict", files={"file": painted(5)}, timeout=60
            )
            assert answer.status_code == 200, answer.text
            assert answer.json()["result"]["model"]["name"] == "starter"  # the bucket is empty
            ready = httpx.get(f"{url}/health/ready").json()
            assert ready == {"ready": True, "missing": []}
            assert "CUDA_DEVICE=1" in served.text  # a warning, where there is no CUDA device
            assert served.stop() == 0
    engine = sa.create_engine(server.url.set(database="d3_deepfake"))
    with engine.connect() as connection:
        count = connection.execute(sa.text("SELECT count(*) FROM inference_results")).scalar()
    engine.dispose()
    assert count == 1
    assert not (tmp_path / "home" / "d3.db").exists()


def test_without_its_store_the_service_starts_and_says_what_is_missing(
    server: LocalPostgresql, tmp_path: Path
) -> None:
    with on_a_port(server) as port:
        text = ENVIRONMENT.replace("POSTGRES_PORT=5432", f"POSTGRES_PORT={port}")
        (tmp_path / ".env").write_text(text.replace("9000", str(free_port())))
        with d3_serve(tmp_path, D3_HOME=str(tmp_path / "home")) as served:
            url = served.url()
            ready = httpx.get(f"{url}/health/ready", timeout=60)
            assert ready.status_code == 503
            assert any("MINIO_ENDPOINT" in one for one in ready.json()["missing"])
            answer = httpx.post(f"{url}/api/inference/predict", files={"file": painted(5)})
            assert answer.status_code == 503
            assert "minioadmin" not in served.text
            assert served.stop() == 0


def test_without_it_the_error_names_the_setting(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (tmp_path / ".env").write_text(ENVIRONMENT.replace("5432", str(port)))
    with d3_serve(tmp_path, D3_HOME=str(tmp_path / "home")) as served:
        assert served.process.wait(90) == 2
        assert "error: " in served.text
        assert "POSTGRES_HOST" in served.text
        assert "your_password" not in served.text
        assert "Traceback" not in served.text
        assert "MINIO_" not in served.text


def test_a_port_that_is_taken_is_said_in_a_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with d3_serve(tmp_path, "--port", port, D3_HOME=str(tmp_path / "home")) as served:
            assert served.process.wait(90) == 2
            assert f"D3 cannot listen on 127.0.0.1:{port}" in served.text
            assert "--port" in served.text
            assert "Traceback" not in served.text
