"""``d3 serve``: the REST service."""

from __future__ import annotations

import ipaddress
import logging
import os
import re
import signal
import socket
import ssl
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from d3.domain.errors import D3Error, KeysMissing, SecretWeak, SettingsInvalid
from d3.entrypoints.cli.output import complain, err
from d3.entrypoints.cli.progress import progress

if TYPE_CHECKING:
    from d3.container import Container
    from d3.domain.services.accounts import AccountService

SWITCH_SECONDS = 0.0005
"""How long a thread may keep the interpreter while others wait for it: a request passes through
several, and Python's own 5 ms at each add up (benchmarks/serving: an eighth off the p99)."""
_GRACE_SECONDS = 30
_FORCED = 128 + signal.SIGINT
_SHORTEST_SECRET = 16
_EXAMPLES = r"dev-secret|your[-_]secret|change[-_ ]?(me|this|in)|secret[-_]key|example"
_FILE = click.Path(path_type=Path)


class AddressUnavailable(D3Error):
    """The address cannot be listened on."""

    code = "address_unavailable"


@click.command()
@click.option("--host", default=None, help="Address to listen on.  [default: 127.0.0.1]")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=None,
    help="Port to listen on; 0 picks a free one.  [default: 5000]",
)
@click.option(
    "--tls-cert", type=_FILE, default=None, help="Certificate chain (PEM), to serve HTTPS."
)
@click.option("--tls-key", type=_FILE, default=None, help="Private key of the certificate (PEM).")
def serve(
    *, host: str | None, port: int | None, tls_cert: Path | None, tls_key: Path | None
) -> int:
    """Serve the REST API and the console.

    The console is at /, the interactive API reference at /schema. On a loopback address, callers on
    this machine need no API key. On any other address every caller needs one, and D3 does not start
    until there is a key. Create the first with `d3 keys init`.

    Ctrl-C or SIGTERM stops the service after all requests in flight are answered.
    """
    from d3.settings import Settings

    settings = Settings.from_environment()
    listener = _listen(host or settings.host, settings.port if port is None else port)
    address, bound = listener.getsockname()[:2]
    local = ipaddress.ip_address(address).is_loopback
    tls = _tls(tls_cert or settings.tls_cert, tls_key or settings.tls_key)
    if settings.auth == "off":
        complain("Anyone who can reach this address has full access.", kind="warning")
    elif not local:
        settings = replace(settings, auth="required")
    if not local:
        check_secret(settings.secret_key)
    import uvicorn

    from d3.entrypoints.http import create_app
    from d3.entrypoints.http.connections import descriptors_for
    from d3.entrypoints.http.protocol import limited_http
    from d3.entrypoints.logs import configure_logs

    configure_logs(settings.log_format, settings.log_level)
    application = create_app(settings)
    with progress("Opening the database and loading the model"):
        application.d3.start(lambda container: see_to_keys(container, local=local))
    config = uvicorn.Config(
        application,
        http=limited_http(settings, descriptors_for(settings.max_connections)),
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # uvicorn would trust every local proxy; the access middleware checks
        timeout_graceful_shutdown=_GRACE_SECONDS,
        lifespan="on",
        ssl_certfile=tls and tls[0],
        ssl_keyfile=tls and tls[1],
    )
    url = f"http{'s' if tls else ''}://{f'[{address}]' if ':' in address else address}:{bound}"
    err().print(f"D3 listens on {url} (open it in a browser; API reference: {url}/schema)")
    # When uvicorn has stopped it raises the signal that stopped it once more: all is done by then.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    sys.setswitchinterval(SWITCH_SECONDS)
    server = uvicorn.Server(config)
    server.run(sockets=[listener])
    if server.force_exit or not application.d3.stop():
        # Beside a forward pass an ordinary end would be an abort.
        logging.shutdown()
        os._exit(_FORCED if server.force_exit else 0)
    return 0


def check_secret(secret: str | None) -> None:
    """See that a secret which others rely on is none that everybody knows.

    Raises:
        SecretWeak: it is short, or an example's.
    """
    if secret is not None and (
        len(secret) < _SHORTEST_SECRET or re.search(_EXAMPLES, secret, re.IGNORECASE)
    ):
        raise SecretWeak(
            "SECRET_KEY is too short or an example, and other machines can reach this address.",
            "Set it to 32 random characters, or leave it unset and D3 creates one.",
        )


def see_to_keys(container: Container, *, local: bool) -> None:
    """Make the first key where there is none, or say how to.

    Raises:
        KeysMissing: others will reach the service, and nobody could use it.
    """
    secrets, settings = container.secrets(), container.settings()
    if settings.secret_key is None:
        secrets.secret_key()
    accounts: AccountService = container.account_service()
    if settings.auth == "off" or accounts.has_live_key():
        return
    if not local:
        raise KeysMissing(
            "Other machines can reach this address, and there is no API key yet.",
            "Create one: d3 keys init",
        )
    if secrets.key() is not None:
        complain(
            f"{secrets.key_file} holds a key that is not in this database. `d3 keys init "
            "--replace` creates one that is.",
            "warning",
        )
        return
    made = accounts.first_key()
    try:
        secrets.keep_key(made.key)
    except D3Error:
        accounts.revoke_key(made.key_id)
        raise
    # A log is kept and shipped around; a terminal is only looked at.
    shown = f", shown only now: {made.key}" if sys.stderr.isatty() else "."
    complain(f"{secrets.key_file} holds the first API key{shown}", "note")


def _tls(cert: Path | None, key: Path | None) -> tuple[Path, Path] | None:
    if cert is None and key is None:
        return None
    try:
        if cert is None or key is None:
            raise FileNotFoundError(0, "one of the files is missing")
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, lambda: b"")
    except OSError as error:
        raise SettingsInvalid(
            f"The certificate and its key cannot be used ({error.strerror or 'not PEM files'}).",
            "Set --tls-cert and --tls-key to PEM files that belong together and have no password.",
        ) from error
    return cert, key


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
    except OSError as error:
        raise AddressUnavailable(
            f"D3 cannot listen on {host}:{port} ({error.strerror or error}).",
            "Choose another address with --host and --port, or stop the program that uses it.",
        ) from error
    listener.set_inheritable(True)
    return listener
