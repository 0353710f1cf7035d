"""A folder in which the files of jobs wait to be judged: one file for each shard."""

from __future__ import annotations

import os
import secrets
import shutil
import threading
from contextlib import suppress
from pathlib import Path

from d3.domain.files import put, storage_errors
from d3.domain.jobs import file_gone

_ID = "id"
_REMEDY = "Check D3_SPOOL, its permissions and the free space."


class FolderSpool:
    """Implements ``Spool``.

    Its id is in a file in it, so that replicas which share the folder know that they do, and others
    that they do not.

    Args:
        folder: made when it is first written to, for its owner alone.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._id: str | None = None

    @property
    def seen(self) -> str | None:
        if self._id is None:
            with storage_errors("The spool cannot be used", _REMEDY), suppress(FileNotFoundError):
                said = (self._folder / _ID).read_text(encoding="ascii")
                self._id = f"folder:{said.strip()}"
        return self._id

    @property
    def id(self) -> str:
        if (seen := self.seen) is not None:
            return seen
        with storage_errors("The spool cannot be used", _REMEDY):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            put(self._folder / _ID, secrets.token_hex(16).encode(), 0o600, only_new=True)
        made = self.seen
        assert made is not None
        return made

    def write(self, job: str, number: int) -> FolderSpoolWriter:
        with storage_errors("The files of the job cannot be kept", _REMEDY):
            folder = self._folder / job
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.mkdir(mode=0o700, exist_ok=True)
            return FolderSpoolWriter(folder / str(number))

    def open(self, job: str, number: int) -> FolderSpoolReader:
        return FolderSpoolReader(self._folder / job / str(number))

    def remove(self, job: str, number: int | None = None) -> None:
        with storage_errors("The files of a job cannot be removed", _REMEDY):
            folder = self._folder / job
            with suppress(FileNotFoundError):
                if number is None:
                    shutil.rmtree(folder)
                else:
                    (folder / str(number)).unlink()


class FolderSpoolWriter:
    """Implements ``SpoolWriter``; the file has its name when it is whole."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._partial = target.with_name(f"{target.name}.part")
        self._stream = self._partial.open("wb")

    def write(self, data: bytes) -> None:
        with storage_errors("The files of the job cannot be kept", _REMEDY):
            self._stream.write(data)

    def commit(self) -> None:
        with storage_errors("The files of the job cannot be kept", _REMEDY):
            self._stream.flush()
            os.fsync(self._stream.fileno())
            self._stream.close()
            self._partial.replace(self._target)
            folder = os.open(self._target.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def discard(self) -> None:
        with suppress(OSError):
            self._stream.close()
        with suppress(OSError):
            self._partial.unlink()


class FolderSpoolReader:
    """Implements ``SpoolReader``; opened by the first read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None
        self._lock = threading.Lock()

    def read(self, offset: int, size_bytes: int) -> bytes:
        if not size_bytes:
            return b""
        found = b""
        problem = "A file of the job cannot be read"
        with storage_errors(problem, _REMEDY), suppress(FileNotFoundError):
            found = os.pread(self._open(), size_bytes, offset)
        if len(found) != size_bytes:
            raise file_gone()
        return found

    def _open(self) -> int:
        with self._lock:
            if self._descriptor is None:
                self._descriptor = os.open(self._path, os.O_RDONLY)
            return self._descriptor

    def close(self) -> None:
        with self._lock:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None
