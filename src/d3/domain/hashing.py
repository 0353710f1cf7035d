"""Files known by their content."""

from __future__ import annotations

import hashlib
from pathlib import Path

from d3.domain.models import ModelFile


def file_of(path: Path) -> ModelFile:
    """The size and SHA-256 of a file, read once.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256")
        return ModelFile(digest.hexdigest(), stream.tell())
