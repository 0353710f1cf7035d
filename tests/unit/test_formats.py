"""One rule of what is an image, whether D3 reads it or not: its content or its name says so."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from d3.domain.errors import (
    D3Error,
    ImageDamaged,
    ImageEmpty,
    ImageFormatUnsupported,
    ImageNotFound,
    ImageUnsupported,
)
from d3.domain.formats import FORMATS, SNIFFED_BYTES, is_no_image, named_as_image, sniff


@pytest.mark.parametrize(
    "kind",
    ["JPEG", "PNG", "GIF", "WEBP", "BMP", "AVIF", "TIFF", "JPEG2000", "ICO", "QOI", "DDS", "ICNS"],
)
def test_what_pillow_writes_is_an_image_by_its_first_bytes(kind: str) -> None:
    content = io.BytesIO()
    Image.new("RGB", (32, 32), "teal").save(content, kind)
    assert sniff(content.getvalue()[:SNIFFED_BYTES]) == kind


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        (b"MM\0*\0\0\0\x08", "TIFF"),
        (b"II+\0\x08\0\0\0", "TIFF"),
        (b"\xff\x0a\xfa\x1f", "JXL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n\0\0\0\x14ftypjxl ", "JXL"),
        (b"8BPS\0\1\0\0", "PSD"),
        (b"II\xbc\1 \0\0\0", "JPEG XR"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "CR3"),
        (b"FUJIFILMCCD-RAW 0201", "RAF"),
        (b"v/1\1\2\0\0\0", "OpenEXR"),
        (b"#?RADIANCE\n", "Radiance HDR"),
        (b"P6\n640 480\n255\n", "PNM"),
        (b"P3 is the third chapter", None),
        (b"\0\0\1\xba\x21\0\1\0\1\x80\0\1", None),
        (b"\0\0\1\0" + bytes(18), None),
        (b"\0\0\0\x18ftypqt  \0\0\0\0qt  ", None),
        (b"<!DOCTYPE html><img src='a.jpg'>", None),
    ],
)
def test_formats_that_need_not_be_read_are_told_as_well(start: bytes, kind: str | None) -> None:
    assert sniff(start) == kind


@pytest.mark.parametrize(
    "name",
    ["a.jpg", "IMG.HIF", "x.y.tiff", "s3://bucket/a b.jxl", "dir.d/photo.dng", "a.JPE", "p/.x.png"],
)
def test_a_name_says_that_a_file_is_an_image(name: str) -> None:
    assert named_as_image(name)


@pytest.mark.parametrize(
    "name", ["a", "jpg", ".jpg", "a.jpg.txt", "a.svg", "photos.d/a", "a.mov", ""]
)
def test_other_names_say_nothing(name: str) -> None:
    assert not named_as_image(name)


@pytest.mark.parametrize(
    ("name", "error", "no_image"),
    [
        ("notes", ImageUnsupported(""), True),
        ("empty", ImageEmpty(""), True),
        ("web page.jpg", ImageUnsupported(""), False),
        ("empty.heic", ImageEmpty(""), False),
        ("scan", ImageFormatUnsupported(""), False),
        ("cut", ImageDamaged(""), False),
        ("locked", ImageNotFound(""), False),
    ],
)
def test_only_what_is_no_image_by_content_and_name_is_passed_over(
    name: str,
    error: D3Error,
    no_image: bool,  # noqa: FBT001
) -> None:
    assert is_no_image(name, error) is no_image


def test_no_suffix_belongs_to_two_formats() -> None:
    every = [suffix for one in FORMATS for suffix in one.suffixes]
    assert len(every) == len(set(every))
    assert all(suffix.startswith(".") and suffix == suffix.lower() for suffix in every)
