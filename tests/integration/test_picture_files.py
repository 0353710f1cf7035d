"""Files as people have them: every format of daily use, cut short, turned, or of two pictures."""

from __future__ import annotations

import io
import struct
import sys
import zlib
from collections.abc import Callable
from tempfile import NamedTemporaryFile

import numpy as np
import pytest
from PIL import Image, ImageOps

from d3.adapters.pillow import Limits, PillowDecoder
from d3.domain.errors import (
    ImageDamaged,
    ImageError,
    ImageFormatUnsupported,
    ImageTooLarge,
    ImageUnsupported,
)
from d3.domain.images import ORIENTATIONS, Note, turned
from images import (
    animation,
    apng_with_a_hidden_picture,
    bmp_with_masks,
    encoded,
    exif_of,
    gif_with_stray_bytes,
    heic_of_tiles,
    picture,
    png_16_bit,
    tiff,
    with_png_chunks,
)
from tests.hostile.formats import HOSTILE, strip_bomb
from tests.support.images import noise, png, png_chunk

SIZE = 224
DECODER = PillowDecoder()
decode = DECODER.decode


def pixels_of(image: Image.Image) -> np.ndarray:
    """What the network gets of an image that never was a file."""
    return decode(image, SIZE).pixels


# TIFF


@pytest.mark.parametrize(
    "compression",
    [None, "tiff_lzw", "tiff_adobe_deflate", "packbits", "zstd", "lzma", "jpeg", "group4"],
)
def test_a_tiff_is_read_however_it_is_compressed(compression: str | None) -> None:
    image = picture().convert("1" if compression == "group4" else "RGB")
    data = encoded(image, "TIFF", compression=compression)
    difference = np.abs(decode(data, SIZE).pixels.astype(int) - pixels_of(image))
    assert difference.mean() < (4 if compression == "jpeg" else 0.001)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "1", "YCbCr"])
def test_a_tiff_is_read_whatever_its_pixels(mode: str) -> None:
    image = picture().convert("L").convert(mode) if mode == "LA" else picture().convert(mode)
    data = encoded(image, "TIFF")
    assert np.array_equal(decode(data, SIZE).pixels, pixels_of(Image.open(io.BytesIO(data))))


def test_a_tiff_of_16_bits_is_rescaled() -> None:
    grey = np.random.default_rng(0).integers(0, 2**16, (40, 50), dtype=np.uint16)
    expected = decode(png_16_bit(grey), SIZE).pixels
    assert np.array_equal(decode(encoded(Image.fromarray(grey), "TIFF"), SIZE).pixels, expected)


def test_the_first_page_of_a_tiff_is_judged_and_pages_are_counted() -> None:
    data = encoded(
        picture(), "TIFF", save_all=True, append_images=[picture(seed=1), picture(seed=2)]
    )
    decoded = decode(data, SIZE)
    assert (decoded.facts.format, decoded.facts.frames) == ("TIFF", 3)
    assert np.array_equal(decoded.pixels, pixels_of(picture()))


def test_a_big_tiff_is_read() -> None:
    data = encoded(picture(), "TIFF", big_tiff=True)
    assert data[:4] == b"II+\0"
    assert np.array_equal(decode(data, SIZE).pixels, pixels_of(picture()))


def test_pages_that_name_each_other_are_counted_once() -> None:
    sound = {256: (4, [9]), 257: (4, [9]), 262: (3, [1]), 258: (3, [8]), 273: (4, [8])}
    data = tiff(sound, bytes(81), pages=5)
    assert decode(data, SIZE).facts.frames == 5


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_of_an_uncommon_format_is_refused(name: str) -> None:
    make, code = HOSTILE[name]
    with pytest.raises(ImageError) as refused:
        decode(make(), SIZE)
    assert refused.value.code == code


def test_pages_without_end_are_counted_to_a_limit() -> None:
    sound = {256: (4, [9]), 257: (4, [9]), 262: (3, [1]), 258: (3, [8]), 273: (4, [8])}
    assert decode(tiff(sound, bytes(81), pages=12_000), SIZE).facts.frames == 10_000


