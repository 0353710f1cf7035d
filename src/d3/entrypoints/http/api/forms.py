"""Multipart forms and other bodies, read into memory within limits.

The framework's reader spools to disk, accepts the file under any field name, and answers an unknown
charset with a 500. This one uses the same parser with strict checks.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import IO, Any, Protocol
from urllib.parse import parse_qsl, unquote, unquote_to_bytes

import msgspec
from litestar import Request
from litestar.types import Receive
from multipart import (
    MultipartError,
    MultipartSegment,
    PushMultipartParser,
    parse_options_header,
)

from d3.domain.clips import seconds_of
from d3.domain.errors import (
    D3Error,
    EncodingUnsupported,
    FileMissing,
    FormInvalid,
    FormNotMultipart,
    FormTooLarge,
    ThresholdInvalid,
    ViewsInvalid,
    shown,
)
from d3.domain.panels import PanelRule, checked_rule, panel_named
from d3.domain.scoring import checked_threshold
from d3.domain.services.prediction import Upload

_DECIMAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")
_EXTENDED_FILENAME = re.compile(
    r";\s*filename\*\s*=\s*(?P<charset>[\w-]*)'[^';]*'(?P<value>[^;\s]*)", re.IGNORECASE
)
_WHOLE = re.compile(r"[0-9]{1,9}")
_HEADER_BYTES = 64 * 1024
FIELD_BYTES = 4096
"""The longest text of a field."""
_SMALL_BYTES = 64 * 1024


@dataclass(slots=True)
class Form:
    """The files and texts of a form, by field, in the order sent."""

    files: dict[str, list[Upload]] = field(default_factory=dict)
    texts: dict[str, list[str]] = field(default_factory=dict)

    def file(self, name: str) -> Upload:
        """The only file of a field.

        Raises:
            FileMissing: there is no file.
            FormInvalid: there are several files.
        """
        files = self.all_files(name)
        if len(files) > 1:
            raise FormInvalid(
                f"The field {name!r} holds {len(files)} files.",
                "Send one file, or send several to /api/inference/predict-batch in the field "
                "'files'.",
            )
        return files[0]

    def all_files(self, name: str) -> list[Upload]:
        """The files of a field, one or more.

        Raises:
            FileMissing: there is no file.
        """
        if name in self.files:
            return self.files[name]
        if name in self.texts:
            raise FileMissing(
                f"The field {name!r} holds text.",
                f"Send a file instead: curl -F '{name}=@image.jpg'",
            )
        raise FileMissing(
            "No file was sent.", f"Send it in the field {name!r}: curl -F '{name}=@image.jpg'"
        )

    def only(self, *known: str) -> None:
        """Check that no other field was sent; a misspelled one would otherwise be ignored.

        Raises:
            FormInvalid: an unknown field was sent.
        """
        for name in (*self.texts, *self.files):
            if name not in known:
                raise unknown_name("field", name, known)

    def text(self, name: str) -> str | None:
        """The text of a field; None if it is missing or empty.

        Raises:
            FormInvalid: the field was sent more than once, or holds a file.
        """
        texts = self.texts.get(name, [])
        if len(texts) > 1 or name in self.files:
            raise FormInvalid(
                f"The field {name!r} was sent more than once or is not text.",
                "Send it once, as text.",
            )
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
                "Use a number such as 0.5, or leave it out to use the model's threshold.",
            )
        return checked_threshold(float(text))

    def views(self) -> int:
        """The field ``views``; 1 by default. The model checks its range.

        Raises:
            ViewsInvalid: it is not a whole number.
        """
        text = self.text("views")
        if text is None:
            return 1
        if not _WHOLE.fullmatch(text):
            raise ViewsInvalid(
                f"The number of views {text[:40]!r} is not valid.",
                "Use a whole number from 1 to 16.",
            )
        return int(text)

    def flag(self, name: str) -> bool:
        """A field that is ``true`` or ``false``; ``false`` by default.

        Raises:
            FormInvalid: it has another value.
        """
        text = (self.text(name) or "false").lower()
        if text not in {"true", "false"}:
            raise FormInvalid(f"{name}={text[:40]!r} is not valid.", "Send true or false.")
        return text == "true"

    def all_frames(self) -> bool:
        """The field ``frames``: ``all`` or ``first``; ``first`` by default.

        Raises:
            FormInvalid: it has another value.
        """
        text = (self.text("frames") or "first").lower()
        if text not in {"first", "all"}:
            raise FormInvalid(f"frames={text[:40]!r} is not valid.", "Send first or all.")
        return text == "all"

    def every(self) -> float | None:
        """The field ``every``: seconds between frames, such as ``0.5`` or ``2s``.

        Raises:
            RequestInvalid: it is no time.
            FormInvalid: it is 0.
        """
        text = self.text("every")
        seconds = None if text is None else seconds_of(text)
        if seconds == 0:
            raise FormInvalid("every=0 is not valid.", "Send seconds such as 1, or 0.5.")
        return seconds

    def most(self) -> int | None:
        """The field ``most``: frames at most.

        Raises:
            FormInvalid: it is no whole number.
        """
        text = self.text("most")
        if text is not None and not _WHOLE.fullmatch(text):
            raise FormInvalid(f"most={text[:40]!r} is not valid.", "Send a whole number.")
        return None if text is None else int(text)

    def panel(self) -> tuple[str, ...] | None:
        """The field ``panel``: names of models, separated by commas; None for the service's own.

        Raises:
            RequestInvalid: there are too many, one twice, or an empty one.
            ModelNameInvalid: one cannot be a model's name.
        """
        text = self.text("panel")
        return None if text is None else panel_named(text)

    def panel_rule(self) -> PanelRule | None:
        """The field ``panel_rule``; None for the service's own.

        Raises:
            RequestInvalid: there is no such rule.
        """
        return checked_rule(self.text("panel_rule"))


@dataclass(frozen=True, slots=True)
class FormLimits:
    """Limits of a form.

    Attributes:
        bytes: largest body.
        parts: most files and texts together.
    """

    bytes: int
    parts: int


class FileSink(Protocol):
    """Takes the bytes of files as they arrive, instead of memory."""

    def begin(self, field: str, filename: str) -> bool:
        """Begin a file; whether it is taken.

        Raises:
            D3Error: it is refused, and the form with it.
        """
        ...

    def add(self, piece: bytes | bytearray) -> None:
        """Take some of the file's bytes."""
        ...

    def end(self) -> None:
        """End the file."""
        ...

    async def settle(self) -> None:
        """Do what takes its time; called after every piece of the body.

        Raises:
            D3Error: it cannot be kept.
        """
        ...


