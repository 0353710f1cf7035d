"""Metadata is found in each kind of file, where that kind keeps it."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable

import pytest

from d3.adapters.pillow import PillowDecoder
from d3.domain.provenance import Provenance, Says, SourceKind
from images import encoded, jpeg_segment, photoshop, picture, with_jpeg_segments
from tests.support.metadata import exif, generated_xmp

CAMERA = b"Exif\0\0" + exif(make="Leica", model="M11", software="Ver. 1")
PACKET = generated_xmp()
CREDIT = b"\x1c\x02\x6e\0\x13Made with Google AI"
PICTURE = picture(64, 48)


def read(data: bytes) -> Provenance:
    found = PillowDecoder().decode(data, 56).facts.provenance
    assert found is not None
    return found


def heif() -> bytes:
    import pillow_heif

    stream = io.BytesIO()
    pillow_heif.from_pillow(PICTURE).save(stream, exif=CAMERA, xmp=PACKET)
    return stream.getvalue()


def jxl() -> bytes:
    """As the standard has it, uncompressed: boxes before the code stream's."""
    stream = encoded(PICTURE, "JXL", use_container=False)
    boxes = [
        (b"JXL ", b"\r\n\x87\n"),
        (b"ftyp", b"jxl \0\0\0\0jxl "),
        (b"Exif", bytes(4) + CAMERA.removeprefix(b"Exif\0\0")),
        (b"xml ", PACKET),
        (b"jxlc", stream),
    ]
    return b"".join(struct.pack(">I", 8 + len(body)) + kind + body for kind, body in boxes)


def gif() -> bytes:
    data = encoded(PICTURE, "GIF")
    magic = b"\1" + bytes(range(255, -1, -1)) + b"\0"
    at = data.index(b"\x2c", 13 + 3 * 256)
    return data[:at] + b"\x21\xff\x0bXMP DataXMP" + PACKET + magic + data[at:]


def resource(kind: int, body: bytes) -> bytes:
    head = b"8BIM" + struct.pack(">H", kind) + b"\0\0" + struct.pack(">I", len(body))
    return head + body + bytes(len(body) % 2)


RESOURCES = resource(0x0404, CREDIT) + resource(0x0422, CAMERA) + resource(0x0424, PACKET)


def psd() -> bytes:
    data = photoshop(PICTURE)
    return data[:30] + struct.pack(">I", len(RESOURCES)) + RESOURCES + data[34:]


FILES: dict[str, tuple[Callable[[], bytes], set[SourceKind]]] = {
    **{
        kind: (
            lambda kind=kind: encoded(PICTURE, kind, exif=CAMERA, xmp=PACKET),  # type: ignore[misc]
            {SourceKind.EXIF, SourceKind.IPTC},
        )
        for kind in ("AVIF", "JPEG", "WEBP")
    },
    "PNG": (lambda: encoded(PICTURE, "PNG", exif=CAMERA), {SourceKind.EXIF}),
    "HEIF": (heif, {SourceKind.EXIF, SourceKind.IPTC}),
    "JXL": (jxl, {SourceKind.EXIF, SourceKind.IPTC}),
    "TIFF": (
        lambda: encoded(PICTURE, "TIFF", tiffinfo={271: "Leica", 272: "M11", 700: PACKET}),
        {SourceKind.EXIF, SourceKind.IPTC},
    ),
    "GIF": (gif, {SourceKind.IPTC}),
    "PSD": (psd, {SourceKind.EXIF, SourceKind.IPTC, SourceKind.RECORD}),
    "JPEG with Photoshop's resources": (
        lambda: with_jpeg_segments(
            encoded(PICTURE, "JPEG"), jpeg_segment(0xED, b"Photoshop 3.0\0" + RESOURCES)
        ),
        {SourceKind.EXIF, SourceKind.IPTC, SourceKind.RECORD},
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_each_kind_of_file_is_heard(name: str) -> None:
    make, kinds = FILES[name]
    found = read(make())
    assert {one.kind for one in found.sources} == kinds
    for source in found.sources:
        if source.kind is SourceKind.EXIF:
            assert (source.says, source.camera) == (Says.CAMERA, "Leica M11")
        else:
            assert source.says is Says.GENERATED


@pytest.mark.parametrize("name", FILES)
def test_the_pixels_are_those_of_the_file_without(name: str) -> None:
    make, _ = FILES[name]
    kind = "JPEG" if name.startswith("JPEG") else name
    data = make()
    plain = PillowDecoder().decode(encoded(PICTURE, kind), 56).pixels
    assert (PillowDecoder().decode(data, 56).pixels == plain).all()
    assert PillowDecoder().decode(data, 56).orientation == 1


@pytest.mark.parametrize("kind", ["BMP", "GIF", "ICO", "JPEG", "JPEG2000", "PNG", "WEBP", "PSD"])
def test_a_file_without_metadata_says_nothing(kind: str) -> None:
    assert read(encoded(PICTURE, kind)) == Provenance()
