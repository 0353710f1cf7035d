"""What a bulk scan needs: a collection of images, and a ledger of what is done."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol, runtime_checkable

from d3.domain.images import ImageSource
from d3.domain.panels import Agreement
from d3.domain.scans import Listing, NewScan, Scan, ScanRow, ScanState, Shard


class Listed(NamedTuple):
    """A key that a collection found.

    Attributes:
        uri: opens it.
        cursor: where to resume after it.
    """

    uri: str
    cursor: str


@runtime_checkable
class ImageCollection(Protocol):
    """Any number of images somewhere. Safe to read from many threads."""

    @property
    def source(self) -> str:
        """Where it is; valid from any working directory."""
        ...

    @property
    def named(self) -> bool:
        """Whether each key was named in a list; then one that is no image is an error."""
        ...

    def list(self, after: str | None) -> Iterator[Listed]:
        """The keys after a cursor, a few at a time in memory.

        A source without an order begins again; what has a row is not judged again.

        Raises:
            ImageNotFound: there is no such place.
            StorageFailed: it cannot be listed.
        """
        ...

    def read(self, uri: str) -> ImageSource:
        """The image of a key, for the decoder.

        Raises:
            ImageError: it is missing, or too large.
            StorageFailed: it cannot be read.
        """
        ...

    def check(self) -> None:
        """Check whether the place as a whole answers.

        Raises:
            D3Error: it does not.
        """
        ...


@runtime_checkable
class ScanCluster(Protocol):
    """Many machines that work on one scan."""

    def run(self, name: str, is_over: Callable[[], bool], idle: Callable[[], None]) -> None:
        """Run workers on all machines until the scan of that name is over.

        Raises:
            D3Error: no worker is left that could go on.
        """
        ...


@runtime_checkable
class ScanLedger(Protocol):
    """The scans, what of them is done, and which worker holds what.

    Leases only keep workers out of each other's way; the unique key of scan and URI makes sure that
    an image has one row. Every method may raise StorageFailed; all can be retried.
    """

    def open(self, new: NewScan) -> Scan:
        """The scan of that name, created if it is new; from then on the service's if it asks."""
        ...

    def get(self, name: str) -> Scan:
        """A scan with its counts.

        Raises:
            ScanNotFound: there is none.
        """
        ...

    def newest(self, limit: int = 50, offset: int = 0) -> list[Scan]:
        """Scans, newest first, after the first ``offset``."""
        ...

    def unfinished(self) -> list[Scan]:
        """The running scans that the service started, oldest first."""
        ...

    def note(self, scan_id: int, trouble: str | None) -> None:
        """Record why a scan does not go on; None if it does."""
        ...

    def set_state(self, scan_id: int, state: ScanState, now: datetime) -> None:
        """Cancel a scan, or resume it."""
        ...

    def begin_listing(
        self, scan_id: int, owner: str, now: datetime, until: datetime
    ) -> Listing | None:
        """A lease on the listing until then; None if another worker has it or all is listed."""
        ...

    def add_shard(
        self, scan_id: int, owner: str, number: int, uris: Sequence[str], cursor: str | None
    ) -> bool:
        """Add a shard and move the cursor; a cursor of None means that all is listed.

        Returns whether it was added: not if another worker has added this number.
        """
        ...

    def claim(self, scan_id: int, owner: str, now: datetime, until: datetime) -> Shard | None:
        """A lease on the first open shard that no worker holds; None if there is none."""
        ...

    def known(self, scan_id: int, uris: Sequence[str]) -> set[str]:
        """Those of the stored URIs that have a row."""
        ...

    def add(self, scan_id: int, number: int, rows: Sequence[ScanRow]) -> None:
        """Store and count a shard's rows, except those that are there already."""
        ...

    def finish(self, scan_id: int, number: int, passed_over: int) -> None:
        """Mark a shard as finished: every image has its row."""
        ...

    def renew(self, scan_id: int, owner: str, until: datetime) -> None:
        """Extend all leases of this owner."""
        ...

    def release(self, scan_id: int, owners: Iterable[str]) -> None:
        """End all leases of these owners."""
        ...

    def holders(self, scan_id: int, now: datetime) -> set[str]:
        """The owners of leases that have not expired."""
        ...

    def open_shards(self, scan_id: int) -> set[int]:
        """The shards that are added and not finished; their number is limited."""
        ...

    def complete(self, scan_id: int, now: datetime) -> bool:
        """Close a scan if all of it is listed and judged; whether it is closed."""
        ...

    def rows(
        self,
        scan_id: int,
        *,
        after: str | None = None,
        shard: int | None = None,
        kind: str | None = None,
        disagree: bool | None = None,
        limit: int = 5000,
    ) -> list[ScanRow]:
        """Rows after a URI in the database's order.

        Args:
            scan_id: of the scan.
            after: a URI; None for the first rows.
            shard: only of this one.
            kind: only these, see :attr:`ScanRow.kind`.
            disagree: only those on which the panel's models contradict each other, or only those on
                which they do not.
            limit: how many at most.
        """
        ...

    def agreement(self, scan_id: int) -> dict[Agreement, int]:
        """How many rows have which agreement; empty where one model judged alone."""
        ...

    def remove(self, scan_id: int) -> None:
        """Delete a scan and its rows, some thousand at a time; the scan itself last."""
        ...