class StreamSink:
    """Writes the first file of a field into a stream.

    Args:
        name: of the field.
        stream: written to as the bytes arrive.
    """

    def __init__(self, name: str, stream: IO[bytes]) -> None:
        self._name = name
        self._stream = stream
        self._files = 0

    def begin(self, field: str, filename: str) -> bool:
        del filename
        self._files += field == self._name
        return field == self._name

    def add(self, piece: bytes | bytearray) -> None:
        if self._files == 1:
            self._stream.write(piece)

    def end(self) -> None:
        pass

    async def settle(self) -> None:
        pass


async def read_form(
    request: Request[Any, Any, Any], limits: FormLimits, sink: FileSink | None = None
) -> Form:
    """Read a multipart form; stop as soon as it exceeds a limit.

    Args:
        request: its body is read.
        limits: of the whole form.
        sink: gets the bytes of files; the :class:`Upload` of each that it takes is empty.

    Raises:
        FormNotMultipart: the body has another type.
        FormTooLarge: it exceeds a limit.
        FormInvalid: it is malformed.
        D3Error: receiving failed; see :mod:`d3.entrypoints.http.middleware.request_limits`.
    """
    refuse_encoded(request)
    kind, options = parse_options_header(header_of(request, b"content-type") or "")
    boundary = options.get("boundary", "")
    if kind != "multipart/form-data":
        raise FormNotMultipart(
            "The body is not a multipart form.",
            "Send multipart/form-data, as `curl -F` or `files=` of Python's requests do.",
        )
    if not boundary:
        raise FormNotMultipart(
            "The header Content-Type has no boundary.",
            "Do not set the header yourself. The library that builds the form sets it.",
        )
    _check_length(request, limits)
    collector = _Collector(limits, sink)
    try:
        await _parse(request.receive, boundary, collector)
    except D3Error:
        collector.forget()
        raise
    except (MultipartError, UnicodeError, LookupError, ValueError) as error:
        collector.forget()
        raise FormInvalid(
            "The multipart form is malformed.",
            "Send it as `curl -F` or `files=` of Python's requests do.",
        ) from error
    return collector.form


