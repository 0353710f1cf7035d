"""The Pillow decoder on real files: exact on sound ones, quick and plain-spoken on the others."""

from __future__ import annotations

import hashlib
import io
import json
import os
import struct
import subprocess
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from d3.adapters.pillow import Limits, PillowDecoder
from d3.domain.errors import (
    ImageDamaged,
    ImageEmpty,
    ImageError,
    ImageNotFound,
    ImageTooLarge,
    ImageUnsupported,
)
from d3.domain.inputs import Change, PixelsWanted
from d3.network.encoder import normalise
from images import (
    animation,
    black_png,
    encoded,
    gif_with_comment,
    jpeg_segment,
    jpeg_with_scans,
    jpeg_with_size,
    picture,
    png_16_bit,
    with_jpeg_segments,
)
from tests.support.images import noise, png, png_chunk, png_header

SIZE = 224
FORMATS = ["JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "HEIF", "TIFF", "JPEG2000", "JXL", "PSD"]
decode = PillowDecoder().decode


def resized(image: Image.Image) -> np.ndarray:
    """The published preprocessing: torchvision's Resize on the RGB image."""
    from torchvision.transforms import Resize

    return np.asarray(Resize((SIZE, SIZE))(image.convert("RGB")))


@pytest.mark.parametrize(
    ("width", "height"),
    [(224, 224), (1, 1), (2, 3), (223, 225), (640, 427), (1500, 20), (20, 1500), (449, 447)],
)
def test_pixels_equal_torchvisions_resize(width: int, height: int) -> None:
    image = Image.fromarray(noise(height, width))
    assert np.array_equal(decode(encoded(image, "PNG"), SIZE).pixels, resized(image))


def test_pixels_equal_the_published_codes(pack: Path) -> None:
    for case in json.loads((pack / "expected.json").read_text())["cases"]:
        pixels = decode(pack / "images" / case["image"], SIZE).pixels
        tensor = normalise(torch.from_numpy(pixels)[None])[0]
        assert tensor.mean((1, 2)).tolist() == pytest.approx(case["pixel_mean"], abs=1e-5)
        assert tensor.std((1, 2)).tolist() == pytest.approx(case["pixel_std"], abs=1e-5)
        assert case["pixel_samples"]
        for place, value in case["pixel_samples"].items():
            channel, row, column = map(int, place.split(","))
            assert tensor[channel, row, column].item() == pytest.approx(value, abs=1e-5)


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_is_read_and_named(kind: str) -> None:
    data = encoded(picture(), kind)
    decoded = decode(data, SIZE)
    facts = decoded.facts
    assert (facts.format, facts.width, facts.height, facts.frames) == (kind, 61, 47, 1)
    assert facts.sha256 == hashlib.sha256(data).hexdigest()
    assert facts.size_bytes == len(data)
    difference = np.abs(decoded.pixels.astype(int) - resized(picture()))
    assert difference.mean() < 12


@pytest.mark.parametrize("kind", ["PNG", "BMP", "WEBP"])
def test_lossless_formats_give_the_same_pixels(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    assert np.array_equal(
        decode(encoded(picture(), kind, **options), SIZE).pixels, resized(picture())
    )


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "CMYK", "1", "YCbCr", "HSV", "PA"])
def test_every_mode_becomes_rgb_and_the_image_handed_in_stays_as_it_was(mode: str) -> None:
    image = picture().convert("L" if mode == "LA" else "RGB").convert("P" if mode == "PA" else mode)
    if mode == "PA":
        image = image.convert("PA")
    before = image.tobytes(), dict(image.info)
    assert np.array_equal(decode(image, SIZE).pixels, resized(image))
    assert (image.mode, (image.tobytes(), dict(image.info))) == (mode, before)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "1"])
def test_every_png_mode_is_read(mode: str) -> None:
    image = picture().convert("L").convert(mode) if mode == "LA" else picture().convert(mode)
    assert np.array_equal(decode(encoded(image, "PNG"), SIZE).pixels, resized(image))


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_grey_and_cmyk_jpegs_are_read(mode: str) -> None:
    data = encoded(picture().convert(mode), "JPEG", quality=95)
    assert np.array_equal(decode(data, SIZE).pixels, resized(Image.open(io.BytesIO(data))))


@pytest.mark.parametrize("transparency", [3, bytes(range(256))])
def test_a_palette_with_transparency_keeps_its_colours(transparency: int | bytes) -> None:
    image = picture().convert("P")
    data = encoded(image, "PNG", transparency=transparency)
    assert np.array_equal(decode(data, SIZE).pixels, resized(image))


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_transparent_colour_is_dropped(mode: str) -> None:
    image = picture().convert(mode)
    key = (1, 2, 3) if mode == "RGB" else 7
    data = encoded(image, "PNG", transparency=key)
    assert np.array_equal(decode(data, SIZE).pixels, resized(image))


