"""What strangers send: each attack with the answer it gets, all made from one seed.

The three lists are images, checkpoints and requests. Sizes, cuts and noise differ from seed to
seed, the answers do not: ``D3TEST_HOSTILE_SEED`` chooses another one.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save

from d3.adapters.pillow.formats import FORMATS
from images import (
    animation,
    apng_with_a_hidden_picture,
    black_png,
    encoded,
    gif_with_comment,
    gif_with_stray_bytes,
    heic_of_tiles,
    jpeg_segment,
    jpeg_with_scans,
    jpeg_with_size,
    picture,
    png_16_bit,
    with_jpeg_segments,
)
from tests.hostile.formats import HOSTILE, strip_bomb
from tests.hostile.metadata import METADATA
from tests.support.images import noise, png, png_chunk, png_header
from tests.wire import FORM, multipart, part

PREDICT, BATCH = "/api/inference/predict", "/api/inference/predict-batch"
HISTORY, RESULT = "/api/inference/history", "/api/inference/result"
UPLOAD, LOAD = "/api/model/upload", "/api/model/load"
SEED = int(os.environ.get("D3TEST_HOSTILE_SEED", "0"))
LIMITS = {
    "D3_MAX_IMAGE_BYTES": 8 * 2**20,
    "D3_MAX_BATCH_BYTES": 16 * 2**20,
    "D3_MAX_MODEL_BYTES": 2**20,
    "D3_MAX_REQUESTS": 200,
}
"""Of the service that is attacked; all else is as it comes."""


@dataclass(frozen=True)
class Attack:
    """A request and its answer.

    Attributes:
        name: says what is wrong with it.
        status: of the answer.
        code: of the answer, where it is a problem of ours; None where the service answers 200, or
            the server refuses the head before the service sees it.
        method: of HTTP.
        path: with its query.
        make: makes the body.
        headers: of the request.
        raw: makes all of the request, given the Host, in place of everything above.
        judged: whether a row comes of it.
    """

    name: str
    status: int
    code: str | None = None
    method: str = "POST"
    path: str = PREDICT
    make: Callable[[], bytes] = bytes
    headers: dict[str, str] = field(default_factory=lambda: dict(FORM))
    raw: Callable[[bytes], bytes] | None = None

    @property
    def judged(self) -> bool:
        """Whether it is an image that can be judged after all, strange as it is."""
        return self.status == 200 and self.path == PREDICT


def attacks(seed: int = SEED) -> list[Attack]:
    """All of them."""
    chance = random.Random(seed)
    return [*images(chance), *checkpoints(chance), *requests(chance)]


def images(chance: random.Random) -> Iterator[Attack]:
    """Bombs, broken files, other things under an image's name, and odd ones that are sound."""
    seed = chance.randrange(2**31)
    sound = {kind: encoded(picture(61, 47, seed), kind) for kind in sorted(FORMATS)}
    jpeg, bitmap = sound["JPEG"], sound["PNG"]
    side, bit = chance.randrange(12_000, 20_000), chance.randrange(60, len(bitmap) - 30)

    def image(name: str, status: int, code: str | None, make: Callable[[], bytes]) -> Attack:
        return Attack(name, status, code, make=lambda: multipart(part(b"file", make(), b"a.jpg")))

    def large(name: str, make: Callable[[], bytes]) -> Attack:
        return image(name, 413, "image_too_large", make)

    def damaged(name: str, make: Callable[[], bytes]) -> Attack:
        return image(name, 422, "damaged_image", make)

    yield large("a bit map of 12,000 times 12,000", lambda: black_png(12_000, 12_000))
    yield large("a header of 2^31 pixels", lambda: png_header(2**31 - 1, 2**31 - 1) + END)
    yield large("a JPEG that claims more", lambda: jpeg_with_size(side, side))
    yield large("a line of 40,000 pixels", lambda: black_png(40_000, 1))
    yield large("3,000 scans", lambda: jpeg_with_scans(3_000, 64, 64))
    yield large("a GIF's endless comment", lambda: gif_with_comment(5_000, 255))
    yield large("a GIF's frame beyond its canvas", lambda: GIF_FRAME)
    yield large("a WebP canvas of 2^28 pixels", lambda: WEBP_CANVAS)
    yield large("PNG chunks without end", lambda: PNG_HEAD + png_chunk(b"tEXt", b"a\0b") * 20_000)
    yield large("BMP run lengths without end", lambda: run_length_bmp(2 * 2**20))
    yield damaged("pixel chunks that hold nothing", lambda: PNG_HEAD + png_chunk(b"IDAT") * 50_000)
    yield damaged("a header alone", lambda: PNG_HEAD)
    yield damaged("a GIF without an image", lambda: b"GIF89a\1\0\1\0\0\0\0" + bytes(100_000))
    yield damaged("a flipped bit", lambda: flipped(bitmap, bit))
    for kind, data in sound.items():
        cut = int(len(data) * chance.uniform(0.3, 0.6))
        yield damaged(f"{kind} cut short", lambda data=data, cut=cut: data[:cut])  # type: ignore[misc]
    for name, (make, code) in HOSTILE.items():
        yield image(name, STATUS[code], code, make)
    for name, start in FOREIGN.items():
        tail = chance.randbytes(200)
        yield image(name, 415, "not_an_image", lambda start=start, tail=tail: start + tail)  # type: ignore[misc]
    yield image("nothing", 400, "empty_file", bytes)
    yield Attack(
        "more bytes than an image may have",
        413,
        "body_too_large",
        make=lambda: multipart(part(b"file", bytes(9 * 2**20), b"a.jpg")),
    )
    for name, make in {
        "CMYK": lambda: encoded(picture(seed=seed).convert("CMYK"), "JPEG"),
        "16 bits": lambda: png_16_bit(noise(9, 9, seed).astype(np.uint16) * 257),
        "grey with alpha": lambda: encoded(picture(seed=seed).convert("LA"), "PNG"),
        "a palette with a transparent colour": lambda: encoded(
            picture(seed=seed).convert("P"), "PNG", transparency=3
        ),
        "one bit": lambda: encoded(picture(seed=seed).convert("1"), "PNG"),
        "one pixel": lambda: png(noise(1, 1, seed)),
        "an animated GIF": lambda: animation("GIF"),
        "an animated WebP": lambda: animation("WEBP"),
        "a text that unpacks to 100 MB": lambda: unpacking(b"zTXt"),
        "a profile that unpacks to 100 MB": lambda: unpacking(b"iCCP"),
        "a strip that unpacks to 100 MB": strip_bomb,
        "a TIFF of 16 bits": lambda: encoded(
            Image.fromarray(noise(9, 9, seed)[..., 0].astype(np.uint16) * 257), "TIFF"
        ),
        "a JPEG without its end": lambda: jpeg[:-2],
        "a HEIC of tiles": lambda: heic_of_tiles(2, 2),
        "an animation and a hidden picture": lambda: apng_with_a_hidden_picture(
            picture(seed=seed), picture(seed=seed + 1)
        ),
        "a GIF with a stray byte": gif_with_stray_bytes,
        "a JPEG that is a zip archive too": lambda: jpeg + archive(),
        "a JPEG that is a page too": lambda: with_jpeg_segments(
            jpeg, jpeg_segment(0xFE, b"<script>alert(1)</script>")
        ),
        "6 MB of comments": lambda: with_jpeg_segments(
            jpeg, jpeg_segment(0xFE, b"x" * 60_000) * 100
        ),
        "Exif that points at itself": lambda: with_jpeg_segments(
            jpeg, jpeg_segment(0xE1, b"Exif\0\0II*\0\x08\0\0\0\1\0\x69\x87\4\0\1\0\0\0\x08\0\0\0")
        ),
        **METADATA,
    }.items():
        yield image(f"sound: {name}", 200, None, make)


