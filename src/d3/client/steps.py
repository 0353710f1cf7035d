"""What a call does, step by step, without doing it: what is asked, and when it is asked again.

A call is a :class:`Call`, or a generator of several (:data:`Steps`), or :class:`Pages`. The clients
send requests and wait; everything else is here, once for both.
"""

from __future__ import annotations

import inspect
import random
import re
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Generic, TypeAlias, TypeVar

import httpx
import msgspec

from d3.client.uploads import Form, MeasuredForm
from d3.domain.backoff import pause_after, seconds_asked
from d3.domain.errors import D3Error, RequestInvalid
from d3.settings import key_for, key_of_environment

T = TypeVar("T")
A = TypeVar("A")
M = TypeVar("M", bound=Callable[..., Any])
_RETRIED = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
_IN_FLIGHT = "request_in_flight"
_IN_FLIGHT_SECONDS = 90.0
"""How long to wait for an answer that another process may be working on; one that was killed holds
its request's key for a minute."""
_LONGEST_WAIT = 60.0
_PORTS = 2**16


class ServiceError(D3Error):
    """The service answered with an error.

    Attributes:
        status: the HTTP status; 0 if no answer came.
        code: the service's stable word.
        request_id: to find the request in the service's logs.
    """

    def __init__(self, status: int, code: str, sentence: str, request_id: str = "") -> None:
        super().__init__(sentence)
        self.status = status
        self.code = code  # type: ignore[misc]  # the service's own, not the class's
        self.request_id = request_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[T]):
    """One request and what its answer means.

    Attributes:
        method: of HTTP.
        path: of the address.
        read: the result, of the answer's body.
        query: parameters of the address.
        body: JSON or a form.
        headers: besides those of the body.
        again: whether the request can be sent twice and does the same as once.
    """

    method: str
    path: str
    read: Callable[[bytes], T]
    query: Mapping[str, str] = field(default_factory=dict)
    body: bytes | Form = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    again: bool = False

    def sent(self) -> tuple[dict[str, str], bytes | MeasuredForm | None]:
        """The headers and the body; of a form, as its files are now.

        Raises:
            OSError: a file is not there.
        """
        if isinstance(self.body, Form):
            form = self.body.measured()
            return {**self.headers, **form.headers}, form
        kind = {"Content-Type": "application/json"} if self.body else {}
        return {**self.headers, **kind}, self.body or None


@dataclass(frozen=True, slots=True)
class Pause:
    """Seconds to wait."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Pages(Generic[T]):
    """A list that comes in pages.

    Attributes:
        at: the call for the page at a cursor; its answer is the page and the next cursor.
        first: the first page's cursor.
    """

    at: Callable[[str], Call[tuple[Sequence[T], str | None]]]
    first: str = ""


Steps: TypeAlias = Generator[Call[Any] | Pause, Any, T]
"""Yields calls, gets their results, and returns its own."""
Answer: TypeAlias = httpx.Response | httpx.TransportError
Exchanges: TypeAlias = Generator[Call[Any] | Pause, Answer | None, T]
"""Yields calls, gets each one's answer or how it was lost, and returns the result."""


