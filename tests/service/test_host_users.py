"""D3 in an application that authenticates its users itself: who comes in, and what they see."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

import d3
from d3.entrypoints.http import create_app
from d3.entrypoints.http.app import Application
from tests.homes import Home
from tests.service.conftest import painted
from tests.serving import assert_problem, serving
from tests.support.engines import FakeEngine

HISTORY, PREDICT = "/api/inference/history", "/api/inference/predict"
ROLES = {"ada": {"predict", "read"}, "grace": {"predict", "read"}, "root": {"admin"}}


def by_header(scope: Any) -> d3.HostUser | None:
    """As a host would by a cookie or a token: here a header holds the name of the user."""
    name = dict(scope["headers"]).get(b"host-user", b"").decode()
    return d3.HostUser(name, ROLES.get(name, {"read"})) if name else None


async def by_header_slowly(scope: Any) -> d3.HostUser | None:
    return by_header(scope)


class Mounted:
    """A D3 under ``/detector`` whose users are the host's."""

    def __init__(self, application: Application, http: httpx.Client) -> None:
        self.application = application
        self.http = http

    def __call__(self, user: str, method: str, path: str, **rest: Any) -> httpx.Response:
        headers = {"Host-User": user, **rest.pop("headers", {})}
        return self.http.request(method, path, headers=headers, **rest)

    def predict(self, user: str, shade: int, **headers: str) -> httpx.Response:
        return self(user, "POST", PREDICT, files={"file": painted(shade)}, headers=headers)