def checkpoints(chance: random.Random) -> Iterator[Attack]:
    """Files that are no head: they execute, allocate, unpack, or hold something else."""
    width = 64
    seed, cut, rubbish = (
        chance.randrange(2**31),
        chance.randrange(5_000, 20_000),
        chance.randbytes(99),
    )

    def head(**changes: torch.Tensor) -> dict[str, torch.Tensor]:
        source = torch.Generator().manual_seed(seed)
        tensors = {
            f"{name}.{kind}": torch.randn(shape, generator=source)
            for name in ("query", "key", "value")
            for kind, shape in (("weight", (width, width)), ("bias", (width,)))
        }
        tensors["fc.weight"] = torch.randn((1, 2 * width), generator=source)
        tensors["fc.bias"] = torch.randn((1,), generator=source)
        return tensors | changes

    def upload(
        name: str,
        make: Callable[[], bytes],
        status: int = 422,
        code: str = "invalid_checkpoint",
        called: bytes = b"mallory",
    ) -> Attack:
        def body() -> bytes:
            return multipart(part(b"file", make(), b"a.pth"), part(b"name", called))

        return Attack(name, status, code, path=UPLOAD, make=body)

    def pth(content: object) -> bytes:
        stream = io.BytesIO()
        torch.save(content, stream)
        return stream.getvalue()

    def raw_header(header: bytes, length: int | None = None, body: bytes = b"") -> bytes:
        return struct.pack("<Q", len(header) if length is None else length) + header + body

    one = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    yield upload("a pickle that executes", lambda: pickle.dumps({"fc.weight": Malice()}, 2))
    yield upload("an archive that executes", lambda: pth(head() | {"fc.bias": Malice()}))
    yield upload("TorchScript that executes", torchscript)
    yield upload(
        "a pickle that allocates 2 GB",
        lambda: b"\x80\x02c__builtin__\nbytearray\nJ" + struct.pack("<i", 2 * 10**9) + b"\x85R.",
    )
    yield upload(
        "a tensor of one number that is shown as 2 * 10^9",
        lambda: pth(head(**{"fc.weight": torch.zeros(1).expand(2 * 10**9)})),
    )
    yield upload("an archive that unpacks to 80 MB", lambda: deflated(pth(torch.zeros(20_000_000))))
    yield upload("sound weights beside a call", lambda: pth({"model": head(), "x": Malice()}))
    yield upload("tensors that are deflated", lambda: deflated(pth(head())))
    yield upload("a code record of a gigabyte", lambda: with_code(pth(head()), 1, 2**30))
    yield upload("code without end", lambda: with_code(pth(head()), 200, 2**20))
    yield upload("records that lie over one another", lambda: doubled(pth(head())))
    yield upload("a pickle in itself", lambda: archived(b"\x80\x02}q\0X\1\0\0\0ah\0s."))
    yield upload(
        "a pickle 50,000 deep",
        lambda: archived(b"\x80\x02" + b"}X\1\0\0\0a" * 50_000 + b"}" + b"s" * 50_000 + b"."),
    )
    yield upload("an archive cut short", lambda: pth(head())[:cut])
    yield upload("no dictionary", lambda: pth([torch.zeros(3)]))
    yield upload("another shape", lambda: save(head(**{"query.weight": torch.zeros(width, 32)})))
    yield upload("a width that no encoder has", lambda: save(other_head(48)))
    yield upload(
        "not a number", lambda: save(head(**{"key.bias": torch.full((width,), torch.nan)}))
    )
    yield upload("endless", lambda: save(head(**{"value.bias": torch.full((width,), torch.inf)})))
    yield upload(
        "whole numbers", lambda: save(head(**{"fc.bias": torch.zeros(1, dtype=torch.int64)}))
    )
    yield upload("a tensor too many", lambda: save(head(extra=torch.zeros(1))))
    yield upload("an encoder", lambda: save({"conv1.weight": torch.zeros(64, 3, 14, 14)}))
    yield upload("a header that is no JSON", lambda: raw_header(b"{" * 90))
    yield upload("a header of 2^63 bytes", lambda: raw_header(b"{}", 2**63))
    yield upload("a header of brackets", lambda: raw_header(b'{"a":' + b"[" * 200_000))
    yield upload(
        "a shape that overflows",
        lambda: raw_header(json.dumps({"a": one | {"shape": [2**62, 4]}}).encode(), body=bytes(4)),
    )
    yield upload(
        "offsets beyond the file",
        lambda: raw_header(
            json.dumps({"a": one | {"data_offsets": [0, 2**40]}}).encode(), body=bytes(4)
        ),
    )
    yield upload("noise", lambda: rubbish * 50)
    yield upload("no bytes", bytes)
    yield upload("a name outside", lambda: save(head()), 400, "invalid_model_name", b"../../etc/x")
    yield upload("the starter's name", lambda: save(head()), 409, "model_protected", b"starter")
    yield upload("more than a head may have", lambda: bytes(2 * 2**20), 413, "body_too_large")


