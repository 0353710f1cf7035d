"""Scans that the service sees to: who may begin them, of what, and that nothing ends them early."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from d3 import Client
from d3.client import ServiceError
from d3.entrypoints.http.api.scan_schemas import ScanItem
from tests.homes import Folder, Home, S3Bucket
from tests.pictures import paint
from tests.service.conftest import Service
from tests.service.test_access import a_key, bearer
from tests.serving import Served, assert_problem, d3_serve, wait_until

SCANS = "/api/scans"
IMAGES = 240


@pytest.fixture
def opened(tmp_path: Path) -> Path:
    folder = tmp_path / "opened"
    folder.mkdir()
    return folder


@pytest.fixture
def service(start: Callable[..., Service], opened: Path) -> Service:
    return start(scan_folder=opened)


def test_scans_take_an_administrators_key_even_on_this_machine(service: Service) -> None:
    keys = {one: a_key(service, one, one) for one in ("read", "predict", "models", "admin")}
    for method, path in (
        ("POST", SCANS),
        ("GET", SCANS),
        ("GET", f"{SCANS}/none"),
        ("GET", f"{SCANS}/none/results"),
        ("DELETE", f"{SCANS}/none"),
    ):
        body = {"source": "/nowhere"} if method == "POST" else None
        refused = assert_problem(service.http.request(method, path, json=body), 403, "forbidden")
        assert "d3 keys create" in refused["error"]
        for scope, key in keys.items():
            answer = service.http.request(method, path, json=body, headers=bearer(key))
            assert (answer.json().get("code") == "forbidden") == (scope != "admin")
    answer = service.http.get(SCANS, headers=bearer(keys["admin"]))
    assert answer.json() == {"success": True, "count": 0, "scans": []}


def test_a_key_reads_no_files_of_the_machine(service: Service, opened: Path) -> None:
    admin = bearer(a_key(service, "root", "admin"))
    (opened / "file.png").write_bytes(b"")
    (opened / "way-out").symlink_to("/etc")
    for source in (
        *("/etc", "/no/such/folder", "opened", ".", f"{opened}/../", f"{opened}/way-out"),
        *(f"{opened}/../home", f"{opened}*", "file:///etc", "http://localhost/", "s3:/etc"),
    ):
        answer = service.http.post(SCANS, json={"source": source}, headers=admin)
        assert_problem(answer, 403, "source_refused")
    for source in (f"{opened}/gone", f"{opened}/file.png", f"{opened}/*.png"):
        answer = service.http.post(SCANS, json={"source": source}, headers=admin)
        assert_problem(answer, 400, "invalid_request")
    assert service.http.get(SCANS, headers=admin).json()["count"] == 0


def test_without_an_opened_folder_there_is_none(
    start: Callable[..., Service], opened: Path
) -> None:
    service = start()
    admin = bearer(a_key(service, "root", "admin"))
    refused = service.http.post(SCANS, json={"source": str(opened)}, headers=admin)
    assert "D3_SCAN_FOLDER" in assert_problem(refused, 403, "source_refused")["error"]


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"source": ""}, 400, "invalid_parameter"),
        ({"source": None}, 400, "invalid_parameter"),
        ({"source": "s3://a\0b"}, 400, "invalid_request"),
        ({"source": "s3://"}, 400, "invalid_request"),
        ({"id": "a b"}, 400, "invalid_parameter"),
        ({"threshold": 2}, 400, "invalid_parameter"),
        ({"views": 17}, 400, "invalid_parameter"),
        ({"wievs": 2}, 400, "invalid_parameter"),
        ({"model": "no-such-model"}, 404, "model_not_found"),
        ({"panel": "mine,no-such-model"}, 404, "model_not_found"),
        ({"panel": "mine,mine"}, 400, "invalid_request"),
        ({"panel": "mine,,starter"}, 400, "invalid_request"),
        ({"panel": " ", "model": "no-such-model"}, 404, "model_not_found"),
        ({"panel": "mine,starter", "model": "mine"}, 400, "invalid_request"),
        ({"panel": "mine,starter", "panel_rule": "all"}, 400, "invalid_parameter"),
    ],
)
def test_what_cannot_be_scanned_is_said(
    service: Service, opened: Path, changes: dict[str, Any], status: int, code: str
) -> None:
    admin = bearer(a_key(service, "root", "admin"))
    body = {"source": str(opened)} | changes
    assert_problem(service.http.post(SCANS, json=body, headers=admin), status, code)
    assert_problem(service.http.get(f"{SCANS}/none", headers=admin), 404, "scan_not_found")
    assert_problem(service.http.delete(f"{SCANS}/none", headers=admin), 404, "scan_not_found")


def test_who_names_no_panel_is_told_what_the_services_own_lacks(
    start: Callable[..., Service], opened: Path
) -> None:
    service = start(panel=("mine", "nobody"), scan_folder=opened)
    admin, body = bearer(a_key(service, "root", "admin")), {"source": str(opened)}
    for named, told in ((None, True), ("", True), ("mine,nobody", False)):
        asked = body if named is None else body | {"panel": named}
        answer = service.http.post(SCANS, json=asked, headers=admin)
        sentence = assert_problem(answer, 404, "model_not_found")["error"]
        assert "no model 'nobody'" in sentence
        assert ("D3_PANEL" in sentence) is told


def test_a_field_that_means_nothing_is_named(service: Service) -> None:
    admin = bearer(a_key(service, "root", "admin"))
    asked = {"source": "s3://b/p", "modle": "mine"}
    refused = service.http.post(SCANS, json=asked, headers=admin)
    assert (
        "parameter modle is not valid" in assert_problem(refused, 400, "invalid_parameter")["error"]
    )
    refused = service.http.post(SCANS, json={"id": "s"}, headers=admin)
    assert "field source is missing" in assert_problem(refused, 400, "invalid_parameter")["error"]


@pytest.fixture
def source(home: Home, tmp_path: Path) -> str:
    """The pictures where the service may read them: in its folder, or on its S3 server."""
    files = paint(tmp_path / "opened/pictures", IMAGES - 1)
    (tmp_path / "opened/pictures/a/broken.png").write_bytes(files[0].read_bytes()[:90])
    if isinstance(home.store, Folder):
        return str(tmp_path / "opened/pictures")
    assert isinstance(home.store, S3Bucket)
    for file in (tmp_path / "opened/pictures").rglob("*.png"):
        name = f"pictures/{file.parent.name}/{file.name}"
        home.store.client.fput_object(home.store.name, name, str(file))
    return f"s3://{home.store.name}/pictures/"


@pytest.fixture
def serve(home: Home, tmp_path: Path) -> Callable[[], Any]:
    """Starts ``d3 serve`` on the home; its key is that of the first start."""
    more = {"D3_SCAN_FOLDER": str(tmp_path / "opened"), "OMP_NUM_THREADS": "1"}
    return lambda: d3_serve(tmp_path, **home.environ, **more)


def client_of(served: Served, home: Home) -> Client:
    url = served.url()
    return Client(url, (home.path / "api.key").read_text().strip())


def worker_of(served: Served) -> int:
    found = re.findall(r"the scan worker is process (\d+)", served.text)
    return int(found[-1]) if found else 0


def done(scan: ScanItem) -> int:
    return scan.fake + scan.real + scan.uncertain + scan.error


def alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_a_panel_judges_in_the_background(
    home: Home, serve: Callable[[], Any], tmp_path: Path
) -> None:
    source = str(tmp_path / "opened/few")
    paint(tmp_path / "opened/few", 12)
    asked: dict[str, Any] = {"panel": ("mine", "starter"), "panel_rule": "any", "stability": True}
    with serve() as served, client_of(served, home) as client:
        begun = client.start_scan(source, scan_id="s", **asked)
        assert [one.name for one in begun.panel] == ["mine", "starter"]
        assert (begun.model, begun.panel_rule, begun.stability) == (begun.panel[0], "any", True)
        with pytest.raises(ServiceError, match="panel rule any instead of chief"):
            client.start_scan(source, scan_id="s", **asked | {"panel_rule": "chief"})
        wait_until(lambda: client.scan("s").state == "done", 120)
        assert client.start_scan(source, scan_id="s").panel == begun.panel, "it keeps its own"
        rows = list(client.scan_results("s"))
        assert len(rows) == 12
        for row in rows:
            assert [one.model.name for one in row.opinions] == ["mine", "starter"]
        for disagree in (True, False):
            some = list(client.scan_results("s", disagree=disagree))
            assert some == [row for row in rows if (row.agreement == "disagree") is disagree]


@pytest.mark.full
def test_kill_9_of_the_worker_and_of_the_server_leaves_one_row_for_each_image(
    home: Home, serve: Callable[[], Any], source: str
) -> None:
    import os

    with serve() as served, client_of(served, home) as client:
        begun = client.start_scan(source, scan_id="s", views=8)
        assert (begun.state, begun.by_service, begun.model.name) == ("running", True, "mine")
        assert client.start_scan(source, scan_id="s", views=8).created_at == begun.created_at
        with pytest.raises(ServiceError, match="views 8 instead of 2"):
            client.start_scan(source, scan_id="s", views=2)
        wait_until(lambda: done(client.scan("s")) > 0, 60)
        first = worker_of(served)
        os.kill(first, signal.SIGKILL)
        before = done(client.scan("s"))
        assert before < IMAGES
        wait_until(lambda: done(client.scan("s")) > before, 60)
        second = worker_of(served)
        assert second != first
        served.stop(signal.SIGKILL)
        wait_until(lambda: not alive(second), 20)
    with serve() as served, client_of(served, home) as client:
        wait_until(lambda: client.scan("s").state == "done", 60)
        scan = client.scan("s")
        assert (done(scan), scan.error, scan.trouble) == (IMAGES, 1, None)
        uris = [one.uri for one in client.scan_results("s")]
        assert len(uris) == len(set(uris)) == IMAGES
        assert [one.error for one in client.scan_results("s") if one.error] == ["damaged_image"]
        assert [one.id for one in client.scans()] == ["s"]
        assert client.start_scan(source, scan_id="s").state == "done"
        assert client.cancel_scan("s").state == "done"
        wait_until(lambda: "d3_scan_worker_up 0" in metrics(served), 20)
        assert served.stop() == 0


def metrics(served: Served) -> str:
    return httpx.get(f"{served.url()}/metrics").text


def test_a_scan_is_cancelled_stuck_goes_on_and_its_worker_ends_with_the_server(
    home: Home, serve: Callable[[], Any], tmp_path: Path
) -> None:
    # A worker holds several shards of 200 by the time its first rows are seen, and ends them all.
    images, source = 1_000, str(tmp_path / "opened/many")
    paint(tmp_path / "opened/many", images)
    paint(tmp_path / "opened/later", 3)
    with serve() as served, client_of(served, home) as client:
        client.start_scan(source, scan_id="s", views=16)
        client.start_scan(str(tmp_path / "opened/later"), scan_id="t")  # waits for the other
        wait_until(lambda: done(client.scan("s")) > 0, 60)
        (tmp_path / "opened/later").rename(tmp_path / "opened/gone")
        assert client.cancel_scan("s").state == "cancelled"
        wait_until(lambda: "scan s is cancelled" in served.text, 60)
        cancelled = client.scan("s")
        assert cancelled.finished_at is not None
        assert 0 < done(cancelled) < images

        wait_until(lambda: bool(client.scan("t").trouble), 60)
        assert "There is no such folder" in str(client.scan("t").trouble)
        (tmp_path / "opened/gone").rename(tmp_path / "opened/later")
        assert client.start_scan(source, scan_id="s").state == "running"
        wait_until(lambda: {client.scan(one).state for one in "st"} == {"done"}, 60)
        assert [done(client.scan(one)) for one in "st"] == [images, 3]
        assert client.scan("t").trouble is None

        client.start_scan(source, scan_id="u", views=16)
        wait_until(lambda: done(client.scan("u")) > 0, 60)
        worker = worker_of(served)
        assert served.stop() == 0
        assert not alive(worker)
