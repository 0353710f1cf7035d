"""Webhooks: list, create, test, enable, disable and remove, and what could not be sent."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from litestar import Controller, Request, get, post
from litestar.params import FromPath
from litestar.response import Redirect, Template

from d3.domain.access import Caller
from d3.domain.accounts import Scope
from d3.domain.errors import D3Error, WebhookNotFound
from d3.domain.scoring import Verdict
from d3.domain.services.webhooks import WebhookService
from d3.domain.webhooks import (
    CHOICES,
    OF_THE_SERVICE,
    Delivery,
    DeliveryState,
    IssuedWebhook,
    NewWebhook,
    Webhook,
)
from d3.entrypoints.http.api.webhooks import checked_id
from d3.entrypoints.http.callers import caller_of
from d3.entrypoints.http.console.guards import allows
from d3.entrypoints.http.console.problems import refusal
from d3.entrypoints.http.console.rendering import base_of, confirm, page
from d3.entrypoints.http.services import D3, Services

_MOST_BYTES = 16 * 1024
_SHOWN = 20
_WORD = re.compile("[a-z_]{1,32}")
AnyRequest = Request[Any, Any, Any]


@dataclass(frozen=True, slots=True)
class WebhookForm:
    """The form for a new webhook, as typed.

    Attributes:
        url: where to.
        name: for its owner.
        events: what to send.
        verdicts: of results; all if empty.
        everyone: whether all users' results and jobs are sent.
    """

    url: str = ""
    name: str = ""
    events: tuple[str, ...] = ("job.finished",)
    verdicts: tuple[str, ...] = ()
    everyone: bool = False

    @classmethod
    async def of(cls, request: AnyRequest) -> WebhookForm:
        """Read the form from a request's body."""
        sent = await request.form()
        texts = {name: str(sent.get(name, "")).strip() for name in ("url", "name")}
        events, verdicts = (
            tuple(str(one) for one in sent.getall(name, [])) for name in ("event", "verdict")
        )
        return cls(**texts, events=events, verdicts=verdicts, everyone="everyone" in sent)

    def asked(self) -> NewWebhook:
        """What is asked for.

        Raises:
            WebhookInvalid: it cannot be.
        """
        return NewWebhook(**asdict(self))


class WebhookPages(Controller):
    """Webhooks."""

    path = "/webhooks"
    guards = (allows(Scope.READ),)

    @get("/")
    async def webhooks(self, request: AnyRequest, d3: D3) -> Template:
        """The list of webhooks, the form for a new one, and what could not be sent."""
        done = str(request.query_params.get("done", ""))
        return await _page(request, d3, done=done if _WORD.fullmatch(done) else "")

    @post("/", status_code=200, request_max_body_size=_MOST_BYTES, guards=[allows(Scope.PREDICT)])
    async def create(self, request: AnyRequest, d3: D3) -> Template:
        """Create a webhook. Only this response shows its secret."""
        form = await WebhookForm.of(request)
        try:
            made = await d3.query(_create, d3.webhooks, caller_of(request), form)
        except D3Error as error:
            return await _page(request, d3, form=form, **refusal(request, error))
        return await _page(request, d3, made=made)

    @post("/{webhook_id:str}/test", status_code=200, guards=[allows(Scope.PREDICT)])
    async def test(
        self, request: AnyRequest, d3: D3, webhook_id: FromPath[str]
    ) -> Template | Redirect:
        """Send a test event and show the answer."""
        try:
            sent = await d3.test_webhook(caller_of(request), checked_id(webhook_id))
        except D3Error as error:
            return await _page(request, d3, **refusal(request, error))
        return await _page(request, d3, sent=sent)

    @post("/{webhook_id:str}/{what:str}", status_code=200, guards=[allows(Scope.PREDICT)])
    async def change(
        self, request: AnyRequest, d3: D3, webhook_id: FromPath[str], what: FromPath[str]
    ) -> Template | Redirect:
        """Enable, disable or remove a webhook, or make a new secret."""
        caller = caller_of(request)
        try:
            changed = await d3.query(_change, d3.webhooks, caller, checked_id(webhook_id), what)
        except D3Error as error:
            return await _page(request, d3, **refusal(request, error))
        if isinstance(changed, IssuedWebhook):
            return await _page(request, d3, made=changed)
        return Redirect(f"{base_of(request)}webhooks?done=webhook_{what}", status_code=303)

    @get("/{webhook_id:str}/{what:str}")
    async def ask(
        self, request: AnyRequest, d3: D3, webhook_id: FromPath[str], what: FromPath[str]
    ) -> Template:
        """Ask whether to remove a webhook or to replace its secret."""
        if what not in {"remove", "rotate"}:
            raise WebhookNotFound("There is no such page.", "GET /webhooks lists all webhooks.")
        return confirm(request, d3, f"webhook_{what}", name=webhook_id, back="webhooks")

    @post("/deliveries/{delivery_id:str}/resend", status_code=200, guards=[allows(Scope.PREDICT)])
    async def resend(
        self, request: AnyRequest, d3: D3, delivery_id: FromPath[str]
    ) -> Template | Redirect:
        """Send an event again."""
        try:
            id_ = checked_id(delivery_id)
            await d3.query(d3.webhooks.resend, caller_of(request), id_)
        except D3Error as error:
            return await _page(request, d3, **refusal(request, error))
        return Redirect(f"{base_of(request)}webhooks?done=webhook_resend", status_code=303)


def _create(webhooks: WebhookService, caller: Caller, form: WebhookForm) -> IssuedWebhook:
    return webhooks.add(caller, form.asked())


def _change(
    webhooks: WebhookService, caller: Caller, id_: int, what: str
) -> Webhook | IssuedWebhook | None:
    ways: dict[str, Callable[[], Webhook | IssuedWebhook | None]] = {
        "enable": lambda: webhooks.change(caller, id_, enabled=True),
        "disable": lambda: webhooks.change(caller, id_, enabled=False),
        "remove": lambda: webhooks.remove(caller, id_),
        "rotate": lambda: webhooks.rotate(caller, id_),
    }
    if what not in ways:
        raise WebhookNotFound("There is no such page.", "GET /webhooks lists all webhooks.")
    return ways[what]()


def _rows(webhooks: WebhookService, caller: Caller) -> tuple[list[Webhook], list[Delivery]]:
    dead = webhooks.deliveries(caller, state=DeliveryState.DEAD, limit=_SHOWN)
    return webhooks.visible_to(caller), dead


async def _page(
    request: AnyRequest,
    d3: Services,
    *,
    form: WebhookForm | None = None,
    status: int = 200,
    headers: dict[str, str] | None = None,
    sentence: str = "",
    done: str = "",
    made: IssuedWebhook | None = None,
    sent: Delivery | None = None,
) -> Template:
    caller = caller_of(request)
    rows, dead = await d3.query(_rows, d3.webhooks, caller)
    admin = caller.may(Scope.ADMIN)
    return page(
        request,
        d3,
        "webhooks",
        status=status,
        headers=headers,
        sentence=sentence,
        done=done,
        form=form or WebhookForm(),
        made=made,
        sent=sent,
        rows=rows,
        dead=dead,
        events=[one.value for one in CHOICES if admin or one not in OF_THE_SERVICE],
        all_verdicts=[one.value for one in Verdict],
        admin=admin,
        may_change=caller.may(Scope.PREDICT),
    )