class Sender:
    """How the calls of one client are sent: with which key, and how often.

    Args:
        base_url: the service's.
        api_key: None: of the environment, or this machine's own.
        retries: how often 429, 503 and lost connections are retried.

    Raises:
        RequestInvalid: the address or the key cannot be one.
    """

    def __init__(self, base_url: str, api_key: str | None, retries: int) -> None:
        self.base_url = _checked_address(base_url)
        api_key = _checked_key((api_key or "").strip() or key_of_environment())
        self._own_key = None if api_key else key_for(self.base_url)
        self._retries = retries
        self.headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        """Of every request; the key of this machine is added when the service asks for one."""

    def headers_with(self, own: dict[str, str]) -> dict[str, str]:
        """Of one request: its own beside those of every request and of the caller's trace."""
        return self.headers | _trace_of_caller() | own

    def exchanges(self, steps: Call[T] | Steps[T]) -> Exchanges[T]:
        """Carry out a call, or several.

        Raises:
            ServiceError: the service did not do what was asked.
        """
        if isinstance(steps, Call):
            return (yield from self._one(steps))
        result = None
        while True:
            try:
                step = steps.send(result)
            except StopIteration as over:
                done: T = over.value
                return done
            result = (yield step) if isinstance(step, Pause) else (yield from self._one(step))

    def _one(self, call: Call[T]) -> Exchanges[T]:
        attempt, left = 0, _IN_FLIGHT_SECONDS
        while True:
            had_key, answer = "Authorization" in self.headers, (yield call)
            assert answer is not None
            last = attempt >= self._retries
            if isinstance(answer, httpx.TransportError):
                # Whether others took effect is unknown.
                never_left = isinstance(answer, httpx.ConnectError | httpx.PoolTimeout)
                if last or not (call.again or never_left):
                    raise ServiceError(
                        0,
                        "no_answer",
                        f"{self.base_url} did not answer. Is d3 serve running there?",
                    ) from answer
                pause = _backoff(attempt)
                attempt += 1
            elif answer.is_success:
                return _read(call, answer)
            elif answer.status_code == HTTPStatus.UNAUTHORIZED and self._own_key and not had_key:
                self.headers["Authorization"] = f"Bearer {self._own_key}"
                continue
            elif answer.status_code == HTTPStatus.CONFLICT and left > 0:
                conflict = _error_of(answer)
                if conflict.code != _IN_FLIGHT:
                    raise conflict
                # The first request may have been ours, with its connection lost.
                pause = min(_retry_after(answer, attempt), 2 + _backoff(attempt), left)
                left -= pause
            elif answer.status_code not in _RETRIED or last:
                raise _error_of(answer)
            else:
                pause = _retry_after(answer, attempt)
                attempt += 1
            yield Pause(pause)


def _trace_of_caller() -> dict[str, str]:
    """Headers that tell the service the caller's current span, where OpenTelemetry is in use."""
    headers: dict[str, str] = {}
    if "opentelemetry.trace" in sys.modules:  # else there is no span, and nothing to import
        from opentelemetry.propagate import inject

        inject(headers)
    return headers


def _checked_address(text: str) -> str:
    text = text.strip()
    try:
        url = httpx.URL(text)
        usable = url.scheme in {"http", "https"} and url.host and (url.port or 0) < _PORTS
    except httpx.InvalidURL:
        usable = False
    if not usable:
        raise RequestInvalid(
            f"{text[:200]!r} is not the address of a service.",
            "Begin it with http:// or https://, as in http://localhost:5000.",
        )
    return text


def _checked_key(key: str | None) -> str | None:
    if key and not (key.isascii() and key.isprintable()):
        raise RequestInvalid(
            "The API key holds a line break or another character that no key has.",
            "Copy the key again. It is one line.",
        )
    return key


def _read(call: Call[T], response: httpx.Response) -> T:
    try:
        return call.read(response.content)
    except msgspec.MsgspecError as error:
        raise _error_of(response) from error


def answer(kind: type[A], part: Callable[[A], T]) -> Callable[[bytes], T]:
    """Reads a part of an answer of this kind."""
    return lambda content: part(msgspec.json.decode(content, type=kind))


def method_of(describe: Callable[..., Any], method: M) -> M:
    """The method as the description has it, for ``help`` and editors."""
    about = inspect.signature(describe)
    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    gives = re.sub(r"^(?:Call|Steps)\[(.*)\]$", r"\1", str(about.return_annotation))
    kind = "AsyncIterator" if inspect.isasyncgenfunction(method) else "Iterator"
    gives = re.sub(r"^Pages", kind, gives)
    told: Any = method
    told.__signature__ = about.replace(
        parameters=[own, *about.parameters.values()], return_annotation=gives
    )
    return method


def _retry_after(response: httpx.Response, attempt: int) -> float:
    asked = seconds_asked(response.headers.get("retry-after", ""))
    return _backoff(attempt) if asked is None else min(asked, _LONGEST_WAIT)


def _backoff(attempt: int) -> float:
    """Longer each time, with jitter."""
    return pause_after(attempt + 1, 0.2, _LONGEST_WAIT) * random.uniform(0.5, 1.0)  # noqa: S311


def _error_of(response: httpx.Response) -> ServiceError:
    try:
        body = response.json()
        return ServiceError(
            response.status_code, body["code"], body["error"], body.get("request_id", "")
        )
    except (ValueError, KeyError, TypeError):  # a page, or the answer to another question
        return ServiceError(
            response.status_code,
            "unexpected_answer",
            f"The service answered {response.status_code}. Is this the address of d3 serve?",
        )
