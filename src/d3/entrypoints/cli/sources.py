"""From the paths of a command line to images: files, folders, patterns and standard input."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from d3.domain.errors import ImageError, ImageNotFound
from d3.domain.images import ImageSource

STDIN = "-"
STDIN_NAME = "<stdin>"


@dataclass(slots=True)
class Found:
    """What a search of the command line's paths gave.

    Attributes:
        names: display names, in order.
        sources: as many images.
        passed_over: files in folders that are no images by their first bytes.
        problems: (path, error) of what was named and cannot be used.
    """

    names: list[str] = field(default_factory=list)
    sources: list[ImageSource] = field(default_factory=list)
    passed_over: int = 0
    problems: list[tuple[str, ImageError]] = field(default_factory=list)

    def add(self, name: str, source: ImageSource) -> None:
        """One more image."""
        self.names.append(name)
        self.sources.append(source)


def find_images(
    paths: Sequence[str], recognises: Callable[[Path], bool], max_stdin_bytes: int
) -> Found:
    """Everything that the paths name.

    Args:
        paths: files are taken as they are, whatever they hold; folders are searched recursively
            and patterns (``*``, ``?``, ``[``, ``**``) expanded, and only images among what they
            give are taken; ``-`` is one image from standard input.
        recognises: whether a file's first bytes are an image's.
        max_stdin_bytes: reading stops one byte beyond.
    """
    found = Found()
    for path in paths:
        if path == STDIN:
            found.add(STDIN_NAME, sys.stdin.buffer.read(max_stdin_bytes + 1))
        elif os.path.isdir(path):  # noqa: PTH112  Path would lose a leading ./
            _search(path, _files_below(path), recognises, found)
        elif glob.has_magic(path) and not os.path.exists(path):  # noqa: PTH110
            matches = glob.iglob(path, recursive=True, include_hidden=True)  # noqa: PTH207
            files = sorted(match for match in matches if os.path.isfile(match))  # noqa: PTH113
            _search(path, iter(files), recognises, found)
        else:
            found.add(path, Path(path))
    return found


def _search(
    root: str, files: Iterator[str], recognises: Callable[[Path], bool], found: Found
) -> None:
    before = len(found.names)
    for file in files:
        try:
            if recognises(Path(file)):
                found.add(file, Path(file))
            else:
                found.passed_over += 1
        except ImageError as error:
            found.problems.append((file, error))
    if len(found.names) == before:
        nothing = ImageNotFound("No image is there.", "D3 looks into files, whatever their names.")
        found.problems.append((root, nothing))


def _files_below(folder: str) -> Iterator[str]:
    """Regular files below a folder, in the order people list them; links are not followed."""
    for place, folders, files in os.walk(folder):
        folders.sort()
        for file in sorted(files):
            path = os.path.join(place, file)  # noqa: PTH118
            if os.path.isfile(path):  # noqa: PTH113
                yield path
