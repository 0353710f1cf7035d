"""What cannot be answered is refused in the one error body and leaves nothing behind."""

from __future__ import annotations

import json
import re
import socket
import tempfile
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.homes import Home, Homes
from tests.service.conftest import Service, painted, running
from tests.serving import PROBLEM, PROBLEM_FIELDS, assert_problem
from tests.wire import FORM, exchange, multipart, part

PREDICT, BATCH = "/api/inference/predict", "/api/inference/predict-batch"
HISTORY, RESULT, STATS = "/api/inference/history", "/api/inference/result", "/api/inference/stats"
UPLOAD, LOAD = "/api/model/upload", "/api/model/load"
IMAGE = painted(200)


@dataclass(frozen=True)
class Watched:
    """A service, its home, and where temporary files would lie."""

    service: Service
    home: Home
    scratch: Path


@pytest.fixture(scope="module")
def watched(homes: Homes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("watched")
    (folder / "scratch").mkdir()
    limits = {"max_image_bytes": 100_000, "max_batch_bytes": 200_000, "max_model_bytes": 200_000}
    with (
        pytest.MonkeyPatch.context() as patch,
        homes(folder / "home") as home,
        running(home, **limits) as service,
    ):
        patch.setattr(tempfile, "tempdir", str(folder / "scratch"))
        yield Watched(service, home, folder / "scratch")


@pytest.fixture
def service(watched: Watched) -> Iterator[Service]:
    """A service that is watched: in the end no row, no model and no file has come."""
    before = watched.home.files()
    yield watched.service
    assert watched.service.rows() == 0
    assert watched.home.files() <= before
    assert list(watched.scratch.iterdir()) == []


FILE = part(b"file", IMAGE, b"a.png")


@pytest.mark.parametrize(
    ("form", "status", "code"),
    [
        ({"data": {"threshold": "0.5"}, "files": {"other": b""}}, 400, "file_missing"),
        ({"files": {"file": ("a.png", b"")}}, 400, "empty_file"),
        ({"files": {"image": ("a.png", IMAGE)}}, 400, "file_missing"),
        ({"files": {"files": ("a.png", IMAGE)}}, 400, "file_missing"),
        ({"files": [("file", ("a.png", IMAGE)), ("file", ("b.png", IMAGE))]}, 400, "invalid_form"),
        ({"files": {"file": (None, "words")}}, 400, "file_missing"),
        ({"files": {"file": ("a.png", b"words")}}, 415, "not_an_image"),
        ({"files": {"file": ("a.png", IMAGE[:50])}}, 422, "damaged_image"),
        ({"data": {"file": "a.png"}}, 415, "not_multipart"),
        ({"content": IMAGE}, 415, "not_multipart"),
        ({"content": b""}, 415, "not_multipart"),
        ({"content": IMAGE, "headers": {"Content-Type": "text/plain"}}, 415, "not_multipart"),
    ],
)
def test_a_form_without_one_image_in_its_place(
    service: Service, form: dict[str, Any], status: int, code: str
) -> None:
    assert_problem(service.http.post(PREDICT, **form), status, code)


@pytest.mark.parametrize("call", [PREDICT, BATCH])
@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        *[
            ("threshold", value, "invalid_threshold")
            for value in (
                "nan",
                "inf",
                "abc",
                "-1",
                "2",
                "1_0",
                "1e999",
                "0x1",
                "\u0660.\u0665",
                "0,5",
            )
        ],
        *[
            ("views", value, "invalid_views")
            for value in ("0", "17", "1000", "-1", "1.5", "1_0", "abc", "9" * 400, "\u0663")
        ],
    ],
)
def test_numbers_that_are_none_or_out_of_range(
    service: Service, call: str, field: str, value: str, code: str
) -> None:
    name = "file" if call == PREDICT else "files"
    answer = service.http.post(call, files={name: ("a.png", IMAGE)}, data={field: value})
    assert_problem(answer, 400, code)


