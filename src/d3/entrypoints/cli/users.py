"""``d3 users``: who has an account."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from d3.domain.accounts import User
from d3.entrypoints.cli.opening import opened
from d3.entrypoints.cli.options import JSON
from d3.entrypoints.cli.output import complain, out, print_json, printable
from d3.entrypoints.cli.results import Column, Form, print_rows, shows

if TYPE_CHECKING:
    from d3.domain.services.accounts import AccountService


def _since(user: User) -> str:
    return f"{user.created_at:%Y-%m-%d}"


_COLUMNS: list[Column[User]] = [
    Column("id", lambda user: user.id, right=True),
    Column("username", lambda user: user.username),
    Column("email", lambda user: user.email),
    Column(
        "created_at",
        lambda user: user.created_at,
        lambda user: f"{user.created_at:%Y-%m-%d}",
        title="SINCE",
    ),
    Column("state", lambda user: "active" if user.is_active else "disabled"),
]


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
@shows
def list_users(*, form: Form) -> None:
    """Show every user."""
    print_rows(form, account_service().users(), _COLUMNS, asdict)


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
