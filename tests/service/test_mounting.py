"""The service inside other ASGI applications, beneath a prefix, with and without a lifespan."""

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx
import pytest
from litestar import Litestar, asgi
from litestar.types import Receive, Scope, Send
from starlette.applications import Starlette
from starlette.routing import Mount

import d3
from d3.entrypoints.http import create_app
from tests.homes import Home
from tests.service.conftest import painted
from tests.serving import assert_problem, clean_environment, serving
from tests.support.engines import FakeEngine

Mounting = Callable[[Any], Any]


def in_starlette(application: Any) -> Any:
    return Starlette(routes=[Mount("/detector", app=application)])


def in_litestar(application: Any) -> Any:
    @asgi("/detector", is_mount=True, copy_scope=True)
    async def detector(scope: Scope, receive: Receive, send: Send) -> None:
        await application(scope, receive, send)

    return Litestar([detector], openapi_config=None)


def by_hand_with_the_prefix_in_the_path(application: Any) -> Any:
    """As the ASGI specification has it: ``path`` holds the whole path."""

    async def parent(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await application(scope | {"root_path": "/detector"}, receive, send)

    return parent


def by_hand_with_the_prefix_cut_off(application: Any) -> Any:
    """As many older parents have it."""

    async def parent(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            path = scope["path"].removeprefix("/detector")
            await application(scope | {"root_path": "/detector", "path": path}, receive, send)

    return parent


@pytest.mark.parametrize(
    "mounted",
    [
        in_starlette,
        in_litestar,
        by_hand_with_the_prefix_in_the_path,
        by_hand_with_the_prefix_cut_off,
    ],
)
def test_every_call_answers_beneath_the_prefix_of_another_application(
    mounted: Mounting, home: Home
) -> None:
    application = create_app(home.settings(), engine=FakeEngine())
    lifespan = "off" if mounted.__name__.startswith("by_hand") else "on"
    with (
        serving(mounted(application), lifespan=lifespan) as url,
        httpx.Client(base_url=f"{url}/detector", timeout=30) as http,
    ):
        for path in ("/health", "/health/live"):
            assert http.get(path).json()["status"] == "healthy"
        predicted = http.post("/api/inference/predict", files={"file": painted(3)}).json()
        assert predicted["success"] is True
        batch = http.post("/api/inference/predict-batch", files={"files": painted(4)}).json()
        assert batch["count"] == 1
        assert http.get("/health/ready").json()["ready"] is True
        assert http.get("/api/inference/history").json()["total"] == 2
        assert len(http.get("/api/inference/history.jsonl").text.splitlines()) == 2
        assert len(http.get("/api/inference/history.csv").text.splitlines()) == 3
        place = f"/api/inference/result/{predicted['inference_id']}"
        assert http.get(place).json()["result"]["image_name"]
        assert http.delete(place).json()["success"] is True
        assert_problem(http.get(place), 404, "result_not_found")
        assert http.get("/api/inference/stats").json()["stats"]["total_inferences"] == 1
        assert http.post("/api/model/unload").json()["success"] is True
        assert http.post("/api/model/load").json()["success"] is True
        assert http.get("/api/model/info").json()["info"]["loaded"] is True
        assert "mine" in http.get("/api/model/list").json()["models"]
        uploaded = http.post("/api/model/upload", files={"file": ("up.pth", home.head())})
        assert uploaded.json()["model_name"] == "up.pth"
        assert "d3_model_loaded 1.0" in http.get("/metrics").text
        for path in ("/nowhere", "/api/v1/nowhere", "/nowhere/"):
            answer = http.get(path)
            kind = urljoin(str(answer.url), assert_problem(answer, 404, "not_found")["type"])
            assert kind == f"{url}/detector/problems#not_found"
            assert 'id="not_found"' in http.get(kind).text
        page = http.get("/schema")
        links = re.findall(r'(?:src|href|url)(?:=|: )"([^"]+)"', page.text)
        assert len(links) == 7  # styles, scripts, the icon, the document, and the console
        for link in links:
            assert http.get(urljoin(str(page.url), link)).status_code == 200
        assert http.get("/docs", follow_redirects=True).url == page.url
        for address in ("/schema/openapi.json", "/openapi.json"):
            document = http.get(address)
            (server,) = document.json()["servers"]
            assert urljoin(str(document.url), server["url"]) == f"{url}/detector/"
        assert http.get("/api/v1/inference/history").json()["total"] == 1
        for path in ("/api/jobs", "/api/v1/jobs", "/api/jobs/"):
            place = http.post(path, files={"files": painted(5)}).headers["location"]
            assert place.startswith(f"/detector{path.rstrip('/')}/")
            assert http.get(f"{url}{place}").json()["job"]["counts"]["items"] == 1
    application.d3.stop()


PREFIXES = (
    *("", "/a", "/api", "/api/v1", "/c", "/console", "/d3", "/h", "/health", "/history", "/s"),
    *("/schema", "/x/api", "/ä b"),
)


PROBED = ("/health", "/health/", "/health/live/", "/schema/", "/openapi.json", "/console/icon.svg")
ELSEWHERE = (*PROBED, "/", "/docs/", "/history", "/keys", "/nowhere", "/schema/openapi.json")


async def asked(
    application: Any, method: str, path: str, headers: dict[str, str] | None = None
) -> httpx.Response:
    """The answer to a request within this process."""
    transport = httpx.ASGITransport(application)
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as http:
        return await http.request(method, path, headers=headers)


def starlette_at(prefix: str, application: Any) -> Any:
    return Starlette(routes=[Mount(prefix, app=application)])


def litestar_at(prefix: str, application: Any) -> Any:
    @asgi(prefix, is_mount=True, copy_scope=True)
    async def mounted(scope: Scope, receive: Receive, send: Send) -> None:
        await application(scope, receive, send)

    return Litestar([mounted], openapi_config=None)


def by_hand_at(prefix: str, application: Any, *, cut: bool) -> Any:
    async def parent(scope: Any, receive: Any, send: Any) -> None:
        path = scope["path"].removeprefix(prefix) if cut else scope["path"]
        await application({**scope, "root_path": prefix, "path": path}, receive, send)

    return parent


PARENTS = {
    "starlette": starlette_at,
    "litestar": litestar_at,
    "by hand": partial(by_hand_at, cut=False),
    "by hand, cut": partial(by_hand_at, cut=True),
}


def user_of(scope: Any) -> d3.HostUser | None:
    """The host sees the request as it came."""
    name = dict(scope["headers"]).get(b"host-user")
    return None if name is None else d3.HostUser(name.decode())


@pytest.mark.parametrize("parent", PARENTS.values(), ids=PARENTS)
def test_nobody_gets_more_of_it_beneath_any_prefix(parent: Any, home: Home) -> None:
    """Every call answers the same as without a prefix, wherever the prefix occurs in the path."""
    application = create_app(
        home.settings(warm_up=False, isolate_decoding=False),
        authenticate=user_of,
        engine=FakeEngine(),
    )

    async def answers(app: Any, calls: list[tuple[str, str]]) -> dict[tuple[str, str], Any]:
        found = {}
        for method, path in calls:
            answer = await asked(app, method, path)
            problem = answer.headers.get("content-type") == "application/problem+json"
            found[method, path] = answer.status_code, answer.json()["code"] if problem else ""
        return found

    async def compare() -> None:
        paths = application.openapi_schema.to_schema()["paths"]
        calls = [(one.upper(), path.replace("{", "")) for path in paths for one in paths[path]]
        calls += [("GET", path) for path in ELSEWHERE]
        for prefix in PREFIXES:
            host = parent(prefix, application)
            for before in ("", prefix, f"/schema{prefix}"):
                inside = [(method, before + path) for method, path in calls]
                outside = [(method, prefix + path) for method, path in inside]
                alone = await answers(application, inside)
                mounted = await answers(host, outside)
                assert list(mounted.values()) == list(alone.values()), (prefix, before)
                if not before:
                    codes = [code for _, code in alone.values()]
                    assert codes.count("not_signed_in") > len(paths) - len(ELSEWHERE)
                    assert [alone["GET", path] for path in PROBED] == [(200, "")] * len(PROBED)
            user = await asked(host, "GET", f"{prefix}/api/inference/history", {"Host-User": "ada"})
            assert user.json()["total"] == 0

    try:
        asyncio.run(compare())
    finally:
        application.d3.stop()


def test_the_host_is_asked_about_the_request_as_it_came(home: Home) -> None:
    seen: list[Any] = []

    async def authenticate(scope: Any) -> None:
        seen.append((scope["root_path"], scope["path"], scope["method"]))

    application = create_app(home.settings(warm_up=False), authenticate=authenticate)
    host = starlette_at("/api", application)

    try:
        answer = asyncio.run(asked(host, "HEAD", "/api/api/v1/inference/history"))
        assert answer.status_code == 401
    finally:
        application.d3.stop()
    assert seen == [("/api", "/api/api/v1/inference/history", "HEAD")]


def test_the_librarys_shared_detector_loads_one_model_for_eight_threads(
    home: Home, pack: Path, tmp_path: Path
) -> None:
    """A plain script, as somebody would write it."""
    script = tmp_path / "script.py"
    script.write_text(
        "import json, sys, threading\n"
        "import d3\n"
        "from d3.adapters.torch import engine\n"
        "loads, load = [], engine.TorchEngine.load\n"
        "engine.TorchEngine.load = lambda *a: (loads.append(1), load(*a))[1]\n"
        "answers = {}\n"
        "def work(n):\n"
        "    answers[n] = [d3.detect(path).prediction for path in sys.argv[1:]]\n"
        "threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]\n"
        "for thread in threads: thread.start()\n"
        "for thread in threads: thread.join()\n"
        "print(json.dumps([len(loads), *answers.values()]))\n"
    )
    images = sorted((pack / "images").iterdir())[:3]
    done = subprocess.run(
        [sys.executable, script, *images],
        capture_output=True,
        text=True,
        check=True,
        env=clean_environment(**home.environ),
        timeout=120,
    )
    loads, *answers = json.loads(done.stdout)
    assert loads == 1
    with d3.D3(home.settings()) as detector:
        right = [detector.detect(image).prediction for image in images]
    assert len(answers) == 8
    assert all(answer == pytest.approx(right, abs=1e-6) for answer in answers)
