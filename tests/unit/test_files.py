"""Files that appear whole or not at all, and targets that are no files."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from d3.domain.files import put


def test_a_file_is_replaced_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    for content in (b"one", b"two"):
        put(tmp_path / "file", content)
        assert (tmp_path / "file").read_bytes() == content
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


def test_a_link_is_followed_and_stays(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder/file")
    put(tmp_path / "link", b"content")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "folder/file").read_bytes() == b"content"


def test_a_pipe_is_written_to_and_stays(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()), daemon=True)
    reader.start()
    put(pipe, b"content")
    reader.join(10)
    assert read == [b"content"]
    assert pipe.is_fifo()


def test_a_full_device_is_an_error(tmp_path: Path) -> None:
    # A link to it: what a fault would replace is the link.
    (tmp_path / "full").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        put(tmp_path / "full", b"content")
