"""Walking folders of this machine: in order, at any depth, never in a circle.

Nothing is skipped in silence: a folder that cannot be read is reported, and so is a file that
is named like an image and cannot be opened (a broken or circular link).
"""

from __future__ import annotations

import errno
import fnmatch
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import NamedTuple, TypeAlias

from d3.domain.errors import FolderUnreadable, shown
from d3.domain.formats import named_as_image

_GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
_ANY_FOLDERS = "**"
_MAGIC = re.compile(r"[*?[]")
_Places: TypeAlias = frozenset[int]


class Found(NamedTuple):
    """A file, or a folder that cannot be read.

    Attributes:
        path: below the folder that is searched; empty for that one itself.
        trouble: why the folder at this path cannot be read; None for a file.
    """

    path: str
    trouble: OSError | None = None


class Pattern:
    """Which files below a folder are meant, part by part of their paths.

    ``*``, ``?`` and ``[...]`` mean what they do in a shell, also in hidden names. A part ``**`` is
    any number of folders, or of files if it is the last; unlike others it follows no link to a
    folder.

    Args:
        parts: one or more.
    """

    def __init__(self, parts: Sequence[str]) -> None:
        self._fits = [
            None if one == _ANY_FOLDERS else re.compile(fnmatch.translate(one)).match
            for one in parts
        ]
        self.start = self._with_none(0)

    def into(self, at: _Places, name: str, *, link: bool) -> _Places:
        """The places in the pattern within a folder of this name; empty if it is not meant."""
        found: set[int] = set()
        for place in at:
            fits = self._fits[place]
            if fits is None:
                if not link:
                    found |= self._with_none(place)
            elif place + 1 < len(self._fits) and fits(name):
                found |= self._with_none(place + 1)
        return frozenset(found)

    def has(self, at: _Places, name: str) -> bool:
        """Whether a file of this name is meant."""
        last = len(self._fits) - 1
        fits = self._fits[last]
        return last in at and (fits is None or fits(name) is not None)

    def _with_none(self, place: int) -> _Places:
        """The place, and those after it where ``**`` stands for no folder."""
        end = place
        while self._fits[end] is None and end + 1 < len(self._fits):
            end += 1
        return frozenset(range(place, end + 1))


EVERYTHING = Pattern([_ANY_FOLDERS])
"""All files below a folder."""


def split_pattern(pattern: str) -> tuple[str, Pattern]:
    """The folder below which a pattern's files are, as written, and the rest as a pattern."""
    pattern = pattern.replace(os.altsep or os.sep, os.sep)
    plain = _MAGIC.split(pattern, maxsplit=1)[0]
    root, slash, _ = plain.rpartition(os.sep)
    rest = os.path.normpath(pattern[len(root + slash) :])
    return root or slash, Pattern(Path(rest).parts)


def files_below(
    root: str,
    pattern: Pattern = EVERYTHING,
    *,
    folder: str = "",
    behind: str = "",
    follow_links: bool = False,
) -> Iterator[Found]:
    """The files below a folder, in the order of their paths, part by part.

    Only the names of one folder and of those above it are in memory at once.

    Args:
        root: the folder.
        pattern: which of its files are meant.
        folder: below the root; only what is in it is given.
        behind: a path below the root; only what comes after it is given.
        follow_links: whether links to folders are followed, though never in a circle.
    """
    at, path = pattern.start, ""
    for part in Path(folder).parts:
        path = os.path.join(path, part)  # noqa: PTH118  no Path: speed, here and below
        link = not follow_links and os.path.islink(os.path.join(root, path))  # noqa: PTH114, PTH118
        at = pattern.into(at, part, link=link)
    inside = Path(behind.removeprefix(folder).lstrip(os.sep)).parts
    first = _Folder(folder, at, inside, frozenset())
    levels = [_inside(root, pattern, first, follow_links=follow_links)]
    while levels:
        one = next(levels[-1], None)
        if one is None:
            levels.pop()
        elif isinstance(one, _Folder):
            levels.append(_inside(root, pattern, one, follow_links=follow_links))
        else:
            yield one


def absolute(path: str) -> str:
    """The absolute path of the same file, without ``.``, ``..`` and doubled slashes.

    A ``..`` after a link may lead elsewhere than its text says; such links are resolved.
    """
    plain = os.path.abspath(path)  # noqa: PTH100  no Path keeps any text, and resolves ..
    if os.pardir not in Path(path).parts:
        return plain
    try:
        same = os.path.samefile(plain, path)  # noqa: PTH121
    except ValueError:
        return plain  # no file has such a name
    except OSError:
        same = False
    return plain if same else os.path.realpath(path)


def unreadable_folder(path: str, trouble: OSError, more: int = 0) -> FolderUnreadable:
    """The error for a folder that cannot be read, and so many more."""
    others = f" and {more:,} more" if more else ""
    if isinstance(trouble, FileNotFoundError) and not more:
        return FolderUnreadable(f"There is no folder {shown(path, 200)}.", "Check the path.")
    return FolderUnreadable(
        f"The folder {shown(path, 200)}{others} cannot be read ({trouble.strerror or trouble}).",
        "Check the folder's permissions and the disk.",
    )


class _Kind(Enum):
    FOLDER, LINK, FILE, NOTHING = range(4)


@dataclass(frozen=True, slots=True)
class _Folder:
    """A folder to look into.

    Attributes:
        path: below the root.
        at: where in the pattern it is.
        behind: the parts below it behind which to begin.
        above: device and number of the folders that lead to it, where links are followed.
    """

    path: str
    at: _Places
    behind: tuple[str, ...]
    above: frozenset[tuple[int, int]]


def _inside(
    root: str, pattern: Pattern, folder: _Folder, *, follow_links: bool
) -> Iterator[Found | _Folder]:
    """What is meant in a folder, in order: files, and folders to look into."""
    try:
        names, above = _listed(root, folder, follow_links=follow_links)
    except OSError as error:
        if error.errno not in _GONE or not folder.path:  # else it went since its name was read
            yield Found(folder.path, error)
        return
    first = folder.behind[0] if folder.behind else ""
    for name, kind in names:
        if name < first:
            continue
        path = os.path.join(folder.path, name)  # noqa: PTH118
        if kind in {_Kind.FOLDER, _Kind.LINK}:
            link = kind is _Kind.LINK and not follow_links
            if at := pattern.into(folder.at, name, link=link):
                yield _Folder(path, at, folder.behind[1:] if name == first else (), above)
        elif name == first or not pattern.has(folder.at, name):
            continue
        elif kind is _Kind.FILE or named_as_image(name):
            yield Found(path)


def _listed(
    root: str, folder: _Folder, *, follow_links: bool
) -> tuple[list[tuple[str, _Kind]], frozenset[tuple[int, int]]]:
    """A folder's names in order, and the folders above its content; nothing in a circle."""
    place = os.path.join(root, folder.path) or os.curdir  # noqa: PTH118
    above = folder.above
    if follow_links:
        status = os.stat(place)  # noqa: PTH116
        here = (status.st_dev, status.st_ino)
        if here in above:
            return [], above
        above |= {here}
    with os.scandir(place) as entries:
        return sorted(((one.name, _kind(one)) for one in entries), key=lambda one: one[0]), above


def _kind(entry: os.DirEntry[str]) -> _Kind:
    try:
        if entry.is_dir():
            return _Kind.LINK if entry.is_symlink() else _Kind.FOLDER
        return _Kind.FILE if entry.is_file() else _Kind.NOTHING
    except OSError as error:
        # What cannot be looked at is reported when it is opened.
        return _Kind.NOTHING if error.errno in _GONE else _Kind.FILE
