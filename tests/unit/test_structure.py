"""A file's skeleton is judged before anything is decoded."""

from __future__ import annotations

import time
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from d3.adapters.pillow.formats import FORMATS
from d3.adapters.pillow.structure import common, gif, tiff, walk
from d3.adapters.pillow.structure import png as pngs
from d3.domain.errors import ImageDamaged, ImageError, ImageTooLarge
from d3.domain.formats import FORMATS as KNOWN
from d3.domain.formats import SNIFFED_BYTES, sniff
from images import (
    GIF_HEAD,
    animation,
    encoded,
    gif_with_comment,
    heic_of_tiles,
    jpeg_segment,
    jpeg_with_scans,
    picture,
    with_jpeg_segments,
)
from tests.support.images import noise, png, png_chunk, png_header

SCANS = 100


def test_an_ordinary_progressive_jpeg_is_well_within_the_limit() -> None:
    data = encoded(picture(), "JPEG", progressive=True)
    assert data.count(b"\xff\xda") > 5
    walk("JPEG", data, 12)


def test_scans_are_counted_exactly() -> None:
    data = jpeg_with_scans(40, 64, 64)
    walk("JPEG", data, 40)
    with pytest.raises(ImageTooLarge, match="39 scans"):
        walk("JPEG", data, 39)


def test_scans_of_thumbnails_inside_segments_are_not_counted() -> None:
    thumbnail = jpeg_with_scans(60, 16, 16)
    exif = jpeg_segment(0xE1, b"Exif\0\0" + thumbnail)
    preview = jpeg_segment(0xE2, b"MPF\0" + thumbnail)
    walk("JPEG", with_jpeg_segments(encoded(picture(), "JPEG"), exif, preview), 1)


def test_what_follows_the_end_of_a_jpeg_is_not_counted() -> None:
    walk("JPEG", encoded(picture(), "JPEG") + jpeg_with_scans(300, 16, 16), 1)


def test_a_jpeg_of_endless_segments_is_refused() -> None:
    comments = jpeg_segment(0xFE, b"") * (common.MAX_SEGMENTS + 1)
    with pytest.raises(ImageTooLarge, match="segments"):
        walk("JPEG", with_jpeg_segments(encoded(picture(), "JPEG"), comments), SCANS)


def test_a_flood_of_png_chunks_is_refused() -> None:
    flood = png_header(1, 1) + png_chunk(b"tEXt", b"a\0b") * (common.MAX_SEGMENTS + 1)
    with pytest.raises(ImageTooLarge):
        walk("PNG", flood, SCANS)


def test_a_flood_of_empty_pixel_chunks_is_refused() -> None:
    flood = png_header(1, 1) + png_chunk(b"IDAT") * (pngs.MAX_PIXEL_CHUNKS + 1)
    with pytest.raises(ImageTooLarge):
        walk("PNG", flood, SCANS)


def test_what_follows_the_end_of_a_png_is_not_counted() -> None:
    walk("PNG", png(noise(4, 4)) + b"\0" * 1_000_000, SCANS)


def test_a_png_chunk_that_claims_four_gigabytes_ends_the_walk() -> None:
    walk("PNG", png_header(1, 1) + b"\xff\xff\xff\xffIDAT", SCANS)


@pytest.mark.parametrize("frames", [1, 2, 7])
def test_frames_of_a_gif_are_counted(frames: int) -> None:
    assert walk("GIF", animation("GIF", frames), SCANS).frames == frames


def test_a_gif_without_an_image_counts_one_frame_for_the_decoder_to_refuse() -> None:
    assert walk("GIF", GIF_HEAD, SCANS).frames == 1


@pytest.mark.parametrize(("blocks", "length"), [(5000, 255), (1_100_000, 1)])
def test_an_endless_comment_of_a_gif_is_refused(blocks: int, length: int) -> None:
    with pytest.raises(ImageTooLarge):
        walk("GIF", gif_with_comment(blocks, length), SCANS)


def test_a_long_comment_of_a_gif_is_not() -> None:
    assert walk("GIF", gif_with_comment(100, 255), SCANS).frames == 1


