"""A model registry in a bucket of any S3 server, with a copy on this machine.

::

    blobs/<sha256>.safetensors      shared by every model with the same file
    manifests/<name>/<version>.json written last: what has no manifest does not exist
    active                          the name of the model used when none is named
    <name>.pth                      a bare head, uploaded by hand

While the store does not answer, the copy is read, and writing fails.
"""

from __future__ import annotations

import hashlib
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias, TypeVar

from d3.adapters.circuit_breaker import CircuitBreaker
from d3.adapters.minio import transfers
from d3.adapters.minio.bucket import Bucket, S3Place
from d3.adapters.minio.cache import LocalCache, usable
from d3.adapters.minio.catalog import (
    BareHead,
    CachedCatalog,
    CatalogReader,
    StoredCatalog,
    can_be_name,
    manifest_key,
)
from d3.adapters.minio.versions import Claims
from d3.adapters.model_files import (
    PackagedModels,
    encode_manifest,
    existing,
    files_to_store,
    not_found,
    stored_manifest,
    versions_to_remove,
    with_version,
)
from d3.domain.errors import (
    D3Error,
    ModelDamaged,
    ModelError,
    StorageFailed,
    StorageUnavailable,
)
from d3.domain.files import Progress, no_progress
from d3.domain.models import (
    Manifest,
    ModelFile,
    ModelSummary,
    StoredModel,
    checked_name,
    with_encoders_notice,
)

Answer = TypeVar("Answer")
_Summaries: TypeAlias = list[ModelSummary]

_RETRY_SECONDS = 5.0
_ACTIVE_SECONDS = 5.0
"""How long the active model's name is believed; replicas have to follow within half a minute."""
_READERS = 8


