"""Images made for the tests: every mode and format that Pillow writes, and files meant to harm."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image

from tests.support.images import noise, png_chunk, png_header


def picture(width: int = 61, height: int = 47, seed: int = 0) -> Image.Image:
    """A smooth RGB picture with some noise, so that lossy formats keep it about as it is."""
    rows, columns = np.mgrid[0:height, 0:width]
    smooth = np.stack([columns * 255 // width, rows * 255 // height, (rows + columns) % 256], -1)
    return Image.fromarray((smooth // 2 + noise(height, width, seed) // 8).astype(np.uint8))


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """The image as a file of this format."""
    if kind == "HEIF":
        import pillow_heif

        stream = io.BytesIO()
        pillow_heif.from_pillow(image).save(stream, **options)
        return stream.getvalue()
    if kind == "PSD":
        return photoshop(image)
    if kind == "JXL":
        import pillow_jxl  # noqa: F401  it makes Pillow write them
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def photoshop(image: Image.Image) -> bytes:
    """A Photoshop file of an RGB image without layers."""
    samples = np.asarray(image.convert("RGB"))
    height, width, channels = samples.shape
    head = b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", channels, height, width, 8, 3)
    return head + bytes(12) + b"\0\0" + samples.transpose(2, 0, 1).tobytes()


def exif_of(orientation: int) -> bytes:
    """Exif that says how a picture is turned."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


def png_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """Kind and content of each chunk."""
    at, found = 8, []
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        found.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    return found


def with_png_chunks(data: bytes, *chunks: bytes) -> bytes:
    """The PNG with chunks put in right behind its header."""
    return data[:33] + b"".join(chunks) + data[33:]


def apng_with_a_hidden_picture(
    hidden: Image.Image, shown: Image.Image, left: int = 0, top: int = 0
) -> bytes:
    """An animation of one frame, and a picture that is not part of it."""
    header, *_ = png_chunks(encoded(hidden, "PNG"))
    pixels = [
        b"".join(body for kind, body in png_chunks(encoded(one, "PNG")) if kind == b"IDAT")
        for one in (hidden, shown)
    ]
    control = struct.pack(">IIIIIHHBB", 0, *shown.size, left, top, 1, 1, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        [
            png_chunk(*header),
            png_chunk(b"acTL", struct.pack(">II", 1, 0)),
            png_chunk(b"IDAT", pixels[0]),
            png_chunk(b"fcTL", control),
            png_chunk(b"fdAT", struct.pack(">I", 1) + pixels[1]),
            png_chunk(b"IEND"),
        ]
    )


def box(kind: bytes, content: bytes) -> bytes:
    """A box of an ISO media file."""
    return struct.pack(">I", 8 + len(content)) + kind + content


def full_box(kind: bytes, content: bytes, version: int = 0, flags: int = 0) -> bytes:
    """A box with a version and flags."""
    return box(kind, struct.pack(">I", version << 24 | flags) + content)


def heic_of_tiles(
    columns: int, rows: int, side: int = 64, turning: bytes = b"", coder: bytes = b"hvc1"
) -> bytes:
    """A HEIC file put together of tiles, as telephones write them; the last one lies last.

    Args:
        columns: of tiles.
        rows: of tiles.
        side: of a tile, in pixels.
        turning: a box such as ``irot`` that turns the picture.
        coder: what the tiles are said to be coded with.
    """
    whole, tiles, configuration = picture(columns * side, rows * side), [], b""
    for top in range(0, rows * side, side):
        for left in range(0, columns * side, side):
            file = encoded(whole.crop((left, top, left + side, top + side)), "HEIF")
            at = file.index(b"hvcC") - 4
            configuration = file[at : at + int.from_bytes(file[at : at + 4], "big")]
            at = file.index(b"mdat") + 4
            tiles.append(file[at : at - 8 + int.from_bytes(file[at - 8 : at - 4], "big")])
    count, numbers = len(tiles), range(2, 2 + len(tiles))
    items = full_box(b"infe", struct.pack(">HH4s", 1, 0, b"grid") + b"\0", 2)
    for number in numbers:
        items += full_box(b"infe", struct.pack(">HH4s", number, 0, coder) + b"\0", 2, 1)
    sizes = [(side, side), (columns * side, rows * side)]
    properties = configuration + b"".join(
        full_box(b"ispe", struct.pack(">II", *one)) for one in sizes
    )
    own = bytes([3, 0x84]) if turning else bytes([3])
    uses = struct.pack(">IHB", count + 1, 1, len(own)) + own
    uses += b"".join(struct.pack(">HBBB", number, 2, 0x81, 2) for number in numbers)
    grid = struct.pack(">BBBBHH", 0, 0, rows - 1, columns - 1, *sizes[1])
    parts = struct.pack(f">HH{count}H", 1, count, *numbers)
    head = box(b"ftyp", b"heic\0\0\0\0mif1heic")

    def meta(start: int) -> bytes:
        places = struct.pack(">HHHHII", 1, 1, 0, 1, 0, len(grid))
        for number, tile in zip(numbers, tiles, strict=True):
            places += struct.pack(">HHHHII", number, 0, 0, 1, start, len(tile))
            start += len(tile)
        inside = [
            full_box(b"hdlr", struct.pack(">I4s12s", 0, b"pict", b"") + b"\0"),
            full_box(b"pitm", struct.pack(">H", 1)),
            full_box(b"iloc", struct.pack(">BBH", 0x44, 0, count + 1) + places, 1),
            full_box(b"iinf", struct.pack(">H", count + 1) + items),
            full_box(b"iref", box(b"dimg", parts)),
            box(b"iprp", box(b"ipco", properties + turning) + full_box(b"ipma", uses)),
            box(b"idat", grid),
        ]
        return full_box(b"meta", b"".join(inside))

    start = len(head) + len(meta(0)) + 8
    return head + meta(start) + box(b"mdat", b"".join(tiles))


