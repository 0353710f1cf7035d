"""``d3 webhooks``: who is told of what happens, and what was sent.

A secret is shown once, on stdout; all else about it goes to stderr.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from d3.domain.access import UNRESTRICTED
from d3.entrypoints.cli.opening import opened
from d3.entrypoints.cli.options import JSON, LIMIT
from d3.entrypoints.cli.output import complain, out, print_json
from d3.entrypoints.cli.progress import progress
from d3.entrypoints.cli.results import Column, Form, print_rows, shows

if TYPE_CHECKING:
    from d3.domain.services.webhooks import WebhookService
    from d3.domain.webhooks import Delivery, IssuedWebhook, Webhook

_EVENTS = ("job.finished", "scan.finished", "result.created", "model.changed", "drift.alert")
_VERDICTS = ("fake", "real", "uncertain")
_STATES = ("waiting", "sent", "dead")
_ID = click.argument("webhook_id", metavar="ID", type=int)


@click.group()
def webhooks() -> None:
    """Add, list, test, disable and remove webhooks.

    A service (`d3 serve`) on the same database sends the events.
    """


@webhooks.command()
@click.argument("url")
@click.option(
    "--event",
    "events",
    type=click.Choice(_EVENTS),
    multiple=True,
    required=True,
    help="What to send. Can be repeated.",
)
@click.option(
    "--verdict",
    "verdicts",
    type=click.Choice(_VERDICTS),
    multiple=True,
    help="Send result.created only for this verdict. Can be repeated.",
)
@click.option("--user", "username", help="Whose it is.  [default: nobody's]")
@click.option("--everyone", is_flag=True, help="Send the results and jobs of all users.")
@click.option("--name", default="", help="What it is for. Shown in lists.")
@JSON
def add(url: str, *, username: str | None, as_json: bool, **asked: Any) -> None:
    """Send events to URL from now on.

    Prints the secret that signs them. It is shown only once.
    """
    from d3.domain.webhooks import NewWebhook

    container = opened()
    user = None if username is None else container.accounts().user(username)
    new = NewWebhook(url=url, **asked)
    owner = None if user is None else user.id
    _show_secret(container.webhooks().add(UNRESTRICTED, new, owner), as_json=as_json)


@webhooks.command("list")
@shows
def list_webhooks(*, form: Form) -> None:
    """Show all webhooks, without secrets."""
    container = opened()
    found = container.webhooks().visible_to(UNRESTRICTED)
    names = container.account_service().usernames()

    def whose(one: Webhook) -> str:
        return "all" if one.everyone else names.get(one.user_id or 0, "-")

    columns: list[Column[Webhook]] = [
        Column("id", lambda one: one.id, right=True),
        Column("name", lambda one: one.name, printed=False),
        Column("url", lambda one: one.url),
        Column("events", _asked),
        Column("user", whose),
        Column("state", lambda one: "on" if one.enabled else "off"),
        Column("trouble", lambda one: one.trouble),
    ]
    none = "There are no webhooks yet. Add one with `d3 webhooks add URL`."
    print_rows(form, found, columns, asdict, none=none)


@webhooks.command()
@_ID
@JSON
def test(webhook_id: int, *, as_json: bool) -> None:
    """Send a test event now, once, and show the answer."""
    service = _service()
    with progress("Waiting for the answer"):
        sent = asyncio.run(service.test(UNRESTRICTED, webhook_id))
    if as_json:
        print_json(asdict(sent))
    elif sent.trouble is None:
        out().print(f"The receiver took it (status {sent.status}).", markup=False)
    if sent.trouble is not None:
        complain(f"The receiver did not take it. {sent.trouble}")
        sys.exit(2)


@webhooks.command()
@_ID
@JSON
def disable(webhook_id: int, *, as_json: bool) -> None:
    """Send nothing more. What waits goes on waiting, for a day."""
    _tell(_service().change(UNRESTRICTED, webhook_id, enabled=False), as_json=as_json)


@webhooks.command()
@_ID
@JSON
def enable(webhook_id: int, *, as_json: bool) -> None:
    """Send events again."""
    _tell(_service().change(UNRESTRICTED, webhook_id, enabled=True), as_json=as_json)


@webhooks.command()
@_ID
@JSON
def rotate(webhook_id: int, *, as_json: bool) -> None:
    """Make a new secret. It is shown only once. For a day the old one signs too."""
    _show_secret(_service().rotate(UNRESTRICTED, webhook_id), as_json=as_json)


@webhooks.command()
@_ID
def remove(webhook_id: int) -> None:
    """Remove a webhook, with all that waits for it."""
    _service().remove(UNRESTRICTED, webhook_id)
    out().print(f"Removed the webhook {webhook_id}.", markup=False)


@webhooks.command()
@click.argument("webhook_id", metavar="[ID]", type=int, required=False)
@click.option("--state", type=click.Choice(_STATES), help="Only these.")
@LIMIT
@shows
def deliveries(webhook_id: int | None, *, state: str | None, limit: int, form: Form) -> None:
    """Show what was sent in the last days, to the webhook ID or to all, newest first."""
    from d3.domain.webhooks import DeliveryState

    only = None if state is None else DeliveryState(state)
    found = _service().deliveries(UNRESTRICTED, webhook_id, state=only, limit=limit)
    columns: list[Column[Delivery]] = [
        Column("id", lambda one: one.id, right=True),
        Column(
            "webhook_id",
            lambda one: one.webhook_id,
            lambda one: "job" if one.webhook_id is None else str(one.webhook_id),
            "WEBHOOK",
        ),
        Column("event", lambda one: one.type),
        Column(
            "created_at",
            lambda one: one.created_at,
            lambda one: f"{one.created_at:%Y-%m-%d %H:%M:%S}",
            "HAPPENED",
        ),
        Column("state", lambda one: one.state.value),
        Column("attempts", lambda one: one.attempts, right=True),
        Column("trouble", lambda one: one.trouble),
    ]
    print_rows(form, found, columns, asdict)


@webhooks.command()
@click.argument("delivery_id", type=int)
@JSON
def resend(delivery_id: int, *, as_json: bool) -> None:
    """Send a delivery again, with the same id, for a day from now on."""
    found: Delivery = _service().resend(UNRESTRICTED, delivery_id)
    if as_json:
        print_json(asdict(found))
    else:
        out().print(f"The delivery {found.id} is sent again.", markup=False)


def _service() -> WebhookService:
    service: WebhookService = opened().webhooks()
    return service


def _asked(one: Webhook) -> str:
    verdicts = f" ({', '.join(one.verdicts)})" if one.verdicts else ""
    return ", ".join(one.events) + verdicts


def _show_secret(made: IssuedWebhook, *, as_json: bool) -> None:
    if as_json:
        print_json({"secret": made.secret} | asdict(made.webhook))
    else:
        sys.stdout.write(made.secret + "\n")
        sys.stdout.flush()
    of = f"the secret of the webhook {made.webhook.id}"
    complain(f"This is {of}. Store it now. It is not shown again.", "note")


def _tell(webhook: Webhook, *, as_json: bool) -> None:
    if as_json:
        print_json(asdict(webhook))
    else:
        state = "enabled" if webhook.enabled else "disabled"
        out().print(f"The webhook {webhook.id} is {state}.", markup=False)