async def read_texts(request: Request[Any, Any, Any], *known: str) -> dict[str, str]:
    """The text fields of a small body: JSON, a multipart or URL-encoded form, or nothing.

    Args:
        request: its body is read.
        known: the fields allowed here.

    Raises:
        FormNotMultipart: the body has another type.
        FormInvalid: it is malformed, or a field is unknown, repeated or not a text.
        FormTooLarge: it is too large.
    """
    kind, _ = parse_options_header(header_of(request, b"content-type") or "")
    if kind == "multipart/form-data":
        form = await read_form(request, FormLimits(_SMALL_BYTES, len(known) + 8))
        form.only(*known)
        found = {name: form.text(name) for name in known}
        return {name: text for name, text in found.items() if text is not None}
    body = await read_body(request, FormLimits(_SMALL_BYTES, 1))
    if not body.strip():
        return {}
    pairs: list[tuple[str, object]]
    if kind == "application/json":
        pairs = _pairs_of_json(body)
    elif kind == "application/x-www-form-urlencoded":
        pairs = [*parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True)]
    else:
        raise FormNotMultipart(
            "The body is neither JSON nor a form.",
            "Send application/json, or a form as `curl -F` does.",
        )
    texts: dict[str, str] = {}
    for name, value in pairs:
        if name not in known:
            raise unknown_name("field", name, known)
        if name in texts or not isinstance(value, str | None):
            raise FormInvalid(
                f"The field {name!r} was sent more than once or is not text.",
                "Send it once, as text.",
            )
        if value:
            texts[name] = value
    return texts


def unknown_name(what: str, name: str, known: Sequence[str]) -> FormInvalid:
    """The error for an unknown field or parameter."""
    close = difflib.get_close_matches(name, known, n=1)
    meant = f" Did you mean {close[0]!r}?" if close else ""
    taken = f"This address accepts {', '.join(known)}." if known else "This address accepts none."
    return FormInvalid(f"The {what} {shown(name)} is not known.{meant}", taken)


def refuse_encoded(request: Request[Any, Any, Any]) -> None:
    """Check that the body is not compressed.

    Raises:
        EncodingUnsupported: it is compressed.
    """
    encoding = (header_of(request, b"content-encoding") or "identity").strip().lower()
    if encoding != "identity":
        raise EncodingUnsupported(
            f"The Content-Encoding {shown(encoding)} is not supported.",
            "Send the body without it. Images are already compressed.",
        )


async def read_body(request: Request[Any, Any, Any], limits: FormLimits) -> bytes:
    """Read a body that is no form; stop as soon as it exceeds a limit.

    Raises:
        EncodingUnsupported: it is compressed.
        FormInvalid: the client broke off.
        FormTooLarge: it exceeds a limit.
        D3Error: receiving failed; see :mod:`d3.entrypoints.http.middleware.request_limits`.
    """
    refuse_encoded(request)
    _check_length(request, limits)
    pieces: list[bytes] = []
    size, more = 0, True
    try:
        while more:
            message: Any = await request.receive()
            if message["type"] == "http.disconnect":
                raise FormInvalid("The upload was interrupted.", "Send it again.")
            pieces.append(message.get("body", b""))
            more, size = message.get("more_body", False), size + len(pieces[-1])
            if size > limits.bytes:
                raise _too_large(limits)
    except D3Error:
        pieces.clear()  # the error's traceback would keep them until it is answered
        raise
    return b"".join(pieces)


def _check_length(request: Request[Any, Any, Any], limits: FormLimits) -> None:
    """Check the announced length of the body, before any of it is read.

    Raises:
        FormTooLarge: it exceeds the limit.
    """
    announced = header_of(request, b"content-length") or ""
    if announced.isdecimal() and int(announced) > limits.bytes:
        raise _too_large(limits)


def _pairs_of_json(body: bytes) -> list[tuple[str, object]]:
    try:
        return list(msgspec.json.decode(body, type=dict[str, object]).items())
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FormInvalid(
            "The body is not a JSON object.", 'Send one such as {"name": "..."}.'
        ) from error


def header_of(request: Request[Any, Any, Any], name: bytes) -> str | None:
    """The first header with this name, in lower case; None if there is none."""
    for one, value in request.scope["headers"]:
        if one == name:
            return value.decode("latin-1")
    return None