def requests(chance: random.Random) -> Iterator[Attack]:
    """Malformed forms and heads, strange names, and questions that abuse paging and ids."""
    shot = part(b"file", encoded(picture(seed=chance.randrange(2**31)), "PNG"), b"a.png")

    def form(
        name: str, body: bytes, status: int = 400, code: str | None = "invalid_form"
    ) -> Attack:
        return Attack(name, status, code, make=lambda: body)

    yield form("a form without its end", multipart(shot, end=b""))
    yield form("a form cut short", multipart(shot)[: chance.randrange(20, 200)])
    unnamed = multipart(part(b"file", b"x", b"\xff\xfe.png"))
    yield form("no image under a name that is no UTF-8", unnamed, 415, "not_an_image")
    yield form("a text that is no UTF-8", multipart(shot, part(b"threshold", b"\xff")))
    yield form("a part without a name", multipart(b"No-Disposition: x\r\n\r\nx"))
    yield form("a part's header of 100 KB", multipart(part(b"file", b"x", b"a" * 100_000)))
    yield form("a text of 5 KB", multipart(shot, part(b"threshold", b"1" * 5_000)))
    yield form("bare line feeds", multipart(shot).replace(b"\r\n", b"\n"))
    many = multipart(*[part(b"threshold", b"1")] * 5_000)
    yield form("5,000 parts", many, 413, "body_too_large")
    yield form("two files", multipart(shot, shot))
    yield form("no number", multipart(shot, part(b"threshold", b"nan")), 400, "invalid_threshold")
    yield form("10^400 views", multipart(shot, part(b"views", b"9" * 400)), 400, "invalid_views")
    utf_7 = part(b"threshold", b"0.5", more=b"Content-Type: text/plain; charset=utf-7")
    yield form("sound: a charset of old", multipart(shot, utf_7), 200, None)
    crooked = shot.replace(b"a.png", b"..\\\\..%0D%0Ax\x00\xe2\x80\xae=cmd|calc" * 20)
    yield form("sound: a crooked file name", multipart(crooked), 200, None)
    yield Attack("JSON without an image", 400, "file_missing", make=lambda: b"{}", headers=JSON)
    yield Attack("a form of no boundary", 415, "not_multipart", headers=NO_BOUNDARY)
    long = {**FORM, "Idempotency-Key": "k" * 2_000}
    yield Attack(
        "a key of 2,000 letters", 400, IDEMPOTENCY, make=lambda: multipart(shot), headers=long
    )
    for name, path, status, code in (
        ("a page of 10^9", f"{HISTORY}?limit=1000000000", 400, "invalid_parameter"),
        ("a page at 2^70", f"{HISTORY}?offset={2**70}", 400, "invalid_parameter"),
        ("a made-up cursor", f"{HISTORY}?cursor={chance.randbytes(40).hex()}", 400, None),
        ("a cursor of 5 KB", f"{HISTORY}?cursor={'x' * 5_000}", 400, None),
        ("SQL in a question", f"{HISTORY}?model=x'%20OR%201=1--&is_fake='", 400, None),
        ("a NUL in a question", f"{HISTORY}?q=%00%FF", 200, None),
        ("an id of 2^70", f"{RESULT}/{2**70}", 404, None),
        ("an id with an underscore", f"{RESULT}/1_0", 404, None),
        ("an id of another alphabet", f"{RESULT}/%EF%BC%91", 404, None),
        ("a folder above", "/api/../../../etc/passwd", 404, None),
        ("a folder above, in code", "/%2e%2e/%2e%2e/etc/passwd", 404, None),
        ("an address of 20 KB", "/" + "a" * 20_000, 404, None),
    ):
        yield Attack(name, status, code, method="GET", path=path, headers={})
    for name in ("..%2F..%2Fx", "%00", "a" * 300, "-x"):
        code = "invalid_parameter" if len(name) > 100 else "invalid_model_name"
        path = f"{LOAD}?name={name}"
        yield Attack(f"loading {name[:12]}", 400, code, path=path, headers={})
    post = b"POST " + PREDICT.encode() + b" HTTP/1.1\r\nHost: %s\r\n"
    for name, lines in {
        "two lengths": b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
        "a length below zero": b"Content-Length: -5\r\n\r\n",
        "a length of letters": b"Content-Length: abc\r\n\r\n",
        "a length and chunks": b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "a chunk of no size": FORM_LINE + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
        "a header folded": b"X-A: b\r\n c\x00\r\n\r\n",
        "a header of 300 KB": b"X-A: " + b"a" * 300_000 + b"\r\n\r\n",
    }.items():
        yield Attack(name, 400, raw=lambda host, lines=lines: post % host + lines)  # type: ignore[misc]
    chunked = b"Transfer-Encoding: chunked\r\n\r\n3\r\nx=1\r\n0\r\n"
    for name, status, code, line, lines in (
        ("no host", 400, "invalid_host", b"GET /health HTTP/1.1\r\n", b"\r\n"),
        ("two hosts", 400, "invalid_host", b"", b"Host: evil.example\r\n\r\n"),
        ("a key that is wrong and long", 401, None, b"", b"X-API-Key: %s\r\n\r\n" % (b"k" * 9_000)),
        ("a trailer that is a type", 415, "not_multipart", b"", chunked + FORM_LINE + b"\r\n"),
        ("trailers of 200 KB", 400, None, b"", chunked + b"X-A: %s\r\n" % (b"a" * 999) * 200),
        ("a web socket", 404, None, b"GET /nowhere HTTP/1.1\r\nHost: %s\r\n", SOCKET),
    ):
        whole = (line or post) + lines
        yield Attack(
            name,
            status,
            code,
            raw=lambda host, whole=whole: whole.replace(b"%s", host, 1),  # type: ignore[misc]
        )
    yield Attack("a TLS hello", 400, raw=lambda _: b"\x16\x03\x01" + bytes(60) + b"\r\n\r\n")
    yield Attack("HTTP of another kind", 400, raw=lambda _: b"GET / HTTX/9.9\r\n\r\n")


