"""``d3 users``: who has an account."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from d3.domain.accounts import User
from d3.entrypoints.cli.opening import opened
from d3.entrypoints.cli.options import JSON, YES
from d3.entrypoints.cli.output import complain, confirmed, counted, out, print_json, printable
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
    """Add, list, disable, enable and delete users.

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


@users.command()
@click.argument("username")
@click.option(
    "--results",
    "fate",
    type=click.Choice(["keep", "delete"]),
    help="What becomes of their results and jobs. You are asked if you leave it out.",
)
@click.option(
    "--give-to",
    "heir",
    metavar="USERNAME",
    help="With --results keep: the user who gets them.  [default: nobody; only admins see them]",
)
@YES
@JSON
def delete(username: str, *, fate: str | None, heir: str | None, yes: bool, as_json: bool) -> None:
    """Delete USERNAME for good.

    Their keys and webhooks are deleted, and their sessions end. Their results and finished jobs
    are kept or deleted, as --results says; labels on a deleted result go with it. What they said
    about other images and the records of their requests stay without a name. Scans belong to
    nobody and stay. A user with a job that is not over cannot be deleted. `d3 users disable` only
    refuses their keys.
    """
    if heir is not None and fate == "delete":
        raise click.UsageError("--give-to needs --results keep.")
    service = account_service()
    had = service.holdings(username)
    what = (
        f"{printable(username)}, {counted(had.results, 'result')}, {counted(had.jobs, 'job')}, "
        f"{counted(had.keys, 'key')}, {counted(had.webhooks, 'webhook')}"
    )
    asks = sys.stdin.isatty()
    if fate is None and heir is None and (had.results or had.jobs):
        if not asks:
            raise click.UsageError(
                f"{printable(username)} has {counted(had.results, 'result')} and "
                f"{counted(had.jobs, 'job')}. Say --results keep or --results delete."
            )
        click.echo(f"This deletes {what}.", err=True)
        question = "Keep or delete the results and jobs?"
        fate = click.prompt(question, type=click.Choice(["keep", "delete"]), err=True)
    if not yes and not asks:
        raise click.UsageError("Nobody can be asked here. Confirm with --yes.")
    keep = fate != "delete"
    stays = "" if not (had.results or had.jobs) else f", {'keep' if keep else 'delete'} the results"
    if not yes and not confirmed(f"Permanently delete {username}{stays}?"):
        complain("Nothing was deleted.", "note")
        return
    gone = service.delete_user(username, keep=keep, heir=heir)
    if as_json:
        print_json(asdict(gone) | {"username": username, "results_kept": keep, "given_to": heir})
    else:
        out().print(f"Deleted {printable(username)}.", markup=False)
    to = "nobody now" if heir is None else f"{printable(heir)} now"
    number = f"{counted(gone.results, 'result')} and {counted(gone.jobs, 'job')}"
    done = f"belong to {to}" if keep else "are deleted with them"
    if gone.results or gone.jobs:
        complain(f"{number} {done}.", "note")
    if not service.administrators():
        remedy = "`d3 keys init --replace` creates one."
        complain(f"No admin has a valid key any more. {remedy}", "warning")


def account_service() -> AccountService:
    """The service on a database that is ready for it."""
    service: AccountService = opened().account_service()
    return service


def _tell(user: User, done: str, *, as_json: bool) -> None:
    if as_json:
        print_json(asdict(user))
    else:
        out().print(f"{done} {printable(user.username)} (id {user.id}).", markup=False)
