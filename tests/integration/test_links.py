"""Links of strangers: what is fetched, and all that is not, on real sockets."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

import pytest
import trustme

from d3.adapters.web import GuardedLinks
from d3.domain.errors import ImageTooLarge, LinkInvalid, LinkUnavailable
from tests.console.browsing import small
from tests.sites import Answering, web_server

LOOPBACK = ("127.0.0.0/8",)
IMAGE = small(1)
MOST = 100_000
Answer = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class Site:
    """A web server on this machine.

    Attributes:
        port: where it listens.
        asked: the Host and path of each request.
        headers: of the last one.
    """

    port: int = 0
    asked: list[tuple[str, str]] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)

    def at(self, path: str, host: str = "127.0.0.1", scheme: str = "http") -> str:
        return f"{scheme}://{host}:{self.port}{path}"


def whole(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Set-Cookie", "a=b")
    handler.send_header("Content-Length", str(len(IMAGE)))
    handler.end_headers()
    handler.wfile.write(IMAGE)


def to(place: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", place)
        handler.end_headers()

    return answer


def missing(handler: BaseHTTPRequestHandler) -> None:
    handler.send_error(404)


def announced(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(2**40))
    handler.end_headers()
    time.sleep(1)


def endless(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(b"x" * 8192)


def slow_body(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(b"x")
        time.sleep(0.05)


def slow_head(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        handler.wfile.write(b"X-Y: z\r\n")
        time.sleep(0.05)


def silent(_: BaseHTTPRequestHandler) -> None:
    time.sleep(3)


def nonsense(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"220 mail.example ESMTP\r\n")


PATHS: dict[str, Answer] = {
    "/photo.png": whole,
    "/once": to("/photo.png"),
    "/round": to("/round"),
    "/to-file": to("file:///etc/passwd"),
    "/to-password": to("http://user:secret@example.org/"),
    "/to-metadata": to("http://169.254.169.254/latest/meta-data/"),
    "/to-mapped": to("http://[::ffff:10.0.0.1]/"),
    "/to-port": to("http://example.org:25/"),
    "/missing": missing,
    "/announced": announced,
    "/endless": endless,
    "/slow-body": slow_body,
    "/slow-head": slow_head,
    "/silent": silent,
    "/nonsense": nonsense,
}


@contextmanager
def site(context: ssl.SSLContext | None = None) -> Iterator[Site]:
    """A server that answers :data:`PATHS`."""
    here = Site()

    class Handler(Answering):
        def answer(self) -> None:
            here.asked.append((self.headers["Host"], self.path))
            here.headers = dict(self.headers.items())
            with suppress(OSError):
                PATHS[self.path.partition("?")[0]](self)

    with web_server(Handler, context) as here.port:
        yield here


@pytest.fixture
def server() -> Iterator[Site]:
    with site() as one:
        yield one


def links(**changes: object) -> GuardedLinks:
    return GuardedLinks(**{"most_bytes": MOST, "seconds": 0.6, "allowed": LOOPBACK} | changes)  # type: ignore[arg-type]


def test_an_image_is_fetched_and_named_by_its_link(server: Site) -> None:
    found = links().fetch(server.at("/photo.png?size=large#part"))
    assert found == ("photo.png", IMAGE)
    assert server.asked == [(f"127.0.0.1:{server.port}", "/photo.png?size=large")]


def test_a_few_redirects_are_followed_and_many_are_not(server: Site) -> None:
    assert links().fetch(server.at("/once")).data == IMAGE
    with pytest.raises(LinkUnavailable, match="redirects too many times"):
        links().fetch(server.at("/round"))
    assert len(server.asked) == 2 + 6


def test_no_cookie_proxy_or_credential_goes_along(
    server: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    links().fetch(server.at("/photo.png"))
    links().fetch(server.at("/photo.png"))
    assert not {"cookie", "authorization", "referer"} & {name.lower() for name in server.headers}


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "localhost", "2130706433", "0x7f000001", "017700000001", "127.1", "0"),
        *("[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::]", "LOCALHOST", "localhost."),
    ],
)
def test_this_machine_is_not_asked_however_it_is_written(server: Site, host: str) -> None:
    with pytest.raises((LinkUnavailable, LinkInvalid)):
        links(allowed=()).fetch(server.at("/photo.png", host))
    assert server.asked == []


@pytest.mark.parametrize(
    "path", ["/to-metadata", "/to-mapped", "/to-file", "/to-password", "/to-port"]
)
def test_a_redirect_to_what_may_not_be_asked_is_not_followed(server: Site, path: str) -> None:
    connected: list[str] = []

    def watched(host: str, _: int) -> list[str]:
        connected.append(host)
        return [host]

    with pytest.raises((LinkUnavailable, LinkInvalid)):
        links(resolve=watched).fetch(server.at(path))
    assert server.asked == [(f"127.0.0.1:{server.port}", path)]


def test_a_name_with_one_address_inside_is_not_asked_at_the_other(server: Site) -> None:
    for addresses in (["127.0.0.1", "10.0.0.1"], ["10.0.0.1", "127.0.0.1"], []):
        with pytest.raises(LinkUnavailable, match="public"):
            links(resolve=lambda *_, found=addresses: found).fetch(
                server.at("/photo.png", "x.test")
            )
    assert server.asked == []


def test_a_name_that_changes_its_address_is_asked_where_it_was_checked(server: Site) -> None:
    answers = iter([["127.0.0.1"], ["10.0.0.1"], ["10.0.0.1"]])
    place = server.at("/photo.png", "rebinding.test")
    assert links(resolve=lambda *_: next(answers)).fetch(place).data == IMAGE
    assert server.asked == [(f"rebinding.test:{server.port}", "/photo.png")]
    assert next(answers) == ["10.0.0.1"]  # asked once
    with pytest.raises(LinkUnavailable):
        links(resolve=lambda *_: next(answers)).fetch(place)


def test_an_address_that_does_not_answer_is_followed_by_the_next(server: Site) -> None:
    found = links(resolve=lambda *_: ["127.0.0.2", "127.0.0.1"]).fetch(server.at("/photo.png", "x"))
    assert found.data == IMAGE


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/missing", LinkUnavailable),
        ("/announced", ImageTooLarge),
        ("/endless", ImageTooLarge),
        ("/slow-body", LinkUnavailable),
        ("/slow-head", LinkUnavailable),
        ("/silent", LinkUnavailable),
        ("/nonsense", LinkUnavailable),
    ],
)
def test_what_is_missing_endless_or_slow_ends_soon(
    server: Site, path: str, kind: type[Exception]
) -> None:
    began = time.monotonic()
    with pytest.raises(kind):
        links().fetch(server.at(path))
    assert time.monotonic() - began < 2.5


@pytest.mark.parametrize(
    "link",
    [
        *("", "photo.png", "//example.org/photo.png", "file:///etc/passwd", "ftp://example.org/a"),
        *("gopher://example.org/", "javascript:alert(1)", "data:image/png;base64,AAAA", "http://"),
        *("http:///photo.png", "http://user@example.org/", "https://user:secret@example.org/a.png"),
        *("http://example.org:22/", "http://example.org:0/", "http://example.org:99999/", "\0"),
        *("http://[::1/", "http://example.org\r\nHost: x/"),
    ],
)
def test_what_is_no_link_is_refused_before_anything_is_asked(link: str) -> None:
    def nobody(*_: object) -> list[str]:
        raise AssertionError("asked")

    with pytest.raises(LinkInvalid) as refusal:
        links(resolve=nobody).fetch(link)
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize(
    "host", ["a" * 300 + ".test", "no-such-name.invalid", "xn--.test", "exa mple.org"]
)
def test_a_name_that_is_not_known_and_one_inside_are_told_alike(host: str) -> None:
    with pytest.raises(LinkUnavailable) as unknown:
        links(allowed=()).fetch(f"http://{host}/photo.png")
    with pytest.raises(LinkUnavailable) as inside:
        links(allowed=()).fetch("http://localhost/photo.png")
    assert str(unknown.value) == str(inside.value)


def test_a_server_proves_that_it_is_the_name_in_the_link() -> None:
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("photos.test").configure_cert(context)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    with site(context) as secure:
        fetch = links(resolve=lambda *_: ["127.0.0.1"], ssl_context=trusting, seconds=5).fetch
        assert fetch(secure.at("/photo.png", "photos.test", "https")).data == IMAGE
        assert secure.asked == [(f"photos.test:{secure.port}", "/photo.png")]
        for host in ("other.test", "127.0.0.1"):
            with pytest.raises(LinkUnavailable, match="certificate"):
                fetch(secure.at("/photo.png", host, "https"))
        with pytest.raises(LinkUnavailable, match="certificate"):
            links(resolve=lambda *_: ["127.0.0.1"], seconds=5).fetch(
                secure.at("/photo.png", "photos.test", "https")
            )
        assert len(secure.asked) == 1
