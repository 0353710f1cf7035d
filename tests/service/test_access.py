"""Closed by default: keys, scopes, other people's results, foreign pages, rates; and the logs."""

from __future__ import annotations

import ssl
import stat
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
import trustme

from d3.adapters.sql.tables import ApiKey, RequestLogRow
from d3.domain.keys import mint
from d3.domain.services.accounts import AccountService
from d3.domain.services.doorkeeping import BELIEVED_SECONDS
from tests.homes import Home
from tests.service.conftest import Service, painted
from tests.serving import assert_problem, d3_serve, wait_until

HISTORY, PREDICT = "/api/inference/history", "/api/inference/predict"


def accounts(service: Service) -> AccountService:
    found: AccountService = service.application.d3._container.account_service()
    return found


def a_key(service: Service, username: str, *scopes: str) -> str:
    if username not in {user.username for user in accounts(service).users()}:
        accounts(service).add_user(username)
    return accounts(service).create_key(username, scopes=scopes or ("predict", "read")).key


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture
def closed(start: Callable[..., Service]) -> Service:
    return start(auth="required")


def predict(service: Service, key: str, shade: int) -> Any:
    answer = service.http.post(PREDICT, files={"file": painted(shade)}, headers=bearer(key))
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_without_a_key_only_health_and_the_page_are_open(closed: Service) -> None:
    for path in ("/health", "/health/live", "/health/ready", "/schema", "/schema/openapi.json"):
        assert closed.http.get(path).status_code == 200
    document = closed.http.get("/schema/openapi.json").json()
    for path, methods in document["paths"].items():
        if path.startswith("/health"):
            continue
        for method in methods:
            answer = closed.http.request(
                method, path.replace("{result_id}", "1").replace("{scan_id}", "a")
            )
            assert_problem(answer, 401, "key_missing")
            assert answer.headers["www-authenticate"].startswith("Bearer")
    assert_problem(closed.http.get("/nowhere"), 401, "key_missing")


def test_a_key_opens_by_either_header_and_only_what_its_scopes_say(closed: Service) -> None:
    reader, judge = a_key(closed, "ada", "read"), a_key(closed, "ada", "predict")
    assert closed.http.get(HISTORY, headers={"X-API-Key": reader}).status_code == 200
    assert closed.http.get(HISTORY, headers=bearer(reader)).status_code == 200
    refused = closed.http.post(PREDICT, files={"file": painted(1)}, headers=bearer(reader))
    assert_problem(refused, 403, "forbidden")
    id_ = predict(closed, judge, 1)["inference_id"]
    assert_problem(closed.http.get(HISTORY, headers=bearer(judge)), 403)
    for path in ("load", "unload", "upload"):
        answer = closed.http.post(f"/api/model/{path}", headers=bearer(judge))
        assert_problem(answer, 403, "forbidden")
    gone = closed.http.delete(f"/api/inference/result/{id_}", headers=bearer(reader))
    assert_problem(gone, 403, "forbidden")


def test_somebody_elses_result_is_not_there_and_admin_sees_all(closed: Service) -> None:
    ada, grace = a_key(closed, "ada"), a_key(closed, "grace")
    admin = a_key(closed, "root", "admin")
    mine = predict(closed, ada, 1)["inference_id"]
    theirs = predict(closed, grace, 2)["inference_id"]
    place = f"/api/inference/result/{theirs}"
    for method in ("GET", "DELETE"):
        assert_problem(closed.http.request(method, place, headers=bearer(ada)), 404)
    page = closed.http.get(HISTORY, headers=bearer(ada)).json()
    assert [one["id"] for one in page["results"]] == [mine]
    lines = closed.http.get(f"{HISTORY}.jsonl", headers=bearer(ada)).text.splitlines()
    assert len(lines) == 1
    stats = closed.http.get("/api/inference/stats", headers=bearer(ada)).json()
    assert stats["stats"]["total_inferences"] == 1
    assert closed.http.get(HISTORY, headers=bearer(admin)).json()["total"] == 2
    assert closed.http.get(place, headers=bearer(admin)).status_code == 200
    assert closed.http.delete(place, headers=bearer(grace)).status_code == 200


