"""D3 beneath another application's prefix: the scope inside, and addresses as callers know them."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, unquote, urljoin

from litestar import Request
from litestar.utils import normalize_path

_VERSION = "/api/v1/"
_HOST = "d3.host_scope"
_PREFIX = "d3.prefix"


def inner_of(scope: Any) -> Any:
    """The scope as everything below knows it: without the parent's prefix and the API's version.

    Its path is the one that the framework finds the handler by, so that access rules, limits,
    metrics and logs mean the same address: without a slash at the end, and with an empty
    ``root_path``, for the framework would cut that out of the path wherever it occurs.
    ``/api/v1/...`` is ``/api/...`` to all of them.
    """
    prefix, path = scope.get("root_path", "").rstrip("/"), scope["path"]
    raw = scope.get("raw_path") or quote(path).encode()
    address = unquote(raw.decode("latin-1").partition("?")[0])
    if not _is_beneath(prefix, address):
        raw, address = quote(prefix).encode() + raw, prefix + address
    if address != prefix + path and _is_beneath(prefix, path):  # else it is cut off already
        path = path[len(prefix) :]
    above = address.rstrip("/").removesuffix(path.rstrip("/"))
    path = normalize_path(path)
    if path.startswith(_VERSION):
        path = "/api/" + path[len(_VERSION) :]
    return {**scope, "path": path, "root_path": "", "raw_path": raw, _HOST: scope, _PREFIX: above}


def host_scope_of(scope: Any) -> Any:
    """The scope of a request as it came, which the application that D3 is part of knows."""
    return scope[_HOST]


def prefix_of(scope: Any) -> str:
    """The path beneath which D3 is mounted, as it is sent; empty where D3 is not mounted."""
    return quote(scope.get(_PREFIX, ""))


def address_of(request: Request[Any, Any, Any]) -> str:
    """The whole path that was asked for, as it was sent: with a prefix, and the API's version."""
    raw: bytes = request.scope["raw_path"]
    return raw.decode("latin-1").partition("?")[0]


def api_address(request: Request[Any, Any, Any], path: str) -> str:
    """The address of a call under ``/api``, beneath the same prefix and in the same version.

    Args:
        request: another call of the API.
        path: without ``/api/``.
    """
    folders_below_api = request.scope["path"].count("/") - 2
    return urljoin(address_of(request).rstrip("/"), "../" * folders_below_api + path)


def _is_beneath(prefix: str, path: str) -> bool:
    return path == prefix or path.startswith(prefix + "/")
