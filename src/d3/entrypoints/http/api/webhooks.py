"""``/api/webhooks``: who is told of what happens, and what was sent."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

from litestar import Controller, Request, delete, get, patch, post
from litestar.params import Body, Parameter
from msgspec import UNSET
from msgspec.structs import asdict

from d3.domain.accounts import Scope
from d3.domain.errors import CursorInvalid
from d3.domain.history import LARGEST_ID, MAX_PAGE
from d3.domain.webhooks import DeliveryState, NewWebhook, no_delivery, no_webhook
from d3.entrypoints.http.api import openapi
from d3.entrypoints.http.api.schemas import Done
from d3.entrypoints.http.api.webhook_schemas import (
    DeliveryPage,
    NewSecret,
    OneDelivery,
    OneWebhook,
    WebhookChange,
    WebhookList,
    WebhookRequest,
    delivery_item,
    delivery_page,
    webhook_item,
    with_secret,
)
from d3.entrypoints.http.callers import caller_of, requires
from d3.entrypoints.http.services import D3, Services

_ID = re.compile(r"[1-9][0-9]{0,18}")
_MAY_CHANGE: Final = [requires(Scope.PREDICT)]
WebhookId = Annotated[
    str, Parameter(description="The `id` of the webhook.", schema_extra={"pattern": _ID.pattern})
]
DeliveryId = Annotated[
    str, Parameter(description="The `id` of the delivery.", schema_extra={"pattern": _ID.pattern})
]
Only = Annotated[DeliveryState | None, Parameter(description="Only deliveries in this state.")]
Limit = Annotated[int, Parameter(ge=1, le=MAX_PAGE, description="Number of items per page.")]
Cursor = Annotated[
    str | None,
    Parameter(max_length=2048, description="`next_cursor` of the previous page."),
]
AnyRequest = Request[Any, Any, Any]


class WebhookController(Controller):
    """Webhooks, by the Standard Webhooks specification."""

    path = "/api/webhooks"
    tags = ("webhooks",)
    guards = (requires(Scope.READ),)

    @post(
        "/",
        operation_id="createWebhook",
        operation_class=openapi.WebhookOperation,
        summary="Create a webhook",
        status_code=200,
        guards=_MAY_CHANGE,
        responses=openapi.problems(400, 401, 403, 408, 409, 413, 429, 503),
    )
    async def create(
        self,
        request: AnyRequest,
        d3: D3,
        data: Annotated[WebhookRequest, Body(description="Where to, and what.")],
    ) -> NewSecret:
        """Send events to an address from now on. Only this answer shows the secret.

        Each event is sent as JSON with the headers `webhook-id`, `webhook-timestamp` and
        `webhook-signature` (https://www.standardwebhooks.com). It is tried for a day until the
        receiver answers with a status of 200 to 299, and may arrive twice with the same
        `webhook-id`.
        """
        new = NewWebhook(**asdict(data))
        return with_secret(await d3.query(d3.webhooks.add, caller_of(request), new))

    @get(
        "/",
        operation_id="listWebhooks",
        operation_class=openapi.DescribedOperation,
        summary="List webhooks",
        responses=openapi.problems(400, 401, 403, 429, 503),
    )
    async def webhooks(self, request: AnyRequest, d3: D3) -> WebhookList:
        """One's own webhooks, or all for an administrator. Secrets are not shown."""
        found = await d3.query(d3.webhooks.visible_to, caller_of(request))
        return WebhookList(count=len(found), webhooks=[webhook_item(one) for one in found])

    @get(
        "/{webhook_id:str}",
        operation_id="getWebhook",
        operation_class=openapi.DescribedOperation,
        summary="Show a webhook",
        responses=openapi.problems(400, 401, 403, 404, 429, 503),
    )
    async def webhook(self, request: AnyRequest, d3: D3, webhook_id: WebhookId) -> OneWebhook:
        """One webhook, and whether its receiver answers."""
        found = await d3.query(d3.webhooks.get, caller_of(request), checked_id(webhook_id))
        return OneWebhook(webhook=webhook_item(found))

    @patch(
        "/{webhook_id:str}",
        operation_id="changeWebhook",
        operation_class=openapi.WebhookOperation,
        summary="Change, enable or disable a webhook",
        guards=_MAY_CHANGE,
        responses=openapi.problems(400, 401, 403, 404, 408, 413, 429, 503),
    )
    async def change(
        self,
        request: AnyRequest,
        d3: D3,
        webhook_id: WebhookId,
        data: Annotated[WebhookChange, Body(description="What to change.")],
    ) -> OneWebhook:
        """Change what is sent, or whether anything is. What waits for it goes on waiting."""
        changes = {name: value for name, value in asdict(data).items() if value is not UNSET}
        caller, id_ = caller_of(request), checked_id(webhook_id)
        found = await d3.query(d3.webhooks.change, caller, id_, **changes)
        return OneWebhook(webhook=webhook_item(found))

    @delete(
        "/{webhook_id:str}",
        operation_id="removeWebhook",
        operation_class=openapi.DescribedOperation,
        summary="Remove a webhook",
        status_code=200,
        guards=_MAY_CHANGE,
        responses=openapi.problems(400, 401, 403, 404, 429, 503),
    )
    async def remove(self, request: AnyRequest, d3: D3, webhook_id: WebhookId) -> Done:
        """Remove a webhook, with all that waits for it."""
        await d3.query(d3.webhooks.remove, caller_of(request), checked_id(webhook_id))
        return Done(message="The webhook was removed.")

    @post(
        "/{webhook_id:str}/rotate",
        operation_id="rotateWebhook",
        operation_class=openapi.DescribedOperation,
        summary="Make a new secret",
        status_code=200,
        guards=_MAY_CHANGE,
        responses=openapi.problems(400, 401, 403, 404, 429, 503),
    )
    async def rotate(self, request: AnyRequest, d3: D3, webhook_id: WebhookId) -> NewSecret:
        """Replace the secret. Only this answer shows the new one. For a day both sign."""
        caller, id_ = caller_of(request), checked_id(webhook_id)
        return with_secret(await d3.query(d3.webhooks.rotate, caller, id_))

    @post(
        "/{webhook_id:str}/test",
        operation_id="testWebhook",
        operation_class=openapi.DescribedOperation,
        summary="Send a test event",
        status_code=200,
        guards=_MAY_CHANGE,
        responses=openapi.problems(400, 401, 403, 404, 429, 503),
    )
    async def test(self, request: AnyRequest, d3: D3, webhook_id: WebhookId) -> OneDelivery:
        """Send an event of the type `webhook.test` now, once, and wait for the answer."""
        caller, id_ = caller_of(request), checked_id(webhook_id)
        return OneDelivery(delivery=delivery_item(await d3.test_webhook(caller, id_)))

    @get(
        "/{webhook_id:str}/deliveries",
        operation_id="listWebhookDeliveries",
        operation_class=openapi.DescribedOperation,
        summary="List what was sent to a webhook",
        responses=openapi.problems(400, 401, 403, 404, 429, 503),
    )
    async def deliveries_of(  # noqa: PLR0917  a query's parameters, one by one
        self,
        request: AnyRequest,
        d3: D3,
        webhook_id: WebhookId,
        only: Only = None,
        limit: Limit = 50,
        cursor: Cursor = None,
    ) -> DeliveryPage:
        """The events of the last days for this webhook, newest first."""
        return await _deliveries(request, d3, checked_id(webhook_id), only, limit, cursor)

    @get(
        "/deliveries",
        operation_id="listDeliveries",
        operation_class=openapi.DescribedOperation,
        summary="List what was sent",
        responses=openapi.problems(400, 401, 403, 429, 503),
    )
    async def deliveries(
        self,
        request: AnyRequest,
        d3: D3,
        only: Only = None,
        limit: Limit = 50,
        cursor: Cursor = None,
    ) -> DeliveryPage:
        """The events of the last days for all webhooks and callbacks of jobs, newest first."""
        return await _deliveries(request, d3, None, only, limit, cursor)

    @post(
        "/deliveries/{delivery_id:str}/resend",
        operation_id="resendDelivery",
        operation_class=openapi.DescribedOperation,
        summary="Send an event again",
        status_code=200,
        guards=_MAY_CHANGE,
        responses=openapi.problems(400, 401, 403, 404, 429, 503),
    )
    async def resend(self, request: AnyRequest, d3: D3, delivery_id: DeliveryId) -> OneDelivery:
        """Send an event again, with the same `webhook-id`, for a day from now on."""
        if (id_ := _number(delivery_id)) is None:
            raise no_delivery(delivery_id)
        found = await d3.query(d3.webhooks.resend, caller_of(request), id_)
        return OneDelivery(delivery=delivery_item(found))


async def _deliveries(  # noqa: PLR0917  likewise
    request: AnyRequest,
    d3: Services,
    webhook_id: int | None,
    only: DeliveryState | None,
    limit: int,
    cursor: str | None,
) -> DeliveryPage:
    before = None if cursor is None else _number(cursor)
    if cursor is not None and before is None:
        raise CursorInvalid("This cursor is not valid.", "Use `next_cursor` as it was sent.")
    found = await d3.query(
        d3.webhooks.deliveries,
        caller_of(request),
        webhook_id,
        state=only,
        before=before,
        limit=limit,
    )
    return delivery_page(found, limit)


def checked_id(text: str) -> int:
    """A webhook's id from the URL.

    Raises:
        WebhookNotFound: no webhook ever had it.
    """
    if (id_ := _number(text)) is None:
        raise no_webhook(text)
    return id_


def _number(text: str) -> int | None:
    return int(text) if _ID.fullmatch(text) and int(text) <= LARGEST_ID else None
