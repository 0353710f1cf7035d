"""Child processes that decode what nobody trusts: their pipes, their deadlines and their end.

What a child may cost it limits itself: see :mod:`d3.adapters.confinement`.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import IO

START_SECONDS = 60
"""For a child to be ready."""

WALL_FACTOR = 3
"""By the clock, a child may take so many times its seconds of a processor."""

_LAST_SECONDS = 1
"""For a child whose pipe is closed to be gone."""


class Lost(Exception):
    """A child that ended, took too long, or answered nonsense."""


class Deadline:
    """Seconds for which a child is waited for; what goes by between two waits counts if ``ticks``.

    Args:
        seconds: in all.
        ticks: whether the clock runs on while nobody waits.
    """

    def __init__(self, seconds: float, *, ticks: bool = True) -> None:
        self._left = seconds
        self._ticks = ticks
        self._since = time.monotonic()

    def wait(self, descriptor: int, event: int) -> None:
        """Until the descriptor is ready.

        Raises:
            Lost: it is not in time.
        """
        now = time.monotonic()
        if self._ticks:
            self._left -= now - self._since
        self._since = now
        with selectors.PollSelector() as selector:
            selector.register(descriptor, event)
            ready = self._left > 0 and bool(selector.select(self._left))
        self._since = time.monotonic()
        self._left -= self._since - now
        if not ready:
            raise Lost


class Child:
    """A child process and its pipes.

    Args:
        module: that it runs.
        arguments: its own.
        stdin: an open file that it reads; a pipe of its own, for :meth:`write`, unless given.

    Raises:
        OSError: it cannot be started.
    """

    def __init__(
        self, module: str, arguments: Sequence[str], stdin: int | IO[bytes] | None = None
    ) -> None:
        self._process = subprocess.Popen(
            # Without -P it would import what lies in the current folder.
            [sys.executable, "-P", "-m", module, *arguments],
            stdin=subprocess.PIPE if stdin is None else stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_environment(),
            start_new_session=True,  # Ctrl-C is for the service, which still needs it
            bufsize=0,
        )
        assert self._process.stdout is not None
        self._from = self._process.stdout.fileno()
        os.set_blocking(self._from, False)
        if self._process.stdin is not None:
            os.set_blocking(self._process.stdin.fileno(), False)

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    def ended(self) -> int | None:
        """End it; its exit code if it had ended by itself, less than 0 for a signal."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_LAST_SECONDS)
        code = self._process.returncode
        self.kill()
        return code

    def was_killed(self) -> bool:
        """End it; whether somebody else had done so, which no limit of ours does."""
        return self.ended() == -signal.SIGKILL

    def stop(self) -> None:
        """Make it end; whoever reads from it loses it. Any thread may call this."""
        with suppress(ProcessLookupError):
            self._process.kill()

    def kill(self) -> None:
        """End it, whatever it does, and close its pipes: nobody may be using them."""
        self.stop()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            with suppress(OSError):
                if stream is not None:
                    stream.close()

    def write(self, data: bytes, until: Deadline) -> None:
        """All of it."""
        assert self._process.stdin is not None
        to = self._process.stdin.fileno()
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(to, rest) :]
            except BlockingIOError:
                until.wait(to, selectors.EVENT_WRITE)

    def read(self, size: int, until: Deadline) -> bytearray:
        """Exactly so many bytes."""
        content, at = bytearray(size), 0
        while at < size:
            try:
                got = os.readv(self._from, [memoryview(content)[at:]])
            except BlockingIOError:
                until.wait(self._from, selectors.EVENT_READ)
                continue
            if not got:
                raise Lost
            at += got
        return content


def _environment() -> dict[str, str]:
    """Nothing of this process's, secrets least of all, but what a Python needs to start."""
    kept = ("PATH", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "SYSTEMROOT", "LANG")
    found = {name: os.environ[name] for name in kept if name in os.environ}
    # Few arenas, because each thread of a decoder would reserve one; large pieces of their own,
    # because what is freed of them goes back to the system at once.
    return found | {
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "MALLOC_ARENA_MAX": "2",
        "MALLOC_MMAP_THRESHOLD_": "4194304",
    }
