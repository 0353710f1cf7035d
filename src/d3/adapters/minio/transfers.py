"""Uploads and downloads: hashed as they go, resumed where they broke off."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Self

from d3.adapters.minio.bucket import Bucket, MiB
from d3.adapters.minio.cache import claim, note_use, unfinished
from d3.adapters.minio.errors import ObjectMissing
from d3.adapters.model_files import REIMPORT, check, matches
from d3.domain.backoff import resume_while_it_grows
from d3.domain.errors import ModelDamaged, ModelNotFound, StorageFailed, StorageUnavailable
from d3.domain.files import Progress, no_progress
from d3.domain.models import ModelFile

_FRUITLESS = 3
_PAUSE_SECONDS = 0.2


def upload(
    bucket: Bucket,
    key: str,
    source: Path,
    file: ModelFile,
    what: str,
    *,
    progress: Progress = no_progress,
) -> None:
    """Put a file under its key, unless it is there already; only its own bytes are kept there.

    It is hashed before, and again as it goes; over HTTP each part's hash is signed as well.

    Raises:
        ModelDamaged: the file is not the one recorded, or changed on the way.
        StorageFailed: the store refuses it, or keeps something else.
    """
    check(source, file, f"The file {source.name!r}")
    if is_there(bucket, key, file):
        return
    with source.open("rb") as stream:
        watched = _Watched(stream, lambda done: progress(what, done, file.size_bytes))
        try:
            bucket.upload(key, watched, file.size_bytes, file.sha256)  # type: ignore[arg-type]
        except OSError as error:  # minio-py's word for a file that ended early
            raise ModelDamaged(
                f"The file {source.name!r} changed while it was read.", REIMPORT
            ) from error
    if watched.sha256 != file.sha256:
        bucket.remove(key)
        raise ModelDamaged(f"The file {source.name!r} changed while it was read.", REIMPORT)
    kept = bucket.facts(key)
    if kept is None or kept.size_bytes != file.size_bytes:
        raise StorageFailed(
            f"The S3 store did not store {what} correctly.",
            "Check the log and the free space of the server at MINIO_ENDPOINT.",
        )


def is_there(bucket: Bucket, key: str, file: ModelFile) -> bool:
    """Whether the object is of the file's size and its writer said it has the file's hash."""
    there = bucket.facts(key)
    return there is not None and (there.size_bytes, there.sha256) == (file.size_bytes, file.sha256)


def download(
    bucket: Bucket,
    key: str,
    target: Path,
    file: ModelFile,
    what: str,
    *,
    progress: Progress = no_progress,
) -> None:
    """Bring a file to its place in the cache, unless it is there; one process at a time.

    What a broken connection, or a process that died, left behind is continued.

    Raises:
        ModelDamaged: the object is missing or is not the file recorded.
        StorageUnavailable: the store is away.
    """
    with suppress(OSError), claim(target):  # a folder that can only be read will do
        note_use(target)
    if matches(target, file):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with claim(target):
        note_use(target)
        if matches(target, file):
            return
        _check_facts(bucket, key, file, what)
        partial = unfinished(target)
        for last in (False, True):
            sound = _fill(bucket, key, partial, file, lambda n: progress(what, n, file.size_bytes))
            if sound:
                # Not forced onto the disk: it is checked whenever it is opened, and fetched again.
                partial.chmod(0o644)
                partial.replace(target)
                return
            # What was continued may have been the bad part: once more, from the beginning.
            partial.unlink()
            if last:
                raise _damaged(what, "does not match its recorded SHA-256")


def verify(bucket: Bucket, key: str, file: ModelFile, what: str) -> None:
    """Read an object through and compare its hash; nothing is kept.

    Raises:
        ModelDamaged: the object is missing or is not the file recorded.
        StorageUnavailable: the store is away.
    """
    _check_facts(bucket, key, file, what)
    with _Digest() as digest, bucket.download(key) as (_, chunks):
        for chunk in chunks:
            digest.update(chunk)
        sha256 = digest.hexdigest()
    if sha256 != file.sha256:
        raise _damaged(what, "does not match its recorded SHA-256")


def fetch(bucket: Bucket, key: str, target: Path, size_bytes: int) -> None:
    """Write an object of unknown hash into a file.

    Raises:
        ModelNotFound: it is gone, or is another one by now.
        StorageUnavailable: the store is away.
    """
    try:
        with target.open("wb") as stream, bucket.download(key) as (_, chunks):
            for chunk in chunks:
                stream.write(chunk)
            done = stream.tell()
    except ObjectMissing:
        done = -1
    if done != size_bytes:
        raise ModelNotFound(
            f"The object {key!r} was removed while it was read.", "List the models again."
        )


def _fill(
    bucket: Bucket, key: str, partial: Path, file: ModelFile, progress: Callable[[int], None]
) -> bool:
    """Download what is missing of the file; whether the result is the one recorded."""
    with partial.open("ab+") as stream, _Digest() as digest:
        stream.seek(0)
        while content := stream.read(MiB):
            digest.update(content)
        done = stream.tell()

        def go_on() -> None:
            nonlocal done
            if done >= file.size_bytes:
                return
            with bucket.download(key, done) as (start, chunks):
                if start != done:
                    stream.truncate(0)
                    digest.restart()
                    done = 0
                for chunk in chunks:
                    stream.write(chunk)
                    digest.update(chunk)
                    done += len(chunk)
                    progress(done)

        try:
            resume_while_it_grows(
                go_on,
                lambda: done,
                (StorageUnavailable,),
                fruitless=_FRUITLESS,
                pause=_PAUSE_SECONDS,
            )
        except ObjectMissing:
            return False
        return done == file.size_bytes and digest.hexdigest() == file.sha256


def _check_facts(bucket: Bucket, key: str, file: ModelFile, what: str) -> None:
    there = bucket.facts(key)
    if there is None:
        raise _damaged(what, "is missing from the S3 store")
    if there.size_bytes != file.size_bytes:
        raise _damaged(what, f"has {there.size_bytes} bytes instead of {file.size_bytes}")


def _damaged(what: str, problem: str) -> ModelDamaged:
    return ModelDamaged(f"The {what} {problem}.", REIMPORT)


class _Digest:
    """A SHA-256 that is computed in a thread beside the reading, at most one piece behind."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1)
        self._pending: Future[None] | None = None
        self.restart()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def restart(self) -> None:
        """Begin with nothing again."""
        self._wait()
        self._digest = hashlib.sha256()

    def update(self, content: bytes) -> None:
        """Take the next piece in."""
        self._wait()
        self._pending = self._pool.submit(self._digest.update, content)

    def hexdigest(self) -> str:
        """Of all that was taken in."""
        self._wait()
        return self._digest.hexdigest()

    def _wait(self) -> None:
        if self._pending is not None:
            self._pending.result()


class _Watched:
    """A file that hashes what is read from it, from its beginning on, and tells how much it was."""

    def __init__(self, stream: BinaryIO, progress: Callable[[int], None]) -> None:
        self._stream = stream
        self._progress = progress
        self._digest = hashlib.sha256()

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Begin anew; any other place makes no sense here."""
        self._digest = hashlib.sha256()
        return self._stream.seek(offset, whence)

    def read(self, size: int = -1) -> bytes:
        """The next bytes."""
        content = self._stream.read(size)
        self._digest.update(content)
        self._progress(self._stream.tell())
        return content

    @property
    def sha256(self) -> str:
        """Of what was read since the beginning."""
        return self._digest.hexdigest()