IDEMPOTENCY = "invalid_idempotency_key"
FORM_LINE = b"Content-Type: multipart/form-data; boundary=b\r\n"
SOCKET = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n"
JSON = {"Content-Type": "application/json"}
NO_BOUNDARY = {"Content-Type": "multipart/form-data"}
PNG_HEAD = png_header(9, 9)
END = png_chunk(b"IDAT")
GIF_FRAME = b"GIF89a\1\0\1\0\0\0\0,\0\0\0\0" + struct.pack("<HHB", 65_535, 65_535, 0) + b"\2\0;"
WEBP_CANVAS = b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0\2\0\0\0" + b"\xfe\x3f\0" * 2 + b"\0" * 40
STATUS = {"image_too_large": 413, "damaged_image": 422, "unsupported_image": 415}
FOREIGN = {
    "noise": b"",
    "a page": b"<!doctype html><script>",
    "an SVG with an entity bomb": b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "b">]><svg/>',
    "a PDF": b"%PDF-1.7\n",
    "a drawing": b"<svg xmlns=",
    "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n",
    "a program": b"\x7fELF\2\1\1",
    "a zip archive": b"PK\x03\x04",
    "a picture of ImageMagick's language": b"push graphic-context\nimage over 0,0 0,0 'url(",
    "a video": b"\0\0\0\x18ftypmp42",
}


