"""One bucket of an S3 server through minio-py: small objects whole, large ones as streams.

Only what every S3 server has is used: make a bucket, put, get, stat, list, remove.
"""

from __future__ import annotations

import io
import re
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO

import certifi
import urllib3
from minio import Minio
from minio.error import MinioException
from minio.helpers import check_bucket_name

from d3.adapters.minio.errors import BucketMissing, ObjectMissing, translated
from d3.domain.errors import SettingsInvalid, StorageFailed, StorageUnavailable, shown

MiB = 2**20
_PART = 8 * MiB
_PARALLEL = 3
BUCKET_NAMES = "3 to 63 letters, digits, '-' and '.', and not an IP address"
_MOST = 32 * MiB
"""Of an object that is read whole; a manifest has some 20 KB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Place:
    """Where models are kept.

    Attributes:
        endpoint: host and port, without a scheme.
        bucket: made when the first model is stored.
        access_key: None asks anonymously.
        secure: whether to speak TLS.
        connect_seconds: until a connection stands, at most; tried twice.
        read_seconds: between two signs of life of a small request, at most.
        transfer_seconds: the same while files move.
    """

    endpoint: str
    bucket: str
    access_key: str | None = None
    secret_key: str | None = None
    secure: bool = False
    region: str = "us-east-1"
    connect_seconds: float = 2.0
    read_seconds: float = 5.0
    transfer_seconds: float = 60.0

    def __repr__(self) -> str:
        return f"S3Place(endpoint={self.endpoint!r}, bucket={self.bucket!r})"


@dataclass(frozen=True, slots=True)
class ObjectFacts:
    """What is known of an object without reading it.

    Attributes:
        modified: when it was last written, by the server's clock.
        sha256: of its content, as the writer stated it; may be empty.
    """

    key: str
    size_bytes: int
    modified: datetime | None
    sha256: str = ""


class Bucket:
    """Reads and writes objects. Safe to use from many threads.

    Every method raises StorageFailed or StorageUnavailable where the store refuses or is away.

    Raises:
        SettingsInvalid: there can be no such place.
    """

    def __init__(self, place: S3Place) -> None:
        if not can_be_bucket(place.bucket):
            raise SettingsInvalid(
                f"{shown(place.bucket)} cannot be a bucket's name.",
                f"Set MINIO_BUCKET_NAME to {BUCKET_NAMES}.",
            )
        self.place = place
        self._quick = _client(place, place.read_seconds)
        self._patient = _client(place, place.transfer_seconds)

    def read(self, key: str) -> bytes | None:
        """A small object's content; None where there is none."""
        try:
            with translated(), self._open(self._quick, key, 0) as response:
                content = response.read(_MOST + 1)
        except ObjectMissing:
            return None
        if len(content) > _MOST:
            raise StorageFailed(
                f"The object {key!r} is far too large.", "Remove the object from the bucket."
            )
        return content

    def write(self, key: str, content: bytes) -> None:
        """Put a small object there in one request; the bucket is made if it is missing."""
        self._put(
            lambda: self._quick.put_object(
                self.place.bucket, key, io.BytesIO(content), len(content), "application/json"
            )
        )

    def remove(self, key: str) -> None:
        """Take an object away, if it is there."""
        try:
            with translated():
                self._quick.remove_object(self.place.bucket, key)
        except ObjectMissing:
            return

    def facts(self, key: str) -> ObjectFacts | None:
        """What is known of an object; None where there is none."""
        try:
            with translated():
                found = self._quick.stat_object(self.place.bucket, key)
        except ObjectMissing:
            return None
        said = (found.metadata or {}).get("x-amz-meta-sha256", "")
        return ObjectFacts(key, found.size or 0, found.last_modified, str(said))

    def list(self, prefix: str, *, deep: bool = True) -> list[ObjectFacts] | None:
        """The objects whose keys begin so, by key; None where there is no bucket.

        Args:
            prefix: of the keys.
            deep: also those with a further slash behind the prefix.
        """
        try:
            with translated():
                found = list(self._quick.list_objects(self.place.bucket, prefix, deep))
        except BucketMissing:
            return None
        return [
            ObjectFacts(one.object_name, one.size or 0, one.last_modified)
            for one in found
            if one.object_name is not None and not one.is_dir
        ]

    def stream(self, prefix: str, after: str | None = None) -> Iterator[str]:
        """The keys that begin so and come behind ``after``, a page of them in memory at a time.

        Raises:
            BucketMissing: there is no bucket.
        """
        with translated():
            for one in self._patient.list_objects(
                self.place.bucket, prefix, recursive=True, start_after=after
            ):
                if one.object_name is not None and not one.object_name.endswith("/"):
                    yield one.object_name

    def upload(self, key: str, stream: BinaryIO, size_bytes: int, sha256: str) -> None:
        """Put a large object there in parts of 8 MiB, a few at a time."""

        def put() -> None:
            stream.seek(0)
            self._patient.put_object(
                self.place.bucket,
                key,
                stream,
                size_bytes,
                metadata={"sha256": sha256},
                part_size=_PART,
                num_parallel_uploads=_PARALLEL,
            )

        self._put(put)

    @contextmanager
    def download(self, key: str, start: int = 0) -> Iterator[tuple[int, Iterator[bytes]]]:
        """An object's bytes from ``start`` on, and where they really start.

        A server that does not know about ranges starts at 0. What the connection's end leaves out
        is a StorageUnavailable.

        Raises:
            ObjectMissing: there is none.
        """
        with translated(), self._open(self._patient, key, start) as response:
            begun = start if response.status == 206 else 0  # noqa: PLR2004  Partial Content
            yield begun, response.stream(MiB)

    @contextmanager
    def _open(self, client: Minio, key: str, start: int) -> Iterator[urllib3.BaseHTTPResponse]:
        response = client.get_object(self.place.bucket, key, offset=start)
        whole = False
        try:
            yield response
            whole = True
        finally:
            if not whole:
                response.close()
            response.release_conn()

    def _put(self, put: Callable[[], object]) -> None:
        """Run the block, and make the bucket first if it is missing."""
        try:
            with translated():
                put()
        except BucketMissing:
            self._make()
            with translated():
                put()

    def _make(self) -> None:
        try:
            with translated():
                self._quick.make_bucket(self.place.bucket)
        except (BucketMissing, StorageFailed) as error:
            if isinstance(error, StorageUnavailable):
                raise
            if _is_ours(error):
                return
            raise StorageFailed(
                f"The bucket {self.place.bucket!r} does not exist and cannot be created.",
                "Create it, allow MINIO_ACCESS_KEY to create buckets, or check MINIO_BUCKET_NAME.",
            ) from error


