"""Files that appear whole or not at all, and what is said where they cannot be written."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from d3.domain.errors import StorageFailed


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Translate what the system says when a folder cannot be written.

    Raises:
        StorageFailed: it cannot be.
    """
    try:
        yield
    except OSError as error:
        raise StorageFailed(
            f"{folder} cannot be written ({error.strerror or error}). "
            "What was finished before is kept.",
            "Make room or choose another folder; the same command goes on where this one stopped.",
        ) from error


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A file to write, which takes the target's place when all went well.

    A link is followed. What is no file, such as a device or a pipe, stays and is written to.
    """
    target = Path(os.path.realpath(target))
    if target.exists() and not target.is_file():
        with tempfile.TemporaryDirectory(prefix="d3-") as folder:
            partial = Path(folder) / "content"
            yield partial
            with target.open("wb") as stream:
                stream.write(partial.read_bytes())
        return
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        yield partial
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def put(target: Path, content: bytes) -> None:
    """Write a file that appears whole or not at all."""
    with replacing(target) as partial:
        partial.write_bytes(content)
