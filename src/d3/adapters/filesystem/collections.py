"""Images of this machine for bulk scans: a folder, a pattern, or a file that lists them."""

from __future__ import annotations

import csv
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from d3.domain.errors import (
    FolderUnreadable,
    ImageElsewhere,
    ImageNotFound,
    RequestInvalid,
)
from d3.domain.folders import (
    EVERYTHING,
    Pattern,
    absolute,
    files_below,
    split_pattern,
    unreadable_folder,
)
from d3.domain.images import ImageSource
from d3.domain.installation import extra_missing
from d3.domain.ports.scans import Listed
from d3.domain.scans import S3_SCHEME
from d3.domain.tables import SAMPLE_CHARACTERS, image_column, layout_of

_ROWS_AT_ONCE = 10_000
_MOST_UNREAD = 1000
"""Folders that may fail before the listing stops; the cursor names each."""


class FolderCollection:
    """Implements ``ImageCollection`` with the files below a folder.

    Files come in the order of their paths, part by part, so that listing goes on behind any of
    them without a look into the folders before it. Links to folders are not followed.

    Args:
        source: what the collection is called; the folder unless said.
        inside: a folder that no link may lead out of; None where links lead anywhere.
    """

    named = False

    def __init__(
        self,
        folder: Path,
        pattern: Pattern = EVERYTHING,
        source: str | None = None,
        inside: Path | None = None,
    ) -> None:
        self._inside = inside and os.path.realpath(inside)
        self._root = str(folder.absolute())
        self._pattern = pattern
        self.source = source or self._root

    def list(self, after: str | None) -> Iterator[Listed]:
        """The files behind a cursor; folders that cannot be read are reported at the end.

        Each cursor says which folders could not be read before it, and a listing that goes on from
        there looks into these once more.
        """
        self.check()
        waiting = deque(_places_of(after or ""))
        unread: list[tuple[str, OSError]] = []
        while waiting:
            folder, behind = waiting.popleft()
            later = _later(waiting, unread)
            for path, trouble in files_below(
                self._root, self._pattern, folder=folder, behind=behind
            ):
                if trouble is None:
                    cursor = f"{folder}\0{path}{later}" if folder or later else path
                    yield Listed(os.path.join(self._root, path), cursor)  # noqa: PTH118  speed
                    continue
                unread.append((path, trouble))
                later = _later(waiting, unread)
                if len(unread) == _MOST_UNREAD:
                    raise self._unreadable(unread)
        if unread:
            raise self._unreadable(unread)

    def read(self, uri: str) -> ImageSource:
        if self._inside is None:
            return Path(uri)
        path = Path(os.path.realpath(uri))
        if not path.is_relative_to(self._inside):
            raise ImageElsewhere(
                "The link points outside the folder that may be scanned.",
                "Replace the link with the image itself.",
            )
        return path

    def check(self) -> None:
        try:
            os.scandir(self._root).close()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise ImageNotFound(
                "There is no such folder.", "Check the path, and whether its disk is mounted."
            ) from error
        except OSError as error:
            raise unreadable_folder(self._root, error) from error

    def _unreadable(self, unread: Sequence[tuple[str, OSError]]) -> FolderUnreadable:
        path, trouble = unread[0]
        error = unreadable_folder(
            os.path.join(self._root, path),  # noqa: PTH118
            trouble,
            len(unread) - 1,
        )
        error.__cause__ = trouble
        return error


class PatternCollection(FolderCollection):
    """Implements ``ImageCollection`` with the files a pattern names.

    Args:
        pattern: with ``*``, ``?``, ``[`` or ``**``, as :class:`d3.domain.folders.Pattern` has it.
    """

    def __init__(self, pattern: str) -> None:
        source = os.path.abspath(pattern)  # noqa: PTH100  a pattern is no path
        root, wanted = split_pattern(source)
        super().__init__(Path(root), wanted, source)

    def list(self, after: str | None) -> Iterator[Listed]:
        """The files behind a cursor; a number, as earlier versions gave them, is none."""
        yield from super().list(None if (after or "").isdigit() else after)


class ListCollection:
    """Implements ``ImageCollection`` with what a file lists.

    A text file has one path or URI a line (empty lines and those that begin with ``#`` aside); a
    table is read as :func:`d3.domain.tables.layout_of` says. Relative paths start at the file's own
    folder. The cursor is the number of rows read; a list may grow at its end.

    Args:
        file: ``.csv``, ``.tsv`` and ``.parquet`` are tables, all else is text.
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
        done = int(after or 0)
        with _readable():
            for number, entry in enumerate(islice(self._entries(), done, None), start=done + 1):
                if entry:
                    yield Listed(self._absolute(entry), str(number))

    def read(self, uri: str) -> ImageSource:
        return self._read(uri) if "://" in uri else Path(uri)

    def check(self) -> None:
        """See whether the place of the first entry in a bucket answers."""
        with _readable():
            first = next((one for one in self._entries() if one.startswith(S3_SCHEME)), None)
        if first is not None:
            self._check(first)

    def _absolute(self, entry: str) -> str:
        return entry if "://" in entry else absolute(str(self._file.parent / entry))

    def _is_there(self, entry: str) -> bool:
        return bool(entry) and os.path.isfile(self._file.parent / entry)  # noqa: PTH113  any text

    def _entries(self) -> Iterator[str]:
        suffix = self._file.suffix.lower()
        if suffix == ".parquet":
            yield from _parquet(self._file)
        elif suffix in {".csv", ".tsv"}:
            with self._file.open(encoding="utf-8-sig", newline="") as stream:
                layout = layout_of(stream.read(SAMPLE_CHARACTERS), self._is_there)
                stream.seek(0)
                rows = csv.reader(stream, delimiter=layout.delimiter)
                place = layout.column
                for row in islice(rows, layout.titled, None):
                    yield row[place].strip() if len(row) > place else ""
        else:
            with self._file.open(encoding="utf-8-sig") as stream:
                for line in stream:
                    yield "" if line.startswith("#") else line.strip()


def _places_of(cursor: str) -> Iterator[tuple[str, str]]:
    """Where to resume: folders below the root, each with the path after which its rest comes.

    Usually that is the root's own, and the path alone is the cursor. Otherwise folders and paths
    alternate, separated by NUL, which no path holds.
    """
    parts = cursor.split("\0")
    if len(parts) == 1:
        parts = ["", *parts]
    yield from zip(parts[::2], parts[1::2], strict=True)


def _later(waiting: Iterable[tuple[str, str]], unread: Iterable[tuple[str, OSError]]) -> str:
    """The end of a cursor: what is still to be listed after the current folder."""
    ahead = "".join(f"\0{folder}\0{behind}" for folder, behind in waiting)
    return ahead + "".join(f"\0{folder}\0" for folder, _ in unread)


def _parquet(file: Path) -> Iterator[str]:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise extra_missing(RequestInvalid, "A Parquet list", "parquet", public=True) from error
    with parquet.ParquetFile(file) as table:
        names = table.schema_arrow.names
        wanted = names[image_column(names) or 0]
        for batch in table.iter_batches(_ROWS_AT_ONCE, columns=[wanted]):
            yield from (str(one or "") for one in batch.column(0).to_pylist())


@contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except (OSError, UnicodeDecodeError, ValueError, csv.Error) as error:
        raise RequestInvalid(
            "The list of images cannot be read.",
            "Use a UTF-8 text file with one path or URI per line, a CSV file or a Parquet file.",
        ) from error