def can_be_bucket(name: str) -> bool:
    """Whether a bucket can have this name; minio-py asks no server about one that cannot."""
    try:
        check_bucket_name(name)
    except ValueError:
        return False
    return True


def _is_ours(error: Exception) -> bool:
    """Whether another D3 made the bucket at the same moment."""
    cause = error.__cause__
    return getattr(cause, "code", None) == "BucketAlreadyOwnedByYou"


def _client(place: S3Place, read_seconds: float) -> Minio:
    context = ssl.create_default_context() if place.secure else None
    if context is not None:  # the system's authorities and SSL_CERT_FILE's, and the usual ones
        context.load_verify_locations(certifi.where())
    pool = urllib3.PoolManager(
        timeout=urllib3.Timeout(connect=place.connect_seconds, read=read_seconds),
        retries=urllib3.Retry(
            total=2,
            connect=1,
            read=0,
            redirect=0,
            status=1,
            other=0,
            status_forcelist=[500, 502, 503, 504],
            backoff_factor=0.2,
            raise_on_status=False,
            raise_on_redirect=False,
            respect_retry_after_header=False,
        ),
        maxsize=16,
        ssl_context=context,
    )
    try:
        if not re.fullmatch(r"[^/@?#\s]+", place.endpoint):
            raise ValueError(place.endpoint)  # noqa: TRY301  the same sentence serves
        return Minio(
            place.endpoint,
            place.access_key,
            place.secret_key,
            secure=place.secure,
            region=place.region,
            http_client=pool,
        )
    except (ValueError, MinioException) as error:
        raise SettingsInvalid(
            "The address of the S3 server is not valid.",
            "Set MINIO_ENDPOINT to HOST:PORT, MINIO_SECRET_KEY together with MINIO_ACCESS_KEY, "
            "and D3_S3_REGION to a region such as us-east-1.",
        ) from error
