"""Multipart forms read from the socket, under limits, into memory.

The framework's own reader spools to disk, takes a body of any field name for the file, and fails
with a 500 at an unknown charset; ours parses with the same library and trusts nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import IO, Any

from litestar import Request
from litestar.types import Receive
from multipart import (
    MultipartError,
    MultipartSegment,
    PushMultipartParser,
    parse_options_header,
)

from d3.domain.errors import (
    D3Error,
    FileMissing,
    FormInvalid,
    FormNotMultipart,
    FormTooLarge,
    ThresholdInvalid,
    ViewsInvalid,
)
from d3.domain.scoring import checked_threshold
from d3.domain.services.inference import Upload

_DECIMAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")
_WHOLE = re.compile(r"[0-9]{1,9}")
_HEADER_BYTES = 64 * 1024
_FIELD_BYTES = 4096


@dataclass(slots=True)
class Form:
    """A form's files and texts, by field, in the order sent."""

    files: dict[str, list[Upload]] = field(default_factory=dict)
    texts: dict[str, list[str]] = field(default_factory=dict)

    def file(self, name: str) -> Upload:
        """The one file of a field.

        Raises:
            FileMissing: there is none.
            FormInvalid: there are several.
        """
        files = self.all_files(name)
        if len(files) > 1:
            raise FormInvalid(
                f"The field {name!r} holds {len(files)} files.",
                "Send one, or several to /api/inference/predict-batch in the field 'files'.",
            )
        return files[0]

    def all_files(self, name: str) -> list[Upload]:
        """The files of a field, one or more.

        Raises:
            FileMissing: there is none.
        """
        if name in self.files:
            return self.files[name]
        if name in self.texts:
            raise FileMissing(
                f"The field {name!r} holds text.", f"Send a file in it: curl -F '{name}=@image.jpg'"
            )
        raise FileMissing(
            "No file was sent.", f"Send it in the field {name!r}: curl -F '{name}=@image.jpg'"
        )

    def text(self, name: str) -> str | None:
        """The text of a field; None where it is not there or empty.

        Raises:
            FormInvalid: the field was sent more than once, or holds a file.
        """
        texts = self.texts.get(name, [])
        if len(texts) > 1 or name in self.files:
            raise FormInvalid(f"The field {name!r} takes one text.", "Send it once.")
        return texts[0].strip() or None if texts else None

    def threshold(self) -> float | None:
        """The field ``threshold``.

        Raises:
            ThresholdInvalid: it is not a number in [0, 1].
        """
        text = self.text("threshold")
        if text is None:
            return None
        if not _DECIMAL.fullmatch(text):
            raise ThresholdInvalid(
                f"The threshold {text[:40]!r} is not a number between 0 and 1.",
                "Give a number such as 0.5, or leave it out to use the model's own.",
            )
        return checked_threshold(float(text))

    def views(self) -> int:
        """The field ``views``, 1 unless sent; its range is the model's business.

        Raises:
            ViewsInvalid: it is not a whole number.
        """
        text = self.text("views")
        if text is None:
            return 1
        if not _WHOLE.fullmatch(text):
            raise ViewsInvalid(f"{text[:40]!r} views cannot be had.", "Give a number from 1 to 16.")
        return int(text)

    def explain(self) -> bool:
        """The field ``explain``: ``true`` or ``false``, which it is unless sent.

        Raises:
            FormInvalid: it is something else.
        """
        text = (self.text("explain") or "false").lower()
        if text not in {"true", "false"}:
            raise FormInvalid(f"explain={text[:40]!r} is not known.", "Send true or false.")
        return text == "true"


@dataclass(frozen=True, slots=True)
class FormLimits:
    """What a form may hold.

    Attributes:
        bytes: of the whole body.
        parts: files and texts together.
    """

    bytes: int
    parts: int


@dataclass(frozen=True, slots=True)
class Sink:
    """Where the bytes of a field's first file go instead of into memory.

    Attributes:
        name: of the field.
        stream: written to as the bytes arrive.
    """

    name: str
    stream: IO[bytes]


