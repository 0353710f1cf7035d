"""Keeps the processes of a service running: starts them, watches them, replaces them, ends them."""

from __future__ import annotations

import logging
import math
import os
import selectors
import signal
import socket
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from d3.domain.backoff import pause_after
from d3.domain.errors import D3Error
from d3.entrypoints.serving.children import HANDLED, MOST_UNANSWERED, Child
from d3.entrypoints.serving.server import FORCED, GRACE_SECONDS

PING_SECONDS = 1.0
FRONT_SECONDS = GRACE_SECONDS + 30.0
"""For a front to end."""
ENGINE_SECONDS = 30.0
"""For an engine to end when no front is left."""
_LONGEST_PAUSE = 10.0
_SIGNALS_READ = 4096
_LOG = logging.getLogger("d3.serving")


class ServiceFailed(D3Error):
    """The service could not start; says why in the words of the process that failed."""

    code = "service_failed"


@dataclass(eq=False)
class Post:
    """What one process at a time does.

    Attributes:
        name: of the process in logs.
        start: starts a process for it.
        grace_seconds: that a process gets to end.
        child: the process.
        successor: that replaces it once it is ready.
        failures: starts in a row that led to nothing.
        due: when the next one is started.
    """

    name: str
    start: Callable[[], Child]
    grace_seconds: float
    child: Child | None = None
    successor: Child | None = None
    failures: int = 0
    due: float = 0.0

    @property
    def ready(self) -> bool:
        """Whether its process works."""
        return self.child is not None and self.child.ready

    @property
    def settled(self) -> bool:
        """Whether its process works or it is known why not."""
        return self.failures > 0 or (self.child is not None and self.child.settled)

    def children(self) -> list[Child]:
        """The process and its successor."""
        return [one for one in (self.child, self.successor) if one is not None]

    def failed_to_start(self) -> None:
        """Try again, at longer and longer intervals."""
        self.failures += 1
        self.due = time.monotonic() + pause_after(self.failures, 1.0, _LONGEST_PAUSE)


