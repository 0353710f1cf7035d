"""Rendering of pages: templates, their common context, and the headers of every page."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from litestar import Request
from litestar.plugins.jinja import JinjaTemplateEngine
from litestar.response import Template
from litestar.template.config import TemplateConfig
from markupsafe import Markup, escape

from d3.domain.access import UNAUTHENTICATED, Caller
from d3.domain.accounts import Scope
from d3.domain.labels import Label
from d3.domain.panels import NOTHING_TO_COMPARE, Agreement
from d3.domain.provenance import Says, Source
from d3.domain.services.reporting import clock
from d3.entrypoints.http.console.texts import (
    AGREEMENTS,
    CHANGES,
    LABELS,
    PROBLEMS,
    REASONS,
    SCAN_ERRORS,
    SOURCE_FIELDS,
    SOURCES,
    TEXTS,
    VERDICTS,
)
from d3.entrypoints.http.mounting import address_of
from d3.entrypoints.http.services import Services

STATIC = Path(__file__).with_name("static")
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob:; media-src blob:; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Vary": "Accept",
}
"""Headers of every page: no inline scripts, no foreign resources, no framing."""

PLACES = (
    ("check", "", Scope.PREDICT),
    ("history", "history", Scope.READ),
    ("statistics", "statistics", Scope.READ),
    ("models", "models", Scope.MODELS),
    ("service", "service", Scope.READ),
    ("scans", "scans", Scope.ADMIN),
    ("webhooks", "webhooks", Scope.READ),
    ("keys", "keys", Scope.ADMIN),
)
"""The pages of the navigation: name, path from the root, and the scope that each needs."""

_SHORTCUTS = (
    ("jk", "move"),
    (("Enter",), "open"),
    ("rgu", "label"),
    ("x", "select"),
    ("z", "undo"),
    ("/", "search"),
    ("?", "help"),
)
"""Keys, and what they do."""

_SECTIONS = {"result": "history", "scan": "scans"}
"""The entries of the navigation beneath which other pages lie."""

_UNSHOWABLE = dict.fromkeys((0, *range(0x202A, 0x202F), *range(0x2066, 0x206A)), "\ufffd")
_COMMAND = re.compile("`([^`]+)`")
_HARDLY = 0.0005
_KIB = 1024


def templates() -> TemplateConfig[Any]:
    """The templates of the package."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_presentable,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {
        "t": TEXTS,
        "verdicts": VERDICTS,
        "reasons": REASONS,
        "changes_of_image": CHANGES,
        "agreements": {one.value: one.sentence for one in Agreement} | {"null": NOTHING_TO_COMPARE},
        "agreement_words": AGREEMENTS,
        "problems": PROBLEMS,
        "labels": LABELS,
        "label_words": {one.value: LABELS[one] for one in Label},
        "sayings": {one.value: getattr(TEXTS.provenance, f"{one}_choice") for one in Says},
        "sources": SOURCES,
        "source_fields": SOURCE_FIELDS,
        "scan_errors": SCAN_ERRORS,
        "assets": _fingerprint(),
        "shortcuts": [(keys, getattr(TEXTS.shortcuts, name)) for keys, name in _SHORTCUTS],
    }
    environment.filters |= {
        "percent": percent,
        "clock": clock,
        "seconds": seconds,
        "size": size,
        "moment": moment,
        "minute": minute,
        "count": "{:,}".format,
        "source": source,
        "marked": marked,
    }
    return TemplateConfig(instance=JinjaTemplateEngine.from_environment(environment))


def page(
    request: Request[Any, Any, Any],
    d3: Services,
    name: str,
    /,
    *,
    status: int = 200,
    headers: dict[str, str] | None = None,
    **context: Any,
) -> Template:
    """A page of the console.

    Args:
        request: the request.
        d3: the services.
        name: of the template, and of its entry in the navigation if it has one.
        status: of the response.
        headers: besides :data:`HEADERS`.
        context: what the template needs besides the common context.
    """
    by_host = d3.authenticator.by_host
    return Template(
        f"{name}.html.j2",
        status_code=status,
        headers=headers,
        context={
            "base": base_of(request),
            "way_back": _way_back_to(request),
            "caller": visitor_of(request),
            "places": [one for one in PLACES if one[0] != "keys" or not by_host],
            "without_keys": d3.settings.auth == "off" or by_host,
            "page": name,
            "section": _SECTIONS.get(name, name),
            "version": d3.version,
            "loaded": d3.host.loaded(),
            **context,
        },
    )


