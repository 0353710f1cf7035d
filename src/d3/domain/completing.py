"""Finishing many futures as one: what their callbacks put off is done once, when all are finished.

A batch answers many requests. Were each to wake the event loop by itself, the loop's thread and the
batch's would fight for the interpreter once per image.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_here = threading.local()


@contextmanager
def together() -> Iterator[None]:
    """While the block runs, actions given to :func:`afterwards` on this thread are put off."""
    if getattr(_here, "actions", None) is not None:
        yield
        return
    actions: dict[Callable[[], None], None] = {}
    _here.actions = actions
    try:
        yield
    finally:
        _here.actions = None
        for action in actions:
            action()


def afterwards(action: Callable[[], None]) -> None:
    """Run the action at the end of the block this thread is in, once however often it is given.

    Outside any block it runs at once.
    """
    actions = getattr(_here, "actions", None)
    if actions is None:
        action()
    else:
        actions[action] = None
