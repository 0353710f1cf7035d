"""Closed by default: keys, scopes, other people's results, foreign pages, rates; and the logs."""

from __future__ import annotations

import ssl
import stat
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
import trustme

from d3.adapters.sessions import SignedSessions
from d3.adapters.sql.tables import ApiKey, RequestLogRow
from d3.domain.keys import mint
from d3.domain.services.accounts import AccountService
from d3.domain.services.key_cache import CACHED_SECONDS
from tests.homes import Home
from tests.service.conftest import Service, painted
from tests.serving import assert_problem, d3_serve, wait_until

HISTORY, PREDICT = "/api/inference/history", "/api/inference/predict"


def accounts(service: Service) -> AccountService:
    found: AccountService = service.application.d3.accounts
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
    pages = ("/schema", "/schema/openapi.json", "/docs", "/openapi.json", "/problems")
    health = ("/health", "/health/live", "/health/ready")
    for path in (*health, *pages, "/api/v1/evidence/key"):
        assert closed.http.get(path).status_code in {200, 302, 409}  # 409: there is no key to sign
    document = closed.http.get("/schema/openapi.json").json()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if operation.get("security") == []:
                assert closed.http.request(method, path).status_code != 401
                continue
            answer = closed.http.request(
                method, path.replace("{result_id}", "1").replace("{scan_id}", "a")
            )
            assert_problem(answer, 401, "key_missing")
            assert answer.headers["www-authenticate"].startswith("Bearer")
    assert_problem(closed.http.get("/nowhere"), 401, "key_missing")


@pytest.mark.on_servers
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
        reported = (403, "cross_site") if "Origin" in foreign else (401, "key_missing")
        assert_problem(posted, *reported)
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
    time.sleep(CACHED_SECONDS)
    assert service.http.get(HISTORY, headers=bearer(good)).status_code == 200


@pytest.mark.one_process
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
    with signed_in(service, good) as browser:
        token = browser.cookies["d3_session"]
        assert browser.get(HISTORY).status_code == 200
    service.http.post("/sign-in", data={"key": wrong})
    database = service.application.d3._container.database()

    def records() -> list[Any]:
        with database.engine.connect() as connection:
            query = sa.select(RequestLogRow.ip_address, RequestLogRow.user_id)
            return list(connection.execute(query))

    wait_until(lambda: len(records()) == 11, 10)
    assert {one.ip_address for one in records()} == {"203.0.113.0", "127.0.0.0"}
    assert {one.user_id for one in records()} == {1, None}
    ours = [one for one in caplog.records if not one.name.startswith("httpcore")]
    text = str([(one.getMessage(), vars(one)) for one in ours])
    with database.engine.connect() as connection:
        text += str(connection.execute(sa.select(ApiKey.__table__)).all())
    for key in (good, wrong):
        assert key.split("_")[2] not in text
    assert token not in text
    assert "an API key was refused: invalid" in text
    assert "203.0.113.77" not in text


@contextmanager
def signed_in(service: Service, key: str) -> Iterator[httpx.Client]:
    """A browser, as far as cookies go, that signed in."""
    own = {"Origin": service.url}
    with httpx.Client(base_url=service.url, headers=own, timeout=30) as browser:
        answer = browser.post("/sign-in", data={"key": key})
        assert answer.status_code == 303, answer.text
        yield browser


def test_a_session_is_a_cookie_that_scripts_and_other_sites_never_see_and_holds_no_key(
    closed: Service,
) -> None:
    key = a_key(closed, "ada")
    given = closed.http.post("/sign-in", data={"key": key}).headers["set-cookie"]
    assert {"HttpOnly", "SameSite=strict"} <= set(given.split("; "))
    assert "Secure" not in given
    assert "Path" not in given, "a browser then takes the folder of /sign-in, below any prefix"
    assert key.split("_")[2] not in given
    behind = closed.http.post(
        "/sign-in", data={"key": key}, headers={"Origin": "https://127.0.0.1"}
    )
    assert behind.status_code == 403, "no page of another origin signs anybody in"
    named = {"Origin": "https://d3.example", "Host": "d3.example"}
    behind = closed.http.post("/sign-in", data={"key": key}, headers=named)
    assert "Secure" in behind.headers["set-cookie"]


