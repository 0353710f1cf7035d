"""The client for programs without an event loop."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from functools import partial, wraps
from types import TracebackType
from typing import Concatenate, ParamSpec, Self, TypeVar

import httpx

from d3.adapters.web.clients import new_http_client
from d3.client.calls import judging, notifying, registry, results, scanning
from d3.client.steps import Answer, Call, Pages, Pause, Sender, Steps, method_of

T = TypeVar("T")
P = ParamSpec("P")


def _does(describe: Callable[P, Call[T] | Steps[T]]) -> Callable[Concatenate[Client, P], T]:
    """The method that makes a call."""

    @wraps(describe)
    def method(self: Client, /, *given: P.args, **named: P.kwargs) -> T:
        return self._do(describe(*given, **named))

    return method_of(describe, method)


def _lists(describe: Callable[P, Pages[T]]) -> Callable[Concatenate[Client, P], Iterator[T]]:
    """The method that turns the pages of a list."""

    @wraps(describe)
    def method(self: Client, /, *given: P.args, **named: P.kwargs) -> Iterator[T]:
        pages = describe(*given, **named)
        cursor: str | None = pages.first
        while cursor is not None:
            page, cursor = self._do(pages.at(cursor))
            yield from page

    return method_of(describe, method)


class Client:
    """Calls a D3 service. Threads may share one, and forked processes connect for themselves.

    Args:
        base_url: the service's address, such as ``http://localhost:5000``.
        api_key: sent as ``Authorization: Bearer``. None: ``D3_API_KEY``, or the key that a service
            of this machine made at its first start.
        timeout: seconds to wait for an answer.
        retries: how often 429, 503 and lost connections are retried, after what ``Retry-After``
            says. A request that is already being answered is retried for a minute and a half.

    Raises:
        RequestInvalid: the address or the key cannot be one.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str | None = None,
        *,
        timeout: float = 60.0,
        retries: int = 5,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._sender = Sender(base_url, api_key, retries)
        # However many share the client, each waits for its turn as long as it takes.
        self._connect = partial(
            new_http_client,
            self._sender.base_url,
            base_url=self._sender.base_url,
            timeout=httpx.Timeout(timeout, pool=None),
            transport=transport,
        )
        self._http, self._process = self._connect(), os.getpid()
        self._sleep = sleep

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

    def close(self) -> None:
        """Close the connections; the end of a ``with`` block does it too."""
        self._own_http().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _own_http(self) -> httpx.Client:
        """The connections of this process: those from before a fork are the parent's."""
        if self._process != os.getpid():
            self._http, self._process = self._connect(), os.getpid()
        return self._http

    def _do(self, steps: Call[T] | Steps[T]) -> T:
        exchanges, answer = self._sender.exchanges(steps), None
        while True:
            try:
                step = exchanges.send(answer)
            except StopIteration as over:
                done: T = over.value
                return done
            answer = self._exchange(step)

    def _exchange(self, step: Call[object] | Pause) -> Answer | None:
        if isinstance(step, Pause):
            self._sleep(step.seconds)
            return None
        headers, content = step.sent()
        try:
            return self._own_http().request(
                step.method,
                step.path,
                params=step.query,
                headers=self._sender.headers_with(headers),
                content=content,
            )
        except httpx.TransportError as error:
            return error
