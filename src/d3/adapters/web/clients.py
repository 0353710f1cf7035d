"""HTTP clients that obey the environment's proxies, but not for this machine's own addresses."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any, TypeVar, overload
from urllib.parse import urlsplit

import httpx

from d3.domain.errors import SettingsInvalid
from d3.domain.installation import hint_for

_ALWAYS_DIRECT = ("all://localhost", "all://127.0.0.1", "all://[::1]")
_ALL = ("all://", "http://", "https://")


Made = TypeVar("Made", httpx.Client, httpx.AsyncClient)


@overload
def new_http_client(url: str, **options: Any) -> httpx.Client: ...
@overload
def new_http_client(url: str, kind: type[Made], **options: Any) -> Made: ...
def new_http_client(url: str, kind: type[Any] = httpx.Client, **options: Any) -> Any:
    """A client of httpx; a service on this machine never hears from us through a proxy.

    Args:
        url: what will be asked first, or often.
        kind: :class:`httpx.Client` or :class:`httpx.AsyncClient`.
        options: of its making.

    Raises:
        SettingsInvalid: HTTP_PROXY, HTTPS_PROXY or ALL_PROXY names a proxy that cannot be used.
    """
    direct = _ALL if is_this_machine(urlsplit(url).hostname or "") else _ALWAYS_DIRECT
    try:
        return kind(mounts=dict.fromkeys(direct), **options)
    except ImportError as error:
        raise SettingsInvalid(
            "HTTP_PROXY, HTTPS_PROXY or ALL_PROXY names a SOCKS proxy, which needs an extra "
            "package.",
            f"Unset the variable, or install the package. {hint_for('httpx[socks]')}",
        ) from error
    except (ValueError, httpx.InvalidURL) as error:
        raise SettingsInvalid(
            "HTTP_PROXY, HTTPS_PROXY or ALL_PROXY is not a valid proxy address.",
            "Write it as http://HOST:PORT, or unset the variable.",
        ) from error


def is_this_machine(host: str) -> bool:
    """Whether a host's name or address, however it is written, means the machine we run on."""
    name = host.rstrip(".").lower()
    if name in {"localhost", socket.gethostname().lower()} or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        try:  # 127.1, 2130706433 and 0x7f000001 are addresses to a resolver too
            address = ipaddress.ip_address(socket.inet_aton(name))
        except OSError:
            return False
    mapped = getattr(address, "ipv4_mapped", None) or address
    return bool(mapped.is_loopback or mapped.is_unspecified)
