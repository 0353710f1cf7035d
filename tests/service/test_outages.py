"""Servers go away under a running service, and it goes on as soon as they are back, by itself."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

import d3
from d3.adapters.sql import Database, upgrade
from d3.entrypoints.http import create_app
from tests.service.conftest import Service, painted
from tests.serving import assert_problem, serving, wait_until
from tests.support.engines import FakeEngine
from tests.support.servers import LocalPostgresql, local_postgresql
from tests.support.stores import S3Server, free_port, redis_server, s3_server

OUTAGE_SECONDS = float(os.environ.get("D3TEST_OUTAGE_SECONDS", "3"))
OTHERS = (
    "FROM pg_stat_activity WHERE application_name = 'd3' AND pid <> pg_backend_pid() "
    "AND datname = current_database()"
)


@pytest.fixture(scope="module")
def postgresql() -> Iterator[LocalPostgresql]:
    with local_postgresql() as server:
        yield server


@pytest.fixture
def database(postgresql: LocalPostgresql) -> Iterator[Database]:
    """A database to look into, which the service shares."""
    with postgresql.database() as url:
        database = Database(url.replace("?", "?application_name=test&"))
        yield database
        database.close()


@pytest.fixture
def on_postgresql(start: Callable[..., Service], database: Database) -> Service:
    url = database.url.difference_update_query(["application_name"])
    return start(database_url=url.render_as_string(hide_password=False), cache_entries=0)


def kept(database: Database) -> set[int]:
    with database.reading() as connection:
        return set(connection.scalars(sa.text("SELECT id FROM inference_results")))


@contextmanager
def held_up(service: Service, database: Database) -> Iterator[tuple[Future[httpx.Response], int]]:
    """A prediction whose row waits for a lock, and the backend that waits for it."""
    with ThreadPoolExecutor(1) as pool, database.writing() as blocker:
        blocker.execute(sa.text("LOCK TABLE inference_results IN EXCLUSIVE MODE"))
        yield pool.submit(service.predict, painted(1)), waiting_backend(database)


def waiting_backend(database: Database, but: int = 0) -> int:
    """The service's backend that waits for a lock, once there is another one than this."""
    found: list[int] = []

    def waits() -> bool:
        query = sa.text(f"SELECT pid {OTHERS} AND wait_event_type = 'Lock' AND pid <> {but}")
        with database.reading() as connection:
            found[:] = connection.scalars(query)
        return bool(found)

    wait_until(waits)
    return found[0]


def kill(database: Database, pid: int) -> None:
    with database.reading() as connection:
        assert connection.scalar(sa.text(f"SELECT pg_terminate_backend({pid}, 5000)"))


def test_a_backend_killed_in_the_middle_of_a_request_costs_a_retry(
    on_postgresql: Service, database: Database
) -> None:
    with held_up(on_postgresql, database) as (waiting, pid):
        kill(database, pid)
        waiting_backend(database, but=pid)
    answer = waiting.result(30)
    assert answer.status_code == 200, answer.text
    assert kept(database) == {answer.json()["inference_id"]}


def test_killed_again_the_request_is_to_be_sent_again_and_the_next_one_is_answered(
    on_postgresql: Service, database: Database
) -> None:
    with held_up(on_postgresql, database) as (waiting, pid):
        kill(database, pid)
        kill(database, waiting_backend(database, but=pid))
        refused = waiting.result(30)
    assert_problem(refused, 503, "storage_unavailable")
    assert int(refused.headers["retry-after"]) >= 1
    answer = on_postgresql.predict(painted(2))
    assert answer.status_code == 200
    assert kept(database) == {answer.json()["inference_id"]}
    assert on_postgresql.http.get("/api/inference/stats").status_code == 200


def test_every_backend_killed_between_requests_is_not_noticed(
    on_postgresql: Service, database: Database
) -> None:
    for shade in range(5):
        assert on_postgresql.predict(painted(shade)).status_code == 200
        assert on_postgresql.rows() == shade + 1
        with database.reading() as connection:
            killed = connection.scalars(sa.text(f"SELECT pg_terminate_backend(pid, 5000) {OTHERS}"))
            assert all(killed.all())


