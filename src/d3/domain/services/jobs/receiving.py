"""The files of a job on their way into the spool, as they arrive: a bounded part is in memory."""

from __future__ import annotations

import hashlib
from contextlib import suppress

from d3.domain.errors import D3Error, FormTooLarge, ImageTooLarge, SpoolFull
from d3.domain.jobs import SHARD_BYTES, SHARD_ITEMS, ItemPlace, NewItem, NewShard
from d3.domain.ports.jobs import JobLedger, Spool, SpoolWriter
from d3.domain.text import display_name

_BUFFERED_BYTES = 2**20
_MOST_ROOM_BYTES = 4 * SHARD_BYTES


class Receiving:
    """Takes the files of one job: first their bytes, which are gathered, then :meth:`flush`.

    Args:
        ledger: knows how much room there is in the spool.
        spool: takes the files.
        job_id: of the job's row.
        name: of its files.
        max_items: files at most.
        max_file_bytes: of one file; a larger one is an item with an error.
        spool_bytes: that all files in the spool may have.
        announced: bytes that are to come; 0 where that is not known. There is room for them.
    """

    def __init__(
        self,
        ledger: JobLedger,
        spool: Spool,
        job_id: int,
        name: str,
        *,
        max_items: int,
        max_file_bytes: int,
        spool_bytes: int,
        announced: int = 0,
    ) -> None:
        self.job_id = job_id
        self.name = name
        self._ledger = ledger
        self._spool = spool
        self._max_items = max_items
        self._max_file_bytes = max_file_bytes
        self._spool_bytes = spool_bytes
        self._shards: list[NewShard] = []
        self._refused: list[NewItem] = []
        self._items: list[NewItem] = []
        self._shard_bytes = 0
        self._count = 0
        self._file = ""
        self._file_bytes = 0
        self._buffer: list[tuple[int, bytes]] = []
        self._buffered = 0
        self._writer: tuple[int, SpoolWriter] | None = None
        self._room = announced
        self._taken = announced
        self._digest = hashlib.sha256()
        self._digest_of_names = hashlib.sha256()

    @property
    def due(self) -> bool:
        """Whether so much is gathered that it should be flushed."""
        return self._buffered >= _BUFFERED_BYTES

    @property
    def digest(self) -> str:
        """SHA-256 in hexadecimal of the files, their names and lengths, once all are flushed."""
        return f"{self._digest.hexdigest()}{self._digest_of_names.hexdigest()}"

    @property
    def count(self) -> int:
        """Files that were begun."""
        return self._count

    def begin(self, name: str) -> None:
        """Begin a file.

        Raises:
            FormTooLarge: there are too many.
        """
        if self._count >= self._max_items:
            raise too_many(self._max_items)
        self._count += 1
        self._file, self._file_bytes = display_name(name), 0

    def add(self, piece: bytes | bytearray) -> None:
        """Gather some of the file's bytes; what is too much for an image is not kept."""
        kept = bytes(piece[: max(0, self._max_file_bytes - self._file_bytes)])
        self._file_bytes += len(piece)
        if kept:
            self._shard_bytes += len(kept)
            self._buffer.append((len(self._shards), kept))
            self._buffered += len(kept)

    def end(self) -> None:
        """End the file."""
        said = (self._count, self._file, self._file_bytes)
        self._digest_of_names.update(repr(said).encode())
        item = NewItem(
            number=self._count,
            name=self._file,
            offset=self._shard_bytes - self._file_bytes,
            size_bytes=self._file_bytes,
        )
        if self._file_bytes > self._max_file_bytes:
            error = ImageTooLarge(
                f"The file is larger than {self._max_file_bytes:,} bytes.",
                "Send a smaller version of it.",
            )
            item = NewItem(number=self._count, name=self._file, error=error)
            self._refused.append(item)
        else:
            self._items.append(item)
        full = len(self._items) >= SHARD_ITEMS or self._shard_bytes >= SHARD_BYTES
        if self._items and full:
            self._end_shard()

    def flush(self) -> None:
        """Write what is gathered into the spool; takes its time.

        Raises:
            FormTooLarge: it is more than the whole spool takes.
            SpoolFull: there is no room at the moment.
            StorageFailed: it cannot be kept.
        """
        buffer, self._buffer = self._buffer, []
        self._take_room(self._buffered)
        self._buffered = 0
        for number, data in buffer:
            self._digest.update(data)
            if self._writer is None or self._writer[0] != number:
                self._commit()
                self._writer = number, self._spool.write(self.name, number)
            self._writer[1].write(data)

    def finish(self) -> tuple[list[NewShard], list[NewItem]]:
        """Flush what is left; the shards, and the items that have an error already.

        Raises:
            SpoolFull: there is no room.
            StorageFailed: it cannot be kept.
        """
        if self._items:
            self._end_shard()
        self.flush()
        self._commit()
        return self._shards, self._refused

    def discard(self) -> None:
        """Remove all files of the job, as nothing becomes of it; then its row.

        What cannot be removed now is swept later.
        """
        if self._writer is not None:
            self._writer[1].discard()
            self._writer = None
        with suppress(D3Error):
            self._spool.remove(self.name)
            self._ledger.forget(self.job_id)

    def clear(self) -> None:
        """Remove the files of a job that is over already; what cannot be removed is swept later."""
        with suppress(D3Error):
            self._spool.remove(self.name)
            self._ledger.note_cleared(self.job_id)

    def _end_shard(self) -> None:
        self._shards.append(
            NewShard(
                number=len(self._shards),
                place=ItemPlace.SPOOL,
                items=tuple(self._items),
                size_bytes=self._shard_bytes,
            )
        )
        self._items, self._shard_bytes = [], 0

    def _take_room(self, size_bytes: int) -> None:
        """Twice as much each time, so that the ledger is asked a few times only."""
        if self._taken - self._room + size_bytes > self._spool_bytes:
            raise larger_than_spool(self._spool_bytes)
        if size_bytes > self._room:
            missing = size_bytes - self._room
            wanted = max(missing, min(self._taken, _MOST_ROOM_BYTES))
            try:
                self._ledger.grow(self.job_id, wanted, self._spool_bytes)
            except SpoolFull:
                wanted = missing
                self._ledger.grow(self.job_id, wanted, self._spool_bytes)
            self._room += wanted
            self._taken += wanted
        self._room -= size_bytes

    def _commit(self) -> None:
        if self._writer is not None:
            self._writer[1].commit()
            self._writer = None


def larger_than_spool(most_bytes: int) -> FormTooLarge:
    """The error for a job whose files never fit."""
    return FormTooLarge(
        f"The job is larger than the whole spool, which takes {most_bytes:,} bytes.",
        "Split it into several, or raise D3_SPOOL_BYTES.",
    )


def too_many(most: int) -> FormTooLarge:
    """The error for a job with too many items."""
    return FormTooLarge(
        f"The job has more than {most:,} images.",
        "Split it into several, or raise D3_MAX_JOB_ITEMS.",
    )