@contextmanager
def mounted(home: Home, authenticate: Any = by_header, **settings: Any) -> Iterator[Mounted]:
    application = create_app(
        home.settings(warm_up=False, isolate_decoding=False, **settings),
        authenticate=authenticate,
        engine=FakeEngine(),
    )

    async def host(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await application(scope | {"root_path": "/detector"}, receive, send)

    with (
        serving(host, lifespan="off") as url,
        httpx.Client(base_url=f"{url}/detector", timeout=30) as http,
    ):
        try:
            yield Mounted(application, http)
        finally:
            application.d3.stop()


def inside(home: Home, authenticate: Any, use: Callable[[httpx.AsyncClient], Any]) -> None:
    """Use a D3 by a client that runs on the same event loop."""
    application = create_app(
        home.settings(warm_up=False, isolate_decoding=False),
        authenticate=authenticate,
        engine=FakeEngine(),
    )

    async def run() -> None:
        transport = httpx.ASGITransport(application)
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as http:
            await use(http)

    try:
        asyncio.run(run())
    finally:
        application.d3.stop()


@pytest.fixture
def service(home: Home) -> Iterator[Mounted]:
    with mounted(home) as found:
        yield found


@pytest.mark.on_servers
@pytest.mark.parametrize("authenticate", [by_header, by_header_slowly])
def test_users_see_their_own_results_and_an_admin_all(home: Home, authenticate: Any) -> None:
    with mounted(home, authenticate) as ask:
        mine = ask.predict("ada", 1).json()["inference_id"]
        theirs = ask.predict("grace", 2).json()["inference_id"]
        page = ask("ada", "GET", HISTORY).json()
        assert [one["id"] for one in page["results"]] == [mine]
        for method in ("GET", "DELETE"):
            place = f"/api/inference/result/{theirs}"
            assert_problem(ask("ada", method, place), 404, "result_not_found")
        assert ask("root", "GET", HISTORY).json()["total"] == 2
        names = ask.application.d3.accounts.usernames().values()
        assert sorted(names) == ["ada", "grace", "root"]


def test_nobody_comes_in_without_the_hosts_word(home: Home) -> None:
    """Not by one of D3's own keys, not by being on this machine, and not by ``D3_AUTH=off``."""
    with mounted(home, auth="off", insecure=True) as ask:
        accounts = ask.application.d3.accounts
        ask("root", "GET", HISTORY)
        key = accounts.create_key("root", scopes=["admin"]).key
        for headers in ({}, {"X-API-Key": key}, {"Authorization": f"Bearer {key}"}):
            answer = ask("", "GET", HISTORY, headers=headers)
            assert_problem(answer, 401, "not_signed_in")
        document = ask.http.get("/schema/openapi.json").json()
        for path, methods in document["paths"].items():
            for method, operation in methods.items():
                if operation.get("security") != []:
                    answer = ask("", method, path.replace("{", "").replace("}", ""))
                    assert_problem(answer, 401, "not_signed_in")
        for path in ("/health", "/health/ready", "/schema", "/console/icon.svg"):
            assert ask.http.get(path).status_code == 200


def test_scopes_are_the_hosts_to_give(service: Mounted) -> None:
    for answer in (service.predict("reader", 1), service("ada", "POST", "/api/model/unload")):
        problem = assert_problem(answer, 403, "forbidden")
        assert "The application that D3 is part of" in problem["error"]
    assert service("reader", "GET", HISTORY).status_code == 200
    assert service("root", "POST", "/api/model/unload").status_code == 200


def test_what_a_foreign_page_has_a_browser_send_is_nobodys(home: Home) -> None:
    """The host may know its users by a cookie, which a browser sends for any page."""
    foreign = {"Origin": "https://elsewhere.example"}
    ours = {"Origin": "https://app.example"}
    with mounted(home, cors_origins=("https://app.example",)) as ask:
        refused = assert_problem(ask.predict("ada", 1, **foreign), 403, "cross_site")
        assert "D3_CORS_ORIGINS" in refused["error"]
        assert "key" not in refused["error"]
        assert_problem(ask("ada", "GET", HISTORY, headers=foreign), 401, "not_signed_in")
        by_a_form_or_link = {"Sec-Fetch-Site": "cross-site"}  # and no Origin
        assert_problem(ask.predict("ada", 1, **by_a_form_or_link), 403, "cross_site")
        followed = ask("ada", "GET", HISTORY, headers=by_a_form_or_link)
        assert followed.status_code == 200
        assert "access-control-allow-origin" not in followed.headers
        assert ask.predict("ada", 1, **ours).status_code == 200
        assert ask("ada", "GET", HISTORY, headers=ours).json()["total"] == 1


def test_no_setting_lets_every_page_use_the_hosts_users(home: Home) -> None:
    with mounted(home, cors_origins=("*",)) as ask:
        sent = ask.predict("ada", 1, Origin="https://elsewhere.example")
        assert_problem(sent, 403, "cross_site")


def test_an_account_that_is_disabled_in_d3_stays_outside(
    service: Mounted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("d3.domain.services.key_cache.CACHED_SECONDS", 0.0)
    assert service("ada", "GET", HISTORY).status_code == 200
    service.application.d3.accounts.set_active("ada", active=False)
    problem = assert_problem(service("ada", "GET", HISTORY), 403, "forbidden")
    assert "`d3 users enable ada`" in problem["error"]
    assert service("grace", "GET", HISTORY).status_code == 200


def test_requests_are_counted_for_each_user(home: Home) -> None:
    with mounted(home, rate_per_key="2/minute") as ask:
        assert [ask("ada", "GET", HISTORY).status_code for _ in range(3)] == [200, 200, 429]
        assert ask("grace", "GET", HISTORY).status_code == 200


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        (("ada", {"everything"}), d3.errors.AccountInvalid, "no scope 'everything'"),
        (("ada", set()), d3.errors.AccountInvalid, "At least one scope"),
        (("ada lovelace",), d3.errors.AccountInvalid, "'ada lovelace' cannot be a username"),
        (("",), d3.errors.AccountInvalid, "cannot be a username"),
        (("ada", "admin"), TypeError, "a set such as {'read'}, not 'admin'"),
        (("ada", None), TypeError, "not None"),
        ((7,), TypeError, "string, not 7"),
        ((None,), TypeError, "string, not None"),
    ],
)
def test_a_user_that_cannot_be_is_refused_where_it_is_made(
    arguments: Any, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        d3.HostUser(*arguments)


def test_equal_names_are_one_user() -> None:
    assert d3.HostUser("zoe\u0308", ["read"]) == d3.HostUser("zo\u00eb", {"read"})


class HostException(Exception):
    """As the frameworks' own: it says how it is answered."""

    status_code = 418


def test_what_authenticate_does_wrong_is_the_hosts_fault_and_logged(
    home: Home, caplog: pytest.LogCaptureFixture
) -> None:
    """It is D3's own 500, for a program; the log names ``authenticate`` and says what it did."""
    wrong: list[Any] = ["ada", {"name": "ada"}, True, False, 7, d3.HostUser, (one for one in "ada")]
    answers = iter([*wrong, ValueError("the directory is away"), d3.errors.UserNotFound("Nobody.")])

    def authenticate(_: Any) -> Any:
        if isinstance(answer := next(answers), Exception):
            raise answer
        return answer

    async def use(http: httpx.AsyncClient) -> None:
        for said in [*map(repr, wrong[:5]), "class", "generator", "directory", "Nobody"]:
            caplog.clear()
            problem = assert_problem(await http.get(HISTORY), 500, "host_failed")
            assert "the application" in problem["error"].lower()
            (line,) = [one for one in caplog.messages if "`authenticate`" in one]
            assert said in line

    inside(home, authenticate, use)


def test_the_hosts_own_answers_are_passed_on_to_it(home: Home) -> None:
    async def authenticate(_: Any) -> None:
        raise HostException

    async def use(http: httpx.AsyncClient) -> None:
        with pytest.raises(HostException):
            await http.get(HISTORY)

    inside(home, authenticate, use)


def test_a_function_that_blocks_does_not_stop_the_host(home: Home) -> None:
    goes_on = threading.Event()

    def authenticate(_: Any) -> d3.HostUser | None:
        return d3.HostUser("ada") if goes_on.wait(60) else None

    async def use(http: httpx.AsyncClient) -> None:
        asked = asyncio.create_task(http.get(HISTORY))
        assert (await http.get("/health/live")).status_code == 200
        assert not asked.done()
        goes_on.set()
        assert (await asked).status_code == 200

    inside(home, authenticate, use)


def test_the_console_shows_the_user_and_has_no_keys(service: Mounted) -> None:
    def shown(user: str, path: str) -> httpx.Response:
        return service(user, "GET", path, headers={"Accept": "text/html"})

    page = shown("root", "/history")
    assert page.status_code == 200
    assert "Signed in as root" in page.text
    for word in ("sign-in", "sign-out", 'href="./keys"', 'href="keys"'):
        assert word not in page.text, word
    for path in ("/keys", "/sign-in"):
        assert shown("root", path).status_code == 404
    refused = shown("", "/history")
    assert refused.status_code == 401
    assert "Sign in to the application" in refused.text
    assert "sign-in" not in refused.text
    denied = shown("ada", "/scans")
    assert denied.status_code == 403
    assert "api.key" not in denied.text
