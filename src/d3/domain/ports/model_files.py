"""What is needed to bring models in from elsewhere, and to hand them on as one file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from d3.domain.models import StoredModel

FileProgress = Callable[[str, int, int], None]
"""Told what moves, how many bytes of it are there, and how many there will be."""


def no_file_progress(what: str, done: int, total: int) -> None:
    """Tell nobody."""


class Fetcher(Protocol):
    """Brings files from the network, and goes on where it was cut off."""

    def fetch(self, url: str, target: Path, most_bytes: int) -> bool:
        """Fetch a file whole; whether it went on with what lay there from an earlier time.

        What was fetched before an error stays beside the target, and the next call goes on there.

        Raises:
            SourceUnavailable: it is not there, is larger, or the connection keeps breaking.
            StorageFailed: the file cannot be written; mostly there is no room.
        """
        ...


class Bundles(Protocol):
    """Writes and reads models in one file each."""

    def write(self, model: StoredModel, target: Path) -> None:
        """Write manifest, encoder and head into one new file, whole or not at all.

        Raises:
            StorageFailed: there is such a file already, or it cannot be written.
        """
        ...

    def read(self, file: Path, into: Path) -> StoredModel:
        """Unpack into a folder and compare with the manifest's hashes.

        Raises:
            BundleInvalid: it is no bundle, or not what its manifest says.
            StorageFailed: the folder cannot be written.
        """
        ...