def test_a_strip_that_unpacks_to_more_than_it_should_is_read_no_further() -> None:
    assert decode(strip_bomb(), SIZE).facts.width == 64


@pytest.mark.parametrize("mode", ["F", "I"])
def test_a_tiff_whose_numbers_have_no_range_is_named(mode: str) -> None:
    with pytest.raises(ImageFormatUnsupported, match=mode):
        decode(encoded(picture().convert("L").convert(mode), "TIFF"), SIZE)


# Other formats


@pytest.mark.parametrize("bitmap", ["bmp", "png"])
def test_of_an_icon_the_largest_picture_is_judged(bitmap: str) -> None:
    image = picture(64, 64)
    data = encoded(image, "ICO", sizes=[(16, 16), (64, 64), (32, 32)], bitmap_format=bitmap)
    decoded = decode(data, SIZE)
    facts = decoded.facts
    assert (facts.format, facts.width, facts.height, facts.frames) == ("ICO", 64, 64, 3)
    assert np.array_equal(decoded.pixels, pixels_of(image))


@pytest.mark.parametrize("options", [{}, {"no_jp2": True}, {"irreversible": True}])
def test_a_jpeg_2000_is_read_with_its_container_and_without(options: dict[str, bool]) -> None:
    data = encoded(picture(), "JPEG2000", **options)
    decoded = decode(data, SIZE)
    assert decoded.facts.format == "JPEG2000"
    assert np.abs(decoded.pixels.astype(int) - pixels_of(picture())).mean() < 3


def test_of_a_photoshop_file_the_flattened_picture_is_judged() -> None:
    assert np.array_equal(decode(encoded(picture(), "PSD"), SIZE).pixels, pixels_of(picture()))


def test_a_photoshop_file_of_16_bits_is_named() -> None:
    data = bytearray(encoded(picture(), "PSD"))
    data[22:24] = b"\0\x10"
    with pytest.raises(ImageFormatUnsupported, match="16 bits"):
        decode(bytes(data), SIZE)


def test_a_jpeg_xl_is_read_and_may_not_claim_more_than_an_image() -> None:
    data = encoded(picture(), "JXL", lossless=True)
    assert np.array_equal(decode(data, SIZE).pixels, pixels_of(picture()))
    with pytest.raises(ImageTooLarge):
        PillowDecoder(Limits(pixels=61 * 47 - 1)).decode(data, SIZE)


def test_a_jpeg_xl_without_its_extra_is_named_and_nobody_is_told_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = encoded(picture(), "JXL")
    monkeypatch.setitem(sys.modules, "pillow_jxl.JpegXLImagePlugin", None)
    with pytest.raises(ImageFormatUnsupported, match="JPEG XL") as refused:
        decode(data, SIZE)
    assert "install " not in str(refused.value)


@pytest.mark.parametrize(
    ("start", "what"),
    [
        (b"%PDF-1.7", "a PDF document"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG drawing"),
        (b"\xef\xbb\xbf<!DOCTYPE html><html>", "a web page"),
        (b"PK\3\4", "a zip archive"),
        (b"v/1\x01", "an image of the format OpenEXR"),
        (b"8BPS\0\2", "a PSB"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", "a video"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "a camera's raw file"),
        (b"P6 3 3 255\n", "an image of the format PNM"),
    ],
)
def test_what_is_not_read_is_named(start: bytes, what: str) -> None:
    remedy = "Judge it as a clip" if what == "a video" else "D3 reads JPEG"
    with pytest.raises(ImageUnsupported, match=f"This is {what}.*{remedy}") as refused:
        decode(start + bytes(400), SIZE)
    is_image = any(word in what for word in ("image", "raw file", "PSB"))
    assert refused.value.code == ("unsupported_image" if is_image else "not_an_image")


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (
            lambda: encoded(picture(), "JPEG").replace(
                b"\xff\xc0\0\x11\x08", b"\xff\xc1\0\x11\x0c"
            ),
            "12",
        ),
        (lambda: bmp_with_masks(picture(), (0xFF0000, 0xFF00, 0xFF, 0xFF000000)), "32 bits"),
        (lambda: heic_of_tiles(2, 2, coder=b"j2k1"), "JPEG 2000"),
        (lambda: heic_of_tiles(2, 2, coder=b"vvc1"), "VVC"),
        (lambda: heic_of_tiles(1, 1).replace(b"meta", b"moov"), "sequence"),
    ],
)
def test_a_sound_file_of_an_unusual_kind_is_named(make: Callable[[], bytes], word: str) -> None:
    with pytest.raises(ImageFormatUnsupported, match=word) as refused:
        decode(make(), SIZE)
    assert refused.value.code == "unsupported_image"