def test_alpha_is_dropped_not_blended() -> None:
    image = picture().convert("RGBA")
    image.putalpha(0)
    assert np.array_equal(decode(encoded(image, "PNG"), SIZE).pixels, resized(picture()))


def test_exif_orientation_is_not_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(picture(), "JPEG", exif=exif)
    plain = encoded(picture(), "JPEG")
    assert np.array_equal(decode(data, SIZE).pixels, decode(plain, SIZE).pixels)


@pytest.mark.parametrize("channels", [(), (3,)])
def test_sixteen_bits_are_rescaled_not_clipped(channels: tuple[int, ...]) -> None:
    samples = np.random.default_rng(0).integers(0, 2**16, (40, 30, *channels), dtype=np.uint16)
    expected = Image.fromarray((samples >> 8).astype(np.uint8))
    assert np.array_equal(decode(png_16_bit(samples), SIZE).pixels, resized(expected))


def test_sixteen_bit_pil_images_are_rescaled_whatever_their_byte_order() -> None:
    samples = np.random.default_rng(0).integers(0, 2**16, (40, 30), dtype=np.uint16)
    little = Image.fromarray(samples)
    big = Image.frombytes("I;16B", little.size, samples.astype(">u2").tobytes())
    expected = resized(Image.fromarray((samples >> 8).astype(np.uint8)))
    assert np.array_equal(decode(little, SIZE).pixels, expected)
    assert np.array_equal(decode(big, SIZE).pixels, expected)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "AVIF"])
def test_the_first_frame_of_an_animation_is_judged_and_frames_are_counted(kind: str) -> None:
    data = animation(kind)
    decoded = decode(data, SIZE)
    assert decoded.facts.frames == 3
    first = Image.open(io.BytesIO(data))
    assert np.array_equal(decoded.pixels, resized(first))
    assert np.abs(decoded.pixels.astype(int) - resized(picture())).mean() < 12


def test_a_photograph_with_a_second_picture_inside_is_no_animation() -> None:
    data = encoded(picture(), "MPO", save_all=True, append_images=[picture(seed=1)])
    facts = decode(data, SIZE).facts
    assert (facts.format, facts.frames) == ("JPEG", 1)


def test_two_palettes_of_the_same_indices_have_different_hashes() -> None:
    one = picture().convert("P")
    other = one.copy()
    other.putpalette(one.getpalette()[::-1])
    assert one.tobytes() == other.tobytes()
    assert decode(one, SIZE).facts.sha256 != decode(other, SIZE).facts.sha256


@pytest.mark.parametrize("shape", [(9, 8), (9, 8, 3), (9, 8, 4)])
def test_uint8_arrays_of_one_three_and_four_channels_are_images(shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    array.flags.writeable = False
    assert np.array_equal(decode(array, SIZE).pixels, resized(Image.fromarray(array)))
    assert np.array_equal(
        decode(array[::-1, ::2], SIZE).pixels,
        resized(Image.fromarray(np.ascontiguousarray(array[::-1, ::2]))),
    )


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((), np.uint8),
        np.zeros(3, np.uint8),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((4, 4, 5), np.uint8),
        np.zeros((1, 4, 4, 3), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4, 3), np.int64),
        np.zeros((4, 4, 3), bool),
        np.array([["a"]]),
    ],
)
def test_other_arrays_are_refused(array: np.ndarray) -> None:
    with pytest.raises(ImageUnsupported):
        decode(array, SIZE)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_pixels_without_a_known_range_are_refused(mode: str) -> None:
    with pytest.raises(ImageUnsupported):
        decode(Image.new(mode, (8, 8)), SIZE)


def test_a_pil_image_whose_file_is_cut_short_is_refused() -> None:
    data = encoded(picture(), "JPEG")
    with pytest.raises(ImageDamaged):
        decode(Image.open(io.BytesIO(data[:-100])), SIZE)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_file_cut_short_anywhere_is_refused(kind: str) -> None:
    data = encoded(picture(), kind)
    for part in (0.05, 0.3, 0.6):
        with pytest.raises((ImageDamaged, ImageUnsupported)):
            decode(data[: int(len(data) * part)], SIZE)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_damaged_file_gives_pixels_or_one_of_our_errors(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(FORMATS))
    file = bytearray(SMALL_FILES[kind])
    for at in data.draw(st.lists(st.integers(4, len(file) - 1), min_size=1, max_size=8)):
        file[at] = data.draw(st.integers(0, 255))
    # Pillow may warn of a malformed file; here it is only asked not to fail in its own words.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pixels = np.zeros((14, 14, 3), np.uint8)
        with suppress(ImageError):
            pixels = decode(bytes(file), 14).pixels
    assert (pixels.shape, pixels.dtype) == ((14, 14, 3), np.uint8)