async def _parse(receive: Receive, boundary: str, collector: _Collector) -> None:
    more = True
    # Latin-1 maps every byte to a character, so a file name in any code page can be read.
    with PushMultipartParser(
        boundary, max_header_size=_HEADER_BYTES, header_charset="latin-1"
    ) as parser:
        while more:
            message: Any = await receive()
            if message["type"] == "http.disconnect":
                raise FormInvalid("The upload was interrupted.", "Send it again.")
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
            if collector.sink is not None:
                await collector.sink.settle()
        if not parser.closed:
            parser.close()


class _Collector:
    """Collects the parser's events into a form, within limits."""

    def __init__(self, limits: FormLimits, sink: FileSink | None) -> None:
        self.form = Form()
        self.sink = sink
        self._limits = limits
        self._taken = False
        self._bytes = 0
        self._parts = 0
        self._name = ""
        self._filename: str | None = None
        self._pieces: list[bytes | bytearray] = []
        self._text_bytes = 0

    def count(self, size: int) -> None:
        """Count received bytes."""
        self._bytes += size
        if self._bytes > self._limits.bytes:
            raise _too_large(self._limits)

    def forget(self) -> None:
        """Free the received data, which the error's traceback would keep until it is answered."""
        self.form, self._pieces = Form(), []

    def begin(self, segment: MultipartSegment) -> None:
        """Begin a part."""
        self._parts += 1
        if self._parts > self._limits.parts:
            raise FormTooLarge(
                f"The form has more than {self._limits.parts} parts.", "Send fewer files at once."
            )
        self._pieces, self._text_bytes = [], 0
        self._name, self._filename = _in_unicode(segment.name or ""), _filename_of(segment)
        self._taken = bool(self._filename) and self._take()

    def add(self, piece: bytes | bytearray) -> None:
        """Add data to the part."""
        if self._taken or (self._filename == "" and not self._pieces and self._take()):
            assert self.sink is not None
            self._taken = True
            self.sink.add(piece)
            return
        self._pieces.append(piece)
        if self._filename is None:
            self._text_bytes += len(piece)
            if self._text_bytes > FIELD_BYTES:
                raise FormInvalid(
                    "A text field of the form is too long.",
                    "Send images as files with a file name.",
                )

    def _take(self) -> bool:
        """Whether the sink takes this file; one without a name is only there if it has bytes."""
        return self.sink is not None and self.sink.begin(self._name, self._filename or "")

    def end(self) -> None:
        """End the part."""
        content = b"".join(self._pieces)
        self._pieces = []
        if self._filename is None:
            self.form.texts.setdefault(self._name, []).append(content.decode("utf-8"))
        elif self._filename or content or self._taken:
            if self._taken and self.sink is not None:
                self.sink.end()
            upload = Upload(self._filename, content)
            self.form.files.setdefault(self._name, []).append(upload)


def _filename_of(segment: MultipartSegment) -> str | None:
    """The part's file name; None if the part is not a file.

    RFC 7578 defines only ``filename``. Some clients send RFC 5987's ``filename*`` instead.
    """
    if segment.filename is not None:
        return _unescaped(_in_unicode(segment.filename))
    extended = _EXTENDED_FILENAME.search(segment.header("Content-Disposition") or "")
    if extended is None:
        kind = segment.content_type or "text/plain"
        return "" if kind.startswith("image/") or kind == "application/octet-stream" else None
    try:
        return unquote_to_bytes(extended["value"]).decode(extended["charset"], "replace")
    except (LookupError, UnicodeError):  # an unknown charset, or one that only Python has
        return unquote(extended["value"])


def _in_unicode(text: str) -> str:
    """Decode bytes that were read as Latin-1: as UTF-8 if possible, else unchanged."""
    try:
        return text.encode("latin-1").decode("utf-8")
    except UnicodeDecodeError:
        return text


def _unescaped(filename: str) -> str:
    """Undo the escapes that HTML forms use in file names: quotes and line breaks."""
    return filename.replace("%22", '"').replace("%0D", "\r").replace("%0A", "\n")


def _too_large(limits: FormLimits) -> FormTooLarge:
    return FormTooLarge(
        f"The request's body is larger than {limits.bytes:,} bytes.",
        "Send a smaller image, or fewer images at once.",
    )