class Malice:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (os.environ.get("D3TEST_EXECUTED", "/tmp/d3-executed"),)


def flipped(data: bytes, at: int) -> bytes:
    """One bit is another."""
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def zlib_bomb(megabytes: int) -> bytes:
    """Zeros, packed."""
    packer = zlib.compressobj(9)
    return b"".join(packer.compress(bytes(2**20)) for _ in range(megabytes)) + packer.flush()


def unpacking(kind: bytes) -> bytes:
    """A PNG with a packed text or profile."""
    return PNG_HEAD + png_chunk(kind, b"a\0\0" + zlib_bomb(100)) + png(noise(9, 9))[33:]


def run_length_bmp(size: int) -> bytes:
    """A BMP whose pixels are run lengths."""
    head = struct.pack("<IiiHHIIiiII", 40, 100, 100, 1, 8, 1, size, 0, 0, 256, 0)
    palette = bytes(1024)
    start = 14 + len(head) + len(palette)
    return b"BM" + struct.pack("<IHHI", start + size, 0, 0, start) + head + palette + bytes(size)


def archive() -> bytes:
    """A zip archive with a page in it."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as packed:
        packed.writestr(zipfile.ZipInfo("index.html"), "<script>alert(1)</script>")
    return stream.getvalue()


def deflated(stored: bytes) -> bytes:
    """The same archive, packed."""
    stream = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(stored)) as plain,
        zipfile.ZipFile(stream, "w") as packed,
    ):
        for entry in plain.infolist():
            packed.writestr(
                zipfile.ZipInfo(entry.filename), plain.read(entry), zipfile.ZIP_DEFLATED
            )
    return stream.getvalue()


def with_code(stored: bytes, records: int, size: int) -> bytes:
    """The same archive with deflated records of code that unpack to zeros."""
    stream = io.BytesIO(stored)
    with zipfile.ZipFile(stream, "a", zipfile.ZIP_DEFLATED) as archive:
        for number in range(records):
            with archive.open(f"archive/code/{number}.py", "w", force_zip64=True) as record:
                for _ in range(size // 2**20):
                    record.write(bytes(2**20))
    return stream.getvalue()


def doubled(stored: bytes) -> bytes:
    """The same archive, whose directory names the first record's place twice."""
    content = bytearray(stored)
    first = content.index(b"PK\x01\x02")
    second = content.index(b"PK\x01\x02", first + 4)
    content[second + 42 : second + 46] = content[first + 42 : first + 46]
    return bytes(content)


def archived(pickled: bytes) -> bytes:
    """A checkpoint that is this pickle."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as packed:
        packed.writestr(zipfile.ZipInfo("archive/data.pkl"), pickled)
    return stream.getvalue()


def torchscript() -> bytes:
    """A TorchScript archive whose pickle calls the system."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as packed:
        packed.writestr(
            zipfile.ZipInfo("clip/data.pkl"), b"cposix\nsystem\n(X\x05\x00\x00\x00touchtR."
        )
        packed.writestr(zipfile.ZipInfo("clip/constants.pkl"), b"\x80\x02).")
    return stream.getvalue()


def other_head(width: int) -> dict[str, torch.Tensor]:
    """A sound head that fits no encoder."""
    tensors = {f"{n}.weight": torch.zeros(width, width) for n in ("query", "key", "value")}
    tensors |= {f"{n}.bias": torch.zeros(width) for n in ("query", "key", "value")}
    return tensors | {"fc.weight": torch.zeros(1, 2 * width), "fc.bias": torch.zeros(1)}