SMALL_FILES = {kind: encoded(picture(19, 13), kind) for kind in FORMATS}


@pytest.mark.parametrize(
    "data",
    [
        b"Just a sentence.",
        b"BM is how this sentence begins, and it is long enough to hold a BMP header and more.",
        b"%PDF-1.7\n" + b"\0" * 500,
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"\0" * 4096,
        b"PK\3\4" + b"\0" * 100,
    ],
)
def test_what_is_no_image_is_refused(data: bytes) -> None:
    with pytest.raises(ImageUnsupported):
        decode(data, SIZE)


@pytest.mark.parametrize("name", ["nul\0byte.png", "lone\ud800surrogate.png", "x" * 300, ""])
def test_a_path_that_cannot_be_is_not_found(name: str) -> None:
    with pytest.raises(ImageNotFound):
        decode(name, SIZE)
    with pytest.raises(ImageNotFound):
        PillowDecoder().recognises(Path(name))


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/null", "FIFO"])
def test_pipes_and_devices_are_not_waited_for(device: str, tmp_path: Path) -> None:
    place = Path(device)
    if device == "FIFO":
        place = tmp_path / "pipe"
        os.mkfifo(place)
    begun = time.monotonic()
    with pytest.raises(ImageNotFound):
        decode(place, SIZE)
    with pytest.raises(ImageNotFound):
        PillowDecoder().recognises(place)
    assert time.monotonic() - begun < 1


