"""What files say of themselves, in answers and in what is kept; never in the score."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

import d3
from d3.domain.provenance import Says
from images import encoded, picture, with_png_chunks
from tests.homes import Home
from tests.pictures import container_for, scan_all
from tests.service.conftest import Service
from tests.serving import d3_serve
from tests.support.credentials import Authority, manifest
from tests.support.images import png_chunk
from tests.support.metadata import exif

SECRET = "a castle that nobody may hear of"
PLAIN = encoded(picture(96, 64), "PNG")
RECORD = with_png_chunks(
    PLAIN, png_chunk(b"tEXt", f"parameters\0{SECRET}\nSteps: 20, Sampler: Euler, Model: m".encode())
)
NOBODY = {"says": "nothing", "sources": []}


def said(service: Service, image: bytes) -> tuple[dict, dict]:
    """The answer's provenance, and that of its row."""
    answer = service.predict(image).json()
    kept = service.http.get(f"/api/inference/result/{answer['inference_id']}").json()
    return answer["result"]["provenance"], kept["result"]["provenance"]


@pytest.mark.parametrize("isolated", [False, True])
def test_an_answer_and_its_row_hold_what_the_file_says(
    start: Callable[..., Service], tmp_path: Path, *, isolated: bool
) -> None:
    authority = Authority()
    trust = tmp_path / "trust.pem"
    trust.write_bytes(authority.pem)
    service = start(c2pa_trust=trust, isolate_decoding=isolated)
    signed = authority.sign(PLAIN, "image/png", manifest())
    for _ in range(2):  # the second time the logits are known
        answered, kept = said(service, signed)
        assert answered == kept
        assert answered["says"] == "generated"
        (source,) = answered["sources"]
        assert (source["kind"], source["state"]) == ("c2pa", "valid")
        assert (source["signer"], source["actions"]) == ("D3 Tests", ["c2pa.created"])
    assert said(service, PLAIN) == (NOBODY, NOBODY)


def test_a_prompt_is_told_of_and_kept_nowhere(service: Service, home: Home) -> None:
    answered, _ = said(service, RECORD)
    (source,) = answered["sources"]
    assert (source["kind"], source["prompt"], source["model"]) == ("record", True, "m")
    for path in ("history", "history.csv", "history.jsonl"):
        assert SECRET not in service.http.get(f"/api/inference/{path}").text
    for file in home.path.rglob("*"):
        if file.is_file():
            assert SECRET.encode() not in file.read_bytes(), file


def test_a_position_is_kept_only_where_that_is_asked_for(start: Callable[..., Service]) -> None:
    camera = b"Exif\0\0" + exif(make="A", model="B", position=((1, "N"), (2, "E")))
    placed = encoded(picture(96, 64), "JPEG", exif=camera)
    for keep, position in ((False, None), (True, "1.00000, 2.00000")):
        answered, _ = said(start(keep_position=keep), placed)
        assert [one.get("position") for one in answered["sources"]] == [position]


def test_what_a_file_says_changes_no_number(service: Service) -> None:
    signed = Authority().sign(PLAIN, "image/png", manifest())
    plain, claimed, recorded = (
        service.predict(one).json()["result"] for one in (PLAIN, signed, RECORD)
    )
    for name in ("prediction", "logit", "verdict", "confidence"):
        assert plain[name] == claimed[name] == recorded[name]


def test_a_batch_and_a_scan_hold_it_too(service: Service, home: Home, tmp_path: Path) -> None:
    files = [("files", ("a.png", RECORD)), ("files", ("b.png", PLAIN))]
    batch = service.http.post("/api/inference/predict-batch", files=files).json()
    answered = [one["result"]["provenance"]["says"] for one in batch["results"]]
    assert answered == ["generated", "nothing"]
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "a.png").write_bytes(RECORD)
    container = container_for(tmp_path / "home")
    scan = scan_all(container, str(folder))
    (row,) = container.scan_ledger().rows(scan.id)
    assert row.provenance_says is Says.GENERATED
    assert SECRET not in row.provenance_sources


def test_pixels_have_no_file_that_could_say_anything(home: Home) -> None:
    with d3.D3(home.settings()) as detector:
        with Image.open(io.BytesIO(RECORD)) as image:
            assert detector.detect(image).provenance is None
        found = detector.detect(RECORD).provenance
        assert found is not None
        assert found.says is Says.GENERATED
        assert detector.prompts(RECORD) == [SECRET]
        assert detector.prompts(PLAIN) == []


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "cannot be read"),
        (
            "-----BEGIN CERTIFICATE-----\nno\n-----END CERTIFICATE-----",
            "holds no certificate in PEM, or a broken one",
        ),
    ],
)
def test_a_service_does_not_start_without_the_certificates_it_is_to_trust(
    home: Home, tmp_path: Path, content: str | None, sentence: str
) -> None:
    trust = tmp_path / "trust.pem"
    if content is not None:
        trust.write_text(content)
    with d3_serve(tmp_path, **home.environ, D3_C2PA_TRUST=str(trust)) as served:
        assert served.process.wait(60) != 0
        assert "D3_C2PA_TRUST" in served.text
        assert sentence in served.text
        assert "Traceback" not in served.text