def test_two_users_may_use_one_idempotency_key(closed: Service) -> None:
    keys = [a_key(closed, name) for name in ("ada", "grace")]
    ids = [
        closed.http.post(
            PREDICT,
            files={"file": ("a.png", painted(1))},
            headers=bearer(key) | {"Idempotency-Key": "once"},
        ).json()["inference_id"]
        for key in keys
    ]
    assert len(set(ids)) == 2


def test_a_revoked_key_is_out_within_two_seconds(closed: Service) -> None:
    key = a_key(closed, "ada")
    assert closed.http.get(HISTORY, headers=bearer(key)).status_code == 200
    accounts(closed).revoke_key(key)
    wait_until(lambda: closed.http.get(HISTORY, headers=bearer(key)).status_code == 401, 2)


def test_on_this_machine_no_key_is_needed_unless_a_foreign_page_asks(service: Service) -> None:
    assert service.http.get(HISTORY).status_code == 200
    own = {"Origin": service.url}
    assert service.http.get(HISTORY, headers=own).status_code == 200
    for foreign in (
        {"Host": "evil.example"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"X-Forwarded-For": "203.0.113.9"},
        {"Forwarded": "for=203.0.113.9"},
    ):
        assert_problem(service.http.get(HISTORY, headers=foreign), 401, "key_missing")
        posted = service.http.post(PREDICT, files={"file": painted(1)}, headers=foreign)
        assert_problem(posted, 401, "key_missing")
    assert service.rows() == 0


def test_a_wrong_key_is_refused_even_on_this_machine(service: Service) -> None:
    assert_problem(service.http.get(HISTORY, headers=bearer(mint().key)), 401, "access_refused")


def test_a_name_that_is_not_allowed_is_refused_even_with_a_key(
    start: Callable[..., Service],
) -> None:
    service = start(allowed_hosts=("d3.example",))
    key = bearer(a_key(service, "ada"))
    assert_problem(service.http.get(HISTORY, headers=key), 403, "host_refused")
    named = key | {"Host": "d3.example:5000"}
    assert service.http.get(HISTORY, headers=named).status_code == 200


def test_too_many_requests_of_one_key_are_told_when_to_come_back(
    start: Callable[..., Service],
) -> None:
    service = start(auth="required", rate_per_key="3/hour")
    ada, grace = bearer(a_key(service, "ada")), bearer(a_key(service, "grace"))
    answers = [service.http.get(HISTORY, headers=ada) for _ in range(4)]
    assert [one.status_code for one in answers] == [200, 200, 200, 429]
    assert [one.headers["ratelimit-remaining"] for one in answers] == ["2", "1", "0", "0"]
    assert_problem(answers[-1], 429, "rate_limited")
    assert answers[-1].headers["ratelimit-limit"] == "3"
    assert int(answers[-1].headers["retry-after"]) >= 1
    assert service.http.get(HISTORY, headers=grace).status_code == 200


def test_addresses_behind_a_trusted_proxy_are_counted_apart(
    start: Callable[..., Service],
) -> None:
    service = start(auth="required", rate_per_address="1/hour", trusted_proxies=("127.0.0.1/32",))
    key = bearer(a_key(service, "ada"))

    def ask(address: str) -> int:
        return service.http.get(HISTORY, headers=key | {"X-Forwarded-For": address}).status_code

    assert [ask("203.0.113.1"), ask("203.0.113.1"), ask("203.0.113.2")] == [200, 429, 200]
    assert ask("9.9.9.9, 203.0.113.1") == 429, "what the caller wrote is not believed"


def test_guessing_is_limited_and_a_good_key_in_use_is_not_shut_out(
    start: Callable[..., Service],
) -> None:
    service = start(auth="required", rate_failed_keys="3/hour")
    good = a_key(service, "ada")
    assert service.http.get(HISTORY, headers=bearer(good)).status_code == 200
    guesses = [service.http.get(HISTORY, headers=bearer(mint().key)) for _ in range(5)]
    assert [one.status_code for one in guesses] == [401, 401, 401, 429, 429]
    assert "retry-after" in guesses[-1].headers
    time.sleep(BELIEVED_SECONDS)
    assert service.http.get(HISTORY, headers=bearer(good)).status_code == 200


