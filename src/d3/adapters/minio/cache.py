"""What was read from the bucket, kept on this machine: a restart without the store needs it.

::

    FOLDER/blobs/<sha256>.safetensors        checked each time they are opened
    FOLDER/manifests/<name>/<version>.json   as they were read last
    FOLDER/active, FOLDER/catalog.json       likewise
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from d3.adapters.model_files import temporary_beside
from d3.domain.errors import StorageFailed
from d3.domain.models import ModelFile

_LOG = logging.getLogger(__name__)


class LocalCache:
    """Small objects by their key, and files by their SHA-256.

    Args:
        folder: made when something is kept.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._complained = False

    def keep(self, key: str, content: bytes) -> None:
        """Keep a small object. A folder that cannot be written is said once and does no harm."""
        if self.kept(key) == content:
            return
        try:
            with temporary_beside(self._folder / key) as unfinished:
                unfinished.write_bytes(content)
        except OSError as error:
            if not self._complained:
                _LOG.warning(
                    "The model cache cannot be written (%s): a restart will need the S3 store. "
                    "Check D3_HOME.",
                    error.strerror,
                )
            self._complained = True

    def kept(self, key: str) -> bytes | None:
        """What was kept under this key, if anything."""
        try:
            return (self._folder / key).read_bytes()
        except OSError:
            return None

    def forget(self, key: str) -> None:
        """Keep this no longer."""
        with usable():
            (self._folder / key).unlink(missing_ok=True)

    def blob(self, file: ModelFile) -> Path:
        """Where a file has its place, whether or not it is there."""
        return self._folder / "blobs" / f"{file.sha256}.safetensors"


@contextmanager
def usable() -> Iterator[None]:
    """Turn what the file system refuses into ours.

    Raises:
        StorageFailed: the folder cannot be used.
    """
    try:
        yield
    except OSError as error:
        raise StorageFailed(
            f"The model cache cannot be used ({error.strerror or type(error).__name__}).",
            "Check D3_HOME: its permissions and the free space.",
        ) from error
