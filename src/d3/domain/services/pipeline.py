"""Judges many images ahead, and gives the outcomes in any order.

A slow image delays no other: as many are in flight as there is room for.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

from d3.domain.clips import FrameSampling
from d3.domain.coroutines import finished, start
from d3.domain.errors import D3Error, DetectorFailed
from d3.domain.images import DecodedImage, ImageSource
from d3.domain.ports.images import ImageDecoder
from d3.domain.ports.queue import Lane, Slots
from d3.domain.services.clips import ClipService
from d3.domain.services.detection import ImageJudge, Job, Judged, Submit
from d3.domain.services.lanes import LanePool
from d3.domain.services.questions import Question, release

K = TypeVar("K")
T = TypeVar("T")
BATCHES_AHEAD = 4
_LARGEST_BATCH = 256
_CLIPS_IN_MEMORY = 2


class Pipeline(Generic[K, T]):
    """Takes images, gives outcomes; one thread calls it, many work behind it.

    Args:
        judge: takes each image through its steps.
        decoder: of most images.
        isolated: decodes untrusted files; the same decoder unless given.
        threads: that read, and decode unless ``decoding`` does.
        batch_size: images of one forward pass at most.
        decoding: where images are decoded that others wait for too; the bulk lane of it is used.
        ahead: images that may be in flight beside one for each thread; some batches unless given.
        clips: judges clips; None where they are no images.
    """

    def __init__(
        self,
        judge: ImageJudge,
        decoder: ImageDecoder,
        *,
        isolated: ImageDecoder | None = None,
        threads: int,
        batch_size: int,
        decoding: LanePool | None = None,
        ahead: int | None = None,
        clips: ClipService | None = None,
    ) -> None:
        self._judge = judge
        self._decoder = decoder
        self._isolated = isolated or decoder
        self._batch_size = min(batch_size, _LARGEST_BATCH)
        self._decoding = decoding
        self._clips = clips
        self._capacity = threads + (BATCHES_AHEAD * self._batch_size if ahead is None else ahead)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="d3-read")
        self._judged: SimpleQueue[tuple[K, T, Future[Judged]]] = SimpleQueue()
        self._turns = Turns(_CLIPS_IN_MEMORY)
        self._flying: dict[Future[Judged], K] = {}
        self.in_flight = 0

    @property
    def room(self) -> bool:
        """Whether another image may be put in."""
        return self.in_flight < self._capacity

    def put(
        self,
        key: K,
        item: T,
        question: Question,
        name: str,
        read: Callable[[], ImageSource],
        *,
        file_bytes: int = 0,
        isolated: bool = False,
        sampling: FrameSampling | None = None,
        may_be_clip: Callable[[], bool] | None = None,
    ) -> None:
        """Read, decode and score an image.

        Args:
            key: and ``item`` come back with the outcome.
            item: see ``key``.
            question: what is asked.
            name: the image's display name.
            read: gives its bytes; called on another thread.
            file_bytes: that they have, as far as that is known.
            isolated: whether it is decoded in a child process.
            sampling: which frames of a clip are judged; a default unless given.
            may_be_clip: tells it before the image is read, where that is cheap: a clip is then read
                when its turn comes, as many in memory would be too much for it.

        Raises:
            Overloaded: a service's queue has no room; the image was not taken.
            D3Error: there is no queue to put it in; likewise.
        """
        slots = question.reserve(Lane.BULK, 1, file_bytes, batch_size=self._batch_size)
        decoder = self._isolated if isolated else self._decoder
        if self._decoding is None and self._clips is None:
            decode = partial(_read_and_decode, question, decoder, read)
            job = Job(question, name, decode, self._pool.submit, slots, Lane.BULK)
            judging = self._judge.judge(job)
        else:
            sampling = sampling or (None if self._clips is None else self._clips.sampling())
            steps = self._read_and_judge(
                question, name, read, decoder, slots, sampling, may_be_clip
            )
            judging = start(steps)
        self.in_flight += 1
        self._flying[judging] = key
        judging.add_done_callback(lambda done: self._judged.put((key, item, done)))

    def take(self, seconds: float) -> list[tuple[K, T, Judged | D3Error]]:
        """The outcomes within this time: key, item, and what was found or what is wrong."""
        taken: list[tuple[K, T, Future[Judged]]] = []
        try:
            taken.append(self._judged.get(timeout=seconds))
            while True:
                taken.append(self._judged.get_nowait())
        except Empty:
            pass
        self.in_flight -= len(taken)
        for _, _, judged in taken:
            self._flying.pop(judged, None)
        return [
            (key, item, _outcome(judged)) for key, item, judged in taken if not judged.cancelled()
        ]

    def cancel(self, key: K) -> int:
        """Cancel what is not through of a key; so many outcomes less come."""
        mine = [one for one, whose in self._flying.items() if whose == key]
        for one in mine:
            del self._flying[one]
        return sum(one.cancel() for one in mine)

    def close(self) -> None:
        """Cancel what has not begun; what is through can still be taken."""
        for judging in self._flying:
            judging.cancel()
        self._pool.shutdown(wait=True, cancel_futures=True)

    async def _read_and_judge(  # noqa: PLR0917  what put was given
        self,
        question: Question,
        name: str,
        read: Callable[[], ImageSource],
        decoder: ImageDecoder,
        slots: tuple[Slots | D3Error, ...],
        sampling: FrameSampling | None,
        may_be_clip: Callable[[], bool] | None,
    ) -> Judged:
        """Read on a thread of one's own, so that nobody waits for a store who wants to decode."""
        try:
            source, turn = await self._read(read, may_be_clip)
        except BaseException:
            release(slots)
            raise
        try:
            if self._is_clip(source):
                assert self._clips is not None
                assert sampling is not None
                assert isinstance(source, str | Path | bytes)
                release(slots)  # its frames take slots of their own
                return await finished(self._clips.begin(question, source, name, sampling))
        finally:
            if turn is not None:
                turn.give_back()
        submit: Submit = self._pool.submit
        if self._decoding is not None:
            submit = partial(self._decoding.submit, lane=Lane.BULK)
        decode = partial(question.decode, decoder, source)
        return await self._judge.judged(Job(question, name, decode, submit, slots, Lane.BULK))

    async def _read(
        self, read: Callable[[], ImageSource], may_be_clip: Callable[[], bool] | None
    ) -> tuple[ImageSource, Turns | None]:
        """What is to be judged; what may be a clip with its turn."""

        def read_image() -> ImageSource | None:
            waits = self._clips is not None and may_be_clip is not None and may_be_clip()
            return None if waits else read()

        if (source := await finished(self._pool.submit(read_image))) is not None:
            return source, None
        await finished(self._turns.take())
        try:
            return await finished(self._pool.submit(read)), self._turns
        except BaseException:
            self._turns.give_back()
            raise

    def _is_clip(self, source: ImageSource) -> bool:
        return self._clips is not None and self._clips.is_clip(source)