def test_more_requests_at_once_than_may_be_are_refused_before_their_body(
    start: Callable[..., Service],
) -> None:
    service = start(max_requests=1)
    service.engine.may_score.clear()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(service.predict, painted(0))
        assert service.engine.scoring.acquire(timeout=20)
        refused = service.http.post(PREDICT, files={"file": painted(1)})
        assert_problem(refused, 503, "overloaded")
        assert "retry-after" in refused.headers
        assert service.http.get("/health/live").status_code == 200
        service.engine.may_score.set()
        assert first.result().status_code == 200


def test_a_body_that_never_ends_is_given_up(start: Callable[..., Service]) -> None:
    service = start(upload_seconds=1)

    def drip() -> Any:
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        time.sleep(2)
        yield b"--x--\r\n"

    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = service.http.post(PREDICT, content=drip(), headers=headers)
    assert_problem(answer, 408, "body_too_slow")


def test_logs_and_database_hold_no_key_and_no_whole_address(
    start: Callable[..., Service], caplog: pytest.LogCaptureFixture, home: Home
) -> None:
    caplog.set_level("DEBUG")
    service = start(auth="required", trusted_proxies=("127.0.0.1/32",))
    good, wrong = a_key(service, "ada"), mint().key
    behind = {"X-Forwarded-For": "203.0.113.77"}
    for key in (good, wrong):
        for header in (bearer(key), {"X-API-Key": key}):
            service.http.get(HISTORY, headers=header | behind)
            service.http.post(PREDICT, files={"file": painted(1)}, headers=header | behind)
    database = service.application.d3._container.database()

    def records() -> list[Any]:
        with database.engine.connect() as connection:
            query = sa.select(RequestLogRow.ip_address, RequestLogRow.user_id)
            return list(connection.execute(query))

    wait_until(lambda: len(records()) == 8, 10)
    assert {one.ip_address for one in records()} == {"203.0.113.0"}
    assert {one.user_id for one in records()} == {1, None}
    text = caplog.text + str(
        [vars(one) for one in caplog.records if not one.name.startswith("httpcore")]
    )
    with database.engine.connect() as connection:
        text += str(connection.execute(sa.select(ApiKey.__table__)).all())
    for key in (good, wrong):
        assert key.split("_")[2] not in text
    assert "an API key was refused: invalid" in text
    assert "203.0.113.77" not in text


def test_old_results_and_records_are_deleted(service: Service) -> None:
    service.predict(painted(1))
    history = service.application.d3.history
    now = datetime.now(UTC)
    assert history.forget(now - timedelta(days=1), None) == (0, 0)
    assert service.rows() == 1
    assert history.forget(now + timedelta(seconds=1), None)[0] == 1
    assert service.rows() == 0


def test_the_first_start_makes_a_key_that_the_client_finds_and_tls_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from d3 import Client

    authority = trustme.CA()
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    certificate.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    certificate.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    home = tmp_path / "home"
    tls = ("--tls-cert", "cert.pem", "--tls-key", "key.pem")
    with d3_serve(tmp_path, "--port", "0", *tls, D3_HOME=str(home), D3_AUTH="required") as served:
        url = served.url()
        assert url.startswith("https://")
        key = (home / "api.key").read_text().strip()
        assert stat.S_IMODE((home / "api.key").stat().st_mode) == 0o600
        assert key not in served.text, "a log is no terminal"
        trusting = ssl.create_default_context()
        authority.configure_trust(trusting)
        with httpx.Client(verify=trusting, base_url=url) as http:
            assert http.get(HISTORY).status_code == 401
        monkeypatch.setenv("D3_HOME", str(home))
        with Client(url, transport=httpx.HTTPTransport(verify=trusting)) as client:
            assert client.models().count >= 1
            assert list(client.history()) == []
        assert served.stop() == 0
        assert key not in served.text


def test_elsewhere_without_any_key_it_does_not_start_and_says_what_to_do(tmp_path: Path) -> None:
    home = str(tmp_path / "home")
    with d3_serve(tmp_path, "--host", "0.0.0.0", "--port", "0", D3_HOME=home) as served:
        assert served.process.wait(90) == 2
        assert "d3 keys init" in served.text
        assert "Traceback" not in served.text
