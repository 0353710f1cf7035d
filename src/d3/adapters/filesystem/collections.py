"""Images of this machine for bulk scans: a folder, a pattern, or a file that lists them."""

from __future__ import annotations

import csv
import glob
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from d3.domain.errors import ImageNotFound, RequestInvalid
from d3.domain.images import ImageSource
from d3.domain.ports_scans import Listed

COLUMNS = ("uri", "path", "url", "key", "image", "file", "filename", "image_path")
"""By which of its columns a table names images; else by its first."""

_LOG = logging.getLogger(__name__)
_ROWS_AT_ONCE = 10_000


class FolderCollection:
    """Fills :class:`d3.domain.ports_scans.ImageCollection` with the files below a folder.

    Files come in the order of their paths, part by part, so that listing goes on behind any of
    them without a look into the folders before it. One folder's own names are in memory at once.
    Links to folders are not followed.

    Args:
        folder: searched to the bottom.
    """

    named = False

    def __init__(self, folder: Path) -> None:
        self.source = str(folder.absolute())

    def list(self, after: str | None) -> Iterator[Listed]:
        """The files behind a cursor, which is the last path below the folder."""
        self.check()
        behind = Path(after).parts if after else ()
        for parts in _files_below(self.source, behind):
            below = os.path.join(*parts)  # noqa: PTH118  no Path: speed
            yield Listed(os.path.join(self.source, below), below)  # noqa: PTH118  no Path: speed

    def read(self, uri: str) -> ImageSource:
        """The file itself: the decoder opens it."""
        return Path(uri)

    def check(self) -> None:
        """See whether the folder is there."""
        if not os.path.isdir(self.source):  # noqa: PTH112
            raise ImageNotFound("There is no such folder.", "Was a disk unmounted?")


class PatternCollection:
    """Fills :class:`d3.domain.ports_scans.ImageCollection` with the files a pattern names.

    A pattern's files have no order, so listing always begins again.

    Args:
        pattern: with ``*``, ``?``, ``[`` or ``**``.
    """

    named = False

    def __init__(self, pattern: str) -> None:
        self.source = os.path.abspath(pattern)  # noqa: PTH100  a pattern is no path

    def list(self, after: str | None) -> Iterator[Listed]:
        """Every file, whatever the cursor."""
        del after
        matches = glob.iglob(self.source, recursive=True, include_hidden=True)  # noqa: PTH207
        for number, path in enumerate(matches):
            if os.path.isfile(path):  # noqa: PTH113
                yield Listed(path, str(number))

    def read(self, uri: str) -> ImageSource:
        """The file itself: the decoder opens it."""
        return Path(uri)

    def check(self) -> None:
        """A pattern that names nothing is no fault of the store."""


class ListCollection:
    """Fills :class:`d3.domain.ports_scans.ImageCollection` with what a file lists.

    A text file has one path or URI a line (empty lines and those that begin with ``#`` aside); a
    CSV or Parquet file has them in a column of :data:`COLUMNS`. Relative paths start at the
    file's own folder. The cursor is the number of rows read; a list may grow at its end.

    Args:
        file: ``.csv`` and ``.parquet`` are tables, all else is text.
        read: opens what is no path of this machine.
        check: sees whether the place answers that ``read`` asks.
    """

    named = True

    def __init__(
        self, file: Path, read: Callable[[str], ImageSource], check: Callable[[str], None]
    ) -> None:
        self.source = str(file.absolute())
        self._file = file.absolute()
        self._read = read
        self._check = check

    def list(self, after: str | None) -> Iterator[Listed]:
        """The entries behind a cursor."""
        done = int(after or 0)
        with _readable():
            for number, entry in enumerate(islice(self._entries(), done, None), start=done + 1):
                if entry:
                    yield Listed(self._absolute(entry), str(number))

    def read(self, uri: str) -> ImageSource:
        """The image under an entry."""
        return self._read(uri) if "://" in uri else Path(uri)

    def check(self) -> None:
        """See whether the place of the first entry that is no path answers."""
        with _readable():
            first = next((one for one in self._entries() if "://" in one), None)
        if first is not None:
            self._check(first)

    def _absolute(self, entry: str) -> str:
        return entry if "://" in entry else str(self._file.parent / entry)

    def _entries(self) -> Iterator[str]:
        suffix = self._file.suffix.lower()
        if suffix == ".parquet":
            yield from _parquet(self._file)
        elif suffix == ".csv":
            with self._file.open(encoding="utf-8-sig", newline="") as stream:
                rows = csv.reader(stream)
                head = next(rows, [])
                place = _column(head)
                for row in rows:
                    yield row[place].strip() if len(row) > place else ""
        else:
            with self._file.open(encoding="utf-8-sig") as stream:
                for line in stream:
                    yield "" if line.startswith("#") else line.strip()


def _files_below(root: str, behind: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The parts of each file's path below the root, in order, those behind a place alone."""
    try:
        with os.scandir(root) as entries:
            found = sorted((one.name, one.is_dir(follow_symlinks=False)) for one in entries)
    except OSError as error:
        _LOG.warning("the folder %r cannot be read (%s) and is left out", root, error.strerror)
        return
    first = behind[0] if behind else ""
    for name, is_folder in found:
        if name < first:
            continue
        rest = behind[1:] if name == first else ()
        path = os.path.join(root, name)  # noqa: PTH118  no Path: speed
        if is_folder:
            for parts in _files_below(path, rest):
                yield (name, *parts)
        elif not (behind and name == first) and os.path.isfile(path):  # noqa: PTH113
            yield (name,)


def _column(head: list[str]) -> int:
    names = [one.strip().lower() for one in head]
    return next((names.index(one) for one in COLUMNS if one in names), 0)


def _parquet(file: Path) -> Iterator[str]:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise RequestInvalid(
            "A Parquet list needs an extra package.", "pip install 'd3-deepfake[parquet]'"
        ) from error
    with parquet.ParquetFile(file) as table:
        names = table.schema_arrow.names
        wanted = names[_column(names)]
        for batch in table.iter_batches(_ROWS_AT_ONCE, columns=[wanted]):
            yield from (str(one or "") for one in batch.column(0).to_pylist())


@contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except (OSError, UnicodeDecodeError, ValueError, csv.Error) as error:
        raise RequestInvalid(
            "The list of images cannot be read.",
            "Give a text file with one path or URI a line (UTF-8), a CSV or a Parquet file.",
        ) from error
