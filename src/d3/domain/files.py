"""Files that appear whole or not at all, translated errors of the system, and progress."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, TypeAlias

from d3.domain.errors import D3Error, StorageFailed

Progress: TypeAlias = Callable[[str, int, int], None]
"""Takes what is being done, how much of it is done, and how much there is in all."""

_PERMISSIONS = 0o777
_DESCRIPTOR = re.compile(r"/(?:dev|proc/self)/fd/(?P<number>\d+)")
_STREAMS = {"/dev/stdin": 0, "/dev/stdout": 1, "/dev/stderr": 2}


def no_progress(what: str, done: int, total: int) -> None:
    """Report nothing."""


@contextmanager
def replacing(target: Path, mode: int | None = None, *, only_new: bool = False) -> Iterator[Path]:
    """A file to write, which replaces the target if all goes well.

    Otherwise it leaves nothing behind. A link is followed. What is no file, such as a device, a
    pipe or ``/dev/fd/3``, stays and is written to.

    Args:
        target: its folder must exist.
        mode: the target's permissions; then its content is on the disk before it is seen, and until
            then only its owner may read it. None: those of the file that is replaced, or the
            system's default for a new one, and no wait.
        only_new: whether a target that exists already stays as it is.

    Raises:
        OSError: the system refuses it.
    """
    if _is_stream(target):
        with tempfile.TemporaryDirectory(prefix="d3-") as folder:
            partial = Path(folder) / "content"
            yield partial
            with _opened(target) as stream, partial.open("rb") as content:
                shutil.copyfileobj(content, stream)
        return
    target = Path(os.path.realpath(target))
    before = _status(target)
    kept = stat.S_IMODE(before.st_mode) & _PERMISSIONS if before is not None else None
    final = kept if mode is None else mode
    # The suffix is for torch, which refuses to write a file whose name has only one part.
    partial = target.with_name(f".partial-{secrets.token_hex(8)}.tmp")
    try:
        if final is not None:
            partial.touch(0o600, exist_ok=False)
        yield partial
        if final is not None:
            if mode is None and before is not None and hasattr(os, "chown"):
                with suppress(OSError):  # only root may give files away
                    os.chown(partial, before.st_uid, before.st_gid)
            partial.chmod(final)
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


def _status(file: Path) -> os.stat_result | None:
    try:
        return file.stat()
    except FileNotFoundError:
        return None


def _descriptor(target: Path) -> int | None:
    """The stream of this process that a name stands for, as ``/dev/fd/3`` does."""
    name = os.path.abspath(target)  # noqa: PTH100  links are not to be followed
    if found := _DESCRIPTOR.fullmatch(name):
        return int(found["number"])
    return _STREAMS.get(name)


def _is_stream(target: Path) -> bool:
    if os.name != "nt" and _descriptor(target) is not None:
        return True
    found = _status(target)  # by the given name: a pipe's resolved one, pipe:[7], is no file's
    return found is not None and not stat.S_ISREG(found.st_mode)


def _opened(target: Path) -> BinaryIO:
    """A stream to write to. One that is open already goes on where it is, and is not emptied."""
    number = _descriptor(target) if os.name != "nt" else None
    return target.open("wb") if number is None else os.fdopen(os.dup(number), "wb")


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
