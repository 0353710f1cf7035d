"""The channel between the supervisor and each of its processes: one JSON object a line.

A process says ``{"ready": true}`` or ``{"failed": "sentence"}`` and answers each ``{"ping": n}``
with ``{"pong": n}``. The end of the channel means that the other side is gone: a process whose
supervisor died finishes what it does and ends too.
"""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeAlias

from d3.settings import Settings

LAST_SECONDS = 60.0
"""A process whose supervisor died has this long to finish what it does."""
_READ_BYTES = 65536
_LONGEST_SENTENCE = 2000

Message: TypeAlias = dict[str, Any]


class Channel:
    """One end of a channel. Neither sending nor receiving ever waits.

    Args:
        end: one of a pair of connected sockets.
    """

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._unread = b""

    @classmethod
    def pair(cls) -> tuple[Channel, Channel]:
        """Both ends of a new channel."""
        ours, theirs = socket.socketpair()
        return cls(ours), cls(theirs)

    def fileno(self) -> int:
        return self._end.fileno()

    def send(self, message: Message) -> None:
        """Send a message; one that the other side is not there to receive is lost."""
        with suppress(OSError):
            self._end.send(json.dumps(message).encode() + b"\n", socket.MSG_DONTWAIT)

    def received(self) -> list[Message] | None:
        """The messages that have arrived; None if the other side is gone."""
        try:
            data = self._end.recv(_READ_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return []
        except OSError:
            return None
        if not data:
            return None
        *lines, self._unread = (self._unread + data).split(b"\n")
        return [json.loads(line) for line in lines]

    def close(self) -> None:
        self._end.close()


def end_this_process() -> None:
    """End as if asked to by SIGTERM; if that takes too long, at once."""
    main = threading.main_thread().ident
    assert main is not None
    signal.pthread_kill(main, signal.SIGTERM)  # which may wait for something in the system
    last = threading.Timer(LAST_SECONDS, os._exit, [1])
    last.daemon = True
    last.start()


class Control:
    """A process's side of its channel.

    Args:
        channel: its end.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def ready(self) -> None:
        """Tell the supervisor that this process can do its work."""
        self._channel.send({"ready": True})

    def failed(self, sentence: str) -> None:
        """Tell the supervisor why this process cannot do its work.

        An engine that goes on trying says :meth:`ready` once it can.
        """
        self._channel.send({"failed": sentence[:_LONGEST_SENTENCE]})

    def answer_on(
        self, loop: asyncio.AbstractEventLoop, ended: Callable[[], None] = end_this_process
    ) -> None:
        """Answer pings on an event loop; one that is stuck answers none.

        Args:
            loop: it runs, or will.
            ended: called once if the supervisor is gone.
        """

        def read() -> None:
            if not self._answer():
                loop.remove_reader(self._channel.fileno())
                ended()

        loop.add_reader(self._channel.fileno(), read)

    def answer_in_thread(
        self,
        alive: Callable[[], None] = lambda: None,
        ended: Callable[[], None] = end_this_process,
    ) -> None:
        """Answer pings in a thread.

        Args:
            alive: called before each answer; it returns if this process is not stuck.
            ended: called once if the supervisor is gone.
        """

        def run() -> None:
            arrival = select.poll()
            arrival.register(self._channel.fileno(), select.POLLIN)
            while True:
                arrival.poll()
                if not self._answer(alive):
                    return ended()

        threading.Thread(target=run, name="d3-control", daemon=True).start()

    def _answer(self, alive: Callable[[], None] = lambda: None) -> bool:
        """Answer what has arrived; False if the supervisor is gone."""
        messages = self._channel.received()
        for message in messages or ():
            if "ping" in message:
                alive()
                self._channel.send({"pong": message["ping"]})
        return messages is not None


@dataclass(frozen=True)
class EngineStart:
    """What an engine process starts with.

    Attributes:
        settings: of the service; ``cuda_device`` is this engine's own.
        number: 0 is the main engine, which also has the background jobs.
        listener: the fronts connect to it. The supervisor made it, so that they can wait in it
            while there is no engine.
        control: the supervisor's channel.
    """

    settings: Settings
    number: int
    listener: socket.socket
    control: Control

    @classmethod
    def receive(cls) -> EngineStart:
        """What the supervisor gave to this process: settings on the standard input, two sockets."""
        settings, number, listener, control = pickle.load(sys.stdin.buffer)  # noqa: S301  from our supervisor
        for descriptor in (listener, control):
            os.set_inheritable(descriptor, False)
        return cls(
            settings,
            number,
            socket.socket(fileno=listener),
            Control(Channel(socket.socket(fileno=control))),
        )
