"""``d3 keys``: what lets a user in, and what signs evidence.

A secret is shown once, on stdout; all else goes to stderr.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from d3.domain.errors import D3Error, KeyLimitReached
from d3.entrypoints.cli.opening import build_container, opened
from d3.entrypoints.cli.options import JSON
from d3.entrypoints.cli.output import complain, out, print_json
from d3.entrypoints.cli.results import Column, Form, print_rows, shows
from d3.entrypoints.cli.spans import lifetime, span
from d3.entrypoints.cli.users import account_service

if TYPE_CHECKING:
    from d3.domain.accounts import ApiKey, IssuedKey

_SCOPES = ("predict", "read", "models", "admin")


@click.group()
def keys() -> None:
    """Create, list, revoke and rotate API keys, and create the key that signs evidence.

    A user has at most two live API keys.
    """


@keys.command()
@click.option(
    "--replace",
    is_flag=True,
    help="Create another admin key, for example because the first was lost.",
)
@JSON
def init(*, replace: bool, as_json: bool) -> None:
    """Create the first key, which allows everything.

    The key belongs to the user admin and is shown only once. It is stored in D3_HOME/api.key, where
    clients on this machine find it. With --replace, admin gets another key; if admin already has
    two live keys, the older one is revoked.
    """
    container = opened()
    service = container.account_service()
    if service.has_live_key() and not replace:
        file = container.secrets().key_file
        raise KeyLimitReached(
            f"There is already an API key{f', in {file}' if file.exists() else ''}.",
            "`d3 keys list` shows all keys. `d3 keys init --replace` creates another one for the "
            "user admin.",
        )
    if replace and (revoked := service.make_room_for_first_key()) is not None:
        complain(f"The key {revoked.key_id} of the user admin was revoked.", "note")
    made, secrets = service.first_key(), container.secrets()
    try:
        secrets.keep_key(made.key, replace=replace)
    except D3Error:
        service.revoke_key(made.key_id)
        raise
    _show_secret(made, as_json=as_json)
    complain(f"The key is stored in {secrets.key_file}, which only you can read.", "note")


@keys.command()
@click.option("--replace", is_flag=True, help="Make another key. The old one is lost.")
@JSON
def sign_init(*, replace: bool, as_json: bool) -> None:
    """Create the key that signs evidence.

    It is stored in D3_HOME/signing.pem, or in the file that D3_SIGNING_KEY names, which only you
    can read. Prints the public key, which you should publish: everybody who gets a bundle needs it
    to check who signed. Keep it also if you make another key later.
    """
    file = build_container().evidence_bundles().keys
    public = file.make(replace=replace).public
    if as_json:
        print_json({"key_id": public.key_id, "public_key": public.pem.decode()})
    else:
        sys.stdout.write(public.pem.decode())
        sys.stdout.flush()
    complain(f"The key {public.key_id} signs evidence from now on.", "note")
    complain(f"It is stored in {file.path}, which only you can read. Back it up.", "note")


@keys.command()
@click.argument("username")
@click.option("--name", default="", help="What the key is for. Shown in lists.")
@click.option(
    "--scope",
    "scopes",
    type=click.Choice(_SCOPES),
    multiple=True,
    default=("predict", "read"),
    show_default=True,
    help="What the key allows. Can be repeated. admin allows everything.",
)
@click.option(
    "--expires",
    type=lifetime,
    metavar="SPAN",
    help="How long the key works, such as 90d.  [default: forever]",
)
@JSON
def create(
    username: str, *, name: str, scopes: tuple[str, ...], expires: timedelta | None, as_json: bool
) -> None:
    """Create a key for USERNAME. It is shown only once."""
    service = account_service()
    made = service.create_key(username, name=name, scopes=scopes, lifetime=expires)
    _show_secret(made, as_json=as_json)


@keys.command("list")
@click.argument("username", required=False)
@shows
def list_keys(username: str | None, *, form: Form) -> None:
    """Show all keys, or those of USERNAME, without secrets."""
    service = account_service()
    now, names = service.now(), service.usernames()
    columns: list[Column[ApiKey]] = [
        Column("key_id", lambda key: key.key_id, whole=True),
        Column("username", lambda key: names.get(key.user_id, "?")),
        Column("name", lambda key: key.name, lambda key: key.name),
        Column("scopes", lambda key: " ".join(sorted(key.scopes))),
        Column("created_at", lambda key: key.created_at, _day("created_at"), "CREATED"),
        Column("expires_at", lambda key: key.expires_at, _day("expires_at"), "EXPIRES"),
        Column("last_used_at", lambda key: key.last_used_at, _day("last_used_at"), "LAST USED"),
        Column("state", lambda key: key.state(now).value),
    ]

    def document(key: ApiKey) -> dict[str, Any]:
        return _described(key) | {"state": key.state(now)}

    print_rows(form, service.keys(username), columns, document)


@keys.command()
@click.argument("key_id")
@JSON
def revoke(key_id: str, *, as_json: bool) -> None:
    """Permanently revoke the key KEY_ID.

    KEY_ID can also be the whole key, for example one that has leaked.
    """
    service = account_service()
    key = service.revoke_key(key_id)
    if as_json:
        print_json(_described(key) | {"state": key.state(service.now())})
    else:
        out().print(f"The key {key.key_id} was revoked.", markup=False)


@keys.command()
@click.argument("key_id")
@click.option(
    "--keep",
    type=span,
    metavar="SPAN",
    default="24h",
    show_default=True,
    help="How long the old key still works. 0 revokes it now.",
)
@click.option(
    "--expires",
    type=lifetime,
    metavar="SPAN",
    help="How long the new key works.  [default: until the old one expires]",
)
@JSON
def rotate(key_id: str, *, keep: timedelta, expires: timedelta | None, as_json: bool) -> None:
    """Replace the key KEY_ID with a new one. It is shown only once."""
    made = account_service().rotate_key(key_id, overlap=keep, lifetime=expires)
    _show_secret(made, as_json=as_json)
    complain(f"The old key {'still works for a while' if keep else 'no longer works'}.", "note")


def _show_secret(made: IssuedKey, *, as_json: bool) -> None:
    if as_json:
        print_json({"key": made.key} | _described(made))
    else:
        sys.stdout.write(made.key + "\n")
        sys.stdout.flush()
    until = (
        "without a time limit"
        if made.expires_at is None
        else f"until {made.expires_at:%Y-%m-%d %H:%M} UTC"
    )
    complain(f"The key {made.key_id} works {until}. Store it now. It is not shown again.", "note")


def _described(key: ApiKey) -> dict[str, Any]:
    described = asdict(key) | {"scopes": sorted(key.scopes)}
    described.pop("key", None)
    return described


def _day(name: str) -> Callable[[ApiKey], str]:
    """Shows the day of one of a key's times."""

    def shown(key: ApiKey) -> str:
        value: datetime | None = getattr(key, name)
        return "-" if value is None else f"{value:%Y-%m-%d}"

    return shown
