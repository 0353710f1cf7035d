"""From the paths of a command line to images: files, folders, patterns and standard input."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from d3.domain.errors import D3Error, ImageEmpty, ImageError, ImageNotFound, LinksOff
from d3.domain.folders import EVERYTHING, Pattern, files_below, split_pattern, unreadable_folder
from d3.domain.formats import named_as_clip, named_as_image
from d3.domain.images import ImageSource
from d3.domain.ports.images import ImageDecoder, LinkedImage
from d3.entrypoints.cli.progress import progress

if TYPE_CHECKING:
    from d3.container import Container
    from d3.settings import Settings

STDIN = "-"
STDIN_NAME = "<stdin>"
_SCHEMES = ("https://", "http://")


@dataclass(slots=True, eq=False)
class Link:
    """An image or a video on the web, which is fetched when its turn comes.

    Attributes:
        url: where it is.
        content: the file, as long as its verdict is being shown; else empty.
    """

    url: str
    content: bytes = b""


def is_link(path: str) -> bool:
    """Whether it names something on the web; a file of this very name comes first."""
    return path.lower().startswith(_SCHEMES) and not os.path.lexists(path)


def check_links_on(settings: Settings) -> None:
    """Refuse links where nobody allowed them.

    Raises:
        LinksOff: ``D3_FETCH_LINKS`` is off.
    """
    if not settings.fetch_links:
        raise LinksOff(
            "D3 does not fetch links.",
            "Set D3_FETCH_LINKS=True in the environment or in .env, or save the image and name "
            "the file.",
        )


def fetch_one(container: Container, url: str) -> LinkedImage:
    """The file behind a link, by the rules of the service: public servers, limits, no passwords.

    Raises:
        LinksOff: ``D3_FETCH_LINKS`` is off.
        D3Error: the link gives no file.
    """
    check_links_on(container.settings())
    with progress("Fetching"):
        found: LinkedImage = container.links()(url)
    return found


@dataclass(slots=True)
class Found:
    """What a search of the command line's paths gave.

    Attributes:
        names: display names, in order.
        sources: as many images.
        passed_over: files in folders that are images neither by first bytes nor by name.
        videos_passed_over: those of them whose names are videos'.
        problems: (path, error) of what was named or found and cannot be used.
    """

    names: list[str] = field(default_factory=list)
    sources: list[ImageSource] = field(default_factory=list)
    passed_over: int = 0
    videos_passed_over: int = 0
    problems: list[tuple[str, D3Error]] = field(default_factory=list)

    def add(self, name: str, source: ImageSource) -> None:
        """One more image."""
        self.names.append(name)
        self.sources.append(source)

    def refuse_links(self, settings: Settings) -> None:
        """Make each link a problem where links are not fetched."""
        try:
            check_links_on(settings)
        except LinksOff as error:
            rows = [*zip(self.names, self.sources, strict=True)]
            self.problems += [(name, error) for name, one in rows if isinstance(one, Link)]
            self.names = [name for name, one in rows if not isinstance(one, Link)]
            self.sources = [one for _, one in rows if not isinstance(one, Link)]

    def refuse_if_none_is_an_image(
        self, decoder: ImageDecoder, is_clip: Callable[[Path], bool]
    ) -> None:
        """Make each a problem where all of them are: then no model need be loaded."""
        problems: list[tuple[str, D3Error]] = []
        for name, source in zip(self.names, self.sources, strict=True):
            if not isinstance(source, Path):
                return
            if is_clip(source):
                return
            try:
                check_file(source, decoder)
            except ImageError as error:
                problems.append((name, error))
            else:
                return
        self.problems += problems
        self.names, self.sources = [], []


def find_images(
    paths: Sequence[str], recognises: Callable[[Path], bool], max_stdin_bytes: int
) -> Found:
    """Everything that the paths name.

    Args:
        paths: files are taken as they are, whatever they hold; folders are searched recursively
            and patterns (``*``, ``?``, ``[``, ``**``) expanded, and of what they give what is an
            image by its content or by its name is taken; ``-`` is one image from standard input;
            links are not fetched yet.
        recognises: whether a file's first bytes are an image's.
        max_stdin_bytes: reading stops one byte beyond.
    """
    found = Found()
    for path in paths:
        if not path:
            found.problems.append((path, ImageNotFound("The name is empty.", "Name a file.")))
        elif path == STDIN:
            _add_stdin(found, max_stdin_bytes)
        elif is_link(path):
            found.add(path, Link(path))
        elif os.path.isdir(path):  # noqa: PTH112  Path would lose a leading ./
            _search(path, path, EVERYTHING, recognises, found)
        elif glob.has_magic(path) and not os.path.lexists(path):
            _search(path, *split_pattern(path), recognises, found)
        else:
            found.add(path, Path(path))
    return found


def check_file(file: Path, decoder: ImageDecoder) -> None:
    """Look at a file's first bytes, before a model is loaded for it.

    Raises:
        ImageError: it is not there, or no image.
    """
    if not decoder.recognises(file):
        decoder.decode(file, None)  # says what it is instead


def read_stdin(max_bytes: int) -> bytes:
    """Standard input, or its first bytes and one more.

    Raises:
        ImageEmpty: nothing came.
    """
    content = sys.stdin.buffer.read(max_bytes + 1)
    if not content:
        raise ImageEmpty(
            "Standard input is empty or closed.",
            "Pipe an image in, or name its file.",
        )
    return content


def nothing_there() -> ImageNotFound:
    """What is said where a search found no image."""
    return ImageNotFound(
        "No image was found.", "D3 checks the content of every file, not its name."
    )


def _add_stdin(found: Found, max_bytes: int) -> None:
    try:
        found.add(STDIN_NAME, read_stdin(max_bytes))
    except ImageError as error:
        found.problems.append((STDIN_NAME, error))


def _search(
    path: str, root: str, pattern: Pattern, recognises: Callable[[Path], bool], found: Found
) -> None:
    """Add the images below a folder, and a word on the path if it led to none."""
    before = len(found.names), len(found.problems)
    for below, trouble in files_below(root, pattern):
        file = os.path.join(root, below) if below else root or os.curdir  # noqa: PTH118
        try:
            if trouble is not None:
                raise unreadable_folder(file, trouble)
            if named_as_image(file) or recognises(Path(file)):
                found.add(file, Path(file))
            else:
                found.passed_over += 1
                found.videos_passed_over += named_as_clip(file)
        except ImageError as error:
            found.problems.append((file, error))
    if before == (len(found.names), len(found.problems)):
        found.problems.append((path, nothing_there()))
