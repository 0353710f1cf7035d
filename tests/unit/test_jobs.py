"""Jobs without servers: files on their way into the spool, and clips that take turns."""

from __future__ import annotations

import random
from concurrent.futures import Future
from functools import partial
from typing import Any

import pytest

from d3.domain.clips import FrameSampling
from d3.domain.errors import FormTooLarge, RequestInvalid, SpoolFull, VideoInvalid
from d3.domain.jobs import SHARD_BYTES, NewItem, checked_external_id
from d3.domain.services.detection import Judged
from d3.domain.services.jobs.receiving import Receiving
from d3.domain.services.pipeline import Pipeline, Turns
from tests.serving import wait_until

MiB = 2**20


class MemorySpool:
    """Keeps files in memory, and what was written at once."""

    def __init__(self) -> None:
        self.files: dict[tuple[str, int], bytearray] = {}
        self.committed: list[int] = []

    def write(self, job: str, number: int) -> Any:
        spool, content = self, self.files.setdefault((job, number), bytearray())

        class Writer:
            def write(self, data: bytes) -> None:
                content.extend(data)

            def commit(self) -> None:
                spool.committed.append(number)

            def discard(self) -> None:
                pass

        return Writer()

    def remove(self, job: str, number: int | None = None) -> None:
        assert number is None
        self.files = {key: one for key, one in self.files.items() if key[0] != job}