class Turns:
    """Lets some go on at a time, in the order they came; no thread waits.

    Args:
        most: at a time.
    """

    def __init__(self, most: int) -> None:
        self._free = most
        self._waiting: deque[Future[None]] = deque()
        self._lock = threading.Lock()

    def take(self) -> Future[None]:
        """Done when it is one's turn, which has to be given back; cancelling it gives it up."""
        turn: Future[None] = Future()
        with self._lock:
            self._waiting.append(turn)
        self._let_in()
        return turn

    def give_back(self) -> None:
        """End one's turn."""
        with self._lock:
            self._free += 1
        self._let_in()

    def _let_in(self) -> None:
        while True:
            with self._lock:
                if not self._free or not self._waiting:
                    return
                turn = self._waiting.popleft()
                if not turn.set_running_or_notify_cancel():
                    continue
                self._free -= 1
            turn.set_result(None)  # without the lock: whoever waited goes on here


def _read_and_decode(
    question: Question, decoder: ImageDecoder, read: Callable[[], ImageSource]
) -> DecodedImage:
    return question.decode(decoder, read())


def _outcome(judged: Future[Judged]) -> Judged | D3Error:
    try:
        return judged.result()
    except D3Error as error:
        return error
    except Exception as error:  # noqa: BLE001  whoever waits for an outcome gets one
        failed = DetectorFailed("This image could not be judged.", "Try again.")
        failed.__cause__ = error
        return failed
