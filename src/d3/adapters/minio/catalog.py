"""Where models are looked up: in the bucket, or in this machine's copy of what it said."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TypeAlias

from d3.adapters.minio.bucket import Bucket
from d3.adapters.minio.cache import LocalCache
from d3.domain.errors import ModelNameInvalid, StorageUnavailable
from d3.domain.models import checked_name

Catalog: TypeAlias = dict[str, list[int]]
"""The versions of every model, in order."""

_CATALOG = "catalog.json"
_KEY = re.compile(r"manifests/([^/]+)/([1-9][0-9]{0,17})\.json")


def manifest_key(name: str, version: int) -> str:
    """The object's key."""
    return f"manifests/{name}/{version}.json"


@dataclass(frozen=True, slots=True)
class BareHead:
    """A head's checkpoint uploaded by hand, without a manifest.

    Attributes:
        name: of the file, and of the model that it may become.
        modified: when it was uploaded, ISO 8601 in UTC.
    """

    name: str
    size_bytes: int
    modified: str


class StoredCatalog:
    """Reads the bucket, and copies what it says to the cache."""

    def __init__(self, bucket: Bucket, cache: LocalCache) -> None:
        self._bucket = bucket
        self._cache = cache

    def versions(self) -> Catalog:
        """Every model that has a manifest; none where there is no bucket yet."""
        found: Catalog = {}
        for one in self._bucket.list("manifests/") or []:
            match = _KEY.fullmatch(one.key)
            if match and can_be_name(match[1]):
                found.setdefault(match[1], []).append(int(match[2]))
        catalog = {name: sorted(versions) for name, versions in sorted(found.items())}
        self._cache.keep(_CATALOG, json.dumps(catalog).encode())
        return catalog

    def manifest(self, name: str, version: int) -> bytes | None:
        """A manifest's text; None if it is gone."""
        key = manifest_key(name, version)
        text = self._bucket.read(key)
        if text is not None:
            self._cache.keep(key, text)
        return text

    def active(self) -> str | None:
        text = self._bucket.read("active") or b""
        self._cache.keep("active", text)
        return _name(text)


class CachedCatalog:
    """What the bucket last said. Raises StorageUnavailable for what was never asked."""

    def __init__(self, cache: LocalCache) -> None:
        self._cache = cache

    def versions(self) -> Catalog:
        try:
            catalog: Catalog = json.loads(self._kept(_CATALOG))
        except ValueError as error:
            raise _unknown() from error
        return catalog

    def manifest(self, name: str, version: int) -> bytes | None:
        return self._kept(manifest_key(name, version))

    def active(self) -> str | None:
        return _name(self._kept("active"))

    def _kept(self, key: str) -> bytes:
        if (content := self._cache.kept(key)) is None:
            raise _unknown()
        return content


CatalogReader: TypeAlias = StoredCatalog | CachedCatalog
"""Somewhere to look models up; every method may raise StorageUnavailable."""


def can_be_name(name: str) -> bool:
    """Whether a model can have this name."""
    try:
        return bool(checked_name(name))
    except ModelNameInvalid:
        return False


def _name(text: bytes) -> str | None:
    return text.decode(errors="replace").strip() or None


def _unknown() -> StorageUnavailable:
    return StorageUnavailable(
        "The S3 store is unavailable, and this machine has no copy of the requested data.",
        "Check MINIO_ENDPOINT and that its server is running, then try again.",
    )
