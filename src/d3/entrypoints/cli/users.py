"""``d3 users``: who has an account."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from d3.entrypoints.cli.opening import opened
from d3.entrypoints.cli.options import JSON
from d3.entrypoints.cli.output import complain, out, print_json, printable

if TYPE_CHECKING:
    from d3.domain.accounts import User
    from d3.domain.services.accounts import AccountService


@click.group()
def users() -> None:
    """Add, list, disable and enable users.

    Manage their keys with `d3 keys`.
    """


@users.command()
@click.argument("username")
@click.option("--email", help="Email address; must be unique.")
@JSON
def add(username: str, *, email: str | None, as_json: bool) -> None:
    """Create an account for USERNAME."""
    _tell(account_service().add_user(username, email), "Added", as_json=as_json)
    complain(f"Run `d3 keys create {username}` to create a key for this user.", "note")


@users.command("list")
@JSON
def list_users(*, as_json: bool) -> None:
    """Show every user."""
    found = account_service().users()
    if as_json:
        for user in found:
            print_json(asdict(user))
        return
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table("ID", "USERNAME", "EMAIL", "SINCE", "STATE", box=box.SIMPLE_HEAD)
    for user in found:
        names = (Text(printable(user.username)), Text(printable(user.email or "-")))
        state = "active" if user.is_active else "disabled"
        table.add_row(str(user.id), *names, f"{user.created_at:%Y-%m-%d}", state)
    out().print(table)


@users.command()
@click.argument("username")
@JSON
def disable(username: str, *, as_json: bool) -> None:
    """Refuse all keys of USERNAME without deleting them."""
    _tell(account_service().set_active(username, active=False), "Disabled", as_json=as_json)


@users.command()
@click.argument("username")
@JSON
def enable(username: str, *, as_json: bool) -> None:
    """Accept the keys of USERNAME again."""
    _tell(account_service().set_active(username, active=True), "Enabled", as_json=as_json)


def account_service() -> AccountService:
    """The service on a database that is ready for it."""
    service: AccountService = opened().account_service()
    return service


def _tell(user: User, done: str, *, as_json: bool) -> None:
    if as_json:
        print_json(asdict(user))
    else:
        out().print(f"{done} {printable(user.username)} (id {user.id}).", markup=False)