@pytest.mark.parametrize("field", ["threshold", "views"])
def test_a_text_sent_twice_or_as_a_file(service: Service, field: str) -> None:
    twice = service.http.post(PREDICT, files={"file": IMAGE}, data={field: ["1", "1"]})
    assert_problem(twice, 400, "invalid_form")
    as_file = service.http.post(PREDICT, files={"file": IMAGE, field: ("t.txt", b"1")})
    assert_problem(as_file, 400, "invalid_form")


@pytest.mark.parametrize(
    ("address", "asked"),
    [
        (HISTORY, {"limit": "0"}),
        (HISTORY, {"limit": "-1"}),
        (HISTORY, {"limit": "501"}),
        (HISTORY, {"limit": str(10**9)}),
        (HISTORY, {"limit": "abc"}),
        (HISTORY, {"limit": "1_0"}),
        (HISTORY, {"offset": "-1"}),
        (HISTORY, {"offset": str(2**63)}),
        (HISTORY, {"offset": str(2**70)}),
        (HISTORY, {"is_fake": "perhaps"}),
        (HISTORY, {"verdict": "maybe"}),
        (HISTORY, {"since": "yesterday"}),
        (HISTORY, {"since": "2026-01-01T00:00:00"}),
        (HISTORY, {"until": "0001-01-01T00:00:00+14:00"}),
        (HISTORY, {"cursor": "made-up"}),
        (HISTORY, {"cursor": "x" * 600}),
        (HISTORY, {"q": "x" * 256}),
        (f"{HISTORY}.csv", {"since": "2026-01-01T00:00:00"}),
        (f"{HISTORY}.jsonl", {"is_fake": "perhaps"}),
        (STATS, {"bucket": "minute"}),
        (STATS, {"since": "2026-13-01T00:00:00Z"}),
    ],
)
def test_questions_to_the_history_that_make_no_sense(
    service: Service, address: str, asked: dict[str, str]
) -> None:
    body = assert_problem(service.http.get(address, params=asked), 400)
    assert body["code"] in {"invalid_parameter", "invalid_request", "invalid_cursor"}


@pytest.mark.parametrize(
    ("address", "asked", "says"),
    [
        (HISTORY, {"verdict": "maybe"}, "verdict is not valid. Choose from fake, real,"),
        (STATS, {"bucket": "minute"}, "bucket is not valid. Choose from "),
        (HISTORY, {"limit": "-1"}, "limit must be at least 1. "),
        (HISTORY, {"limit": "1000000"}, "limit must be at most 500. "),
        (HISTORY, {"order": "up", "limit": "x"}, "/schema describes it"),
        (HISTORY, {"is_fake": "perhaps"}, "/schema describes it"),
    ],
)
def test_where_few_values_are_allowed_they_are_named(
    service: Service, address: str, asked: dict[str, str], says: str
) -> None:
    assert says in assert_problem(service.http.get(address, params=asked), 400)["error"]


def test_a_body_that_is_no_json_and_what_is_not_there_are_said_for_callers(
    service: Service,
) -> None:
    headers = {"Content-Type": "application/json"}
    broken = service.http.post("/api/inference/labels", content=b"{", headers=headers)
    assert "not valid JSON" in assert_problem(broken, 400, "invalid_request")["error"]
    job = assert_problem(service.http.get("/api/jobs/none"), 404, "job_not_found")
    assert job["error"].endswith("`GET /api/jobs` shows all jobs.")


@pytest.mark.parametrize(
    "id_", ["0", "-1", str(2**63), str(2**70), "abc", "1_0", "01", "1.0", "%20", "%00", "%EF%BC%99"]
)
def test_ids_that_never_were(service: Service, id_: str) -> None:
    for method in ("GET", "DELETE"):
        answer = service.http.request(method, f"{RESULT}/{id_}")
        assert_problem(answer, 404)