async def read_form(
    request: Request[Any, Any, Any], limits: FormLimits, sink: Sink | None = None
) -> Form:
    """Read a multipart form, giving up as soon as it goes beyond a limit.

    Args:
        request: whose body is read.
        limits: of the whole.
        sink: takes one file's bytes; its :class:`Upload` is then empty.

    Raises:
        FormNotMultipart: the body is something else.
        FormTooLarge: it is larger than the limit, or has more parts.
        FormInvalid: it is malformed.
        D3Error: what receiving raises; see :mod:`d3.entrypoints.http.bounds`.
    """
    kind, options = parse_options_header(header_of(request, b"content-type") or "")
    boundary = options.get("boundary", "")
    if kind != "multipart/form-data" or not boundary:
        raise FormNotMultipart(
            "The body is not a multipart form.",
            "Send multipart/form-data, as curl -F or the files= of requests do.",
        )
    announced = header_of(request, b"content-length") or ""
    if announced.isdecimal() and int(announced) > limits.bytes:
        raise _too_large(limits)
    collector = _Collector(limits, sink)
    try:
        await _parse(request.receive, boundary, collector)
    except D3Error:
        collector.forget()
        raise
    except (MultipartError, UnicodeError, LookupError, ValueError) as error:
        collector.forget()
        raise FormInvalid(
            "The multipart form is malformed.", "Send it as curl -F or the files= of requests do."
        ) from error
    return collector.form


def header_of(request: Request[Any, Any, Any], name: bytes) -> str | None:
    """A request's header, its name in small letters; the first where there are several."""
    for one, value in request.scope["headers"]:
        if one == name:
            return value.decode("latin-1")
    return None


async def _parse(receive: Receive, boundary: str, collector: _Collector) -> None:
    more = True
    with PushMultipartParser(boundary, max_header_size=_HEADER_BYTES) as parser:
        while more:
            message: Any = await receive()
            if message["type"] == "http.disconnect":
                raise FormInvalid("The upload broke off.", "Send it again.")
            chunk, more = message.get("body", b""), message.get("more_body", False)
            collector.count(len(chunk))
            if not chunk or parser.closed:
                continue
            for event in parser.parse(chunk):
                if isinstance(event, MultipartSegment):
                    collector.begin(event)
                elif event:
                    collector.add(event)
                else:
                    collector.end()
        if not parser.closed:
            parser.close()


class _Collector:
    """Puts what the parser finds into a form, under limits."""

    def __init__(self, limits: FormLimits, sink: Sink | None) -> None:
        self.form = Form()
        self._limits = limits
        self._sink = sink
        self._bytes = 0
        self._parts = 0
        self._segment: MultipartSegment | None = None
        self._pieces: list[bytes | bytearray] = []
        self._text_bytes = 0

    def count(self, size: int) -> None:
        """So many bytes more have arrived."""
        self._bytes += size
        if self._bytes > self._limits.bytes:
            raise _too_large(self._limits)

    def forget(self) -> None:
        """Nobody wants what came; the error's traceback would keep it while the refusal leaves."""
        self.form, self._pieces = Form(), []

    def begin(self, segment: MultipartSegment) -> None:
        """A part begins."""
        self._parts += 1
        if self._parts > self._limits.parts:
            raise FormTooLarge(
                f"The form has more than {self._limits.parts} parts.", "Send fewer files at once."
            )
        self._segment, self._pieces, self._text_bytes = segment, [], 0

    def add(self, piece: bytes | bytearray) -> None:
        """A piece of the part has arrived."""
        segment, sink = self._segment, self._sink
        assert segment is not None
        if sink is not None and segment.filename and segment.name == sink.name:
            if sink.name not in self.form.files:
                sink.stream.write(piece)
            return
        self._pieces.append(piece)
        if not segment.filename:
            self._text_bytes += len(piece)
            if self._text_bytes > _FIELD_BYTES:
                raise FormInvalid(
                    "A text field of the form is too long.",
                    "Send images as files, with a file name.",
                )

    def end(self) -> None:
        """The part is complete."""
        segment, content = self._segment, b"".join(self._pieces)
        assert segment is not None
        self._pieces = []
        if segment.filename is None:
            self.form.texts.setdefault(segment.name, []).append(content.decode("utf-8"))
        elif segment.filename or content:
            upload = Upload(_unescaped(segment.filename), content)
            self.form.files.setdefault(segment.name, []).append(upload)


def _unescaped(filename: str) -> str:
    """The name before its sender escaped what HTML says must be: quotes and line breaks."""
    return filename.replace("%22", '"').replace("%0D", "\r").replace("%0A", "\n")


def _too_large(limits: FormLimits) -> FormTooLarge:
    return FormTooLarge(
        f"The request's body is larger than {limits.bytes:,} bytes.",
        "Send a smaller image, or fewer at once.",
    )
