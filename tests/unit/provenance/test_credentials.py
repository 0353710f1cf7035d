"""Content Credentials, signed with the tests' own certificates by the library that reads them."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from PIL import Image

from d3.adapters.pillow import PillowDecoder
from d3.adapters.pillow.isolated import IsolatedDecoder
from d3.adapters.provenance import ProvenanceReader
from d3.domain.provenance import UNREADABLE, Provenance, Says, Source, SourceKind, State
from images import encoded, picture, with_png_chunks
from tests.support.credentials import CAPTURED, GENERATED, IPTC, PART, Authority, manifest
from tests.support.images import png_chunk
from tests.support.metadata import xmp_packet

MIME = {
    "AVIF": "image/avif",
    "GIF": "image/gif",
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "TIFF": "image/tiff",
    "WEBP": "image/webp",
}
PICTURE = picture(160, 120)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority("Nord Press")


def read(data: bytes, trust: Authority | None = None) -> Provenance:
    """What a file says, to somebody who trusts this authority."""
    reader = ProvenanceReader("" if trust is None else trust.pem.decode())
    found = PillowDecoder(provenance=reader).decode(data, 64).facts.provenance
    assert found is not None
    return found


def c2pa(found: Provenance) -> Source:
    """What the manifest says."""
    (source,) = (one for one in found.sources if one.kind is SourceKind.C2PA)
    return source


def signed(authority: Authority, kind: str = "JPEG", **said: Any) -> bytes:
    return authority.sign(encoded(PICTURE, kind), MIME[kind], manifest(**said))


@pytest.mark.parametrize("kind", MIME)
def test_a_signed_file_of_each_kind_is_checked(kind: str, authority: Authority) -> None:
    data = signed(authority, kind)
    source = c2pa(read(data, authority))
    assert (source.state, source.says, source.reason) == (State.VALID, Says.GENERATED, None)
    assert (source.signer, source.generator) == ("Nord Press", "Test Studio 1.0")
    assert (source.actions, source.digital_source_type) == (
        ("c2pa.created",),
        "trainedAlgorithmicMedia",
    )


def test_a_signer_whom_nobody_vouches_for_is_untrusted(authority: Authority) -> None:
    data = signed(authority)
    for trust in (None, Authority("Somebody Else")):
        source = c2pa(read(data, trust))
        assert source.state is State.UNTRUSTED
        assert source.says is Says.GENERATED
        assert "D3_C2PA_TRUST" in str(source.reason)


def test_certificates_that_cannot_be_used_are_no_fault_of_the_picture(
    authority: Authority,
) -> None:
    data = signed(authority)
    for trust in ("\ufeff" + authority.pem.decode(), "nonsense", authority.pem.decode()[:200]):
        reader = ProvenanceReader(trust)
        found = PillowDecoder(provenance=reader).decode(data, 64).facts.provenance
        assert found is not None
        assert c2pa(found).state is not State.INVALID, trust
        assert c2pa(found).says is Says.GENERATED


def test_many_actions_hide_none(authority: Authority) -> None:
    said = manifest(IPTC + "digitalCapture", [f"org.example.{n}" for n in range(200)])
    actions = said["assertions"][0]["data"]["actions"]
    actions.append({"action": "c2pa.edited", "digitalSourceType": GENERATED})
    data = authority.sign(encoded(PICTURE, "JPEG"), "image/jpeg", said)
    assert read(data, authority).says is Says.GENERATED


def flipped(data: bytes, at: int) -> bytes:
    """The file with one bit changed."""
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "AVIF": lambda data: flipped(data, len(data) - 40),
    "JPEG": lambda data: flipped(data, len(data) - 40),
    "PNG": lambda data: with_png_chunks(data, png_chunk(b"tEXt", b"a\0b")),
    "TIFF": lambda data: flipped(data, 400),
    "WEBP": lambda data: flipped(data, data.index(b"VP8 ") + 300),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_a_file_that_was_changed_is_invalid(kind: str, authority: Authority) -> None:
    """Its hash no longer fits; the camera that it claims is believed no more."""
    data = signed(authority, kind, source_type=CAPTURED, generator="Camera")
    assert read(data, authority).says is Says.CAMERA
    found = read(CHANGES[kind](data), authority)
    source = c2pa(found)
    assert source.state is State.INVALID
    assert "changed after it was signed" in str(source.reason)
    assert found.says is Says.EDITED


def test_a_manifest_that_was_changed_is_invalid(authority: Authority) -> None:
    data = signed(authority, source_type=CAPTURED)
    assert data.count(b"digitalCapture") == 1
    found = read(data.replace(b"digitalCapture", b"digitalcapture"), authority)
    assert c2pa(found).state is State.INVALID
    assert found.says is Says.NOTHING


def test_a_generated_file_that_was_changed_still_says_so(authority: Authority) -> None:
    data = bytearray(signed(authority))
    data[-40] ^= 1
    found = read(bytes(data), authority)
    assert (c2pa(found).state, found.says) == (State.INVALID, Says.GENERATED)


def test_a_manifest_moved_into_another_picture_is_invalid(authority: Authority) -> None:
    """As in a forgery: a camera's signature around pixels that it never saw."""
    camera = signed(authority, source_type=CAPTURED)
    start = camera.index(b"\xff\xeb")
    end = start
    while camera[end : end + 2] == b"\xff\xeb":
        end += 2 + int.from_bytes(camera[end + 2 : end + 4])
    other = encoded(picture(160, 120, seed=9), "JPEG")
    found = read(other[:2] + camera[start:end] + other[2:], authority)
    assert c2pa(found).state is State.INVALID
    assert found.says is not Says.CAMERA


