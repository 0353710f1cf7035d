"""Version numbers of a bucket's models: two uploads at once never get the same one.

S3 in general has no conditional write, so a number is claimed in two steps that every server
with consistent listings orders: write ``manifests/<name>/<version>.claim-<token>``, then list.
Of two uploads that claim one number, the later writer sees the other's claim. An upload takes a
number only if it sees no other claim on it and no manifest; others go on to higher numbers,
spread by the rank of their tokens. So numbers are unique, and may have gaps. The claim also
lists the files that are about to be used, so that they are not collected as garbage. It is
removed once the manifest is written.
"""

from __future__ import annotations

import json
import re
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from d3.adapters.minio.bucket import Bucket, ObjectFacts
from d3.domain.errors import StorageFailed, StorageUnavailable

_ENTRY = re.compile(r"manifests/[^/]+/([1-9][0-9]{0,17})\.(?:json|claim-([0-9a-f]{32}))")
_ATTEMPTS = 20
_STALE_SECONDS = 24 * 3600
"""An upload takes less; a claim this old was left by a process that died."""


class Claims:
    """Claims version numbers in a bucket. Safe for threads, processes and machines."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._one_at_a_time = threading.Lock()  # spares the threads of one process the gaps

    @contextmanager
    def next_version(self, name: str, files: Iterable[str]) -> Iterator[int]:
        """A version number of this model, reserved while the block runs.

        Args:
            name: the model's.
            files: SHA-256 of those that its manifest will list.

        Raises:
            StorageUnavailable: too many uploads of this model at once.
        """
        token = uuid.uuid4().hex
        content = json.dumps(sorted(files)).encode()
        with self._one_at_a_time:
            version = self._claim(name, token, content)
        try:
            yield version
        finally:
            self._bucket.remove(_key(name, version, token))

    def needed(self) -> set[str]:
        """SHA-256 of the files that current uploads are about to use."""
        found: set[str] = set()
        for one in self._bucket.list("manifests/") or []:
            match = _ENTRY.fullmatch(one.key)
            if match and match[2]:
                if _stale(one):
                    self._bucket.remove(one.key)
                else:
                    found |= _hashes(self._bucket.read(one.key))
        return found

    def _claim(self, name: str, token: str, content: bytes) -> int:
        version = max((one for one, _ in self._entries(name)), default=0) + 1
        for _ in range(_ATTEMPTS):
            key = _key(name, version, token)
            try:
                self._bucket.write(key, content)
                entries = self._entries(name)
            except StorageFailed:
                self._remove_quietly(key)
                raise
            rivals = {other for one, other in entries if one == version and other != token}
            if not rivals:
                return version
            self._bucket.remove(key)
            rank = sum(other < token for other in rivals)
            version = max(one for one, _ in entries) + 1 + rank
        raise StorageUnavailable(
            f"Too many processes are storing the model {name!r} at once.", "Try again in a minute."
        )

    def _remove_quietly(self, key: str) -> None:
        """A write that seemed to fail may have succeeded."""
        try:
            self._bucket.remove(key)
        except StorageFailed:
            return

    def _entries(self, name: str) -> list[tuple[int, str]]:
        """Every number used under the name, with the claim's token; empty for a manifest."""
        matches = (
            _ENTRY.fullmatch(one.key) for one in self._bucket.list(f"manifests/{name}/") or []
        )
        return [(int(match[1]), match[2] or "") for match in matches if match]


def _key(name: str, version: int, token: str) -> str:
    return f"manifests/{name}/{version}.claim-{token}"


def _stale(claim: ObjectFacts) -> bool:
    return claim.modified is not None and claim.modified.timestamp() < time.time() - _STALE_SECONDS


def _hashes(text: bytes | None) -> set[str]:
    try:
        return set(json.loads(text or b"[]"))
    except (ValueError, TypeError):
        return set()
