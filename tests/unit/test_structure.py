"""A file's skeleton is judged before anything is decoded."""

from __future__ import annotations

import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from d3.adapters.pillow import structure
from d3.adapters.pillow.structure import check_structure, gif_frames
from d3.domain.errors import ImageDamaged, ImageError, ImageTooLarge
from d3.domain.formats import FORMATS, SNIFFED_BYTES, sniff
from d3.testing.images import noise, png, png_chunk, png_header
from images import (
    GIF_HEAD,
    animation,
    encoded,
    gif_with_comment,
    jpeg_segment,
    jpeg_with_scans,
    picture,
    with_jpeg_segments,
)

SCANS = 100


def test_an_ordinary_progressive_jpeg_is_well_within_the_limit() -> None:
    data = encoded(picture(), "JPEG", progressive=True)
    assert data.count(b"\xff\xda") > 5
    check_structure("JPEG", data, 12)


def test_scans_are_counted_exactly() -> None:
    data = jpeg_with_scans(40, 64, 64)
    check_structure("JPEG", data, 40)
    with pytest.raises(ImageTooLarge, match="39 scans"):
        check_structure("JPEG", data, 39)


def test_scans_of_thumbnails_inside_segments_are_not_counted() -> None:
    thumbnail = jpeg_with_scans(60, 16, 16)
    exif = jpeg_segment(0xE1, b"Exif\0\0" + thumbnail)
    preview = jpeg_segment(0xE2, b"MPF\0" + thumbnail)
    check_structure("JPEG", with_jpeg_segments(encoded(picture(), "JPEG"), exif, preview), 1)


def test_what_follows_the_end_of_a_jpeg_is_not_counted() -> None:
    check_structure("JPEG", encoded(picture(), "JPEG") + jpeg_with_scans(300, 16, 16), 1)


def test_a_jpeg_of_endless_segments_is_refused() -> None:
    comments = jpeg_segment(0xFE, b"") * (structure.MAX_SEGMENTS + 1)
    with pytest.raises(ImageTooLarge, match="segments"):
        check_structure("JPEG", with_jpeg_segments(encoded(picture(), "JPEG"), comments), SCANS)


def test_a_flood_of_png_chunks_is_refused() -> None:
    flood = png_header(1, 1) + png_chunk(b"tEXt", b"a\0b") * (structure.MAX_SEGMENTS + 1)
    with pytest.raises(ImageTooLarge):
        check_structure("PNG", flood, SCANS)


def test_a_flood_of_empty_pixel_chunks_is_refused() -> None:
    flood = png_header(1, 1) + png_chunk(b"IDAT") * (structure.MAX_PIXEL_CHUNKS + 1)
    with pytest.raises(ImageTooLarge):
        check_structure("PNG", flood, SCANS)


def test_what_follows_the_end_of_a_png_is_not_counted() -> None:
    check_structure("PNG", png(noise(4, 4)) + b"\0" * 1_000_000, SCANS)


def test_a_png_chunk_that_claims_four_gigabytes_ends_the_walk() -> None:
    check_structure("PNG", png_header(1, 1) + b"\xff\xff\xff\xffIDAT", SCANS)


@pytest.mark.parametrize("frames", [1, 2, 7])
def test_frames_of_a_gif_are_counted(frames: int) -> None:
    assert gif_frames(animation("GIF", frames)) == frames


def test_a_gif_without_an_image_counts_one_frame_for_the_decoder_to_refuse() -> None:
    assert gif_frames(GIF_HEAD) == 1


@pytest.mark.parametrize(("blocks", "length"), [(5000, 255), (1_100_000, 1)])
def test_an_endless_comment_of_a_gif_is_refused(blocks: int, length: int) -> None:
    with pytest.raises(ImageTooLarge):
        gif_frames(gif_with_comment(blocks, length))


def test_a_long_comment_of_a_gif_is_not() -> None:
    assert gif_frames(gif_with_comment(100, 255)) == 1


def test_junk_before_the_first_frame_of_a_gif_hides_nothing() -> None:
    hidden = GIF_HEAD + b"\0" + gif_with_comment(100_000, 255)[13:]
    with pytest.raises(ImageDamaged):
        gif_frames(hidden)


def test_a_large_run_length_encoded_bmp_is_refused() -> None:
    head = bytearray(encoded(picture(), "BMP")[:54])
    head[30] = 1
    with pytest.raises(ImageTooLarge):
        check_structure("BMP", bytes(head) + b"\1\0" * 600_000, SCANS)


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        (b"\xff\xd8\xff\xe0", "JPEG"),
        (b"\x89PNG\r\n\x1a\n", "PNG"),
        (b"GIF87a", "GIF"),
        (b"GIF89a", "GIF"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "WEBP"),
        (b"RIFF\0\0\0\0WAVEfmt ", None),
        (b"BM" + bytes(12) + (40).to_bytes(4, "little"), "BMP"),
        (b"BM is how this text begins", None),
        (b"\0\0\0\x1cftypavif\0\0\0\0mif1avif", "AVIF"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0avifmif1", "AVIF"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIF"),
        (b"\0\0\0\x18ftypisom\0\0\0\0isommp42", None),
        (b"%PDF-1.7", None),
        (b"<svg xmlns=", None),
        (b"\xff\xd8", None),
        (b"", None),
    ],
)
def test_a_format_is_told_by_its_first_bytes(start: bytes, kind: str | None) -> None:
    assert sniff(start) == kind


@given(st.binary(max_size=SNIFFED_BYTES))
def test_sniffing_any_bytes_gives_an_answer(start: bytes) -> None:
    assert sniff(start) in {None, *(one.name for one in FORMATS)}


@given(st.sampled_from(["JPEG", "PNG", "BMP", "GIF"]), st.binary(max_size=400))
def test_any_bytes_behind_a_signature_are_walked_to_an_end(kind: str, tail: bytes) -> None:
    head = {"JPEG": b"\xff\xd8\xff", "PNG": png_header(1, 1), "BMP": b"BM", "GIF": GIF_HEAD}[kind]
    frames = 1
    with suppress(ImageError):
        check_structure(kind, head + tail, SCANS)
        frames = gif_frames(head + tail) if kind == "GIF" else 1
    assert 1 <= frames <= structure.MAX_GIF_FRAMES


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF"])
@pytest.mark.parametrize("filler", [b"\0", b"\xff", b"\xff\x01", b"\xff\xfe\0\0", b",", b"!\xfe\0"])
def test_fifty_megabytes_of_nonsense_are_walked_in_seconds(kind: str, filler: bytes) -> None:
    head = {"JPEG": b"\xff\xd8\xff\xe0", "PNG": png_header(1, 1), "GIF": GIF_HEAD}[kind]
    data = head + filler * (50 * 2**20 // len(filler))
    begun = time.process_time()
    with suppress(ImageError):
        check_structure(kind, data, SCANS)
        if kind == "GIF":
            gif_frames(data)
    assert time.process_time() - begun < 2