def test_an_avif_beyond_its_librarys_limit_is_too_large() -> None:
    data = bytearray(encoded(picture(64, 48), "AVIF"))
    at = data.index(b"ispe") + 8
    data[at : at + 8] = struct.pack(">II", 17_000, 17_000)
    with pytest.raises(ImageTooLarge):
        decode(bytes(data), SIZE)


# Cut short


END = b"\xff\xd9"
JPEG_KINDS: dict[str, tuple[str, dict[str, object]]] = {
    "baseline": ("RGB", {}),
    "fine colours": ("RGB", {"subsampling": 0}),
    "progressive": ("RGB", {"progressive": True}),
    "grey": ("L", {}),
    "restarts": ("RGB", {"restart_marker_blocks": 4}),
    "CMYK": ("CMYK", {}),
}


@pytest.mark.parametrize("kind", JPEG_KINDS)
@pytest.mark.parametrize("missing", [1, 2, 3, 10])
def test_a_jpeg_without_its_last_bytes_is_judged_with_a_note(kind: str, missing: int) -> None:
    mode, options = JPEG_KINDS[kind]
    whole = encoded(picture(160, 120).convert(mode), "JPEG", **options)
    decoded = decode(whole[:-missing], SIZE)
    assert decoded.facts.note is Note.CUT_SHORT
    assert "is cut short" in str(decoded.facts.note_text)
    upper = slice(0, SIZE * 100 // 120)
    assert np.array_equal(decoded.pixels[upper], decode(whole, SIZE).pixels[upper])


@pytest.mark.parametrize("kind", JPEG_KINDS)
@pytest.mark.parametrize("end", [b"", END])
def test_a_jpeg_without_more_than_its_last_row_is_damaged(kind: str, end: bytes) -> None:
    mode, options = JPEG_KINDS[kind]
    whole = encoded(picture(160, 120).convert(mode), "JPEG", **options)
    # Of a progressive one that ends as it should, the last bits alone may lack unseen.
    for part in (0.2, 0.35) if (kind, end) == ("progressive", END) else (0.35, 0.5, 0.7):
        with pytest.raises(ImageDamaged):
            decode(whole[: int(part * len(whole))] + end, SIZE)


def test_a_grey_end_alone_makes_no_jpeg_damaged() -> None:
    grey = Image.new("RGB", (160, 120), (128, 128, 128))
    assert decode(encoded(grey, "JPEG"), SIZE).facts.note is None


@pytest.mark.parametrize(
    ("kind", "options", "missing"),
    [
        ("PNG", {}, (1, 12, 16, 20)),
        ("WEBP", {}, (1, 4, 12)),
        ("WEBP", {"lossless": True}, (1, 4, 12)),
        ("GIF", {}, (1, 2, 8)),
        ("BMP", {}, (1, 100, 480)),
    ],
)
def test_what_browsers_show_whole_is_judged(
    kind: str, options: dict[str, object], missing: tuple[int, ...]
) -> None:
    whole = encoded(picture(160, 120), kind, **options)
    for number in missing:
        facts = decode(whole[:-number], SIZE).facts
        assert (facts.format, facts.height) == (kind, 120)
        assert facts.note is (None if (kind, number) == ("PNG", 1) else Note.CUT_SHORT)


@pytest.mark.parametrize(
    "kind", ["PNG", "WEBP", "GIF", "BMP", "AVIF", "HEIF", "TIFF", "JPEG2000", "JXL", "PSD", "ICO"]
)
def test_a_picture_that_is_not_there_whole_is_damaged(kind: str) -> None:
    whole = encoded(picture(128, 128), kind)
    for part in (0.5, 0.8):
        with pytest.raises(ImageDamaged):
            decode(whole[: int(part * len(whole))], SIZE)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF"])
def test_an_animation_whose_later_frames_are_cut_is_judged(kind: str) -> None:
    whole = animation(kind, 4)
    decoded = decode(whole[: int(0.8 * len(whole))], SIZE)
    assert decoded.facts.note is Note.CUT_SHORT
    assert np.array_equal(decoded.pixels, decode(whole, SIZE).pixels)


def test_a_webp_that_lacks_whole_chunks_behind_its_picture_is_judged() -> None:
    whole = encoded(picture(), "WEBP", exif=exif_of(6))
    at = whole.index(b"EXIF")
    for missing in (len(whole) - at, len(whole) - at - 4, len(whole) - at - 20):
        decoded = decode(whole[:-missing], SIZE)
        assert decoded.facts.note is Note.CUT_SHORT
        assert np.array_equal(decoded.pixels, decode(whole, SIZE).pixels)


def test_a_heic_of_tiles_is_read_and_one_that_is_cut_is_damaged() -> None:
    whole = heic_of_tiles(3, 2)
    decoded = decode(whole, SIZE)
    assert (decoded.facts.width, decoded.facts.height) == (192, 128)
    assert np.abs(decoded.pixels.astype(int) - pixels_of(picture(192, 128))).mean() < 12
    for missing in (1, 500, len(whole) // 3, len(whole) // 2):
        with pytest.raises(ImageDamaged):
            decode(whole[:-missing], SIZE)


def test_a_heic_of_one_colour_is_whole() -> None:
    data = encoded(Image.new("RGB", (64, 64), (0, 0, 0)), "HEIF")
    assert decode(data, SIZE).facts.note is None


# What a PNG carries beside its picture


@pytest.mark.parametrize(
    "chunk",
    [
        png_chunk(b"zTXt", b"workflow\0\0" + zlib.compress(bytes(5_000_000), 9)),
        png_chunk(b"iTXt", b"XML\0\1\0\0\0" + zlib.compress(bytes(5_000_000), 9)),
        png_chunk(b"iCCP", b"big\0\0" + zlib.compress(bytes(5_000_000), 9)),
        png_chunk(b"iCCP", b"broken\0\0no zlib"),
        png_chunk(b"pHYs", bytes(9))[:-1] + b"?",
        png_chunk(b"tRNS", b"\0\1\0\2\0\3")[:-1] + b"?",
        png_chunk(b"eXIf", b"II*\0\x08\0\0\0\xff\xff"),
    ],
)
def test_chunks_without_pixels_are_skipped_not_unpacked(chunk: bytes) -> None:
    sound = png(noise(40, 40))
    decoded = decode(with_png_chunks(sound, chunk), SIZE)
    assert np.array_equal(decoded.pixels, decode(sound, SIZE).pixels)
    assert decoded.facts.note is None


# Files of two pictures


def test_of_an_animation_what_browsers_show_is_judged() -> None:
    data = apng_with_a_hidden_picture(picture(seed=1), picture(seed=2))
    decoded = decode(data, SIZE)
    assert np.array_equal(decoded.pixels, pixels_of(picture(seed=2)))
    assert (decoded.facts.frames, decoded.facts.note) == (1, Note.TWO_PICTURES)


def test_a_first_frame_that_is_smaller_is_drawn_on_its_canvas() -> None:
    data = apng_with_a_hidden_picture(picture(60, 50), picture(20, 10, seed=2), left=5, top=7)
    canvas = Image.new("RGB", (60, 50))
    canvas.paste(picture(20, 10, seed=2), (5, 7))
    decoded = decode(data, SIZE)
    assert (decoded.facts.width, decoded.facts.height) == (60, 50)
    assert np.array_equal(decoded.pixels, pixels_of(canvas))


def test_frames_behind_a_stray_byte_are_counted() -> None:
    assert decode(gif_with_stray_bytes(4), SIZE).facts.frames == 4


@pytest.mark.parametrize("options", [{}, {"subsampling": 0}])
def test_a_jpeg_with_a_second_picture_is_judged_by_its_first(options: dict[str, int]) -> None:
    first = encoded(picture(), "JPEG", **options)
    second = encoded(picture(seed=1), "JPEG")
    facts = decode(first + second, SIZE).facts
    assert (facts.frames, facts.note) == (1, None)
    assert np.array_equal(decode(first + second, SIZE).pixels, decode(first, SIZE).pixels)


# Turned


def turned_file(kind: str, orientation: int) -> bytes:
    """A picture of 64 x 48 pixels that people see turned."""
    image = picture(64, 48)
    if kind == "TIFF":
        return encoded(image, "TIFF", tiffinfo={0x0112: orientation})
    if kind == "HEIF":
        return encoded(image, "HEIF", exif=exif_of(orientation), quality=95)
    if kind == "JXL":
        # The encoder takes the orientation over from a JPEG that lies in a file.
        with NamedTemporaryFile(suffix=".jpg") as file:
            image.save(file, "JPEG", exif=exif_of(orientation), quality=95)
            file.flush()
            return encoded(Image.open(file.name), "JXL", lossless_jpeg=True)
    options = {"lossless": True} if kind == "WEBP" else {}
    return encoded(image, kind, exif=exif_of(orientation), **options)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF", "JXL"])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_pixels_are_judged_as_stored_and_shown_as_people_see_them(
    kind: str, orientation: int
) -> None:
    data = turned_file(kind, orientation)
    decoded, plain = decode(data, None), decode(turned_file(kind, 1), None)
    assert (decoded.facts.width, decoded.facts.height) == (64, 48)
    assert decoded.orientation == orientation
    assert np.abs(decoded.pixels.astype(int) - plain.pixels).mean() < 3
    seen = turned(plain.pixels, orientation)
    shown = DECODER.picture(data, 64)
    assert shown.shape == seen.shape
    assert np.abs(shown.astype(int) - seen).mean() < 3


@pytest.mark.parametrize("turning", [b"\0", b"\1", b"\2", b"\3"])
def test_a_heic_is_judged_before_it_is_turned(turning: bytes) -> None:
    data = heic_of_tiles(3, 2, turning=b"\0\0\0\x09irot" + turning)
    decoded, plain = decode(data, SIZE), decode(heic_of_tiles(3, 2), SIZE)
    assert np.array_equal(decoded.pixels, plain.pixels)
    from pi_heif.as_plugin import HeifImageFile

    people = HeifImageFile(io.BytesIO(data))
    assert np.array_equal(DECODER.picture(data, 1_000), np.asarray(people))


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_turning_is_what_everybody_does_by_exif(orientation: int) -> None:
    image = Image.fromarray(noise(5, 7))
    image.info["exif"] = exif_of(orientation)
    assert np.array_equal(
        turned(noise(5, 7), orientation), np.asarray(ImageOps.exif_transpose(image))
    )


def test_a_picture_for_people_is_scaled_down_and_never_up() -> None:
    assert DECODER.picture(encoded(picture(300, 200), "PNG"), 150).shape == (100, 150, 3)
    assert DECODER.picture(picture(30, 20), 150).shape == (20, 30, 3)
    assert DECODER.picture(noise(200, 300), 150).shape == (100, 150, 3)


# Large


@pytest.mark.parametrize(("width", "height"), [(8_192, 6_144), (9_504, 6_336), (12_000, 9_000)])
def test_pictures_of_todays_cameras_are_within_the_limits(width: int, height: int) -> None:
    assert width * height <= Limits().pixels