def test_a_database_that_crashes_and_comes_back_loses_no_acknowledged_row(
    on_postgresql: Service, database: Database, postgresql: LocalPostgresql
) -> None:
    acknowledged: set[int] = set()
    answers: list[httpx.Response] = []
    over = threading.Event()

    def work(worker: int) -> None:
        for n in range(worker, 10**6, 4):
            if over.is_set():
                return
            answer = on_postgresql.predict(painted(n % 256))
            answers.append(answer)
            if answer.status_code == 200:
                acknowledged.add(answer.json()["inference_id"])

    with ThreadPoolExecutor(4) as pool:
        working = [pool.submit(work, worker) for worker in range(4)]
        try:
            wait_until(lambda: len(acknowledged) > 20)
            postgresql.crash()
            wait_until(lambda: any(one.status_code == 503 for one in answers))
            before = len(acknowledged)
            ready = on_postgresql.http.get("/health/ready")
            assert (ready.status_code, ready.json()["ready"]) == (503, False)
            assert ready.json()["missing"] == ["database: The database cannot be reached."]
            assert_problem(on_postgresql.http.get("/api/inference/stats"), 503)
            time.sleep(OUTAGE_SECONDS)
            postgresql.restart()
            wait_until(lambda: len(acknowledged) > before + 20)
        finally:
            over.set()
    for one in working:
        one.result()
    refused = [one for one in answers if one.status_code != 200]
    assert {one.status_code for one in refused} == {503}
    assert all(int(one.headers["retry-after"]) >= 1 for one in refused)
    assert acknowledged <= kept(database)
    assert on_postgresql.http.get("/health/ready").json() == {"ready": True, "missing": []}


@pytest.mark.parametrize(
    ("harm", "cure", "said"),
    [
        (
            "ALTER DATABASE {name} SET default_transaction_read_only = on",
            "ALTER DATABASE {name} RESET default_transaction_read_only",
            "The database is read-only at the moment, as a standby server is.",
        ),
        (
            "REVOKE INSERT ON inference_results FROM reporter",
            "GRANT INSERT ON inference_results TO reporter",
            "D3 is not allowed to write to the database.",
        ),
        (
            "REVOKE ALL ON SEQUENCE inference_results_id_seq FROM reporter",
            "GRANT ALL ON SEQUENCE inference_results_id_seq TO reporter",
            "D3 is not allowed to number its results in the database.",
        ),
    ],
    ids=["read-only", "no INSERT", "no numbers"],
)
def test_a_service_that_cannot_keep_results_is_not_ready(
    start: Callable[..., Service], database: Database, harm: str, cure: str, said: str
) -> None:
    url = as_reporter(database)
    service = start(database_url=url, cache_entries=0)
    assert service.predict(painted(1)).status_code == 200
    run(database, harm)
    end_connections(database)
    assert_problem(service.predict(painted(2)), 503)
    wait_until(lambda: service.http.get("/health/ready").status_code == 503)
    assert service.http.get("/health/ready").json()["missing"] == [f"database: {said}"]
    run(database, cure)
    wait_until(lambda: service.http.get("/health/ready").status_code == 200)
    assert service.predict(painted(3)).status_code == 200


def test_a_request_log_that_may_not_be_written_costs_no_result(
    start: Callable[..., Service], database: Database
) -> None:
    service = start(database_url=as_reporter(database), cache_entries=0)
    run(database, "REVOKE ALL ON request_logs FROM reporter")
    assert_predictions_go_on(service)


def test_a_request_log_that_somebody_locks_costs_no_result(
    start: Callable[..., Service], database: Database
) -> None:
    service = start(database_url=as_reporter(database), cache_entries=0)
    with database.writing() as connection:
        connection.execute(sa.text("LOCK TABLE request_logs"))
        assert_predictions_go_on(service)


def assert_predictions_go_on(service: Service) -> None:
    begun = time.monotonic()
    for shade in range(5):
        assert service.predict(painted(shade)).status_code == 200
        time.sleep(0.4)  # the log is written once a second
    assert time.monotonic() - begun < 8  # a lock is waited for ten seconds
    assert service.rows() == 5