def test_junk_before_the_first_frame_of_a_gif_hides_nothing() -> None:
    hidden = GIF_HEAD + b"\0" + gif_with_comment(100_000, 255)[13:]
    with pytest.raises(ImageDamaged):
        walk("GIF", hidden, SCANS)


def test_a_large_run_length_encoded_bmp_is_refused() -> None:
    head = bytearray(encoded(picture(), "BMP")[:54])
    head[30] = 1
    with pytest.raises(ImageTooLarge):
        walk("BMP", bytes(head) + b"\1\0" * 600_000, SCANS)


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
        (b"II*\0", "TIFF"),
        (b"MM\0*", "TIFF"),
        (b"II+\0", "TIFF"),
        (b"\xff\x0a", "JXL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JXL"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG2000"),
        (b"\xff\x4f\xff\x51", "JPEG2000"),
        (b"8BPS\0\1", "PSD"),
        (b"8BPS\0\2", "PSB"),
        (b"\0\0\1\0\1\0" + bytes(12) + b"\x16\0\0\0", "ICO"),
        (b"\0\0\1\0\1\0" + bytes(16), None),
        (b"\xff\xd8", None),
        (b"", None),
    ],
)
def test_a_format_is_told_by_its_first_bytes(start: bytes, kind: str | None) -> None:
    assert sniff(start) == kind


@given(st.binary(max_size=SNIFFED_BYTES))
def test_sniffing_any_bytes_gives_an_answer(start: bytes) -> None:
    assert sniff(start) in {None, *(one.name for one in KNOWN)}


HEADS = {
    "AVIF": b"\0\0\0\x10ftypavif\0\0\0\0" + b"\0\0\x10\0meta\0\0\0\0",
    "BMP": b"BM",
    "GIF": GIF_HEAD,
    "HEIF": b"\0\0\0\x10ftypheic\0\0\0\0" + b"\0\0\x10\0meta\0\0\0\0",
    "ICO": b"\0\0\1\0\1\0",
    "JPEG": b"\xff\xd8\xff\xe0",
    "JPEG2000": b"\xff\x4f\xff\x51",
    "JXL": b"\xff\x0a",
    "PNG": png_header(1, 1),
    "PSD": b"8BPS\0\1",
    "TIFF": b"II*\0\x08\0\0\0",
    "WEBP": b"RIFF\xff\xff\xff\x7fWEBP",
}


def test_every_format_has_a_head_to_be_tried_behind() -> None:
    assert set(HEADS) == FORMATS


@given(st.sampled_from(sorted(HEADS)), st.binary(max_size=400))
def test_any_bytes_behind_a_signature_are_walked_to_an_end(kind: str, tail: bytes) -> None:
    frames = 1
    with suppress(ImageError):
        frames = walk(kind, HEADS[kind] + tail, SCANS).frames
    assert 0 <= frames <= max(gif.MAX_FRAMES, tiff.MAX_PAGES, 2**16)


@settings(deadline=None)
@given(st.sampled_from(sorted(FORMATS)), st.data())
def test_a_changed_file_is_walked_to_an_end(kind: str, data: st.DataObject) -> None:
    file = bytearray(SMALL_FILES[kind])
    for at in data.draw(st.lists(st.integers(4, min(len(file), 600) - 1), min_size=1, max_size=9)):
        file[at] = data.draw(st.integers(0, 255))
    skeleton = None
    with suppress(ImageError):
        skeleton = walk(kind, bytes(file), SCANS)
    assert skeleton is None or len(skeleton.data) <= len(file) + 2**17


SMALL_FILES = {kind: encoded(picture(19, 13), kind) for kind in FORMATS} | {
    "HEIF": heic_of_tiles(2, 1)
}


@pytest.mark.parametrize("kind", sorted(HEADS))
@pytest.mark.parametrize("filler", [b"\0", b"\xff", b"\xff\x01", b"\xff\xfe\0\0", b",", b"!\xfe\0"])
def test_megabytes_of_nonsense_are_walked_in_seconds(kind: str, filler: bytes) -> None:
    data = HEADS[kind] + filler * (20 * 2**20 // len(filler))
    begun = time.process_time()
    with suppress(ImageError):
        walk(kind, data, SCANS)
    assert time.process_time() - begun < 1