def test_a_manifest_that_is_cut_away_says_nothing(authority: Authority) -> None:
    stripped = io.BytesIO()
    Image.open(io.BytesIO(signed(authority))).save(stripped, "JPEG", quality=90)
    assert read(stripped.getvalue(), authority) == Provenance()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_manifest_that_makes_no_sense_is_invalid(kind: str, authority: Authority) -> None:
    data = signed(authority, kind)
    at = data.index(b"c2cl")
    found = read(data[:at] + b"\xff" * 40 + data[at + 40 :], authority)
    assert c2pa(found).state is State.INVALID
    assert "cannot be read" in str(c2pa(found).reason)


def test_edits_speak_louder_than_the_camera(authority: Authority) -> None:
    camera = signed(authority, source_type=CAPTURED, generator="Camera")
    edited = authority.sign(
        camera,
        "image/jpeg",
        manifest(None, ["c2pa.cropped", "c2pa.color_adjustments"], "Editor", "c2pa.opened"),
        ingredients=[
            ({"title": "photo.jpg", "relationship": "parentOf", "instance_id": PART}, camera)
        ],
    )
    source = c2pa(read(edited, authority))
    assert (source.state, source.says) == (State.VALID, Says.EDITED)
    assert source.ingredients == ("photo.jpg (parentOf)",)
    assert "c2pa.cropped" in source.actions


def test_what_was_only_published_is_still_a_photograph(authority: Authority) -> None:
    camera = signed(authority, source_type=CAPTURED, generator="Camera")
    published = authority.sign(
        camera,
        "image/jpeg",
        manifest(None, ["c2pa.published"], "Agency", "c2pa.opened"),
        ingredients=[
            ({"title": "photo.jpg", "relationship": "parentOf", "instance_id": PART}, camera)
        ],
    )
    assert read(published, authority).says is Says.CAMERA


@pytest.mark.parametrize("relationship", ["parentOf", "componentOf", "inputTo"])
def test_a_generated_part_makes_the_whole_generated(
    relationship: str, authority: Authority
) -> None:
    part = signed(authority, source_type=GENERATED)
    whole = authority.sign(
        encoded(PICTURE, "JPEG"),
        "image/jpeg",
        manifest(
            IPTC + "digitalCreation",
            ["c2pa.placed"] if relationship == "componentOf" else [],
            "Editor",
        ),
        ingredients=[
            ({"title": "sky.jpg", "relationship": relationship, "instance_id": PART}, part)
        ],
    )
    assert read(whole, authority).says is Says.GENERATED