def as_reporter(database: Database) -> str:
    """The database's URL for a user with no more rights than D3 needs, its tables made."""
    upgrade(database)
    with database.writing() as connection:
        connection.execute(
            sa.text(
                "DROP OWNED BY reporter"
                if has_reporter(connection)
                else "CREATE ROLE reporter LOGIN"
            )
        )
        for what in ("TABLES", "SEQUENCES"):
            connection.execute(sa.text(f"GRANT ALL ON ALL {what} IN SCHEMA public TO reporter"))
    url = database.url.difference_update_query(["application_name"]).set(username="reporter")
    return url.render_as_string(hide_password=False)


def has_reporter(connection: sa.Connection) -> bool:
    return bool(connection.scalar(sa.text("SELECT 1 FROM pg_roles WHERE rolname = 'reporter'")))


def run(database: Database, statement: str) -> None:
    with database.writing() as connection:
        connection.execute(sa.text("SET TRANSACTION READ WRITE"))
        connection.execute(sa.text(statement.format(name=database.url.database)))


def end_connections(database: Database) -> None:
    """So that what was said of new sessions holds for all of them."""
    with database.reading() as connection:
        connection.scalars(sa.text(f"SELECT pg_terminate_backend(pid, 5000) {OTHERS}")).all()


def test_redis_may_be_killed_and_come_back_while_answers_go_on(
    start: Callable[..., Service], caplog: pytest.LogCaptureFixture
) -> None:
    port = free_port()
    with redis_server(port) as url:
        service = start(redis_url=url)
        assert [cached(service, 1) for _ in range(2)] == [False, True]
        assert metrics(service) == {"up": 1.0, "failures_total": 0.0}
    assert [cached(service, shade) for shade in (1, 2, 1, 2)] == [False] * 4
    away = metrics(service)
    assert away["up"] == 0.0
    assert 1 <= away["failures_total"] <= 3
    ready = service.http.get("/health/ready")
    assert ready.status_code == 200
    (said,) = ready.json()["missing"]
    assert said.startswith("result cache: ")
    assert "D3_REDIS_URL" in said
    with redis_server(port):
        wait_until(lambda: cached(service, 3), 30)
        assert metrics(service)["up"] == 1.0
        assert service.http.get("/health/ready").json() == {"ready": True, "missing": []}
        lines = [one.split(":")[0] for one in caplog.messages if one.startswith("Redis")]
        assert lines == ["Redis is unavailable", "Redis is available again."]


def cached(service: Service, shade: int) -> bool:
    """Judge an image; whether its logits were known."""
    answer = service.predict(painted(shade))
    assert answer.status_code == 200, answer.text
    known: bool = answer.json()["result"]["cached"]
    return known


def metrics(service: Service) -> dict[str, float]:
    prefix = "d3_result_cache_"
    lines = service.metrics().splitlines()
    found = (line.removeprefix(prefix).split() for line in lines if line.startswith(prefix))
    return {name: float(value) for name, value in found if not name.endswith("_created")}


def test_with_its_store_away_at_the_start_it_serves_the_copy_and_says_so(
    pack: Path, tmp_path: Path
) -> None:
    with s3_server("second") as server:
        settings = on_s3(server, tmp_path)
        with d3.D3(settings) as detector:
            files = pack / "visual.safetensors", pack / "classifier.pth"
            detector.models.import_files("mine", *files)
            detector.models.use("mine")
        with serving(create_app(settings, engine=FakeEngine())) as url:
            assert model_of(url) == "mine"
    with serving(create_app(settings, engine=FakeEngine())) as url:
        assert model_of(url) == "mine"
        ready = httpx.get(f"{url}/health/ready")
        assert ready.status_code == 200
        (said,) = ready.json()["missing"]
        assert said.startswith("model store: ")
        assert "MINIO_ENDPOINT" in said


def on_s3(server: S3Server, folder: Path) -> d3.Settings:
    return d3.Settings(
        home=folder,
        minio_endpoint=server.endpoint,
        minio_access_key=server.key,
        minio_secret_key=server.secret,
    )


def model_of(url: str) -> str:
    """The model that judges an image there."""
    answer = httpx.post(f"{url}/api/inference/predict", files={"file": painted(1)})
    name: str = answer.json()["result"]["model"]["name"]
    return name
