"""What jobs need: a ledger of what is done, and a spool for the files that wait."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol, runtime_checkable

from d3.domain.idempotency import Reservation
from d3.domain.jobs import (
    ItemOutcome,
    ItemPlace,
    Job,
    JobItem,
    JobShard,
    JobTotals,
    NewItem,
    NewJob,
    NewShard,
    ShardProgress,
)


class SpoolWriter(Protocol):
    """Writes one file of a spool: the bytes of a shard, one file after the other."""

    def write(self, data: bytes) -> None:
        """Append bytes.

        Raises:
            StorageFailed: they cannot be kept.
        """
        ...

    def commit(self) -> None:
        """Have it all survive a loss of power; then it can be read.

        Raises:
            StorageFailed: it cannot be kept.
        """
        ...

    def discard(self) -> None:
        """Remove what was not committed."""
        ...


class SpoolReader(Protocol):
    """Reads one file of a spool. Safe to use from many threads."""

    def read(self, offset: int, size_bytes: int) -> bytes:
        """Some of its bytes.

        Raises:
            ImageNotFound: they are not there any more.
            StorageFailed: they cannot be read.
        """
        ...

    def close(self) -> None:
        """Free what it holds."""
        ...


@runtime_checkable
class Spool(Protocol):
    """A place for files that wait to be judged. Safe to use from many threads."""

    @property
    def seen(self) -> str | None:
        """Its id, if anything was ever kept there.

        Raises:
            StorageFailed: the place cannot be used.
        """
        ...

    @property
    def id(self) -> str:
        """Stands for this place wherever it is seen from; at most 255 characters.

        Raises:
            StorageFailed: the place cannot be used.
        """
        ...

    def write(self, job: str, number: int) -> SpoolWriter:
        """Begin the file of a shard.

        Raises:
            StorageFailed: the place cannot be used.
        """
        ...

    def open(self, job: str, number: int) -> SpoolReader:
        """Read the file of a shard; what is wrong is said when its bytes are read."""
        ...

    def remove(self, job: str, number: int | None = None) -> None:
        """Remove the file of a shard, or all files of a job, as far as they are there.

        Raises:
            StorageFailed: they cannot be removed.
        """
        ...


class Spooled(NamedTuple):
    """A job whose files may still lie in a spool.

    Attributes:
        id: of its row.
        name: of its files.
        spool: where they lie; None where it has none.
    """

    id: int
    name: str
    spool: str | None


@runtime_checkable
class JobLedger(Protocol):
    """The jobs, what of them is done, and which worker holds what.

    Leases only keep workers out of each other's way; that an item is locked while its outcome is
    stored makes sure that it has one result. Every method may raise StorageFailed.
    """

    def begin(self, new: NewJob) -> int:
        """Note that files of a job are about to be spooled; the id of its row.

        Nobody sees the job before :meth:`start`. What becomes of its files is known if this
        process dies meanwhile.
        """
        ...

    def grow(self, job_id: int, more_bytes: int, limit: int) -> None:
        """Take room in the spool for a job that is being received.

        Raises:
            SpoolFull: all files of its spool together would have more than ``limit`` bytes.
        """
        ...

    def start(
        self,
        job_id: int,
        new: NewJob,
        shards: Sequence[NewShard],
        now: datetime,
        *,
        refused: Sequence[NewItem] = (),
        answer: tuple[Reservation, Callable[[Job], bytes]] | None = None,
    ) -> Job:
        """Let the job be worked on; its items, its shards and the answer are one transaction.

        A job without a single item that can be judged is over with this.

        Args:
            job_id: see :meth:`begin`.
            new: what is fixed by now.
            shards: the items to be judged.
            now: of the clock.
            refused: items that have an error already.
            answer: of an idempotency key: its reservation, and what makes the body.

        Raises:
            ReservationLost: another request took the key over; nothing was stored.
        """
        ...

    def forget(self, job_id: int) -> None:
        """Delete a job with its items, some thousand at a time; its results stay."""
        ...

    def get(self, name: str, user_id: int | None = None) -> Job:
        """A job with its counts.

        Args:
            name: its id for callers.
            user_id: whose it must be; None for anybody's.

        Raises:
            JobNotFound: there is none.
        """
        ...

    def newest(self, limit: int = 50, offset: int = 0, user_id: int | None = None) -> list[Job]:
        """Jobs, newest first, after the first ``offset``; one user's, or all."""
        ...

    def items(self, job_id: int, after: int = 0, limit: int = 500) -> list[JobItem]:
        """Items in order, after one of that number."""
        ...

    def claim(
        self,
        owner: str,
        places: Collection[ItemPlace],
        spools: Collection[str],
        now: datetime,
        until: datetime,
    ) -> JobShard | None:
        """A lease on the next shard that no worker holds, of all running jobs in turn.

        Args:
            owner: who holds it then.
            places: of the items.
            spools: that this worker sees; shards with files in another one are left alone.
            now: of the clock.
            until: the lease's end, unless it is renewed.
        """
        ...

    def store(
        self,
        key: tuple[int, int],
        outcomes: Mapping[int, ItemOutcome],
        now: datetime,
    ) -> ShardProgress:
        """Store the outcomes of a shard's items by number, except of those that are through.

        The results, what becomes of the items, the counts and the events are one transaction.

        Args:
            key: of the shard, see :attr:`JobShard.key`.
            outcomes: may be empty: then it is only told how the shard stands.
            now: of the clock.
        """
        ...

    def put_off(self, key: tuple[int, int], owner: str, until: datetime, trouble: str) -> None:
        """Leave a shard alone until then, and say why; only its owner may."""
        ...

    def renew(self, owner: str, until: datetime) -> None:
        """Extend all leases of this owner."""
        ...

    def held(self, owner: str) -> set[tuple[int, int]]:
        """The keys of the open shards of this owner: none of a job that was cancelled."""
        ...

    def release(self, owners: Iterable[str]) -> None:
        """End all leases of these owners."""
        ...

    def holders(self, now: datetime) -> set[str]:
        """The owners of leases that have not expired."""
        ...

    def note(self, trouble: str) -> None:
        """Record why running jobs do not go on that nobody works on."""
        ...

    def cancel(self, name: str, now: datetime, user_id: int | None = None) -> Job:
        """Cancel what has no result yet; the job then, which is over.

        Raises:
            JobNotFound: there is none.
        """
        ...

    def abandoned(self, before: datetime) -> list[Spooled]:
        """Jobs whose files were being received before then, and were never started."""
        ...

    def uncleared(self) -> list[Spooled]:
        """Jobs that are over and whose files may not all be removed."""
        ...

    def note_cleared(self, job_id: int) -> None:
        """Record that a job has no files any more."""
        ...

    def expired(self, now: datetime) -> list[Spooled]:
        """Jobs to be forgotten."""
        ...

    def totals(self) -> JobTotals:
        """All jobs together."""
        ...
