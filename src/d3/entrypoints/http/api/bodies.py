"""One image as the body of a request: in a form, in JSON, or the file itself.

All three become the same :class:`Form`, so that everything behind them is the same too. Parameters
of the address count as fields, whatever the body is.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import msgspec
from litestar import Request
from multipart import parse_options_header

from d3.domain.errors import FileMissing, FormInvalid, FormNotMultipart
from d3.domain.services.prediction import Upload
from d3.entrypoints.http.api.forms import (
    FIELD_BYTES,
    Form,
    FormLimits,
    header_of,
    read_body,
    read_form,
    unknown_name,
)

RAW = "application/octet-stream"
JSON_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What a decoder raises."""

_TEXT = "a text", str | None
_FLAG = "true or false", bool | None
_KINDS: dict[str, tuple[str, Any]] = {
    "threshold": ("a number", float | None),
    "views": ("a whole number", int | None),
    "stability": _FLAG,
    "explain": _FLAG,
}
"""Fields that are not texts in JSON."""


async def read_image(request: Request[Any, Any, Any], limits: FormLimits, *fields: str) -> Form:
    """Read a body that brings one image, or a link to one.

    Args:
        request: its body is read.
        limits: of the body; JSON may be larger by what base64 adds.
        fields: that say what to do with the image.

    Returns:
        The image in the field ``file``, or its address in ``url``, and the fields.

    Raises:
        FormNotMultipart: the body is none of the three.
        FormInvalid: it is malformed, or the image is not in base64.
        FileMissing: JSON brings neither.
        FormTooLarge: it exceeds a limit.
        D3Error: receiving failed; see :mod:`d3.entrypoints.http.middleware.request_limits`.
    """
    kind, _ = parse_options_header(header_of(request, b"content-type") or "")
    asked = request.query_params.dict()
    if kind == "multipart/form-data":
        form = await read_form(request, limits)
    elif kind == "application/json":
        larger = replace(limits, bytes=limits.bytes * 4 // 3)
        body = await read_body(request, larger)
        # Millions of letters are decoded beside the event loop.
        form = await asyncio.to_thread(_of_json, body, ("image_base64", "url", "name", *fields))
    elif kind == RAW or kind.startswith("image/"):
        names = asked.pop("name", [])
        name = Form(texts={"name": names}).text("name")
        form = Form(files={"file": [Upload(name or "", await read_body(request, limits))]})
    else:
        raise FormNotMultipart(
            "The body is neither a form, nor JSON, nor an image.",
            "Send a form with the field 'file', as `curl -F file=@image.jpg` does, or the file "
            "itself with its Content-Type, such as image/jpeg.",
        )
    for name, values in asked.items():
        form.texts.setdefault(name, []).extend(values)
    return form


@cache
def _object(fields: tuple[str, ...]) -> type[msgspec.Struct]:
    """Nothing else is decoded: a few letters of JSON can be many objects in memory."""
    kinds = [(name, _KINDS.get(name, _TEXT)[1], None) for name in fields]
    return msgspec.defstruct("Image", kinds, forbid_unknown_fields=True)


def _of_json(body: bytes, known: tuple[str, ...]) -> Form:
    try:
        sent = msgspec.structs.asdict(msgspec.json.decode(body, type=_object(known)))
    except JSON_ERRORS as error:
        meant = {name: _KINDS.get(name, _TEXT)[0] for name in known}
        example = '{"image_base64": "...", "threshold": 0.5}'
        raise what_is_wrong(error, meant, example) from error
    image = sent.pop("image_base64")
    if image is None and not sent["url"]:
        raise FileMissing(
            "The JSON holds no image.",
            "Send the file in base64 as `image_base64`, or a link to it as `url`.",
        )
    texts = {name: _text(name, value) for name, value in sent.items() if value is not None}
    name = texts.pop("name", "")
    files = {} if image is None else {"file": [Upload(name, _decoded(image))]}
    return Form(files=files, texts={field: [text] for field, text in texts.items()})


def what_is_wrong(error: Exception, meant: Mapping[str, str], example: str) -> FormInvalid:
    """What a decoder of JSON says, as a sentence of ours.

    Args:
        error: one of ``JSON_ERRORS``.
        meant: the fields that are known, and what each is.
        example: of an object that can be decoded.
    """
    if found := re.search(r"unknown field `(.*)`", str(error)):
        return unknown_name("field", found[1], tuple(meant))
    if found := re.search(r"(?:\$\.|required field `)(\w+)", str(error)):
        kind = meant.get(found[1], _TEXT[0])
        return FormInvalid(f"The field {found[1]!r} is not {kind}.", f"Send {kind}.")
    return FormInvalid("This is not a JSON object.", f"Send one such as {example}.")


def _text(name: str, value: object) -> str:
    """A field as a form would have it."""
    text = value if isinstance(value, str) else json.dumps(value)
    if len(text) > FIELD_BYTES:
        raise FormInvalid(f"The field {name!r} is too long.", "Send less text.")
    return text


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise FormInvalid(
            "The field 'image_base64' is not base64.",
            "Send the file's bytes in base64, without line breaks and without "
            "'data:image/jpeg;base64,' in front.",
        ) from error
