"""Objects below a prefix in which the files of jobs wait to be judged: one for each shard."""

from __future__ import annotations

import hashlib
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import IO

from d3.adapters.minio.bucket import Bucket
from d3.adapters.minio.errors import ObjectMissing
from d3.domain.files import storage_errors
from d3.domain.jobs import file_gone
from d3.domain.scans import S3_SCHEME

_LOCAL = "The files of a job cannot be kept on this machine on their way to the S3 server"


class S3Spool:
    """Implements ``Spool``.

    A shard's file is gathered on this machine before it is sent, and fetched whole to be read.

    Args:
        bucket: made when it is first written to.
        prefix: of all keys; may be empty.
        folder: for what is on its way.
    """

    def __init__(self, bucket: Bucket, prefix: str, folder: Path) -> None:
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._folder = folder

    @property
    def seen(self) -> str:
        return self.id

    @property
    def id(self) -> str:
        return f"{S3_SCHEME}{self._bucket.place.bucket}/{self._prefix}"[:255]

    def write(self, job: str, number: int) -> S3SpoolWriter:
        return S3SpoolWriter(self._bucket, self._key(job, number), _temporary(self._folder))

    def open(self, job: str, number: int) -> S3SpoolReader:
        return S3SpoolReader(self._bucket, self._key(job, number), self._folder)

    def remove(self, job: str, number: int | None = None) -> None:
        if number is not None:
            self._bucket.remove(self._key(job, number))
            return
        for one in self._bucket.list(f"{self._prefix}{job}/") or []:
            self._bucket.remove(one.key)

    def _key(self, job: str, number: int) -> str:
        return f"{self._prefix}{job}/{number}"


class S3SpoolWriter:
    """Implements ``SpoolWriter``."""

    def __init__(self, bucket: Bucket, key: str, stream: IO[bytes]) -> None:
        self._bucket = bucket
        self._key = key
        self._stream = stream
        self._digest = hashlib.sha256()
        self._size = 0

    def write(self, data: bytes) -> None:
        with storage_errors(_LOCAL):
            self._stream.write(data)
        self._digest.update(data)
        self._size += len(data)

    def commit(self) -> None:
        stream: IO[bytes] = self._stream
        self._bucket.upload(self._key, stream, self._size, self._digest.hexdigest())  # type: ignore[arg-type]
        self._stream.close()

    def discard(self) -> None:
        with suppress(OSError):
            self._stream.close()


class S3SpoolReader:
    """Implements ``SpoolReader``; the first read fetches the object."""

    def __init__(self, bucket: Bucket, key: str, folder: Path) -> None:
        self._bucket = bucket
        self._key = key
        self._folder = folder
        self._stream: IO[bytes] | None = None
        self._lock = threading.Lock()

    def read(self, offset: int, size_bytes: int) -> bytes:
        if not size_bytes:
            return b""
        with self._lock, storage_errors(_LOCAL):
            if self._stream is None:
                self._stream = self._fetch()
            self._stream.seek(offset)
            found = self._stream.read(size_bytes)
        if len(found) != size_bytes:
            raise file_gone()
        return found

    def close(self) -> None:
        with self._lock:
            if self._stream is not None:
                self._stream.close()
                self._stream = None

    def _fetch(self) -> IO[bytes]:
        stream = _temporary(self._folder)
        try:
            with self._bucket.download(self._key) as (_, pieces):
                for piece in pieces:
                    stream.write(piece)
        except ObjectMissing as error:
            stream.close()
            raise file_gone() from error
        except BaseException:
            stream.close()
            raise
        return stream


def _temporary(folder: Path) -> IO[bytes]:
    """A file without a name, which ends with this process."""
    with storage_errors(_LOCAL):
        folder.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryFile(dir=folder)
