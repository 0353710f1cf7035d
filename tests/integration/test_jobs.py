"""The ledger of jobs on both databases: shards in turn, results once, and what is swept."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from d3.adapters.filesystem import FolderSpool
from d3.adapters.minio import S3Place, S3Spool
from d3.adapters.minio.bucket import Bucket
from d3.adapters.sql import Database, SqlHistory, SqlJobLedger
from d3.domain.errors import (
    ImageDamaged,
    ImageNotFound,
    JobNotFound,
    ReservationLost,
    SpoolFull,
)
from d3.domain.history import HistoryFilter
from d3.domain.idempotency import IdempotencyKey, Reservation, StoredAnswer
from d3.domain.jobs import (
    ItemPlace,
    ItemState,
    Job,
    JobShard,
    JobState,
    JobTotals,
    NewItem,
    NewJob,
    NewShard,
    new_job_name,
)
from d3.domain.ports.jobs import Spool
from d3.domain.webhooks import Callback, EventType, NewEvent, new_secret
from tests.support.history import NOON, an_entry
from tests.support.stores import S3Server

LATER = NOON + timedelta(seconds=30)
EXPIRED = LATER + timedelta(seconds=1)
FILES, REST = {ItemPlace.SPOOL}, {ItemPlace.LINK, ItemPlace.S3}
HERE = ["here"]


@pytest.fixture
def ledger(database: Database) -> SqlJobLedger:
    return SqlJobLedger(database)


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[NewEvent]:
    """What is written into the outbox."""
    found: list[NewEvent] = []
    monkeypatch.setattr("d3.adapters.sql.jobs.record_events", lambda _, new: found.extend(new))
    return found


def a_job(**changes: Any) -> NewJob:
    fixed = {"name": new_job_name(), "created_at": NOON, "spool": "here"}
    return NewJob(**{**fixed, "expires_at": NOON + timedelta(days=7), **changes})


def shards_of(*sizes: int, place: ItemPlace = ItemPlace.SPOOL) -> list[NewShard]:
    """Shards with so many items each, of ten bytes each."""
    shards, number = list[NewShard](), 0
    for size in sizes:
        items = [NewItem(number=number + n, name=f"{number + n}.png") for n in range(1, size + 1)]
        shards.append(
            NewShard(number=len(shards), place=place, items=tuple(items), size_bytes=10 * size)
        )
        number += size
    return shards


def started(ledger: SqlJobLedger, *sizes: int, **changes: Any) -> Job:
    place = changes.pop("place", ItemPlace.SPOOL)
    new = a_job(**changes)
    return ledger.start(ledger.begin(new), new, shards_of(*sizes, place=place), NOON)


def claim(ledger: SqlJobLedger, owner: str = "me", now: Any = NOON, **changes: Any) -> Any:
    until = now + timedelta(seconds=30)
    asked = {"places": FILES, "spools": HERE} | changes
    return ledger.claim(owner, asked["places"], asked["spools"], now, until)


def judged(shard: JobShard) -> dict[int, Any]:
    """A result for each of its items."""
    return {one.number: an_entry(one.name) for one in shard.items}


def rows(database: Database) -> int:
    return SqlHistory(database).page(HistoryFilter(), 1).total


def test_a_job_is_as_it_was_begun(ledger: SqlJobLedger) -> None:
    callback = Callback("https://example.net/x", new_secret())
    new = a_job(
        threshold=0.25, views=2, panel=("a", "b"), stability=True, callback=callback, every=0.5
    )
    refused = NewItem(number=3, name="big.png", external_id="x", error=ImageDamaged("No.", "So."))
    job = ledger.start(ledger.begin(new), new, shards_of(2), NOON, refused=[refused])
    assert ledger.get(new.name) == job
    assert (job.threshold, job.panel, job.callback) == (0.25, ("a", "b"), callback)
    assert (job.state, job.counts.items, job.counts.waiting) == (JobState.RUNNING, 3, 2)
    last = ledger.items(job.id)[-1]
    assert (last.state, last.external_id, last.code) == (ItemState.ERROR, "x", "damaged_image")
    assert [one.number for one in ledger.items(job.id, after=1, limit=1)] == [2]


def test_nobody_is_shown_a_job_that_is_still_received(ledger: SqlJobLedger) -> None:
    new = a_job()
    job_id = ledger.begin(new)
    assert ledger.newest() == []
    with pytest.raises(JobNotFound):
        ledger.get(new.name)
    assert claim(ledger) is None
    assert ledger.abandoned(NOON) == []
    (left,) = ledger.abandoned(LATER)
    assert left == (job_id, new.name, "here")
    ledger.forget(job_id)
    assert ledger.abandoned(LATER) == []


def test_no_job_waits_for_the_many_shards_of_another(ledger: SqlJobLedger) -> None:
    large = started(ledger, *[1] * 6)
    begun = [claim(ledger) for _ in range(3)]
    assert [one.job.name for one in begun] == [large.name] * 3
    small = started(ledger, 1, 1)
    order = [claim(ledger).job.name for _ in range(5)]
    assert order.count(small.name) == 2
    assert small.name in order[:2]
    assert small.name in order[2:4]
    assert claim(ledger) is None


def test_a_job_with_a_shard_that_is_put_off_goes_before_nobody(ledger: SqlJobLedger) -> None:
    old = started(ledger, *[1] * 9)
    stuck = claim(ledger)
    ledger.put_off(stuck.key, "me", LATER, "The store is away.")
    assert ledger.get(old.name).trouble == "The store is away."
    for _ in range(4):
        claim(ledger)
    new = started(ledger, *[1] * 9)
    order = [claim(ledger).job.name for _ in range(6)]
    assert order.count(old.name) >= 2
    assert order.count(new.name) >= 3
    again = [claim(ledger, now=EXPIRED) for _ in range(1)]
    assert [(one.key, one.claims, one.begun) for one in again] == [(stuck.key, 2, True)]
    assert ledger.get(old.name).trouble is None


def test_a_shard_is_stored_once_whoever_judged_it(
    ledger: SqlJobLedger, database: Database, events: list[NewEvent]
) -> None:
    job = started(ledger, 3)
    first = claim(ledger, "first")
    assert not first.begun
    assert claim(ledger, "second") is None
    second = claim(ledger, "second", EXPIRED)
    assert second.begun
    outcomes = judged(first)
    progress = ledger.store(first.key, {1: outcomes[1]}, NOON)
    assert not progress.finished
    assert events == []
    progress = ledger.store(second.key, judged(second), NOON)
    assert (progress.finished, progress.over) == (True, True)
    progress = ledger.store(first.key, outcomes, NOON)
    assert (progress.finished, progress.over) == (True, True)
    assert rows(database) == 3
    found = ledger.get(job.name)
    assert (found.state, found.finished_at) == (JobState.DONE, NOON)
    assert (found.counts.fake, found.counts.waiting) == (3, 0)
    assert [one.type for one in events] == [EventType.JOB_FINISHED]
    assert {one.entry.image_name for one in ledger.items(job.id) if one.entry} == {
        "1.png",
        "2.png",
        "3.png",
    }


def test_many_that_judge_the_same_at_once_store_it_once(
    ledger: SqlJobLedger, database: Database, events: list[NewEvent]
) -> None:
    job = started(ledger, *[4] * 6)
    shards = [claim(ledger) for _ in range(6)]
    together = Barrier(4)

    def work(first: int) -> None:
        together.wait()
        for shard in [*shards[first:], *shards[:first]]:
            ledger.store(shard.key, judged(shard), NOON)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, [0, 1, 2, 3]))
    found = ledger.get(job.name)
    assert (found.state, found.counts.fake, found.counts.waiting) == (JobState.DONE, 24, 0)
    assert rows(database) == 24
    assert len({one.result_id for one in ledger.items(job.id)}) == 24
    assert len(events) == 1
    assert ledger.totals() == (type(ledger.totals()))()


def test_a_job_is_over_once_when_its_last_shards_end_at_the_same_moment(
    ledger: SqlJobLedger, events: list[NewEvent]
) -> None:
    for _ in range(5):
        job = started(ledger, 1, 1)
        shards = [claim(ledger), claim(ledger)]
        together = Barrier(2)

        def work(shard: JobShard, together: Barrier = together) -> None:
            together.wait()
            ledger.store(shard.key, judged(shard), NOON)

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(work, shards))
        assert ledger.get(job.name).state is JobState.DONE
    assert len(events) == 5


def test_an_error_has_no_result_and_a_job_of_errors_is_done(
    ledger: SqlJobLedger, database: Database
) -> None:
    job = started(ledger, 2)
    shard = claim(ledger)
    wrong = ImageDamaged("It is damaged.", "Send another.")
    assert ledger.store(shard.key, dict.fromkeys((1, 2), wrong), NOON).over
    found = ledger.get(job.name)
    assert (found.state, found.counts.error) == (JobState.DONE, 2)
    assert rows(database) == 0
    item = ledger.items(job.id)[0]
    assert (item.error, item.code) == ("It is damaged. Send another.", "damaged_image")


def test_a_job_without_anything_to_judge_is_done_at_once(
    ledger: SqlJobLedger, events: list[NewEvent]
) -> None:
    new = a_job()
    refused = [NewItem(number=1, name="a", error=ImageDamaged("No."))]
    job = ledger.start(ledger.begin(new), new, [], NOON, refused=refused)
    assert (job.state, job.finished_at) == (JobState.DONE, NOON)
    assert ledger.get(new.name) == job
    assert len(events) == 1


def test_a_job_that_is_cancelled_is_over_at_once_and_keeps_its_results(
    ledger: SqlJobLedger, database: Database, events: list[NewEvent]
) -> None:
    job = started(ledger, 2, 2, 2)
    shard, other = claim(ledger), claim(ledger, "another")
    ledger.store(shard.key, {1: judged(shard)[1]}, NOON)
    assert (ledger.held("me"), ledger.held("another")) == ({shard.key}, {other.key})
    found = ledger.cancel(job.name, NOON)
    assert (found.state, found.finished_at) == (JobState.CANCELLED, NOON)
    assert (found.counts.fake, found.counts.cancelled, found.counts.waiting) == (1, 5, 0)
    assert claim(ledger) is None
    assert ledger.held("me") == ledger.held("another") == set()
    for held in (shard, other):  # what was being judged comes too late
        progress = ledger.store(held.key, judged(held), NOON)
        assert (progress.finished, progress.over) == (True, True)
    assert ledger.get(job.name) == found
    assert rows(database) == 1
    assert ledger.totals() == JobTotals()
    assert [one.data["job"]["state"] for one in events] == ["cancelled"]
    assert ledger.cancel(job.name, LATER) == found


def test_one_is_cancelled_while_others_are_claimed(ledger: SqlJobLedger) -> None:
    job = started(ledger, *[1] * 20)

    def work(_: int) -> list[JobShard]:
        found = []
        while (shard := claim(ledger)) is not None:
            found.append(shard)
        return found

    with ThreadPoolExecutor(4) as pool:
        working = [pool.submit(work, n) for n in range(3)]
        pool.submit(ledger.cancel, job.name, NOON).result()
        claimed = [one for each in working for one in each.result()]
        kept = ledger.get(job.name)
    for shard in claimed:
        ledger.store(shard.key, judged(shard), LATER)
    assert ledger.get(job.name) == kept
    assert (kept.finished_at, kept.counts.cancelled) == (NOON, 20)


def test_one_is_cancelled_while_others_store_and_renew(
    ledger: SqlJobLedger, database: Database, events: list[NewEvent]
) -> None:
    for _ in range(5):
        job = started(ledger, *[2] * 12)
        shards = [claim(ledger) for _ in range(12)]
        with ThreadPoolExecutor(4) as pool:
            work = [pool.submit(ledger.store, one.key, judged(one), NOON) for one in shards]
            work.insert(4, pool.submit(ledger.cancel, job.name, NOON))
            work += [pool.submit(ledger.renew, "me", LATER) for _ in range(4)]
            for one in work:
                one.result()
        counts = ledger.get(job.name).counts
        assert (counts.fake + counts.cancelled, counts.waiting) == (24, 0)
    results = sum(one.counts.fake for one in ledger.newest())
    assert (rows(database), len(events)) == (results, 5)


def test_files_in_a_spool_that_is_not_seen_are_left_to_others(ledger: SqlJobLedger) -> None:
    started(ledger, 1)
    assert claim(ledger, spools=["elsewhere"]) is None
    assert claim(ledger, spools=[]) is None
    assert claim(ledger) is not None
    started(ledger, 1, place=ItemPlace.LINK, spool=None)
    assert claim(ledger) is None
    assert claim(ledger, places=REST, spools=[]) is not None


def test_a_full_spool_takes_no_more_until_something_is_judged(ledger: SqlJobLedger) -> None:
    started(ledger, 4)  # 40 bytes
    new = a_job()
    job_id = ledger.begin(new)
    ledger.grow(job_id, 10, 60)
    with pytest.raises(SpoolFull):
        ledger.grow(job_id, 11, 60)
    other = ledger.begin(a_job(spool="elsewhere"))
    ledger.grow(other, 60, 60)
    assert ledger.totals().spooled_bytes == 110
    shard = claim(ledger)
    ledger.store(shard.key, judged(shard), NOON)
    ledger.grow(job_id, 50, 60)
    ledger.forget(job_id)
    assert ledger.totals().spooled_bytes == 60


def test_two_that_take_the_last_room_do_not_both_get_it(ledger: SqlJobLedger) -> None:
    jobs = [ledger.begin(a_job()) for _ in range(4)]

    def grow(job_id: int) -> bool:
        try:
            ledger.grow(job_id, 60, 100)
        except SpoolFull:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(grow, jobs)) == 1


def test_a_result_that_is_deleted_leaves_its_item(ledger: SqlJobLedger, database: Database) -> None:
    job = started(ledger, 1)
    shard = claim(ledger)
    ledger.store(shard.key, judged(shard), NOON)
    (item,) = ledger.items(job.id)
    assert item.entry is not None
    SqlHistory(database).delete(item.entry.id)
    (left,) = ledger.items(job.id)
    assert (left.entry, left.result_id, left.state) == (None, item.result_id, ItemState.JUDGED)
    assert ledger.get(job.name).counts.fake == 1


def test_the_answer_of_a_key_is_kept_with_the_job_or_neither(
    ledger: SqlJobLedger, database: Database
) -> None:
    history = SqlHistory(database)
    key = IdempotencyKey(0, "k", "0" * 64)
    with history.transaction() as transaction:
        held = transaction.reserve(key, NOON)
    assert isinstance(held, Reservation)
    lost = Reservation(0, "k", "another")
    new = a_job()
    job_id = ledger.begin(new)
    with pytest.raises(ReservationLost):
        ledger.start(job_id, new, shards_of(1), NOON, answer=(lost, lambda _: b"body"))
    with pytest.raises(JobNotFound):
        ledger.get(new.name)
    ledger.start(job_id, new, shards_of(1), NOON, answer=(held, lambda job: job.name.encode()))
    with history.transaction() as transaction:
        assert transaction.reserve(key, NOON) == StoredAnswer(new.name.encode())


def test_a_job_is_ones_own(ledger: SqlJobLedger, database: Database) -> None:
    from d3.adapters.sql import SqlAccounts

    ada, eve = (SqlAccounts(database).add_user(one, None, NOON).id for one in ("ada", "eve"))
    job = started(ledger, 1, user_id=ada)
    assert ledger.get(job.name, ada).user_id == ada
    for asked in (lambda: ledger.get(job.name, eve), lambda: ledger.cancel(job.name, NOON, eve)):
        with pytest.raises(JobNotFound):
            asked()
    assert ledger.newest(user_id=eve) == []
    assert [one.name for one in ledger.newest(user_id=ada)] == [job.name]
    assert [one.name for one in ledger.newest()] == [job.name]


def test_old_jobs_are_forgotten_with_their_items_and_not_with_their_results(
    ledger: SqlJobLedger, database: Database
) -> None:
    job = started(ledger, 2)
    shard = claim(ledger)
    ledger.store(shard.key, judged(shard), NOON)
    assert ledger.uncleared() == [(job.id, job.name, "here")]
    ledger.note_cleared(job.id)
    assert ledger.uncleared() == []
    assert ledger.expired(NOON) == []
    assert ledger.expired(job.expires_at) == [(job.id, job.name, "here")]
    ledger.forget(job.id)
    assert ledger.items(job.id) == []
    assert rows(database) == 2


def test_why_nobody_works_is_said_where_nobody_does(ledger: SqlJobLedger) -> None:
    waiting, working = started(ledger, 1), started(ledger, 1, place=ItemPlace.LINK, spool=None)
    claim(ledger, places=REST)
    ledger.note("No model is loaded.")
    assert ledger.get(waiting.name).trouble == "No model is loaded."
    assert ledger.get(working.name).trouble is None
    claim(ledger)
    assert ledger.get(waiting.name).trouble is None


def test_leases_are_renewed_and_released(ledger: SqlJobLedger) -> None:
    started(ledger, 1, 1)
    claim(ledger, "one")
    claim(ledger, "two")
    assert ledger.holders(NOON) == {"one", "two"}
    ledger.renew("one", EXPIRED + timedelta(seconds=30))
    assert ledger.holders(EXPIRED) == {"one"}
    ledger.release(["one"])
    assert claim(ledger, "three").begun


@pytest.fixture(params=["folder", "s3"])
def spool(request: pytest.FixtureRequest, tmp_path: Path) -> Spool:
    if request.param == "folder":
        return FolderSpool(tmp_path / "spool")
    server: S3Server = request.getfixturevalue("first_s3")
    place: S3Place = server.place(f"d3-{new_job_name()}")
    return S3Spool(Bucket(place), "files/of/jobs", tmp_path / "cache")


def written(spool: Spool, job: str, number: int, pieces: Sequence[bytes]) -> None:
    writer = spool.write(job, number)
    for piece in pieces:
        writer.write(piece)
    writer.commit()


def read(spool: Spool, job: str, number: int, offset: int, size_bytes: int) -> bytes:
    with closing(spool.open(job, number)) as reader:
        return reader.read(offset, size_bytes)


def test_a_spool_gives_back_what_was_written_and_then_nothing(spool: Spool) -> None:
    first, second = new_job_name(), new_job_name()
    written(spool, first, 0, [b"abc", b"defg"])
    written(spool, first, 1, [b"x" * 100_000])
    written(spool, second, 0, [b"other"])
    assert read(spool, first, 0, 2, 4) == b"cdef"
    assert (read(spool, first, 0, 0, 3), read(spool, first, 0, 7, 0)) == (b"abc", b"")
    with pytest.raises(ImageNotFound):
        read(spool, first, 0, 5, 3)
    for _ in range(2):
        spool.remove(first, 0)
    with pytest.raises(ImageNotFound):
        read(spool, first, 0, 0, 1)
    assert read(spool, first, 1, 99_999, 1) == b"x"
    for _ in range(2):
        spool.remove(first)
    with pytest.raises(ImageNotFound):
        read(spool, first, 1, 0, 1)
    assert read(spool, second, 0, 0, 5) == b"other"


def test_what_is_discarded_was_never_there(spool: Spool) -> None:
    job = new_job_name()
    writer = spool.write(job, 0)
    writer.write(b"abc")
    writer.discard()
    with pytest.raises(ImageNotFound):
        read(spool, job, 0, 0, 1)


def test_a_folder_is_known_by_its_id_and_made_by_the_first_job(tmp_path: Path) -> None:
    spool = FolderSpool(tmp_path / "spool")
    assert spool.seen is None
    assert not (tmp_path / "spool").exists()
    assert spool.id == FolderSpool(tmp_path / "spool").seen
    assert FolderSpool(tmp_path / "other").id != spool.id
    assert (tmp_path / "spool").stat().st_mode & 0o777 == 0o700


def test_many_that_make_a_folder_at_once_agree_on_its_id(tmp_path: Path) -> None:
    def ask(_: int) -> str:
        return FolderSpool(tmp_path / "spool").id

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(ask, range(8)))) == 1


def test_a_job_claimed_by_many_is_judged_by_each_in_part(
    ledger: SqlJobLedger, database: Database
) -> None:
    started(ledger, *[2] * 30)

    def work(owner: str) -> int:
        found = 0
        while (shard := claim(ledger, owner)) is not None:
            ledger.store(shard.key, judged(shard), NOON)
            found += 1
        return found

    with ThreadPoolExecutor(3) as pool:
        assert sum(pool.map(work, ("a", "b", "c"))) == 30
    assert rows(database) == 60
