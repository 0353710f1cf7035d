"""``d3 serve``: the REST service, in one process or in several."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from d3.domain.errors import D3Error, KeysMissing, SecretWeak
from d3.entrypoints.cli.output import complain, err
from d3.entrypoints.cli.progress import progress
from d3.entrypoints.serving.listening import Listeners, checked_certificate, listen, listen_in

if TYPE_CHECKING:
    from d3.container import Container
    from d3.domain.services.accounts import AccountService
    from d3.settings import Settings

_SHORTEST_SECRET = 16
_EXAMPLES = r"dev-secret|your[-_]secret|change[-_ ]?(me|this|in)|secret[-_]key|example"
_FILE = click.Path(path_type=Path)


class Workers(click.IntRange):
    """A number of processes, or ``auto``."""

    name = "number or auto"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return "auto" if value == "auto" else super().convert(value, param, ctx)


@click.command()
@click.option("--host", default=None, help="Address to listen on.  [default: 127.0.0.1]")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=None,
    help="Port to listen on; 0 picks a free one.  [default: 5000]",
)
@click.option(
    "--workers",
    type=Workers(1, 256),
    default=None,
    help="Processes that answer requests. Above 1, another process runs the model.  [default: 1]",
)
@click.option(
    "--uds",
    type=_FILE,
    default=None,
    metavar="FOLDER",
    help="Listen on Unix sockets front-1.sock, ... in this folder instead, for a proxy.",
)
@click.option(
    "--tls-cert", type=_FILE, default=None, help="Certificate chain (PEM), to serve HTTPS."
)
@click.option("--tls-key", type=_FILE, default=None, help="Private key of the certificate (PEM).")
def serve(
    *,
    host: str | None,
    port: int | None,
    workers: int | Literal["auto"] | None,
    uds: Path | None,
    tls_cert: Path | None,
    tls_key: Path | None,
) -> int:
    """Serve the REST API and the console.

    The console is at /, the interactive API reference at /schema. On a loopback address, callers on
    this machine need no API key. On any other address every caller needs one, and D3 does not start
    until there is a key. Create the first with `d3 keys init`.

    Ctrl-C or SIGTERM stops the service after all requests in flight are answered. With several
    workers, SIGHUP replaces them one by one: they read .env and the TLS files anew, and no request
    is refused.
    """
    from d3.entrypoints.serving.shares import workers_for
    from d3.settings import Settings

    settings = Settings.from_environment()
    settings = replace(
        settings, tls_cert=tls_cert or settings.tls_cert, tls_key=tls_key or settings.tls_key
    )
    if workers is not None:
        settings = replace(settings, workers=workers)
    count = workers_for(settings)

    def tls(settings: Settings) -> tuple[Path, Path] | None:
        return checked_certificate(tls_cert or settings.tls_cert, tls_key or settings.tls_key)

    if uds is not None:
        listeners = listen_in(uds, count)
    else:
        host, port = host or settings.host, settings.port if port is None else port
        listeners = listen(host, port, count, tls=tls(settings) is not None)
    try:
        settings = _guarded(settings, local=listeners.local)
        if settings.auth == "off":
            complain("Anyone who can reach this address has full access.", kind="warning")
        if count == 1:
            return _serve_alone(settings, listeners, tls(settings))
        return _serve_with_workers(settings, listeners, tls, count)
    finally:
        listeners.close()


def _serve_alone(settings: Settings, listeners: Listeners, tls: tuple[Path, Path] | None) -> int:
    """Serve from this process."""
    from d3.entrypoints.http import create_app
    from d3.entrypoints.logs import configure_logs
    from d3.entrypoints.serving import server

    configure_logs(settings.log_format, settings.log_level)
    application = create_app(settings)
    with progress("Opening the database and loading the model"):
        application.d3.start(partial(see_to_keys, local=listeners.local))
    return server.run(
        application, settings, listeners.sockets[0], tls, ready=partial(_say_where, listeners)
    )


def _serve_with_workers(
    settings: Settings,
    listeners: Listeners,
    tls: Callable[[Settings], tuple[Path, Path] | None],
    count: int,
) -> int:
    """Serve from so many processes, with one more for each device."""
    from d3.entrypoints.logs import configure_logs
    from d3.entrypoints.serving import workers
    from d3.entrypoints.serving.front import application
    from d3.settings import Settings

    def read() -> Settings:
        new = replace(Settings.from_environment(), home=settings.home, workers=settings.workers)
        return _guarded(new, local=listeners.local)

    configure_logs(settings.log_format, settings.log_level, process="main")
    service = workers.Service(
        settings=settings,
        read=read,
        listeners=listeners,
        tls=tls,
        prepare=partial(see_to_keys, local=listeners.local),
        ready=partial(_say_where, listeners),
        application=application,
    )
    return workers.serve(service, count)


def _guarded(settings: Settings, *, local: bool) -> Settings:
    """The settings, with keys required where others can reach the service.

    Raises:
        SecretWeak: others can, and everybody knows the secret.
    """
    if local:
        return settings
    check_secret(settings.secret_key)
    return settings if settings.auth == "off" else replace(settings, auth="required")


def _say_where(listeners: Listeners) -> None:
    url = listeners.address
    about = f" (open it in a browser; API reference: {url}/schema)" if not listeners.files else ""
    err().print(f"D3 listens on {url}{about}")


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
            "Others can reach this service, and there is no API key yet.",
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