def test_a_folder_leaves_no_descriptor_open(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        with pytest.raises(ImageNotFound, match="folder"):
            decode(tmp_path, SIZE)
    assert len(list(Path("/proc/self/fd").iterdir())) <= before


def test_limits_are_exact() -> None:
    data = png(noise(20, 30))
    sound = Limits(bytes=len(data), pixels=600, side=30)
    PillowDecoder(sound).decode(data, SIZE)
    for beyond in (
        Limits(bytes=len(data) - 1),
        Limits(pixels=599),
        Limits(side=29),
    ):
        with pytest.raises(ImageTooLarge):
            PillowDecoder(beyond).decode(data, SIZE)


@pytest.mark.parametrize("source", [noise(20, 30), Image.fromarray(noise(20, 30))])
def test_limits_of_size_hold_for_pixels_too(source: object) -> None:
    for limits in (Limits(pixels=599), Limits(side=29)):
        with pytest.raises(ImageTooLarge):
            PillowDecoder(limits).decode(source, SIZE)


def test_a_file_beyond_the_limit_is_not_read_to_its_end(tmp_path: Path) -> None:
    file = tmp_path / "large.png"
    with file.open("wb") as stream:
        stream.write(png_header(1, 1))
        stream.truncate(2**40)
    begun = time.monotonic()
    with pytest.raises(ImageTooLarge):
        PillowDecoder(Limits(bytes=1000)).decode(file, SIZE)
    assert time.monotonic() - begun < 1


def test_a_limit_may_be_raised_beyond_pillows_own() -> None:
    tall = black_png(14_000, 13_000)
    limits = Limits(pixels=200_000_000)
    assert PillowDecoder(limits).decode(tall, 14).facts.height == 13_000


HOSTILE = {
    "13000x13000.png": (lambda: black_png(13_000, 13_000), ImageTooLarge),
    "enormous.png": (lambda: png_header(2**31 - 1, 2**31 - 1) + png_chunk(b"IDAT"), ImageTooLarge),
    "patched.jpg": (lambda: jpeg_with_size(65_500, 65_500), ImageTooLarge),
    "patched-within-the-limit.jpg": (lambda: jpeg_with_size(7_000, 7_000), ImageDamaged),
    "40000x1.png": (lambda: black_png(40_000, 1), ImageTooLarge),
    "3000-scans.jpg": (lambda: jpeg_with_scans(3_000), ImageTooLarge),
    "comments.jpg": (
        lambda: with_jpeg_segments(
            encoded(picture(), "JPEG"), jpeg_segment(0xFE, b"x" * 60_000) * 800
        ),
        None,
    ),
    "endless-comment.gif": (lambda: gif_with_comment(150_000, 255), ImageTooLarge),
    "many-tiny-comments.gif": (lambda: gif_with_comment(399_000, 1), None),
    "hidden-comment.gif": (lambda: b"GIF89a\1\0\1\0\0\0\0" + b"\0" * 40_000_000, ImageDamaged),
    "chunks.png": (
        lambda: png_header(9, 9) + png_chunk(b"tEXt", b"a\0b") * 2_000_000,
        ImageTooLarge,
    ),
    "empty-pixel-chunks.png": (
        lambda: png_header(9, 9) + png_chunk(b"IDAT") * 90_000 + png_chunk(b"IEND"),
        ImageDamaged,
    ),
    "text-bomb.png": (
        lambda: (
            png_header(9, 9)
            + png_chunk(b"zTXt", b"a\0\0" + zlib_bomb(200_000_000))
            + png(noise(9, 9))[33:]
        ),
        None,
    ),
    "profile-bomb.png": (
        lambda: (
            png_header(9, 9)
            + png_chunk(b"iCCP", b"a\0\0" + zlib_bomb(200_000_000))
            + png(noise(9, 9))[33:]
        ),
        None,
    ),
    "pixel-bomb.png": (
        lambda: png_header(9, 9) + png_chunk(b"IDAT", zlib_bomb(200_000_000)) + png_chunk(b"IEND"),
        None,
    ),
    "canvas.webp": (
        lambda: b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0\2\0\0\0" + b"\xfe\x3f\0" * 2 + b"\0" * 40,
        ImageTooLarge,
    ),
    "frame.gif": (
        lambda: (
            b"GIF89a\1\0\1\0\0\0\0,\0\0\0\0" + struct.pack("<HHB", 65_535, 65_535, 0) + b"\2\0;"
        ),
        ImageTooLarge,
    ),
}


def zlib_bomb(size: int) -> bytes:
    import zlib

    packer = zlib.compressobj(9)
    megabyte = b"\0" * 2**20
    return b"".join(packer.compress(megabyte) for _ in range(size // 2**20)) + packer.flush()


MEASURE = """
import resource, sys, time
from pathlib import Path
from d3.adapters.pillow import PillowDecoder
from d3.domain.errors import ImageError

decoder = PillowDecoder()
kibibytes = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for file in sorted(Path(sys.argv[1]).iterdir()):
    data = file.read_bytes()
    before, begun = kibibytes(), time.process_time()
    try:
        decoder.decode(data, 224)
        outcome = "None"
    except ImageError as error:
        outcome = type(error).__name__
    print(file.name, outcome, time.process_time() - begun, kibibytes() - before)
"""


def test_hostile_files_cost_little_time_and_memory(
    tmp_path: Path, run_python: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    folder = tmp_path / "hostile"
    folder.mkdir()
    for name, (make, _) in HOSTILE.items():
        (folder / name).write_bytes(make())
    found = {}
    for line in run_python(MEASURE, folder).stdout.splitlines():
        name, outcome, seconds, kibibytes = line.split()
        found[name] = outcome
        limit = 3 if "within-the-limit" in name else 1
        assert float(seconds) < limit, line
        assert int(kibibytes) < 450 * 1024, line
    expected = {name: error.__name__ if error else "None" for name, (_, error) in HOSTILE.items()}
    assert found == expected


def test_a_decoder_may_be_used_while_warnings_are_errors_elsewhere() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ImageTooLarge):
            decode(black_png(13_000, 13_000), SIZE)


def test_empty_files_and_images_without_pixels_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    with pytest.raises(ImageEmpty):
        decode(tmp_path / "empty.png", SIZE)
    with pytest.raises(ImageEmpty):
        decode(Image.new("RGB", (0, 5)), SIZE)


def test_a_comment_that_no_jpeg_can_hold_is_no_part_of_an_image_as_jpeg() -> None:
    wanted = PixelsWanted(SIZE, change=Change.JPEG)
    plain, spoken = (
        encoded(picture(), "GIF", **given) for given in ({}, {"comment": b"a" * 70_000})
    )
    assert np.array_equal(decode(spoken, wanted).pixels, decode(plain, wanted).pixels)


def test_an_image_that_no_jpeg_can_hold_says_so() -> None:
    decoder = PillowDecoder(Limits(side=70_000))
    with pytest.raises(ImageTooLarge, match="65,500"):
        decoder.decode(noise(2, 65_501), SIZE, [PixelsWanted(SIZE, change=Change.JPEG)])


@pytest.mark.parametrize("kind", FORMATS)
def test_an_image_does_not_hold_what_decoded_it(kind: str) -> None:
    """A WebP's decoder has three more copies of it, and changes of it need room."""
    _, rgb = PillowDecoder()._load(kind, encoded(picture(), kind))
    assert type(rgb) is Image.Image
