"""``d3 keys``: what lets a user in. A secret is shown once, on stdout; all else goes to stderr."""

from __future__ import annotations

import sys
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from d3.domain.errors import D3Error, KeyLimitReached
from d3.entrypoints.cli.opening import opened
from d3.entrypoints.cli.options import JSON
from d3.entrypoints.cli.output import complain, out, print_json, printable
from d3.entrypoints.cli.spans import lifetime, span
from d3.entrypoints.cli.users import account_service

if TYPE_CHECKING:
    from d3.domain.accounts import ApiKey, IssuedKey

_SCOPES = ("predict", "read", "models", "admin")


@click.group()
def keys() -> None:
    """Create, list, revoke and rotate API keys. A user has two live keys at most."""


@keys.command()
@click.option(
    "--replace",
    is_flag=True,
    help="Make one though there are keys: the way back for whoever has lost theirs.",
)
@JSON
def init(*, replace: bool, as_json: bool) -> None:
    """Make the first key: of a user admin, allowed everything, kept in D3_HOME/api.key.

    It is shown now and never again; the client on this machine reads the file by itself.
    With --replace the user admin may come in again, and loses the older of two live keys.
    """
    container = opened()
    service = container.account_service()
    if service.has_live_key() and not replace:
        raise KeyLimitReached(
            "There are keys already.",
            "`d3 keys list` shows them; `d3 keys init --replace` makes another for the user admin.",
        )
    if replace and (revoked := service.make_room_for_first_key()) is not None:
        complain(f"The user admin's key {revoked.key_id} opens nothing from now on.", "note")
    made, secrets = service.first_key(), container.secrets()
    try:
        secrets.keep_key(made.key, replace=replace)
    except D3Error:
        service.revoke_key(made.key_id)
        raise
    _show_secret(made, as_json=as_json)
    complain(f"{secrets.key_file} keeps it, readable by you alone.", "note")


@keys.command()
@click.argument("username")
@click.option("--name", default="", help="What the key is for, for the list.")
@click.option(
    "--scope",
    "scopes",
    type=click.Choice(_SCOPES),
    multiple=True,
    default=("predict", "read"),
    show_default=True,
    help="What the key allows; may be given again. admin allows everything.",
)
@click.option(
    "--expires", type=lifetime, metavar="SPAN", help="After this long, such as 90d; else never."
)
@JSON
def create(
    username: str, *, name: str, scopes: tuple[str, ...], expires: timedelta | None, as_json: bool
) -> None:
    """Make a key for USERNAME. It is shown now and never again."""
    service = account_service()
    made = service.create_key(username, name=name, scopes=scopes, lifetime=expires)
    _show_secret(made, as_json=as_json)


@keys.command("list")
@click.argument("username", required=False)
@JSON
def list_keys(username: str | None, *, as_json: bool) -> None:
    """Show every key, or those of USERNAME; never a secret."""
    service = account_service()
    found, now = service.keys(username), service.now()
    if as_json:
        for key in found:
            print_json(_described(key) | {"state": key.state(now)})
        return
    from rich import box
    from rich.table import Column, Table
    from rich.text import Text

    names = {user.id: user.username for user in service.users()}
    columns = ("USERNAME", "NAME", "SCOPES", "CREATED", "EXPIRES", "LAST USED", "STATE")
    # An id is there to be copied: whatever else has to give way on a narrow terminal.
    table = Table(Column("KEY ID", no_wrap=True, min_width=10), *columns, box=box.SIMPLE_HEAD)
    for key in found:
        labels = (Text(printable(names.get(key.user_id, "?"))), Text(printable(key.name)))
        moments = map(_day, (key.created_at, key.expires_at, key.last_used_at))
        scopes = " ".join(sorted(key.scopes))
        table.add_row(key.key_id, *labels, scopes, *moments, key.state(now).value)
    out().print(table)


@keys.command()
@click.argument("key_id")
@JSON
def revoke(key_id: str, *, as_json: bool) -> None:
    """Take the key KEY_ID back for good. A whole key will do too, such as one that leaked."""
    service = account_service()
    key = service.revoke_key(key_id)
    if as_json:
        print_json(_described(key) | {"state": key.state(service.now())})
    else:
        out().print(f"The key {key.key_id} opens nothing from now on.", markup=False)


@keys.command()
@click.argument("key_id")
@click.option(
    "--keep",
    type=span,
    metavar="SPAN",
    default="24h",
    show_default=True,
    help="How long the old key goes on working; 0 ends it now.",
)
@click.option(
    "--expires",
    type=lifetime,
    metavar="SPAN",
    help="Of the new key; else as long as the old one's.",
)
@JSON
def rotate(key_id: str, *, keep: timedelta, expires: timedelta | None, as_json: bool) -> None:
    """Make a key that takes the place of KEY_ID. It is shown now and never again."""
    made = account_service().rotate_key(key_id, overlap=keep, lifetime=expires)
    _show_secret(made, as_json=as_json)
    complain(f"The old key {'ends now' if not keep else 'goes on working a while'}.", "note")


def _show_secret(made: IssuedKey, *, as_json: bool) -> None:
    if as_json:
        print_json({"key": made.key} | _described(made))
    else:
        sys.stdout.write(made.key + "\n")
        sys.stdout.flush()
    until = (
        "without end" if made.expires_at is None else f"until {made.expires_at:%Y-%m-%d %H:%M} UTC"
    )
    complain(f"The key {made.key_id} works {until}. It is not shown again: keep it now.", "note")


def _described(key: ApiKey) -> dict[str, Any]:
    described = asdict(key) | {"scopes": sorted(key.scopes)}
    described.pop("key", None)
    return described


def _day(moment: datetime | None) -> str:
    return "-" if moment is None else f"{moment:%Y-%m-%d}"
