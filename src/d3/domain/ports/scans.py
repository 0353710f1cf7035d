"""What a bulk scan needs from outside: the images, and a ledger of what is done."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol, runtime_checkable

from d3.domain.images import ImageSource
from d3.domain.scans import Listing, NewScan, Scan, ScanRow, ScanState, Shard


class Listed(NamedTuple):
    """A key that a collection found.

    Attributes:
        uri: opens it.
        cursor: where to go on behind it.
    """

    uri: str
    cursor: str


@runtime_checkable
class ImageCollection(Protocol):
    """Any number of images somewhere. Safe to read from many threads."""

    @property
    def source(self) -> str:
        """Where, so that it is found again from another folder."""
        ...

    @property
    def named(self) -> bool:
        """Whether each key was named by somebody; one that is no image is an error then."""
        ...

    def list(self, after: str | None) -> Iterator[Listed]:
        """The keys behind a cursor, a few at a time in memory.

        A source without an order begins again; what has a row is not judged again.

        Raises:
            ImageNotFound: there is no such place.
            StorageFailed: it cannot be listed.
        """
        ...

    def read(self, uri: str) -> ImageSource:
        """The image under a key, for the decoder.

        Raises:
            ImageError: it is not there, or too large.
            StorageFailed: it cannot be read.
        """
        ...

    def check(self) -> None:
        """See whether the place as a whole answers.

        Raises:
            D3Error: it does not.
        """
        ...


@runtime_checkable
class ScanCluster(Protocol):
    """Many machines that work on one scan."""

    def run(self, name: str, is_over: Callable[[], bool], idle: Callable[[], None]) -> None:
        """Have workers everywhere work on the scan of that name until it is over.

        Raises:
            D3Error: no worker is left that could go on.
        """
        ...


@runtime_checkable
class ScanLedger(Protocol):
    """Which scans there are, what of them is done, and by whom the rest is held.

    Leases only keep workers out of each other's way: that an image has one row, the unique key
    of scan and URI sees to. Every method may raise StorageFailed; all can be tried again.
    """

    def open(self, new: NewScan) -> Scan:
        """The scan of that name, made if it is new; the service's own from then on if it asks."""
        ...

    def get(self, name: str) -> Scan:
        """A scan with its counts.

        Raises:
            ScanNotFound: there is none.
        """
        ...

    def newest(self, limit: int = 50, offset: int = 0) -> list[Scan]:
        """The newest first, those before the offset aside."""
        ...

    def unfinished(self) -> list[Scan]:
        """What the service has to see to: its running scans, the oldest first."""
        ...

    def note(self, scan_id: int, trouble: str | None) -> None:
        """Say why a scan does not go on, or that it does."""
        ...

    def set_state(self, scan_id: int, state: ScanState, now: datetime) -> None:
        """Cancel a scan, or let it go on."""
        ...

    def begin_listing(
        self, scan_id: int, owner: str, now: datetime, until: datetime
    ) -> Listing | None:
        """The right to list until then; None if somebody else has it or all is listed."""
        ...

    def add_shard(
        self, scan_id: int, owner: str, number: int, uris: Sequence[str], cursor: str | None
    ) -> bool:
        """Add a shard and move the cursor; None for a cursor says that all is listed.

        Whether it was done: not if somebody else has cut this number.
        """
        ...

    def claim(self, scan_id: int, owner: str, now: datetime, until: datetime) -> Shard | None:
        """The first open shard that nobody holds; None if there is none or the scan is not on."""
        ...

    def known(self, scan_id: int, uris: Sequence[str]) -> set[str]:
        """Those of the stored URIs that have a row."""
        ...

    def add(self, scan_id: int, number: int, rows: Sequence[ScanRow]) -> None:
        """Keep rows of a shard and count them, those that are there already aside."""
        ...

    def finish(self, scan_id: int, number: int, passed_over: int) -> None:
        """Every image of the shard has its row."""
        ...

    def renew(self, scan_id: int, owner: str, until: datetime) -> None:
        """Hold for longer what this owner holds."""
        ...

    def release(self, scan_id: int, owners: Iterable[str]) -> None:
        """Let go what these owners hold."""
        ...

    def holders(self, scan_id: int, now: datetime) -> set[str]:
        """Who holds leases that have not run out."""
        ...

    def open_shards(self, scan_id: int) -> set[int]:
        """The shards that are cut and not finished; no more than workers let be cut ahead."""
        ...

    def complete(self, scan_id: int, now: datetime) -> bool:
        """Close a scan of which all is listed and judged; whether it is closed."""
        ...

    def rows(
        self, scan_id: int, *, after: str | None = None, shard: int | None = None, limit: int = 5000
    ) -> list[ScanRow]:
        """Rows behind a URI in the database's order, of all shards or of one."""
        ...
