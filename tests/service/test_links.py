"""Links over the API: as good as the file, or an error of the one form."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

import pytest

from tests.service.conftest import Service, painted
from tests.serving import assert_problem
from tests.sites import Answering, web_server

PREDICT, EXPLAIN = "/api/inference/predict", "/api/inference/explain"


@dataclass
class Photos:
    """A web server on this machine that answers once it is let."""

    url: str = ""
    open: threading.Event = field(default_factory=threading.Event)


@pytest.fixture
def photos() -> Iterator[Photos]:
    site = Photos()

    class Handler(Answering):
        def answer(self) -> None:
            site.open.wait(20)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(painted(1))

    with web_server(Handler) as port:
        site.url = f"http://127.0.0.1:{port}/photo.png"
        yield site
        site.open.set()


@pytest.fixture
def service(start: Callable[..., Service]) -> Service:
    return start(fetch_links=True, fetch_allow=("127.0.0.0/8",), max_image_bytes=100_000)


def link(url: str, **fields: str) -> dict[str, tuple[None, str]]:
    """A multipart form without a file."""
    return {name: (None, text) for name, text in ({"url": url} | fields).items()}


def test_a_link_is_judged_like_its_file_and_kept_once_for_a_key(
    service: Service, photos: Photos
) -> None:
    photos.open.set()
    key = {"Idempotency-Key": "once"}
    by_link = service.http.post(PREDICT, files=link(photos.url, views="2"), headers=key)
    again = service.http.post(PREDICT, files=link(photos.url, views="2"), headers=key)
    by_file = service.http.post(PREDICT, files={"file": painted(1)}, data={"views": "2"})
    for name in ("prediction", "image_sha256", "views"):
        assert by_link.json()["result"][name] == by_file.json()["result"][name]
    assert again.json() == by_link.json()
    assert service.rows() == 2


@pytest.mark.parametrize(
    ("url", "status", "code"),
    [
        ("file:///etc/passwd", 400, "invalid_link"),
        ("http://169.254.169.254/latest/meta-data/", 422, "link_unavailable"),
        ("http://no-such-name.invalid/", 422, "link_unavailable"),
        ("http://127.0.0.1:1/photo.png", 400, "invalid_link"),
        ("http://127.0.0.1:9999/photo.png", 422, "link_unavailable"),
        ("  ", 400, "file_missing"),
    ],
)
def test_a_link_that_cannot_be_followed_is_told_and_keeps_nothing(
    service: Service, url: str, status: int, code: str
) -> None:
    for address in (PREDICT, EXPLAIN):
        assert_problem(service.http.post(address, files=link(url)), status, code)
    assert service.rows() == 0


def test_a_link_beside_a_file_is_refused_whether_links_are_on_or_off(
    start: Callable[..., Service], service: Service
) -> None:
    both = link("http://example.org/") | {"file": ("a.png", painted(1))}
    off = start()
    for one in (service, off):
        assert_problem(one.http.post(PREDICT, files=both), 400, "invalid_form")
    assert_problem(off.http.post(PREDICT, files=link("http://example.org/")), 403, "links_off")


@pytest.mark.one_process
def test_links_that_wait_are_few(service: Service, photos: Photos) -> None:
    with ThreadPoolExecutor(9) as pool:
        asked = [pool.submit(service.http.post, PREDICT, files=link(photos.url)) for _ in range(9)]
        first, _ = wait(asked, 20, FIRST_COMPLETED)
        photos.open.set()
    (refused,) = (one.result() for one in first)
    assert_problem(refused, 503, "overloaded")
    assert int(refused.headers["retry-after"]) >= 1
    assert sorted(one.result().status_code for one in asked) == [200] * 8 + [503]