def confirm(
    request: Request[Any, Any, Any],
    d3: Services,
    what: str,
    *,
    name: str,
    back: str,
    fields: Sequence[tuple[str, str]] = (),
    **context: Any,
) -> Template:
    """A page that asks before something is done which cannot be undone.

    Its form posts to the page's own address. Pages with scripts ask by themselves.

    Args:
        request: the request.
        d3: the services.
        what: is to be done: names the texts in the section ``sure``.
        name: of what it is done to.
        back: the path from the root to the page to go back to.
        fields: of the form that confirms: names and values.
        context: what the texts need besides the name.
    """
    return page(request, d3, "confirm", what=what, name=name, back=back, fields=fields, **context)


def base_of(request: Request[Any, Any, Any]) -> str:
    """The relative path from a page to the console's root, ending with a slash.

    It is relative because not every parent application passes on the prefix of its mount.
    """
    address = address_of(request)
    depth = len([part for part in request.scope["path"].split("/") if part])
    if depth == 0:
        return "./" if address.endswith("/") else f"{address.rpartition('/')[2]}/"
    up = depth if address.endswith("/") else depth - 1
    return "../" * up or "./"


def explains(d3: Services) -> bool:
    """Whether the model in use can draw heat maps."""
    model = d3.host.loaded()
    return model is not None and model.explains


def visitor_of(request: Request[Any, Any, Any]) -> Caller:
    """The caller, or an unauthenticated one if the request was refused."""
    caller: Caller = request.scope["state"].get("caller", UNAUTHENTICATED)
    return caller


def _way_back_to(request: Request[Any, Any, Any]) -> str:
    """The path from the console's root to this page, to return to."""
    query = request.scope["query_string"].decode("latin-1")
    path = request.scope["path"].lstrip("/")
    return f"{path}?{query}" if query and request.method == "GET" else path


def percent(share: float) -> str:
    """A probability as text. It is 0 or 100 percent only if it is exactly that."""
    if 0 < share < _HARDLY:
        return "< 0.1 %"
    if 1 - _HARDLY < share < 1:
        return "> 99.9 %"
    return f"{100 * share:.1f} %"


def seconds(duration: float) -> str:
    """A duration as text."""
    return f"{1000 * duration:.0f} ms" if duration < 1 else f"{duration:.1f} s"


def size(number: int) -> str:
    """A number of bytes as text."""
    if number < _KIB:
        return f"{number} bytes"
    if number < _KIB**2:
        return f"{number / _KIB:.0f} KB"
    return f"{number / _KIB**2:.0f} MB" if number < _KIB**3 else f"{number / _KIB**3:.1f} GB"


def moment(when: datetime) -> str:
    """A time as text, in UTC."""
    return when.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def minute(when: datetime) -> str:
    """A time as text without its seconds, in UTC."""
    return when.astimezone(UTC).strftime("%Y-%m-%d %H:%M")


def source(one: Source) -> str:
    """A statement of a file about itself, as a line of text."""
    words = [SOURCES[one.kind]]
    for name, title in SOURCE_FIELDS.items():
        if value := getattr(one, name, None):
            words.append(f"{title} {', '.join(value) if isinstance(value, tuple) else value}")
    return " · ".join(words)


def marked(sentence: str) -> Markup:
    """A sentence whose commands in backticks are marked up as code."""
    return Markup(_COMMAND.sub(r"<code>\1</code>", str(escape(sentence))))  # noqa: S704  escaped


def _presentable(value: object) -> object:
    """What a page shows: U+FFFD stands for NUL, and for what turns the direction of text."""
    if not isinstance(value, str) or value.isprintable():
        return value
    return value.translate(_UNSHOWABLE)


def _fingerprint() -> str:
    """A hash of all assets for their URLs, so that browsers can cache them for ever."""
    digest = hashlib.sha256()
    for path in sorted(STATIC.iterdir()):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
