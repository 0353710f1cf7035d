"""The supervisor's processes: started, spoken to, ended.

A front is forked, which takes little time and shares the memory of what was imported. An engine is
a fresh interpreter, for what it computes with does not survive a fork.
"""

from __future__ import annotations

import logging
import os
import pickle
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn

from d3.entrypoints.serving.control import Channel
from d3.settings import Settings

ENGINE = ("-P", "-m", "d3.entrypoints.serving.engine")
"""The interpreter's arguments for an engine."""
MOST_UNANSWERED = 5
"""Pings, one a second, after which a process counts as stuck."""
HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
"""Signals that the supervisor acts on."""
_FAILED = 1
_LOG = logging.getLogger("d3.serving")


@dataclass(eq=False)
class Child:
    """A process of the supervisor's.

    Attributes:
        pid: its number.
        channel: to it.
        ready: whether it said so.
        failure: why it cannot do its work, in its own words.
        unanswered: pings since its last answer.
        kill_at: when it is killed if it has not ended; None while it is wanted.
    """

    pid: int
    channel: Channel
    ready: bool = False
    failure: str | None = None
    unanswered: int = 0
    kill_at: float | None = None

    @property
    def settled(self) -> bool:
        """Whether it said that it can work, or why not."""
        return self.ready or self.failure is not None

    def ping(self) -> None:
        """Ask for a sign of life."""
        self.unanswered += 1
        self.channel.send({"ping": self.unanswered})

    def hear(self) -> bool:
        """Take in what it says; False at the end of its channel."""
        messages = self.channel.received()
        for message in messages or ():
            if "pong" in message:
                self.unanswered = 0
            elif "failed" in message:
                self.ready, self.failure = False, message["failed"]
            elif message.get("ready"):
                self.ready, self.failure, self.unanswered = True, None, 0
        return messages is not None

    def end(self, grace_seconds: float) -> None:
        """Ask it to end, and have it killed if it takes too long."""
        if self.kill_at is None:
            self.kill_at = time.monotonic() + grace_seconds
            self.signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once, whatever it does."""
        self.signal(signal.SIGKILL)

    def signal(self, number: int) -> None:
        """Send a signal; its number is not another's yet, for only we wait for its end."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)


def forked(run: Callable[[Channel], int], release: Callable[[], None]) -> Child:
    """A new process that begins as a copy of this one.

    Args:
        run: the new process's work, given its end of the channel; gives its exit status.
        release: closes what is the supervisor's alone; called in the new process.

    Raises:
        OSError: the system has no room for it.
    """
    if threading.active_count() > 1 or "torch" in sys.modules:
        # Of locks that other threads hold, the copies would be held for ever.
        raise RuntimeError("the supervisor of workers has threads")
    ours, theirs = Channel.pair()
    with suppress(OSError):  # whoever read it may have gone
        for stream in (sys.stdout, sys.stderr):
            stream.flush()  # else both would write it
    # Until the child has its own handlers, a signal to it would count as one to the supervisor.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        if (pid := os.fork()) == 0:
            ours.close()
            _be_child(lambda: run(theirs), release, blocked)
    except OSError:
        ours.close()
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        theirs.close()
    return Child(pid, ours)


def become_engine(
    settings: Settings, number: int, listener: socket.socket, channel: Channel
) -> NoReturn:
    """Make of this process a fresh interpreter; see :class:`EngineStart`.

    Args:
        settings: the engine's.
        number: the engine's.
        listener: the fronts connect to it.
        channel: the engine's end.
    """
    handed = (listener.fileno(), channel.fileno())
    # By a pipe, which nobody else can read: the settings hold passwords.
    reading, writing = os.pipe()
    os.write(writing, pickle.dumps((settings, number, *handed)))
    os.dup2(reading, 0)
    for descriptor in handed:
        os.set_inheritable(descriptor, True)
    os.execv(sys.executable, [sys.executable, *ENGINE])  # noqa: S606  a shell is not wanted


def _be_child(
    run: Callable[[], int], release: Callable[[], None], blocked: set[signal.Signals | int]
) -> NoReturn:
    status = _FAILED
    try:
        os.setsid()  # Ctrl-C goes to the supervisor, which ends its processes in order
        signal.set_wakeup_fd(-1)
        for number in HANDLED:
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        release()
        status = run()
    except BaseException:  # noqa: BLE001  what the supervisor does must not go on here
        _LOG.exception("a process of the service failed")
    finally:
        logging.shutdown()
        os._exit(status)
