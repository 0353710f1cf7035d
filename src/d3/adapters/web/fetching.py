"""Large files over HTTP: resumed where they broke, tried again, never taken for whole when half.

::

    TARGET.part    the bytes so far
    TARGET.etag    which version of the file they belong to, where the server says it
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from filelock import FileLock, Timeout

from d3.adapters.web.clients import new_http_client
from d3.domain.backoff import resume_while_it_grows
from d3.domain.errors import SourceUnavailable, StorageFailed
from d3.domain.files import Progress, no_progress, storage_errors
from d3.domain.text import without_secrets

_FRUITLESS = 5
_BUSY = {408, 425, 429}
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")
_SAME_AGAIN = "Run the same command again to continue."
_ELSEWHERE = "Check the address and the connection, or name another source with --from."


class HttpFetcher:
    """Brings files from the network, and goes on where it was cut off.

    Args:
        pause_seconds: before the first new attempt; each fruitless one doubles it.
        quiet_seconds: after which a server that sends nothing counts as gone.
    """

    def __init__(
        self,
        progress: Progress | None = None,
        *,
        pause_seconds: float = 1.0,
        quiet_seconds: float = 60.0,
    ) -> None:
        self._progress = progress or no_progress
        self._pause = pause_seconds
        self._timeout = httpx.Timeout(quiet_seconds, connect=min(quiet_seconds, 20.0))

    def fetch(self, url: str, target: Path, most_bytes: int) -> bool:
        """Fetch a file whole; whether it went on with what lay there from an earlier time.

        What was fetched before an error stays beside the target, and the next call goes on there.

        Raises:
            SourceUnavailable: it is not there, is larger, or the connection keeps breaking.
            StorageFailed: the file cannot be written; mostly there is no room.
        """
        written = storage_errors(
            f"{target.name} cannot be written",
            f"Free some space in D3_HOME, or check its permissions. {_SAME_AGAIN}",
        )
        with written, _claimed(target):
            download = _Download(url, target, most_bytes, self._progress)
            resumed = download.done > 0
            with new_http_client(url, timeout=self._timeout, follow_redirects=True) as client:
                self._until_whole(client, download)
            download.part.replace(target)
            download.tag.unlink(missing_ok=True)
        return resumed

    def _until_whole(self, client: httpx.Client, download: _Download) -> None:
        try:
            resume_while_it_grows(
                lambda: download.go_on(client),
                lambda: download.done,
                (httpx.RequestError, _Busy),
                fruitless=_FRUITLESS,
                pause=self._pause,
            )
        except httpx.InvalidURL as error:
            raise SourceUnavailable(
                f"{download.url} is not a web address.", "Start it with https:// or http://."
            ) from error
        except (httpx.RequestError, _Busy) as error:
            raise SourceUnavailable(
                f"{download.url} cannot be downloaded ({_reason(error)}). The first "
                f"{download.done:,} bytes are kept.",
                f"{_SAME_AGAIN} {_ELSEWHERE}",
            ) from error


class _Busy(Exception):
    """The server cannot answer just now."""


class _Download:
    """One file on its way."""

    def __init__(self, url: str, target: Path, most_bytes: int, progress: Progress) -> None:
        self.url = without_secrets(url)
        self._url = url
        self.part = target.with_name(f"{target.name}.part")
        self.tag = target.with_name(f"{target.name}.etag")
        self._name = target.name
        self._most = most_bytes
        self._progress = progress

    @property
    def done(self) -> int:
        """How many bytes are there."""
        return self.part.stat().st_size if self.part.exists() else 0

    def go_on(self, client: httpx.Client) -> None:
        """Ask for what is missing and write it; returns when the file is whole."""
        done = self.done
        headers = {"Accept-Encoding": "identity"}
        if done:
            headers["Range"] = f"bytes={done}-"
            if self.tag.exists():
                headers["If-Range"] = self.tag.read_text(encoding="ascii")
        with client.stream("GET", self._url, headers=headers) as response:
            if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE and done:
                if response.headers.get("Content-Range") == f"bytes */{done}":
                    return  # it was whole already
                self._restart()
                raise _Busy("the part on this machine does not fit")
            self._check_status(response)
            start, total = _extent(response)
            if start != done:
                if start:
                    raise _Busy("the server sent a different part than requested")
                self._restart()
            self._note_tag(response)
            self._check_room(start, total)
            self._write(response, start, total)
        if total is not None and self.done != total:
            raise _Busy("the connection ended early")

    def _write(self, response: httpx.Response, done: int, total: int | None) -> None:
        with self.part.open("ab") as stream:
            self._progress(self._name, done, total or self._most)
            for chunk in response.iter_raw():  # as it comes: what is gathered is lost in a cut
                done += len(chunk)
                if done > self._most:
                    raise self._too_large()
                stream.write(chunk)
                self._progress(self._name, done, total or self._most)

    def _restart(self) -> None:
        self.part.unlink(missing_ok=True)
        self.tag.unlink(missing_ok=True)

    def _check_status(self, response: httpx.Response) -> None:
        if response.is_server_error or response.status_code in _BUSY:
            raise _Busy(f"status {response.status_code}")
        if response.status_code not in (200, 206):
            raise SourceUnavailable(
                f"{self.url} is not there (status {response.status_code}).", _ELSEWHERE
            )

    def _note_tag(self, response: httpx.Response) -> None:
        """Keep a strong ETag; a weak one says nothing about bytes."""
        tag = response.headers.get("ETag", "")
        if tag.startswith('"') and tag.isascii():
            self.tag.write_text(tag, encoding="ascii")
        else:
            self.tag.unlink(missing_ok=True)

    def _check_room(self, start: int, total: int | None) -> None:
        if total is None:
            return
        if total > self._most:
            raise self._too_large()
        free = shutil.disk_usage(self.part.parent).free
        if total - start > free:
            raise StorageFailed(
                f"{total - start:,} bytes of {self._name} are missing, but D3_HOME has only "
                f"{free:,} bytes free.",
                f"Free some space, or set D3_HOME to a larger disk. {_SAME_AGAIN}",
            )

    def _too_large(self) -> SourceUnavailable:
        self._restart()
        return SourceUnavailable(
            f"{self.url} is larger than {self._most:,} bytes, so it is not the expected file.",
            _ELSEWHERE,
        )


def _extent(response: httpx.Response) -> tuple[int, int | None]:
    """Where the answer's bytes begin in the file, and the whole file's size if known."""
    if response.status_code == httpx.codes.PARTIAL_CONTENT:
        said = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if said is None:
            raise _Busy("a part at an unknown position")
        return int(said[1]), None if said[2] == "*" else int(said[2])
    length = response.headers.get("Content-Length", "")
    return 0, int(length) if length.isdecimal() else None


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


@contextmanager
def _claimed(target: Path) -> Iterator[None]:
    """One process fetches a file at a time."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(target.with_name(f"{target.name}.lock"), timeout=0):
            yield
    except Timeout as error:
        raise StorageFailed(
            f"Another process is downloading {target.name}.", "Wait until it has finished."
        ) from error
