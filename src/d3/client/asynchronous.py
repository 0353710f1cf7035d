"""The client for programs with an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from functools import wraps
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import httpx

from d3.adapters.web.clients import new_http_client
from d3.client.calls import judging, notifying, registry, results, scanning
from d3.client.steps import Answer, Call, Pages, Pause, Sender, Steps, method_of
from d3.client.uploads import Beside, Form, MeasuredForm
from d3.domain.errors import RequestInvalid

T = TypeVar("T")
P = ParamSpec("P")


def _does(
    describe: Callable[P, Call[T] | Steps[T]],
) -> Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, T]]:
    """The method that makes a call."""

    @wraps(describe)
    async def method(self: AsyncClient, /, *given: P.args, **named: P.kwargs) -> T:
        return await self._do(describe(*given, **named))

    return method_of(describe, method)


def _lists(
    describe: Callable[P, Pages[T]],
) -> Callable[Concatenate[AsyncClient, P], AsyncIterator[T]]:
    """The method that turns the pages of a list."""

    @wraps(describe)
    async def method(self: AsyncClient, /, *given: P.args, **named: P.kwargs) -> AsyncIterator[T]:
        pages = describe(*given, **named)
        cursor: str | None = pages.first
        while cursor is not None:
            page, cursor = await self._do(pages.at(cursor))
            for one in page:
                yield one

    return method_of(describe, method)


class AsyncClient:
    """Calls a D3 service. Tasks may share one; a cancelled call ends at once.

    It belongs to the event loop of its first call. Programs with several make one for each.

    Args:
        base_url: as for :class:`d3.Client`.
        api_key: as for :class:`d3.Client`.
        timeout: seconds to wait for an answer.
        retries: as for :class:`d3.Client`.

    Raises:
        RequestInvalid: the address or the key cannot be one, or, of any call, it is made in
            another event loop.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str | None = None,
        *,
        timeout: float = 60.0,
        retries: int = 5,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._sender = Sender(base_url, api_key, retries)
        # However many share the client, each waits for its turn as long as it takes.
        self._http = new_http_client(
            self._sender.base_url,
            httpx.AsyncClient,
            base_url=self._sender.base_url,
            timeout=httpx.Timeout(timeout, pool=None),
            transport=transport,
        )
        self._sleep = sleep
        self._loop: asyncio.AbstractEventLoop | None = None

    predict = _does(judging.predict)
    predict_batch = _does(judging.predict_batch)
    predict_video = _does(judging.predict_video)
    start_job = _does(judging.start_job)
    jobs = _lists(judging.jobs)
    job = _does(judging.job)
    wait_for_job = _does(judging.wait_for_job)
    job_results = _lists(judging.job_results)
    cancel_job = _does(judging.cancel_job)
    history = _lists(results.history)
    result = _does(results.result)
    evidence = _does(results.evidence)
    delete = _does(results.delete)
    delete_many = _does(results.delete_many)
    label = _does(results.label)
    label_many = _does(results.label_many)
    labels = _does(results.labels)
    stats = _does(results.stats)
    drift = _does(results.drift)
    models = _does(registry.models)
    model = _does(registry.model)
    load_model = _does(registry.load_model)
    unload_model = _does(registry.unload_model)
    upload_model = _does(registry.upload_model)
    start_scan = _does(scanning.start_scan)
    scans = _lists(scanning.scans)
    scan = _does(scanning.scan)
    scan_results = _lists(scanning.scan_results)
    cancel_scan = _does(scanning.cancel_scan)
    create_webhook = _does(notifying.create_webhook)
    webhooks = _does(notifying.webhooks)
    webhook = _does(notifying.webhook)
    change_webhook = _does(notifying.change_webhook)
    remove_webhook = _does(notifying.remove_webhook)
    rotate_webhook = _does(notifying.rotate_webhook)
    test_webhook = _does(notifying.test_webhook)
    deliveries = _lists(notifying.deliveries)
    resend = _does(notifying.resend)

    async def aclose(self) -> None:
        """Close the connections; the end of an ``async with`` block does it too."""
        self._stay_in_the_loop()
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def _stay_in_the_loop(self) -> None:
        """The connections belong to one loop, and fail in another with words of their own."""
        here = asyncio.get_running_loop()
        if here is not (self._loop or here):
            raise RequestInvalid(
                "This AsyncClient was used in another event loop.",
                "Make one in each loop, or use d3.Client, which threads may share.",
            )
        self._loop = here

    async def _do(self, steps: Call[T] | Steps[T]) -> T:
        self._stay_in_the_loop()
        exchanges, answer = self._sender.exchanges(steps), None
        while True:
            try:
                step = exchanges.send(answer)
            except StopIteration as over:
                done: T = over.value
                return done
            answer = await self._exchange(step)

    async def _exchange(self, step: Call[object] | Pause) -> Answer | None:
        if isinstance(step, Pause):
            await self._sleep(step.seconds)
            return None
        is_form = isinstance(step.body, Form)  # whose files are looked at beside the loop
        headers, content = await asyncio.to_thread(step.sent) if is_form else step.sent()
        try:
            return await self._http.request(
                step.method,
                step.path,
                params=step.query,
                headers=self._sender.headers_with(headers),
                content=Beside(content) if isinstance(content, MeasuredForm) else content,
            )
        except httpx.TransportError as error:
            return error