@pytest.mark.parametrize(
    "body",
    [
        multipart(FILE, end=b""),
        multipart(FILE, end=b"--b"),
        multipart(FILE)[:40],
        multipart(FILE, part(b"threshold", b"\xff")),
        multipart(FILE, part(b"\xff", b"1")),
        multipart(b"No-Disposition: x\r\n\r\nx"),
        multipart(b"no colon at all\r\n\r\nx"),
        multipart(part(b"file", IMAGE, b"a" * 100_000)),
        multipart(FILE, part(b"threshold", b"1" * 5000)),
        b"",
        b"\r\n" * 100,
        b"--c--\r\n",
        b"--b\n\nbroken line ends",
    ],
)
@pytest.mark.parametrize("call", [PREDICT, BATCH, UPLOAD])
def test_a_malformed_form(service: Service, call: str, body: bytes) -> None:
    body = body.replace(b'name="file"', b'name="files"') if call == BATCH else body
    answer = service.http.post(call, content=body, headers=FORM)
    assert_problem(answer, 400)


@pytest.mark.parametrize("kind", ["multipart/form-data", "multipart/form-data; boundary="])
def test_a_form_without_a_boundary(service: Service, kind: str) -> None:
    answer = service.http.post(PREDICT, content=multipart(FILE), headers={"Content-Type": kind})
    assert_problem(answer, 415, "not_multipart")


def test_a_form_of_ten_thousand_parts(service: Service) -> None:
    body = multipart(*[part(b"threshold", b"1")] * 10_000)[:190_000]
    assert_problem(service.http.post(PREDICT, content=body, headers=FORM), 413, "body_too_large")
    empty = multipart(*[part(b"files", b"", b"")] * 2_000)
    assert_problem(service.http.post(BATCH, content=empty, headers=FORM), 413, "body_too_large")


@pytest.mark.parametrize(
    "name", ["..", "../up", "a/b", "a\\b", "%2e%2e", "%2e", ".x", "a..b", "-x"]
)
def test_names_that_no_model_can_have(service: Service, name: str) -> None:
    loaded = service.http.post(LOAD, params={"name": name})
    assert_problem(loaded, 400, "invalid_model_name")
    uploaded = service.http.post(UPLOAD, files={"file": ("a.pth", b"x")}, data={"name": name})
    assert_problem(uploaded, 400, "invalid_model_name")


@pytest.mark.parametrize("body", [b'{"name": ' * 5000, b"[" * 5000, b"{", b"7"])
def test_json_that_is_no_object_of_texts(service: Service, body: bytes) -> None:
    said = {"content": body, "headers": {"Content-Type": "application/json"}}
    for call in (LOAD, PREDICT, "/api/inference/labels", "/api/scans", "/api/jobs"):
        answer = service.http.post(call, **said)
        assert answer.status_code in {400, 403}, answer.text
        assert_problem(answer, answer.status_code)


def test_an_upload_of_nothing(service: Service) -> None:
    assert_problem(service.http.post(UPLOAD, data={"name": "x"}), 415, "not_multipart")
    assert_problem(service.http.post(UPLOAD, files={"model": b"x"}), 400, "file_missing")
    two = [("file", ("a.pth", b"x")), ("file", ("b.pth", b"y"))]
    assert_problem(service.http.post(UPLOAD, files=two), 400, "invalid_form")


@pytest.mark.parametrize("call", [PREDICT, BATCH, UPLOAD])
def test_a_body_over_the_limit_is_refused_before_it_is_sent(service: Service, call: str) -> None:
    head = (
        f"POST {call} HTTP/1.1\r\nHost: localhost\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\n"
        f"Content-Length: {10**13}\r\n\r\n"
    )
    answer = exchange(service.url, head.encode())
    assert_problem(answer, 413, "body_too_large")
    assert answer.headers["connection"] == "close"


def test_a_body_without_a_length_is_refused_once_it_is_over_the_limit(service: Service) -> None:
    head = (
        f"POST {PREDICT} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\n\r\n"
    )
    begun = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'

    def chunks() -> Iterator[bytes]:
        for piece in (begun, *[bytes(50_000)] * 8):
            yield b"%x\r\n%s\r\n" % (len(piece), piece)

    assert_problem(exchange(service.url, head.encode(), chunks()), 413, "body_too_large")


def test_a_sender_who_goes_on_sending_still_hears_why(service: Service) -> None:
    """As requests and curl without ``Expect`` do: the whole body first, then the answer."""
    answer = httpx.post(service.url + PREDICT, files={"file": ("a.png", bytes(8_000_000))})
    assert_problem(answer, 413, "body_too_large")