class Supervisor:
    """The supervisor of one service. It has one thread and never waits for a single process.

    Args:
        engines: the main one first.
        fronts: started when the main engine works, or it is known why it does not.
        ready: called once, when every front works.
        reload: called on SIGHUP, before every front is replaced; a ``D3Error`` leaves them all.
        undo: called if a new front could not start after that.
        stopping: called when the fronts are told to end: nobody new is to be let in.
    """

    def __init__(
        self,
        engines: list[Post],
        fronts: list[Post],
        *,
        ready: Callable[[], None] = lambda: None,
        reload: Callable[[], None] = lambda: None,
        undo: Callable[[], None] = lambda: None,
        stopping: Callable[[], None] = lambda: None,
    ) -> None:
        self._engines = engines
        self._fronts = fronts
        self._on_ready = ready
        self._reload = reload
        self._on_stop = stopping
        self._undo = undo
        self._posts = engines
        self._leaving: list[tuple[Post, Child]] = []
        self._to_replace: deque[Post] = deque()
        self._announced = False
        self._stopping = False
        self._forced = False
        self._failure: str | None = None
        self._ping_at = 0.0
        self._selector = selectors.DefaultSelector()
        self._signals, self._wakeup = socket.socketpair()
        for end in (self._signals, self._wakeup):
            end.setblocking(False)
        self._selector.register(self._signals, selectors.EVENT_READ, None)

    def release(self) -> None:
        """Close what a process forked from this one must not have."""
        self._selector.close()
        self._signals.close()
        self._wakeup.close()
        for _, child in self._all():
            child.channel.close()

    def run(self) -> int:
        """Run the service until it is told to stop.

        Returns:
            The exit status.

        Raises:
            ServiceFailed: a front could not start.
        """
        signal.set_wakeup_fd(self._wakeup.fileno(), warn_on_full_buffer=False)
        before = {number: signal.signal(number, lambda *_: None) for number in HANDLED}
        try:
            while not self._is_over():
                self._start_what_is_due()
                self._wait()
                self._reap()
                self._advance()
        finally:
            for _, child in self._all():
                child.kill()
            signal.set_wakeup_fd(-1)
            for number, handler in before.items():
                signal.signal(number, handler)
            self.release()
        if self._failure is not None:
            raise ServiceFailed(self._failure)
        return FORCED if self._forced else 0

    def _all(self) -> list[tuple[Post, Child]]:
        posts = [*self._engines, *self._fronts]
        return [(post, one) for post in posts for one in post.children()] + self._leaving

    def _is_over(self) -> bool:
        return self._forced or (self._stopping and not self._all())

    def _start_what_is_due(self) -> None:
        if self._stopping:
            return
        for post in self._posts:
            if post.child is None and post.due <= time.monotonic():
                post.child = self._start(post)
        if self._to_replace and (post := self._to_replace[0]).successor is None:
            post.successor = self._start(post)
            if post.successor is None:
                self._replace_no_more()

    def _start(self, post: Post) -> Child | None:
        try:
            child = post.start()
        except OSError as error:
            post.failed_to_start()
            _LOG.error("%s could not be started (%s)", post.name, error.strerror)
            return None
        _LOG.info("%s is process %d", post.name, child.pid)
        self._selector.register(child.channel, selectors.EVENT_READ, (post, child))
        return child

    def _wait(self) -> None:
        """Wait for a second at most; take in signals and what the processes say."""
        due = [post.due for post in self._posts if post.child is None and not self._stopping]
        patience = min(self._ping_at, *due, math.inf) - time.monotonic()
        for key, _ in self._selector.select(max(0.0, patience)):
            if key.data is None:
                for number in self._signals.recv(_SIGNALS_READ):
                    self._act_on(number)
            else:
                self._hear(*key.data)

    def _hear(self, post: Post, child: Child) -> None:
        known = child.failure
        if not child.hear():
            self._selector.unregister(child.channel)
        told = post in self._fronts and not self._announced  # as what run() raises
        if child.failure is not None and child.failure != known and not told:
            _LOG.error("%s: %s", post.name, child.failure)

    def _act_on(self, number: int) -> None:
        if number in (signal.SIGTERM, signal.SIGINT):
            self._forced = self._stopping
            self._stop()
        elif number == signal.SIGHUP and self._announced:
            self._replace_fronts()

    def _stop(self) -> None:
        """End the fronts, which answer what is in flight; engines follow when none is left."""
        self._stopping = True
        self._on_stop()
        for post in self._fronts:
            for child in post.children():
                child.end(post.grace_seconds)

    def _replace_fronts(self) -> None:
        try:
            self._reload()
        except D3Error as error:
            _LOG.error("the fronts are not replaced: %s", error)
            return
        if len(self._to_replace) <= len(self._fronts):  # beyond that, signals say nothing new
            _LOG.info("the fronts are replaced one by one")
            self._to_replace.extend(self._fronts)

    def _replace_no_more(self) -> None:
        self._to_replace.clear()
        self._undo()
        _LOG.error("the other fronts are not replaced, and new ones have the old settings")

    def _reap(self) -> None:
        """Notice which processes have ended; as process 1, also those that lost their parent."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for post, child in self._all():
                if child.pid == pid:
                    self._ended(post, child, os.waitstatus_to_exitcode(status))

    def _ended(self, post: Post, child: Child, status: int) -> None:
        """A process has ended."""
        if child.channel in self._selector.get_map():
            self._hear(post, child)  # its last words
        with suppress(KeyError):
            self._selector.unregister(child.channel)
        child.channel.close()
        if (post, child) in self._leaving:
            self._leaving.remove((post, child))
            return
        how = f"signal {-status}" if status < 0 else f"exit status {status}"
        if child is post.successor:
            post.successor = None
            _LOG.error("the new %s died (%s)", post.name, how)
            self._replace_no_more()
            return
        post.child, post.successor = post.successor, None
        if self._stopping:
            return
        if child.ready:
            post.failures, post.due = 0, 0.0
            _LOG.error("%s died (%s) and is replaced", post.name, how)
            return
        post.failed_to_start()
        reason = child.failure or f"{post.name} died before it was ready ({how})."
        if post in self._fronts and not self._announced:
            self._failure = reason
            self._stop()
        else:
            _LOG.error("%s died before it was ready (%s); D3 will try again", post.name, how)

    def _advance(self) -> None:
        """Do what the state of the processes now allows or asks for."""
        if self._engines[0].settled:
            self._posts = [*self._engines, *self._fronts]
        if not self._announced and all(post.ready for post in self._fronts):
            self._announced = True
            self._on_ready()
        self._promote_successor()
        if self._stopping and not any(post in self._fronts for post, _ in self._all()):
            for post in self._engines:
                for child in post.children():
                    # One that still loads its model has nothing to finish, and may not listen.
                    child.end(post.grace_seconds if child.settled else 0.0)
        self._watch()

    def _promote_successor(self) -> None:
        if not self._to_replace:
            return
        post = self._to_replace[0]
        if post.successor is not None and post.successor.ready:
            self._to_replace.popleft()
            old, post.child, post.successor = post.child, post.successor, None
            if old is not None:
                old.end(post.grace_seconds)
                self._leaving.append((post, old))

    def _watch(self) -> None:
        """Once a second: ask for signs of life, kill what is stuck or takes too long to end."""
        now = time.monotonic()
        if now < self._ping_at:
            return
        self._ping_at = now + PING_SECONDS
        for post, child in self._all():
            if child.kill_at is not None:
                if child.kill_at <= now:
                    if child.settled:
                        _LOG.error("%s did not end in time and is killed", post.name)
                    child.kill()
            elif child.unanswered >= MOST_UNANSWERED:
                _LOG.error("%s does not answer and is killed", post.name)
                child.kill()
            elif child.settled:
                child.ping()
