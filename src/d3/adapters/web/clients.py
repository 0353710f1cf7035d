"""HTTP clients that obey the environment's proxies, but not for this machine's own addresses."""

from __future__ import annotations

from typing import Any

import httpx

from d3.domain.errors import SettingsInvalid

_THIS_MACHINE = ("all://localhost", "all://127.0.0.1", "all://[::1]")


def new_http_client(**options: Any) -> httpx.Client:
    """A client of httpx; a service on this machine never hears from us through a proxy.

    Args:
        options: of :class:`httpx.Client`.

    Raises:
        SettingsInvalid: HTTP_PROXY, HTTPS_PROXY or ALL_PROXY names a proxy that cannot be used.
    """
    try:
        return httpx.Client(mounts=dict.fromkeys(_THIS_MACHINE), **options)
    except ImportError as error:
        raise SettingsInvalid(
            "HTTP_PROXY, HTTPS_PROXY or ALL_PROXY names a SOCKS proxy, for which a package is "
            "missing.",
            "Run `pip install 'httpx[socks]'`, or unset the variable.",
        ) from error
    except (ValueError, httpx.InvalidURL) as error:
        raise SettingsInvalid(
            "HTTP_PROXY, HTTPS_PROXY or ALL_PROXY is no address of a proxy.",
            "Write it as http://HOST:PORT, or unset the variable.",
        ) from error
