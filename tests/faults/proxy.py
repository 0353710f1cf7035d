"""A TCP proxy that misbehaves on demand: in front of a database or a store, knowing neither."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

_PIECE = 65536


class TcpProxy:
    """Listens on a port of its own and carries bytes both ways.

    Args:
        target: a port of this machine.

    Attributes:
        port: to connect to.
        cuts: connections that :meth:`cut_after` has broken.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self._open = threading.Event()
        self._open.set()
        self._refusing = False
        self._cut_after: int | None = None
        self._step = 0
        self.cuts = 0
        self._ends: list[socket.socket] = []
        self._lock = threading.Lock()

    def heal(self) -> None:
        """Carry everything, as in the beginning."""
        with self._lock:
            self._refusing, self._cut_after = False, None
        self._open.set()

    def refuse(self) -> None:
        """Break every connection, and every new one: the server was killed."""
        self._refusing = True
        self.reset()

    def swallow(self) -> None:
        """Keep connections open and carry nothing: bytes go out and no answer ever comes."""
        self._open.clear()

    def cut_after(self, count: int, step: int = 0) -> None:
        """Break each new connection after so many bytes of answers; break those there are.

        Args:
            count: of the next connection.
            step: how many more for each further one, so that all places of an exchange are hit.
        """
        with self._lock:
            self._cut_after, self._step = count, step
        self.reset()

    def reset(self) -> None:
        """Break every connection."""
        with self._lock:
            ends, self._ends = self._ends, []
        for end in ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.reset()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                if self._refusing:
                    raise ConnectionRefusedError
                far = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                near.close()
                continue
            with self._lock:
                self._ends += [near, far]
                cut = self._cut_after
                if cut is not None:
                    self._cut_after = cut + self._step
            for source, to, bound in ((near, far, None), (far, near, cut)):
                threading.Thread(target=self._carry, args=(source, to, bound), daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket, bound: int | None) -> None:
        left = bound
        with suppress(OSError):
            while piece := source.recv(_PIECE):
                self._open.wait()
                piece = piece if left is None else piece[:left]
                target.sendall(piece)
                if left is not None:
                    left -= len(piece)
                    if not left:
                        self.cuts += 1
                        break
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
