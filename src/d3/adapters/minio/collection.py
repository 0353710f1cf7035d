"""Images in buckets of an S3 server, listed and read for bulk scans."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace

from d3.adapters.minio.bucket import BUCKET_NAMES, Bucket, S3Place, can_be_bucket
from d3.adapters.minio.errors import BucketMissing, ObjectMissing
from d3.domain.errors import (
    ImageError,
    ImageNotFound,
    ImageTooLarge,
    ImageUnsupported,
    RequestInvalid,
    shown,
)
from d3.domain.formats import SNIFFED_BYTES, sniff
from d3.domain.ports.scans import Listed
from d3.domain.scans import S3_SCHEME


class S3Images:
    """Reads ``s3://BUCKET/KEY`` from any bucket of one server. Safe to use from many threads.

    Args:
        place: the server; its bucket is of no account.
        max_bytes: of one image; reading stops one byte beyond.
    """

    def __init__(self, place: S3Place, max_bytes: int) -> None:
        self._place = place
        self._max_bytes = max_bytes
        self._buckets: dict[str, Bucket] = {}
        self._lock = threading.Lock()

    def bucket(self, name: str) -> Bucket:
        """The bucket of that name, there or not."""
        with self._lock:
            if name not in self._buckets:
                self._buckets[name] = Bucket(replace(self._place, bucket=name))
            return self._buckets[name]

    def read(self, uri: str) -> bytes:
        """An object's content.

        Raises:
            ImageNotFound: there is no such object, or can be none.
            ImageTooLarge: it has more bytes than an image may.
            ImageUnsupported: likewise, and it is no image.
            StorageFailed: the server refuses or is away.
        """
        try:
            name, key = split(uri)
        except RequestInvalid as error:  # in a list of many, this entry alone is wrong
            raise ImageNotFound(error.problem, error.remedy) from error
        content = bytearray()
        try:
            with self.bucket(name).download(key) as (_, pieces):
                for piece in pieces:
                    content += piece
                    if len(content) > self._max_bytes:
                        raise self._too_large(bytes(content[:SNIFFED_BYTES]))
        except ObjectMissing as error:
            raise ImageNotFound(
                "There is no such object.", "Check whether it was removed."
            ) from error
        return bytes(content)

    def _too_large(self, start: bytes) -> ImageError:
        """The error for an object that is not read to its end; a film is no image at all."""
        if sniff(start) is None:
            return ImageUnsupported("The object is not an image.", "Remove it from the list.")
        return ImageTooLarge(
            f"The object is larger than {self._max_bytes:,} bytes.",
            "To judge it, raise D3_MAX_IMAGE_BYTES.",
        )


class S3Collection:
    """Implements ``ImageCollection`` with the objects below a prefix.

    The cursor is the last key, behind which the server itself goes on.

    Args:
        source: ``s3://BUCKET`` or ``s3://BUCKET/PREFIX``.

    Raises:
        RequestInvalid: the source names no bucket.
    """

    named = False

    def __init__(self, images: S3Images, source: str) -> None:
        self.source = source
        self._images = images
        self._name, self._prefix = split(source)
        self._bucket = images.bucket(self._name)

    def list(self, after: str | None) -> Iterator[Listed]:
        try:
            for key in self._bucket.stream(self._prefix, after):
                yield Listed(f"{S3_SCHEME}{self._name}/{key}", key)
        except BucketMissing as error:
            raise self._missing() from error

    def read(self, uri: str) -> bytes:
        return self._images.read(uri)

    def check(self) -> None:
        try:
            next(self._bucket.stream(self._prefix), None)
        except BucketMissing as error:
            raise self._missing() from error

    def _missing(self) -> ImageNotFound:
        return ImageNotFound(
            f"There is no bucket {self._name!r} at MINIO_ENDPOINT.",
            "Check the spelling of the source.",
        )


def split(uri: str) -> tuple[str, str]:
    """``s3://BUCKET/KEY`` as bucket and key; a key may hold any character.

    Raises:
        RequestInvalid: no bucket is named, or none can have this name.
    """
    name, _, key = uri.removeprefix(S3_SCHEME).partition("/")
    if not uri.startswith(S3_SCHEME) or not name:
        raise RequestInvalid(
            f"{uri[:80]!r} names no bucket.", "Write s3://BUCKET or s3://BUCKET/PREFIX."
        )
    if not can_be_bucket(name):
        raise RequestInvalid(
            f"{shown(name)} cannot be a bucket's name.", f"A bucket's name has {BUCKET_NAMES}."
        )
    return name, key