def test_calls_ride_on_the_session_and_change_things_for_the_services_own_pages_alone(
    closed: Service,
) -> None:
    with signed_in(closed, a_key(closed, "ada")) as browser:
        posted = browser.post(PREDICT, files={"file": painted(1)})
        assert posted.status_code == 200
        place = f"/api/inference/result/{posted.json()['inference_id']}"
        for headers in (
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
            {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"},
            {"Origin": "http://sibling.127.0.0.1", "Sec-Fetch-Site": "same-site"},
        ):
            for method, path in (("POST", PREDICT), ("DELETE", place), ("POST", "/sign-out")):
                answer = browser.request(method, path, headers=headers)
                assert_problem(answer, 403, "cross_site")
            assert_problem(browser.get(HISTORY, headers=headers), 401, "key_missing")
        assert browser.get(HISTORY).json()["total"] == 1
        assert browser.delete(place).status_code == 200


def test_other_pages_that_may_call_bring_keys_of_their_own(start: Callable[..., Service]) -> None:
    other = {"Origin": "https://app.example"}
    service = start(auth="required", cors_origins=("https://app.example",))
    key = a_key(service, "ada")
    with signed_in(service, key) as browser:
        assert_problem(browser.get(HISTORY, headers=other), 401, "key_missing")
        assert browser.get(HISTORY, headers=other | bearer(key)).status_code == 200


@pytest.mark.parametrize("end", ["revoked", "expired", "disabled", "over"])
def test_a_session_ends_with_its_key_and_says_why(closed: Service, end: str) -> None:
    service = accounts(closed)
    service.add_user("ada")
    lifetime = timedelta(seconds=1.5) if end == "expired" else None
    made = service.create_key("ada", lifetime=lifetime)
    with signed_in(closed, made.key) as browser:
        assert browser.get(HISTORY).status_code == 200
        match end:
            case "revoked":
                service.revoke_key(made.key_id)
            case "disabled":
                service.set_active("ada", active=False)
            case "over":
                clock = closed.application.d3._container.clock()
                secret = closed.application.d3._container.secrets().secret_key()
                token = SignedSessions(secret, clock, -1).begin(made.key_id)
                browser.cookies.set("d3_session", token, domain="127.0.0.1", path="/")
        wait_until(lambda: browser.get(HISTORY).status_code == 401, 4)
        assert_problem(browser.get(HISTORY), 401, "session_ended")
        page = browser.get("/history", headers={"Accept": "text/html"})
        assert page.status_code == 303
        assert page.headers["location"] == f"./sign-in?to=history&why={end}"
        by_htmx = browser.get("/history?q=a", headers={"Accept": "*/*", "HX-Request": "true"})
        assert by_htmx.headers["hx-redirect"] == f"./sign-in?to=history%3Fq%3Da&why={end}"
        assert_problem(browser.get("/history"), 401, "session_ended")


def test_a_cookie_that_is_none_of_ours_is_as_good_as_none(service: Service) -> None:
    for cookie in ("d3_session=", "d3_session=WyJhIiwxXQ.abc", "other=1; d3_session=x", "=;;"):
        assert service.http.get(HISTORY, headers={"Cookie": cookie}).status_code == 200


def test_guesses_at_the_sign_in_page_are_counted(start: Callable[..., Service]) -> None:
    service = start(auth="required", rate_failed_keys="3/hour")
    good = a_key(service, "ada")
    tries = [service.http.post("/sign-in", data={"key": mint().key}) for _ in range(4)]
    assert [one.status_code for one in tries] == [401, 401, 401, 429]
    assert "Set-Cookie" not in tries[0].headers
    assert int(tries[-1].headers["retry-after"]) >= 1
    assert service.http.post("/sign-in", data={"key": good}).status_code == 429
    assert service.http.get(HISTORY, headers=bearer(mint().key)).status_code == 429


@pytest.mark.parametrize(
    ("asked", "led"),
    [
        ("history/5?x=1&q=a%20b", "history/5?x=1&q=a%20b"),
        ("", ""),
        ("//evil.example", ""),
        ("/history", ""),
        ("https://evil.example", ""),
        ("..//evil.example", ""),
        ("javascript:alert(1)", ""),
        ("\\\\evil.example", ""),
        ("history\r\nSet-Cookie: a=b", ""),
    ],
)
def test_one_comes_back_to_where_one_was_and_nowhere_else(
    closed: Service, asked: str, led: str
) -> None:
    key = a_key(closed, "ada")
    answer = closed.http.post("/sign-in", data={"key": key, "to": asked})
    assert answer.headers["location"] == f"./{led}"


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
