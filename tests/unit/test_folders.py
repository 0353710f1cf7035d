"""Walking through folders and patterns: in order, however deep, past nothing in silence."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from d3.domain import folders
from d3.domain.folders import EVERYTHING, Pattern, absolute, files_below, split_pattern

DEPTH = 1100


def plant(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def paths(found: Iterator[folders.Found]) -> list[str]:
    every = list(found)
    assert not [one for one in every if one.trouble is not None]
    return [one.path for one in every]


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[Callable[[int, str], Path]]:
    """Makes folders inside one another, deeper than a path can be written, with a file in each."""

    def make(depth: int, name: str) -> Path:
        here = os.open(tmp_path, os.O_RDONLY)
        for _ in range(depth):
            os.mkdir(name, dir_fd=here)
            below = os.open(name, os.O_RDONLY, dir_fd=here)
            os.close(os.open("file", os.O_CREAT, dir_fd=below))
            os.close(here)
            here = below
        os.close(here)
        return tmp_path

    yield make
    # pytest's own way of removing it ends at Python's recursion limit.
    subprocess.run(["rm", "-rf", *tmp_path.iterdir()], check=True)


def test_a_thousand_folders_inside_one_another_are_walked(chain) -> None:
    found = paths(files_below(str(chain(DEPTH, "d"))))
    assert len(found) == DEPTH
    assert (found[0], found[-1]) == ("d/" * DEPTH + "file", "d/file")


def test_a_folder_too_deep_to_be_named_is_told(chain) -> None:
    found = list(files_below(str(chain(30, "d" * 200))))
    (trouble,) = [one.trouble for one in found if one.trouble is not None]
    assert trouble.errno == errno.ENAMETOOLONG
    assert len(found) > 15


def test_links_lead_into_no_circle(tmp_path: Path) -> None:
    plant(tmp_path, "a/1.jpg", "b/2.jpg")
    (tmp_path / "a/up").symlink_to("..")
    (tmp_path / "b/up").symlink_to("..")
    assert paths(files_below(str(tmp_path))) == ["a/1.jpg", "b/2.jpg"]
    followed = paths(files_below(str(tmp_path), follow_links=True))
    assert followed == ["a/1.jpg", "b/2.jpg"]
    pattern = Pattern(["**", "*.jpg"])
    assert paths(files_below(str(tmp_path), pattern)) == ["a/1.jpg", "b/2.jpg"]
    # A part that is no ** goes through a link, as it does in a shell.
    assert paths(files_below(str(tmp_path), Pattern(["a", "*", "b", "*.jpg"]))) == ["a/up/b/2.jpg"]


def test_a_link_to_nowhere_counts_by_its_name(tmp_path: Path) -> None:
    for name in ("itself.jpg", "itself"):
        (tmp_path / name).symlink_to(name)
    (tmp_path / "gone.png").symlink_to("nothing")
    os.mkfifo(tmp_path / "pipe.png")
    os.mkfifo(tmp_path / "pipe")
    assert paths(files_below(str(tmp_path))) == ["gone.png", "itself.jpg", "pipe.png"]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*", ["0.jpg"]),
        ("**", ["0.jpg", "a/.h/2.jpg", "a/1.png", "a/b/3.jpg", "ab/4.jpg"]),
        ("**/*", ["0.jpg", "a/.h/2.jpg", "a/1.png", "a/b/3.jpg", "ab/4.jpg"]),
        ("**/*.jpg", ["0.jpg", "a/.h/2.jpg", "a/b/3.jpg", "ab/4.jpg"]),
        ("a*/*.jpg", ["ab/4.jpg"]),
        ("a/**/b/*.jpg", ["a/b/3.jpg"]),
        ("**/a/**/*.jpg", ["a/.h/2.jpg", "a/b/3.jpg"]),
        ("[ab]*/?.*", ["a/1.png", "ab/4.jpg"]),
        ("a/**", ["a/.h/2.jpg", "a/1.png", "a/b/3.jpg"]),
        ("./a/../ab/*", ["ab/4.jpg"]),
        ("no/*", []),
    ],
)
def test_a_pattern_means_what_it_does_in_a_shell(pattern: str, found: list[str], tmp_path) -> None:
    plant(tmp_path, "0.jpg", "a/1.png", "a/.h/2.jpg", "a/b/3.jpg", "ab/4.jpg")
    root, wanted = split_pattern(f"{tmp_path}/{pattern}")
    if found:
        assert [os.path.normpath(f"{root}/{one}") for one in paths(files_below(root, wanted))] == [
            str(tmp_path / one) for one in found
        ]
    else:
        assert not [one for one in files_below(root, wanted) if one.trouble is None]


@pytest.mark.parametrize(
    ("pattern", "root"), [("*.jpg", ""), ("/*.jpg", "/"), ("./a/*", "./a"), ("/a/b/**/c", "/a/b")]
)
def test_a_pattern_begins_below_a_folder(pattern: str, root: str) -> None:
    assert split_pattern(pattern)[0] == root


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ESTALE])
def test_a_folder_that_cannot_be_read_is_told(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(tmp_path, "a/1", "b/2", "c/3")
    scandir = os.scandir

    def failing(path: str) -> object:
        if path.endswith("/b"):
            raise OSError(number, os.strerror(number), path)
        return scandir(path)

    monkeypatch.setattr(folders.os, "scandir", failing)
    found = list(files_below(str(tmp_path)))
    assert [(one.path, one.trouble and one.trouble.errno) for one in found] == [
        ("a/1", None),
        ("b", number),
        ("c/3", None),
    ]


def test_a_folder_that_went_meanwhile_has_nothing_to_tell(tmp_path: Path) -> None:
    plant(tmp_path, "a/1", "b/2", "c/3")
    walk = files_below(str(tmp_path))
    assert next(walk).path == "a/1"
    (tmp_path / "b/2").unlink()
    (tmp_path / "b").rmdir()
    assert paths(walk) == ["c/3"]
    (gone,) = files_below(str(tmp_path / "no"))
    assert isinstance(gone.trouble, FileNotFoundError)


def test_any_part_of_a_walk_can_be_walked_alone(tmp_path: Path) -> None:
    plant(tmp_path, "a/1", "b/c/2", "b/c/3", "b/d", "e")
    assert paths(files_below(str(tmp_path), folder="b")) == ["b/c/2", "b/c/3", "b/d"]
    assert paths(files_below(str(tmp_path), folder="b", behind="b/c/2")) == ["b/c/3", "b/d"]
    assert paths(files_below(str(tmp_path), EVERYTHING, folder="b/c")) == ["b/c/2", "b/c/3"]
    pattern = Pattern(["*", "c", "*"])
    assert paths(files_below(str(tmp_path), pattern, folder="b")) == ["b/c/2", "b/c/3"]


def test_a_path_is_tidied_only_where_it_stays_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(tmp_path, "a/x", "b/c/x", "b/x")
    (tmp_path / "a/link").symlink_to(tmp_path / "b/c")
    monkeypatch.chdir(tmp_path / "a")
    assert absolute("../b//./x") == str(tmp_path / "b/x")
    assert absolute("link/x") == str(tmp_path / "a/link/x")
    assert absolute("link/../x") == str(tmp_path / "b/x"), "which a/x is not"
    assert absolute("no/../x\0") == str(tmp_path / "a/x\0")
