"""A copy of what was read from the bucket, so that a restart does not need the store.

::

    FOLDER/blobs/<sha256>.safetensors        checked each time they are opened
    FOLDER/manifests/<name>/<version>.json   as they were read last
    FOLDER/active, FOLDER/catalog.json       as they were read last

A blob's modification time is when a process of this machine last opened it.
"""

from __future__ import annotations

import logging
import os
import time
from contextlib import AbstractContextManager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from d3.adapters.model_files import put_file
from d3.domain.files import storage_errors
from d3.domain.models import ModelFile

_LOG = logging.getLogger(__name__)
_IN_USE_SECONDS = 3600.0
_UNFINISHED = ".partial-"


class LocalCache:
    """Small objects by their key, and files by their SHA-256.

    Args:
        folder: made when something is kept.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._complained = False

    def keep(self, key: str, content: bytes) -> None:
        """Keep a small object; a folder that cannot be written is logged once."""
        if self.kept(key) == content:
            return
        try:
            put_file(self._folder / key, content)
        except OSError as error:
            if not self._complained:
                _LOG.warning(
                    "The model cache cannot be written (%s), so a restart will need the S3 store. "
                    "Check D3_HOME.",
                    error.strerror,
                )
            self._complained = True

    def kept(self, key: str) -> bytes | None:
        try:
            return (self._folder / key).read_bytes()
        except OSError:
            return None

    def forget(self, key: str) -> None:
        with usable():
            (self._folder / key).unlink(missing_ok=True)

    def blob(self, file: ModelFile) -> Path:
        """The path of a file, whether or not it is there."""
        return self._folder / "blobs" / f"{file.sha256}.safetensors"

    def prune(self, size_bytes: int, needed: set[str]) -> None:
        """Remove the least recently opened blobs until the rest fits.

        Interrupted downloads count as blobs, and so do the caches of other stores beside this one.

        Args:
            size_bytes: the most that blobs may take; files that have to stay may take more.
            needed: SHA-256 of files that stay. Those opened within the hour stay too: they may be
                about to be read.
        """
        found = []
        for path in self._folder.parent.glob("*/blobs/*"):
            if path.name.startswith(".lock-"):
                continue
            with suppress(FileNotFoundError):
                facts = path.stat()
                found.append((facts.st_mtime, facts.st_size, path))
        taken = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if taken <= size_bytes:
                return
            if _sha256(path) not in needed and _removed(path):
                taken -= size


def note_use(blob: Path) -> None:
    """Mark a blob as opened now; it need not be there. Its lock must be held."""
    with suppress(OSError):
        os.utime(blob)


def claim(blob: Path) -> FileLock:
    """The lock for writing, marking or removing a blob."""
    return FileLock(blob.with_name(f".lock-{_sha256(blob)}"))


def unfinished(blob: Path) -> Path:
    """Where a blob is written before it is complete."""
    return blob.with_name(f"{_UNFINISHED}{_sha256(blob)}")


def _sha256(blob: Path) -> str:
    return blob.name.removeprefix(_UNFINISHED).removesuffix(".safetensors")


def _removed(blob: Path) -> bool:
    """Remove a blob unless it is in use; whether it was removed."""
    with suppress(OSError, Timeout), claim(blob).acquire(timeout=0):
        if time.time() - blob.stat().st_mtime >= _IN_USE_SECONDS:
            blob.unlink()
            return True
    return False


def usable() -> AbstractContextManager[None]:
    """Translate errors of the file system to StorageFailed."""
    return storage_errors(
        "The model cache cannot be used", "Check the permissions and the free space of D3_HOME."
    )
