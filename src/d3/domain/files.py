"""Files that appear whole or not at all, translated errors of the system, and progress."""

from __future__ import annotations

import os
import secrets
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeAlias

from d3.domain.errors import D3Error, StorageFailed

Progress: TypeAlias = Callable[[str, int, int], None]
"""Takes what is being done, how much of it is done, and how much there is in all."""


def no_progress(what: str, done: int, total: int) -> None:
    """Report nothing."""


@contextmanager
def replacing(target: Path, mode: int | None = None, *, only_new: bool = False) -> Iterator[Path]:
    """A file to write, which replaces the target if all goes well.

    Otherwise it leaves nothing behind. A link is followed. What is no file, such as a device or a
    pipe, stays and is written to.

    Args:
        target: its folder must exist.
        mode: the target's permissions; then its content is on the disk before it is seen, and until
            then only its owner may read it. None: those that it has, or the system's default,
            and no wait.
        only_new: whether a target that exists already stays as it is.

    Raises:
        OSError: the system refuses it.
    """
    if target.exists() and not target.is_file():  # of a pipe, /dev/fd/63 is the only name
        with tempfile.TemporaryDirectory(prefix="d3-") as folder:
            partial = Path(folder) / "content"
            yield partial
            with target.open("wb") as stream:
                stream.write(partial.read_bytes())
        return
    target = Path(os.path.realpath(target))
    wanted = mode
    if mode is None and target.exists():
        wanted = stat.S_IMODE(target.stat().st_mode)
    # The suffix is for torch, which refuses to write a file whose name has only one part.
    partial = target.with_name(f".partial-{secrets.token_hex(8)}.tmp")
    try:
        if wanted is not None:
            partial.touch(0o600, exist_ok=False)
        yield partial
        if wanted is not None:
            partial.chmod(wanted)
        if mode is not None:
            with partial.open("rb") as stream:
                os.fsync(stream.fileno())
        if only_new:
            with suppress(FileExistsError):
                target.hardlink_to(partial)
        else:
            partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def put(target: Path, content: bytes, mode: int | None = None, *, only_new: bool = False) -> None:
    """Write a file that appears whole or not at all; see :func:`replacing`."""
    with replacing(target, mode, only_new=only_new) as partial:
        partial.write_bytes(content)


@contextmanager
def storage_errors(
    problem: str,
    remedy: str = "Check the path, its permissions and the free space.",
    kind: type[D3Error] = StorageFailed,
) -> Iterator[None]:
    """Translate errors of the system.

    Args:
        problem: without its full stop; the system's reason is added.
        remedy: what to do.
        kind: of the error.
    """
    try:
        yield
    except OSError as error:
        raise kind(f"{problem} ({error.strerror or type(error).__name__}).", remedy) from error