def test_a_photograph_as_a_part_makes_no_photograph(authority: Authority) -> None:
    part = signed(authority, source_type=CAPTURED)
    whole = authority.sign(
        encoded(PICTURE, "JPEG"),
        "image/jpeg",
        manifest(IPTC + "digitalCreation", [], "Editor"),
        ingredients=[({"title": "photo.jpg", "relationship": "componentOf"}, part)],
    )
    assert read(whole, authority).says is Says.NOTHING


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_manifest_of_10_mb_is_checked_like_a_small_one(kind: str, authority: Authority) -> None:
    said = manifest(thumbnail={"format": "image/jpeg", "identifier": "thumbnail"})
    data = authority.sign(
        encoded(PICTURE, kind), MIME[kind], said, thumbnail=bytes(range(256)) * 40_960
    )
    assert len(data) > 10 * 2**20
    source = c2pa(read(data, authority))
    assert (source.state, source.says) == (State.VALID, Says.GENERATED)


def test_a_manifest_of_countless_words_is_not_read(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("d3.adapters.provenance.credentials._MAX_JSON", 1_000)
    source = c2pa(read(signed(authority), authority))
    assert source.reason == "The manifest is too large to be read."
    assert source.says is Says.NOTHING


def test_texts_in_a_manifest_become_short_lines(authority: Authority) -> None:
    said = manifest(generator="<b>evil\u202e\n" + "x" * 5_000, actions=["org.evil\n" + "y" * 5_000])
    source = c2pa(read(authority.sign(encoded(PICTURE, "JPEG"), "image/jpeg", said), authority))
    assert source.generator is not None
    assert len(source.generator) == 120
    assert all(len(one) <= 120 and one.isprintable() for one in source.actions)


class _Counting(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        self.send_error(404)


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    with HTTPServer(("127.0.0.1", 0), _Counting) as found:
        found.asked = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=found.serve_forever)
        thread.start()
        yield found
        found.shutdown()
        thread.join()


def test_a_manifest_elsewhere_is_never_fetched(authority: Authority, server: HTTPServer) -> None:
    url = f"http://127.0.0.1:{server.server_port}/manifest.c2pa"
    files = [authority.sign(encoded(PICTURE, "JPEG"), "image/jpeg", manifest(), remote=url)]
    packet = xmp_packet(attributes=f'dcterms:provenance="{url}"')
    files.append(encoded(PICTURE, "WEBP", xmp=packet))
    apart = IsolatedDecoder()
    for data in files:
        assert b"/manifest.c2pa" in data
        source = c2pa(read(data, authority))
        assert source.state is State.NONE
        assert source.reason == "The manifest lies at 127.0.0.1. D3 does not fetch it."
        assert apart.decode(data, 64).facts.provenance == read(data, authority)
    apart.close()
    # Even beside a manifest in the file, the one elsewhere is left alone.
    both = authority.sign(files[1], "image/webp", manifest())
    assert c2pa(read(both, authority)).state is State.VALID
    assert server.asked == []  # type: ignore[attr-defined]


def test_many_threads_read_manifests_at_once(authority: Authority) -> None:
    data = signed(authority)
    decoder = PillowDecoder(provenance=ProvenanceReader(authority.pem.decode()))
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: decoder.decode(data, 64).facts.provenance, range(64)))
    assert {c2pa(one).state for one in found if one is not None} == {State.VALID}
    assert None not in found


def test_without_a_manifest_the_library_is_not_even_loaded() -> None:
    program = (
        "import sys; from d3.adapters.pillow import PillowDecoder; "
        "PillowDecoder().decode(sys.stdin.buffer.read(), 64); print('c2pa' in sys.modules)"
    )
    made = subprocess.run(
        [sys.executable, "-c", program],
        input=encoded(PICTURE, "JPEG", xmp=xmp_packet()),
        capture_output=True,
        check=True,
        env=os.environ,
    )
    assert made.stdout.strip() == b"False"


def test_a_manifest_of_many_long_names_is_kept(authority: Authority) -> None:
    said = manifest(
        actions=[f"org.example.{n}" + "ü" * 500 for n in range(100)], generator="ü" * 500
    )
    found = read(authority.sign(encoded(PICTURE, "JPEG"), "image/jpeg", said), authority)
    assert Provenance.from_json(found.to_json()) == found
    assert c2pa(found).state is State.VALID


def test_a_reader_that_fails_costs_no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("d3.adapters.provenance.reader.read_xmp", fail)
    assert read(encoded(PICTURE, "JPEG", xmp=xmp_packet())) == UNREADABLE