class Room:
    """A ledger that only counts."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.forgotten = False

    def grow(self, job_id: int, more_bytes: int, limit: int) -> None:
        if sum(self.asked) + more_bytes > limit:
            raise SpoolFull("full")
        self.asked.append(more_bytes)

    def forget(self, job_id: int) -> None:
        self.forgotten = True


def receiving(spool: MemorySpool, room: Room, **changes: Any) -> Receiving:
    asked = {"max_items": 10_000, "max_file_bytes": 50 * MiB, "spool_bytes": 2**40} | changes
    return Receiving(room, spool, 1, "job", **asked)  # type: ignore[arg-type]


def sent(one: Receiving, files: list[bytes], piece: int) -> None:
    """Send files in pieces of so many bytes, as a request does."""
    for number, content in enumerate(files):
        one.begin(f"{number}.png")
        for start in range(0, len(content), piece):
            one.add(content[start : start + piece])
            if one.due:
                one.flush()
        one.end()


def content_of(spool: MemorySpool, shard: int, item: NewItem) -> bytes:
    kept = spool.files.get(("job", shard), bytearray())
    return bytes(kept[item.offset : item.offset + item.size_bytes])


def files_of(count: int, most: int = 3000) -> list[bytes]:
    chance = random.Random(count)
    return [chance.randbytes(chance.randrange(most)) for _ in range(count)]


def test_files_come_back_from_the_shards_they_were_put_into() -> None:
    spool, files = MemorySpool(), [b"", *files_of(350), b""]
    one = receiving(spool, Room())
    sent(one, files, 1000)
    shards, refused = one.finish()
    assert refused == []
    assert [len(shard.items) for shard in shards] == [100, 100, 100, 52]
    found = {
        item.number: content_of(spool, shard.number, item)
        for shard in shards
        for item in shard.items
    }
    assert [found[number] for number in range(1, 353)] == files
    assert [shard.size_bytes for shard in shards] == [
        len(spool.files["job", shard.number]) for shard in shards
    ]
    assert sorted(spool.committed) == [0, 1, 2, 3]


def test_large_files_make_shards_of_few() -> None:
    one = receiving(MemorySpool(), Room())
    sent(one, [bytes(SHARD_BYTES // 2)] * 5, MiB)
    shards, _ = one.finish()
    assert [len(shard.items) for shard in shards] == [2, 2, 1]


def test_a_bounded_part_is_in_memory() -> None:
    spool, room = MemorySpool(), Room()
    one, most = receiving(spool, room), 0
    for number in range(40):
        one.begin(str(number))
        for _ in range(20):
            one.add(bytes(64 * 1024))
            most = max(most, one._buffered)
            if one.due:
                one.flush()
        one.end()
    one.finish()
    assert most <= MiB + 64 * 1024
    assert sum(map(len, spool.files.values())) == 40 * 20 * 64 * 1024
    assert len(room.asked) < 12, "the ledger is asked a few times only"


def test_the_digest_is_of_the_files_however_they_arrive() -> None:
    digests = set()
    for piece in (1, 7, 1000, 10**6):
        one = receiving(MemorySpool(), Room(), max_file_bytes=900)
        sent(one, files_of(20), piece)
        one.finish()
        digests.add(one.digest)
    assert len(digests) == 1
    other = files_of(20)
    for changed in (other[:-1], [other[1], other[0], *other[2:]], [*other[:-1], other[-1] + b"x"]):
        one = receiving(MemorySpool(), Room(), max_file_bytes=900)
        sent(one, changed, 100)
        one.finish()
        digests.add(one.digest)
    assert len(digests) == 4


def test_files_that_are_too_large_are_refused_alone() -> None:
    spool = MemorySpool()
    one = receiving(spool, Room(), max_file_bytes=1000)
    sent(one, [b"a" * 1001, b"b" * 1000, b"c" * 5000, b"d"], 300)
    shards, refused = one.finish()
    assert [item.number for item in refused] == [1, 3]
    assert {item.error.code for item in refused if item.error} == {"image_too_large"}
    (shard,) = shards
    assert [content_of(spool, 0, item)[:1] for item in shard.items] == [b"b", b"d"]


def test_too_many_files_are_refused_at_once() -> None:
    one = receiving(MemorySpool(), Room(), max_items=2)
    sent(one, [b"a", b"b"], 1)
    with pytest.raises(FormTooLarge, match="more than 2"):
        one.begin("c")


def test_a_spool_is_filled_to_its_last_byte_and_not_beyond() -> None:
    for size, fits in ((3 * MiB, True), (3 * MiB + 1, False)):
        spool, room = MemorySpool(), Room()
        one = receiving(spool, room, spool_bytes=3 * MiB)
        try:
            sent(one, [bytes(size)], 1000)
            one.finish()
        except FormTooLarge:  # trying again would not help
            assert not fits
            one.discard()
            assert spool.files == {}
            assert room.forgotten
        else:
            assert fits
            assert sum(room.asked) <= 3 * MiB


def test_a_spool_that_others_fill_is_full_for_a_while() -> None:
    room = Room()
    room.asked.append(2 * MiB)
    one = receiving(MemorySpool(), room, spool_bytes=3 * MiB)
    with pytest.raises(SpoolFull):
        sent(one, [bytes(2 * MiB)], 1000)


def test_room_that_was_announced_is_not_asked_for_again() -> None:
    room = Room()
    one = receiving(MemorySpool(), room, announced=5000)
    sent(one, [bytes(5000)], 100)
    one.finish()
    assert room.asked == []


def test_ids_of_senders_are_short_and_can_be_read() -> None:
    assert checked_external_id("article-17/3 日") == "article-17/3 日"
    assert checked_external_id("") is checked_external_id(None) is None
    for wrong in ("a\nb", "\0", "x" * 256):
        with pytest.raises(RequestInvalid):
            checked_external_id(wrong)


def test_what_may_be_a_clip_is_read_in_turn_and_judged_as_what_it_is() -> None:
    begun: list[Future[Judged]] = []
    read: list[int] = []

    class Clips:
        def is_clip(self, source: object) -> bool:
            return source == b"clip"

        def begin(self, *_: object) -> Future[Judged]:
            begun.append(Future())
            return begun[-1]

        def sampling(self) -> FrameSampling:
            return FrameSampling()

    class Asked:
        def reserve(self, *_: object, **__: object) -> tuple[()]:
            return ()

    nothing: Any = None
    clips: Any = Clips()
    asked: Any = Asked()
    pipeline: Pipeline[int, str] = Pipeline(
        nothing,
        nothing,
        threads=4,
        batch_size=4,
        clips=clips,
    )

    def reads(number: int) -> bytes:
        read.append(number)
        return b"clip"

    for number in range(6):
        pipeline.put(
            number,
            "",
            asked,
            "",
            partial(reads, number),
            may_be_clip=lambda: True,
        )
    for ended in range(6):
        wait_until(partial(lambda number: len(begun) > number, ended))
        assert len(read) <= ended + 2
        begun[ended].set_exception(VideoInvalid("No.", "No."))
    found: list[object] = []
    wait_until(lambda: len(found) == 6 or found.extend(pipeline.take(0.05)))
    pipeline.close()


def test_some_go_on_at_a_time_in_the_order_they_came() -> None:
    turns = Turns(2)
    first, second, third, fourth = (turns.take() for _ in range(4))
    assert (first.done(), second.done(), third.done()) == (True, True, False)
    assert third.cancel()
    turns.give_back()
    assert fourth.done()
    went_on: list[int] = []

    def go_on(_: Future[None]) -> None:  # ends its own turn while it is let in
        went_on.append(1)
        turns.give_back()

    for _ in range(50):
        turns.take().add_done_callback(go_on)
    assert went_on == []
    turns.give_back()
    assert len(went_on) == 50