def test_an_upload_that_breaks_off_is_forgotten(service: Service) -> None:
    address = httpx.URL(service.url)
    with socket.create_connection((address.host, address.port or 80)) as connection:
        connection.sendall(
            f"POST {UPLOAD} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999\r\n"
            "Content-Type: multipart/form-data; boundary=b\r\n\r\n".encode()
            + multipart(part(b"file", b"x" * 500, b"a.pth"), end=b"")
        )
    assert service.http.get("/health").status_code == 200


@pytest.mark.parametrize("address", ["/nowhere", "/api", "/api/inference/", "/%2e%2e"])
def test_an_unknown_address(service: Service, address: str) -> None:
    assert_problem(
        exchange(service.url, f"GET {address} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()), 404
    )


def test_a_head_that_is_no_http_is_refused(service: Service) -> None:
    address = httpx.URL(service.url)
    with socket.create_connection((address.host, address.port or 80), timeout=20) as connection:
        connection.sendall(b"\x16\x03\x01 nonsense\r\n\r\n")
        assert connection.recv(1024).startswith(b"HTTP/1.1 400")


class TestNames:
    """File names of strangers: kept as clean display names."""

    @pytest.fixture
    def service(self, start: Callable[..., Service]) -> Service:
        return start()

    @pytest.mark.parametrize(
        ("sent", "kept"),
        [
            (b"../../etc/passwd.png", "passwd.png"),
            (b"C:\\\\pictures\\\\cat.png", "cat.png"),
            (b"a%0D%0Ab.png", "ab.png"),
            (b"tab\there.png", "tabhere.png"),
            (b"nul\x00.png", "nul.png"),
            ("gnp\u202egpj.exe".encode(), "gnpgpj.exe"),
            ("zero\u200bwidth.png".encode(), "zerowidth.png"),
            ("caf\u00e9 \u2615.png".encode(), "caf\u00e9 \u2615.png"),
            (b"x" * 4000 + b".png", "x" * 255),
            ("\U0001f431".encode() * 1000, "\U0001f431" * 255),
            (b"....", "...."),
            (b"/", "image"),
            (b" ", "image"),
            (b"=cmd|calc", "=cmd|calc"),
        ],
    )
    def test_a_strange_file_name_is_kept_as_a_clean_one(
        self, service: Service, sent: bytes, kept: str
    ) -> None:
        body = multipart(part(b"file", IMAGE, sent))
        answer = service.http.post(PREDICT, content=body, headers=FORM)
        assert answer.status_code == 200, answer.text
        row = service.http.get(HISTORY).json()["results"][0]
        assert row["image_name"] == kept
        assert not any(unicodedata.category(one) in {"Cc", "Cf", "Cs"} for one in kept)
        batch = multipart(part(b"files", b"no image", sent))
        in_batch = service.http.post(BATCH, content=batch, headers=FORM).json()
        assert in_batch["results"][0]["filename"] == kept

    @pytest.mark.parametrize("charset", [b"nonsense", b"utf-7", b"utf-16"])
    def test_a_parts_charset_is_nobodys_business(self, service: Service, charset: bytes) -> None:
        kind = b"Content-Type: text/plain; charset=" + charset
        body = multipart(
            part(b"file", IMAGE, b"a.png", kind), part(b"threshold", b"0.25", more=kind)
        )
        answer = service.http.post(PREDICT, content=body, headers=FORM)
        assert answer.status_code == 200
        assert answer.json()["result"]["threshold"] == 0.25

    def test_an_error_never_holds_what_it_should_not(self, service: Service) -> None:
        """No path, no traceback, and every field, whatever was sent."""
        answers = [
            service.http.post(PREDICT, files={"file": ("/secret/place.png", b"x")}),
            service.http.get(f"{RESULT}/7"),
            service.http.post(UPLOAD, files={"file": ("m.pth", b"PK\x03\x04")}),
        ]
        for answer in answers:
            assert answer.headers["content-type"] == PROBLEM
            assert set(answer.json()) == PROBLEM_FIELDS
            text = json.dumps(answer.json())
            assert not re.search(r"Traceback|site-packages|/tmp|/home|secret", text)
