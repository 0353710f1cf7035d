"""What callers of all kinds send: names in other code pages, JSON, misspelled fields, gzip."""

from __future__ import annotations

import gzip

import pytest

from tests.service.conftest import Service, painted
from tests.serving import assert_problem

BOUNDARY = "----of-a-test"


def send(service: Service, disposition: bytes, *, content_type: str | None = None):
    """Send one part with this Content-Disposition."""
    body = (
        f"--{BOUNDARY}\r\nContent-Disposition: form-data; ".encode()
        + disposition
        + b"\r\nContent-Type: image/png\r\n\r\n"
        + painted(1)
        + f"\r\n--{BOUNDARY}--\r\n".encode()
    )
    kind = content_type or f"multipart/form-data; boundary={BOUNDARY}"
    return service.http.post("/api/inference/predict", content=body, headers={"Content-Type": kind})


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        ('name="file"; filename="naïve.png"'.encode(), "naïve.png"),
        ('name="file"; filename="naïve.png"'.encode("latin-1"), "naïve.png"),
        ('name="file"; filename="фото.png"'.encode("cp1251"), "ôîòî.png"),
        (b"name=\"file\"; filename*=UTF-8''na%C3%AFve.png", "naïve.png"),
        (b"name=\"file\"; filename*=iso-8859-1''na%EFve.png", "naïve.png"),
        (b"name=\"file\"; filename*=no-such''photo.png", "photo.png"),
        (b"name=\"file\"; filename*=idna''photo.png", "photo.png"),
        (b"name=\"file\"; filename*=undefined''photo.png", "photo.png"),
        (b'name="file"; filename=""', None),
        (b'name="file"', None),
        (b'name="file"; filename="photo.png"; filename*=UTF-8\'\'other.png', "photo.png"),
        (b'name="file"; filename="C:\\\\images\\\\photo.png"', None),
    ],
)
def test_a_file_name_is_a_label_and_never_fails_an_image(
    service: Service, disposition: bytes, name: str | None
) -> None:
    answer = send(service, disposition)
    assert answer.status_code == 200, answer.text
    kept = service.http.get(f"/api/inference/result/{answer.json()['inference_id']}").json()
    assert name is None or kept["result"]["image_name"] == name


def test_a_missing_boundary_is_named(service: Service) -> None:
    refused = send(service, b'name="file"', content_type="multipart/form-data")
    assert "boundary" in assert_problem(refused, 415, "not_multipart")["error"]


@pytest.mark.parametrize("call", ["inference/predict", "inference/explain", "model/load"])
def test_a_compressed_body_is_refused_with_what_is_taken(service: Service, call: str) -> None:
    refused = service.http.post(
        f"/api/{call}",
        content=gzip.compress(b'{"name": "mine"}'),
        headers={"Content-Type": "application/json", "Content-Encoding": "gzip"},
    )
    assert_problem(refused, 415, "encoding_unsupported")
    assert refused.headers["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    "sent",
    [
        {"json": {"name": "other"}},
        {"data": {"name": "other"}},
        {"files": {"name": (None, "other")}},
        {"params": {"name": "other"}},
    ],
    ids=["JSON", "URL-encoded", "multipart", "address"],
)
def test_the_model_to_load_is_named_in_any_form(service: Service, sent) -> None:
    assert_problem(service.http.post("/api/model/load", **sent), 404, "model_not_found")


def test_two_names_of_a_model_are_one_too_many(service: Service) -> None:
    refused = service.http.post("/api/model/load", params={"name": "a"}, json={"name": "b"})
    assert_problem(refused, 400)


@pytest.mark.parametrize("body", [b"", b"{}", b'{"name": null}', b'{"name": ""}'])
def test_no_name_means_the_chosen_model(service: Service, body: bytes) -> None:
    answer = service.http.post(
        "/api/model/load", content=body, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("body", [b"[]", b"{", b'{"name": 7}', b'{"name": ["a"]}', b'"mine"'])
def test_a_body_that_means_nothing_loads_no_model(service: Service, body: bytes) -> None:
    refused = service.http.post(
        "/api/model/load", content=body, headers={"Content-Type": "application/json"}
    )
    assert_problem(refused, 400)


@pytest.mark.parametrize(
    ("call", "sent", "named"),
    [
        ("inference/predict", {"data": {"treshold": "0.9"}}, "threshold"),
        ("inference/predict", {"params": {"treshold": "0.9"}}, "threshold"),
        ("inference/predict-batch", {"data": {"view": "4"}}, "views"),
        ("inference/explain", {"data": {"threshold": "0.9"}}, "threshold"),
        ("model/upload", {"data": {"nane": "mine"}}, "name"),
        ("model/load", {"json": {"nmae": "mine"}}, "nmae"),
        ("model/unload", {"json": {"name": "mine"}}, "name"),
    ],
)
def test_a_field_that_means_nothing_is_named(service: Service, call, sent, named) -> None:
    if "model/l" not in call and "unload" not in call:
        field = "files" if call.endswith("batch") else "file"
        sent = {**sent, "files": {field: ("photo.png", painted(1))}}
    rows = service.rows()
    said = assert_problem(service.http.post(f"/api/{call}", **sent), 400)["error"]
    assert named in said
    assert service.rows() == rows


@pytest.mark.parametrize(
    "address",
    [
        "inference/history?limt=5",
        "inference/stats?from=2026-01-01",
        "inference/result/1?full=1",
        "model/list?page=2",
    ],
)
def test_a_parameter_that_means_nothing_is_named(service: Service, address: str) -> None:
    name = address.partition("?")[2].partition("=")[0]
    assert name in assert_problem(service.http.get(f"/api/{address}"), 400)["error"]
