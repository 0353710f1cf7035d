"""Small web servers on this machine, each of a handler's making."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Answering(BaseHTTPRequestHandler):
    """Answers GET as :meth:`answer` says, and writes nothing to the terminal."""

    def answer(self) -> None:
        """Send status, headers and body."""
        raise NotImplementedError

    def do_GET(self) -> None:
        self.answer()

    def log_message(self, *_: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    """Lets many callers in at the same moment."""

    request_queue_size = 512


@contextmanager
def web_server(handler: type[Answering], context: ssl.SSLContext | None = None) -> Iterator[int]:
    """The port of a server; answers that never end are not waited for when it stops.

    Args:
        handler: answers each request, in a thread of its own.
        context: for a server that speaks TLS.
    """
    server = _Server(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    server.block_on_close = False
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
