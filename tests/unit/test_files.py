"""Files that appear whole or not at all, and targets that are no files."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from d3.domain.files import put, replacing


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


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o400])
def test_a_replaced_file_keeps_who_may_read_it(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "file"
    put(file, b"one")
    file.chmod(mode)
    with replacing(file) as partial:
        partial.write_bytes(b"two")
        assert stat.S_IMODE(partial.stat().st_mode) == 0o600  # not readable meanwhile either
    assert stat.S_IMODE(file.stat().st_mode) == mode
    put(file, b"three", 0o644)
    assert stat.S_IMODE(file.stat().st_mode) == 0o644


def test_an_open_stream_is_written_to_where_it_is(tmp_path: Path) -> None:
    receiving, sending = os.pipe()
    put(Path(f"/dev/fd/{sending}"), b"content")
    os.close(sending)
    with os.fdopen(receiving, "rb") as stream:
        assert stream.read() == b"content"
    with (tmp_path / "file").open("wb", buffering=0) as stream:
        stream.write(b"before ")
        put(Path(f"/dev/fd/{stream.fileno()}"), b"content")
    assert (tmp_path / "file").read_bytes() == b"before content"