def tiff(tags: dict[int, tuple[int, list[int]]], data: bytes = b"", pages: int = 1) -> bytes:
    """A TIFF of these tags, each of a type (3 short, 4 long) and its numbers, on every page.

    The data begin at offset 8; the last page's next one is itself.
    """
    file = b"II*\0" + struct.pack("<I", 8 + len(data)) + data
    for page in range(pages):
        start, extra = len(file), b""
        behind = start + 6 + 12 * len(tags)
        entries = b""
        for tag, (kind, numbers) in sorted(tags.items()):
            packed = struct.pack(f"<{len(numbers)}{'H' if kind == 3 else 'I'}", *numbers)
            if len(packed) > 4:
                place = struct.pack("<I", behind + len(extra))
                extra += packed
            else:
                place = packed.ljust(4, b"\0")
            entries += struct.pack("<HHI", tag, kind, len(numbers)) + place
        following = start if page == pages - 1 and pages > 1 else behind + len(extra)
        if pages == 1:
            following = 0
        file += struct.pack("<H", len(tags)) + entries + struct.pack("<I", following) + extra
    return file


def grey_tiff(width: int, height: int, **changes: list[int]) -> bytes:
    """An uncompressed grey TIFF of one strip; changes are lists of longs by the tag's number."""
    pixels = bytes(width * height)
    tags = {256: [width], 257: [height], 258: [8], 259: [1], 262: [1], 273: [8], 277: [1]}
    tags |= {278: [height], 279: [len(pixels)]}
    tags |= {int(name.removeprefix("t")): numbers for name, numbers in changes.items()}
    return tiff({tag: (4, numbers) for tag, numbers in tags.items() if numbers}, pixels)


def bmp_with_masks(image: Image.Image, masks: tuple[int, int, int, int]) -> bytes:
    """A BMP of 32 bits a pixel in an order of its own."""
    pixels = np.dstack([np.asarray(image), np.full(image.size[::-1], 255, np.uint8)]).tobytes()
    head = struct.pack("<IiiHHIIiiII", 40, *image.size, 1, 32, 6, len(pixels), 0, 0, 0, 0)
    start = 14 + len(head) + 16
    opening = b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start)
    return opening + head + struct.pack("<4I", *masks) + pixels


def gif_with_stray_bytes(frames: int = 4) -> bytes:
    """An animation with a zero before its second frame."""
    first, *others = [picture(seed=seed) for seed in range(frames)]
    data = encoded(first, "GIF", save_all=True, append_images=others, duration=100)
    second = data.index(b"\x21\xf9\x04", data.index(b"\x21\xf9\x04") + 3)
    return data[:second] + b"\0" + data[second:]


def animation(kind: str, frames: int = 3) -> bytes:
    """An animated file; its first frame is ``picture(seed=0)``."""
    first, *others = [picture(seed=seed) for seed in range(frames)]
    return encoded(first, kind, save_all=True, append_images=others, lossless=True)


def png_16_bit(samples: np.ndarray) -> bytes:
    """A 16-bit PNG of uint16 (height, width) or (height, width, 3)."""
    height, width = samples.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    header = png_header(width, height, depth=16, colour_type=0 if samples.ndim == 2 else 2)
    return header + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND")


def black_png(width: int, height: int) -> bytes:
    """A whole one-bit grey PNG of any size, small as a file."""
    packer = zlib.compressobj(9)
    row = b"\0" * (1 + (width + 7) // 8)
    data = b"".join([packer.compress(row * 100) for _ in range(height // 100)])
    data += packer.compress(row * (height % 100)) + packer.flush()
    header = png_header(width, height, depth=1, colour_type=0)
    return header + png_chunk(b"IDAT", data) + png_chunk(b"IEND")


def jpeg_with_size(width: int, height: int) -> bytes:
    """A small JPEG whose header claims another size."""
    data = bytearray(encoded(picture(16, 16), "JPEG"))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def jpeg_with_scans(scans: int, width: int = 2000, height: int = 2000) -> bytes:
    """A progressive JPEG whose last scan is repeated until there are this many."""
    data = encoded(Image.new("L", (width, height)), "JPEG", progressive=True)
    start = data.rindex(b"\xff\xda")
    last = data[start:-2]
    have = data.count(b"\xff\xda")
    return data[:-2] + last * (scans - have) + data[-2:]


def jpeg_segment(marker: int, payload: bytes) -> bytes:
    """One JPEG segment with its length."""
    return bytes([0xFF, marker]) + struct.pack(">H", len(payload) + 2) + payload


def with_jpeg_segments(data: bytes, *segments: bytes) -> bytes:
    """The JPEG with segments put in right behind its start."""
    return data[:2] + b"".join(segments) + data[2:]


GIF_HEAD = b"GIF89a" + struct.pack("<HH", 10, 10) + b"\0\0\0"


def gif_with_comment(blocks: int, length: int) -> bytes:
    """A GIF whose comment has this many blocks before the image begins."""
    comment = b"!\xfe" + (bytes([length]) + b"c" * length) * blocks + b"\0"
    image = encoded(picture(10, 10), "GIF")
    flags = image[10]
    head = 13 + (3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0)
    return image[:head] + comment + image[head:]
