"""A receiver of webhooks on this machine, which checks every signature."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from standardwebhooks import Webhook

from tests.sites import Answering, web_server

Answer = Callable[[BaseHTTPRequestHandler], None]
LOOPBACK = ("127.0.0.0/8",)


@dataclass
class Message:
    """What arrived.

    Attributes:
        id: the header ``webhook-id``.
        at: when, by the monotonic clock.
    """

    id: str
    path: str
    body: bytes
    headers: dict[str, str]
    at: float

    @property
    def event(self) -> dict[str, Any]:
        """The body."""
        found: dict[str, Any] = json.loads(self.body)
        return found

    def verified(self, secret: str) -> dict[str, Any]:
        """The body, after the library has checked who signed it."""
        found: dict[str, Any] = Webhook(secret).verify(self.body, self.headers)
        return found


@dataclass
class Receiver:
    """A web server that takes webhooks.

    Attributes:
        port: where it listens.
        messages: what arrived, in order.
        answer: sends the answer; by default 204.
    """

    port: int = 0
    messages: list[Message] = field(default_factory=list)
    answer: Answer = field(default_factory=lambda: status(204))
    arrived: threading.Condition = field(default_factory=threading.Condition)

    def at(self, path: str = "/d3", host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    def wait(self, count: int = 1, seconds: float = 20.0) -> list[Message]:
        """The messages, once so many have arrived."""
        with self.arrived:
            there = self.arrived.wait_for(lambda: len(self.messages) >= count, seconds)
            assert there, f"{len(self.messages)} of {count} messages arrived"
            return list(self.messages)


def status(code: int, **headers: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


@contextmanager
def receiver(answer: Answer | None = None) -> Iterator[Receiver]:
    """A receiver that runs until the block is left."""
    found = Receiver()
    if answer is not None:
        found.answer = answer

    class Handler(Answering):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:  # noqa: N802  the server's own name
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            with found.arrived:
                found.messages.append(
                    Message(headers["webhook-id"], self.path, body, headers, time.monotonic())
                )
                found.arrived.notify_all()
            found.answer(self)

    with web_server(Handler) as port:
        found.port = port
        yield found
