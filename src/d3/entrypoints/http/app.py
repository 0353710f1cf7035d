"""The Litestar application: its controllers, middleware, error handlers, start and stop."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from litestar import Litestar, Request
from litestar.di import Provide
from litestar.types import Receive, Scope, Send

from d3.domain.errors import D3Error
from d3.entrypoints.http import console
from d3.entrypoints.http.api import openapi
from d3.entrypoints.http.api.checking import check_request
from d3.entrypoints.http.api.drift import DriftController
from d3.entrypoints.http.api.evidence import EvidenceController
from d3.entrypoints.http.api.health import HealthController
from d3.entrypoints.http.api.history import HistoryController
from d3.entrypoints.http.api.inference import InferenceController
from d3.entrypoints.http.api.jobs import JobController
from d3.entrypoints.http.api.labels import LabelController
from d3.entrypoints.http.api.model import ModelController
from d3.entrypoints.http.api.scans import ScanController
from d3.entrypoints.http.api.video import VideoController
from d3.entrypoints.http.api.webhooks import WebhookController
from d3.entrypoints.http.authentication import Authenticate
from d3.entrypoints.http.errors import answer_d3_error
from d3.entrypoints.http.middleware.access import AccessMiddleware
from d3.entrypoints.http.middleware.responses import (
    CorsMiddleware,
    HeadMiddleware,
    LingeringCloseMiddleware,
    ShutdownMiddleware,
)
from d3.entrypoints.http.middleware.telemetry import TelemetryMiddleware
from d3.entrypoints.http.mounting import inner_of
from d3.entrypoints.http.services import Services, new
from d3.settings import Settings

_LOG = logging.getLogger("d3.http")


class Application(Litestar):
    """D3 as an ASGI application, by itself or mounted under another one's prefix."""

    d3: Services
    _stack: TelemetryMiddleware | None = None

    async def __call__(self, scope: Scope | Any, receive: Receive | Any, send: Send | Any) -> None:
        """Answer one request; the first one starts the services if no lifespan was run."""
        if self._stack is None:
            self._stack = self._with_middleware()
        if scope["type"] == "lifespan":
            await self._stack(scope, receive, send)
            return
        scope = inner_of(scope)
        if scope["type"] == "http" and not self.d3.runs_here:
            try:
                await asyncio.to_thread(self.d3.start)
            except D3Error as error:
                _LOG.error("the service could not start: %s", error)
                answer = answer_d3_error(Request(scope), error)
                await answer.to_asgi_response(None, Request(scope))(scope, receive, send)
                return
        await self._stack(scope, receive, send)

    def _with_middleware(self) -> TelemetryMiddleware:
        """The middleware, from the framework outwards."""
        d3 = self.d3
        answer: Any = AccessMiddleware(self._answer, d3, partial(console.answer_refused, self))
        answer = HeadMiddleware(answer)
        answer = LingeringCloseMiddleware(answer)
        answer = ShutdownMiddleware(answer)
        answer = CorsMiddleware(answer, d3.settings.cors_origins)
        return TelemetryMiddleware(
            answer, d3.metrics, d3.request_log.log, d3.shown_address, d3.tracer
        )

    async def _answer(self, scope: Scope | Any, receive: Receive | Any, send: Send | Any) -> None:
        await super().__call__(scope, receive, send)


def create_app(
    settings: Settings | None = None,
    *,
    authenticate: Authenticate | None = None,
    **replaced: Any,
) -> Application:
    """D3's HTTP service.

    ``uvicorn --factory d3.entrypoints.http:create_app`` serves it; under another ASGI application
    it can be mounted at any prefix. The database is opened and the model loaded when the
    application starts, or with the first request if the parent runs no lifespan.

    Args:
        settings: from the environment and ``.env`` unless given.
        authenticate: says who calls, where the application that D3 is part of knows its users: a
            function, asynchronous or not, that takes the ASGI scope of a request and gives a
            :class:`d3.HostUser`, or None for nobody. It alone decides then: D3's keys, sign-in and
            free access from this machine do not count, and a request of nobody's is answered with
            401. It is not asked for pages of other sites; see ``D3_CORS_ORIGINS``.
        replaced: parts of :class:`d3.container.Container` to use instead of its own.

    Raises:
        SettingsInvalid: the environment holds settings that cannot be used.
    """
    return application_of(
        new(settings or Settings.from_environment(), authenticate=authenticate, **replaced)
    )


def application_of(services: Services) -> Application:
    """The application that works with these services."""

    @asynccontextmanager
    async def running(_: Litestar) -> AsyncIterator[None]:
        await asyncio.to_thread(services.start)
        # What exists now stays for good. Scanning it for garbage would pause all requests.
        ours = gc.get_freeze_count() == 0  # not another application's
        if ours:
            gc.collect()
            gc.freeze()
        try:
            yield
        finally:
            if ours:
                gc.unfreeze()
            await asyncio.to_thread(services.stop)

    application = Application(
        route_handlers=[
            InferenceController,
            VideoController,
            JobController,
            HistoryController,
            EvidenceController,
            LabelController,
            DriftController,
            ModelController,
            ScanController,
            WebhookController,
            HealthController,
            openapi.elsewhere(),
            console.pages(own_keys=not services.authenticator.by_host),
            console.assets(),
            console.problem_pages(),
        ],
        template_config=console.templates(),
        dependencies={"d3": Provide(lambda: services, sync_to_thread=False)},
        before_request=check_request,
        exception_handlers=console.HANDLERS_ELSEWHERE,
        openapi_config=openapi.configuration(services.version),
        lifespan=[running],
        logging_config=None,
        signature_types=[Services],
    )
    application.d3 = services
    return application