class MinioRegistry:
    """Implements ``ModelRegistry``.

    Safe for threads, processes and machines that share the bucket, if its listings are consistent
    (those of AWS, MinIO and Ceph are). Versions are unique and may have gaps.

    Args:
        cache: the folder for the copy; those of several stores may share it.
        packaged: folders of read-only models, which need no store.
        cache_bytes: that the files of the copy may take; those of the active model and of the last
            two that were opened here stay, and what was opened within the hour.

    Raises:
        SettingsInvalid: there can be no such place.
    """

    def __init__(
        self,
        place: S3Place,
        cache: Path,
        packaged: Sequence[Path] = (),
        progress: Progress | None = None,
        *,
        cache_bytes: int = 10 * 2**30,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._packaged = PackagedModels(packaged)
        self._progress = progress or no_progress
        self._monotonic = monotonic
        self._bucket = Bucket(place)
        which = hashlib.sha256(f"{place.endpoint}/{place.bucket}".encode()).hexdigest()[:16]
        self._cache = LocalCache(cache / which)
        self._claims = Claims(self._bucket)
        self._cached_catalog: CatalogReader = CachedCatalog(self._cache)
        self._stored_catalog: CatalogReader = StoredCatalog(self._bucket, self._cache)
        self._breaker = CircuitBreaker(
            f"The S3 store at {place.endpoint}",
            "Models are read from the copy in D3_HOME until it is available again.",
            _RETRY_SECONDS,
            monotonic,
        )
        self._cache_bytes = cache_bytes
        self._opened: deque[Manifest] = deque(maxlen=2)
        self._active: tuple[float, str | None] | None = None
        self._active_lock = threading.Lock()

    @property
    def trouble(self) -> str | None:
        return self._breaker.reason

    def list(self) -> _Summaries:
        """The newest version of every model, by name; damaged manifests are skipped with a warning.

        Raises:
            StorageUnavailable: the store does not answer, and was never listed from here.
        """
        active, shipped = self.active(), self._packaged.manifests()

        def newest(catalog: CatalogReader) -> dict[str, Manifest]:
            versions = catalog.versions()
            names = [name for name in versions if name not in shipped]
            with ThreadPoolExecutor(_READERS) as pool:
                read = pool.map(lambda name: _newest(catalog, name, versions[name]), names)
            return {one.name: self._packaged.with_notice(one) for one in read if one is not None}

        found = shipped | self._ask(newest)
        return [
            ModelSummary(found[name], active=name == active, packaged=name in shipped)
            for name in sorted(found)
        ]

    def describe(self, name: str, version: int | None = None) -> Manifest:
        if (shipped := self._packaged.find(checked_name(name), version)) is not None:
            return shipped
        return self._packaged.with_notice(self._ask(lambda catalog: _find(catalog, name, version)))

    def open(self, name: str, version: int | None = None) -> StoredModel:
        """The model's files on this machine, checked against their SHA-256.

        Raises:
            StorageUnavailable: the store does not answer, and the model was never opened here.
        """
        if (shipped := self._packaged.open(checked_name(name), version)) is not None:
            return shipped
        manifest = self.describe(name, version)
        for role, file in manifest.files.items():
            target, what = self._cache.blob(file), f"{role} of the model {name!r}"
            with usable():
                transfers.download(
                    self._bucket, _blob_key(file), target, file, what, progress=self._progress
                )
        self._opened.append(manifest)
        self._cache.prune(self._cache_bytes, self._needed())
        paths = {role: self._cache.blob(file) for role, file in manifest.files.items()}
        return StoredModel(manifest, paths)

    def verify(self, name: str, version: int | None = None) -> Manifest:
        if (shipped := self._packaged.open(checked_name(name), version)) is not None:
            return shipped.manifest
        manifest = self._packaged.with_notice(_find(self._stored_catalog, name, version))
        for role, file in manifest.files.items():
            what = f"{role} of the model {name!r}"
            transfers.verify(self._bucket, _blob_key(file), file, what)
        return manifest

    def put(self, model: StoredModel) -> Manifest:
        name = checked_name(model.manifest.name)
        self._packaged.protect(name)
        known = (one.manifest for one in self.list())
        manifest = with_encoders_notice(model.manifest, known)
        model = replace(model, manifest=manifest)
        hashes = {file.sha256 for _, _, file in files_to_store(model)}
        with self._claims.next_version(name, hashes) as version:
            self._upload(model)
            stored = with_version(manifest, version)
            text = encode_manifest(stored)
            self._bucket.write(manifest_key(name, version), text)
            # Somebody who was collecting garbage when the claim was made may have had these files
            # on his list; what he took is put back.
            for file in manifest.files.values():
                if not transfers.is_there(self._bucket, _blob_key(file), file):
                    self._upload(model)
        self._cache.keep(manifest_key(name, version), text)
        return stored

    def delete(self, name: str, version: int | None = None) -> None:
        self._packaged.protect(checked_name(name))
        versions = self._stored_catalog.versions().get(name, [])
        for one in versions_to_remove(name, versions, version, self._stored_catalog.active()):
            self._bucket.remove(manifest_key(name, one))
            self._cache.forget(manifest_key(name, one))
        self._collect_garbage()

    def active(self) -> str | None:
        """The name chosen with :meth:`activate`, if any; at most five seconds old.

        Raises:
            StorageUnavailable: the store does not answer, and never did.
        """
        with self._active_lock:
            if self._active is None or self._monotonic() > self._active[0] + _ACTIVE_SECONDS:
                answer = self._ask(lambda catalog: catalog.active())
                self._active = self._monotonic(), answer
            return self._active[1]

    def activate(self, name: str) -> None:
        if self._packaged.find(checked_name(name)) is None:
            _find(self._stored_catalog, name, None)
        content = f"{name}\n".encode()
        self._bucket.write("active", content)
        self._cache.keep("active", content)
        with self._active_lock:
            self._active = self._monotonic(), name

    def bare_heads(self) -> Sequence[BareHead]:
        def ask(catalog: CatalogReader) -> Sequence[BareHead]:
            found = self._bucket.list("", deep=False) if catalog is self._stored_catalog else []
            return [
                BareHead(one.key, one.size_bytes, one.modified.strftime("%Y-%m-%dT%H:%M:%SZ"))
                for one in found or []
                if one.key.endswith(".pth") and one.modified is not None and can_be_name(one.key)
            ]

        return self._ask(ask)

    def fetch_head(self, head: BareHead, into: Path) -> Path:
        """Download the head's file, unchecked, into the folder.

        Raises:
            ModelNotFound: it is gone.
        """
        target = into / head.name
        with usable():
            transfers.fetch(self._bucket, head.name, target, head.size_bytes)
        return target

    def remove_head(self, head: BareHead) -> None:
        self._bucket.remove(head.name)

    def _ask(self, question: Callable[[CatalogReader], Answer]) -> Answer:
        """Ask the store, or the copy while the store does not answer."""
        if self._breaker.attempt():
            try:
                answer = question(self._stored_catalog)
            except StorageUnavailable as error:
                self._breaker.failed(str(error))
            except StorageFailed:
                raise
            except D3Error:
                self._breaker.worked()
                raise
            else:
                self._breaker.worked()
                return answer
        try:
            return question(self._cached_catalog)
        except StorageUnavailable as error:
            if self._breaker.reason is None:
                raise
            raise StorageUnavailable(self._breaker.reason, error.problem) from error

    def _needed(self) -> set[str]:
        """SHA-256 of the files that a restart without the store would need."""
        models = list(self._opened)
        with suppress(StorageUnavailable, ModelError):
            if (active := self._cached_catalog.active()) is not None:
                models.append(_find(self._cached_catalog, active, None))
        return {file.sha256 for model in models for file in model.files.values()}

    def _upload(self, model: StoredModel) -> None:
        for role, source, file in files_to_store(model):
            what = f"{role} of the model {model.manifest.name!r}"
            transfers.upload(
                self._bucket, _blob_key(file), source, file, what, progress=self._progress
            )

    def _collect_garbage(self) -> None:
        """Remove the files that no manifest and no current upload names."""
        blobs = self._bucket.list("blobs/") or []
        needed = self._claims.needed()
        try:
            for name, versions in self._stored_catalog.versions().items():
                for version in versions:
                    text = self._stored_catalog.manifest(name, version)
                    if text is not None:
                        files = stored_manifest(text, name, version).files.values()
                        needed |= {file.sha256 for file in files}
        except ModelDamaged:
            return  # what a manifest that cannot be read needs is not known: keep everything
        for blob in blobs:
            if blob.key.removeprefix("blobs/").removesuffix(".safetensors") not in needed:
                self._bucket.remove(blob.key)


def _find(catalog: CatalogReader, name: str, version: int | None) -> Manifest:
    wanted = existing(name, catalog.versions().get(name, []), version)
    if (text := catalog.manifest(name, wanted)) is None:
        raise not_found(name, version)
    return stored_manifest(text, name, wanted)


def _newest(catalog: CatalogReader, name: str, versions: Sequence[int]) -> Manifest | None:
    try:
        text = catalog.manifest(name, max(versions))
        return None if text is None else stored_manifest(text, name, max(versions))
    except ModelDamaged as error:
        warnings.warn(str(error), RuntimeWarning, stacklevel=4)
    except StorageUnavailable:
        if isinstance(catalog, CachedCatalog):
            return None  # this one was never looked at from here
        raise
    return None


def _blob_key(file: ModelFile) -> str:
    return f"blobs/{file.sha256}.safetensors"
