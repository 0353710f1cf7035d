"""Predictions for a service: uploads judged, kept in the history, once per idempotency key.

Slots in the queue are reserved before anything is decoded, so what is too much is refused before it
costs anything. No thread waits, and whoever asked is woken once, when the results are committed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any

from d3.domain.clips import FrameSampling
from d3.domain.coroutines import finished, start
from d3.domain.errors import D3Error, StorageFailed
from d3.domain.history import NewEntry, entry_of
from d3.domain.idempotency import Completion, IdempotencyKey, Reservation, StoredAnswer
from d3.domain.panels import PanelRule, checked_panel
from d3.domain.ports.clips import OpenedClip
from d3.domain.ports.clock import Clock
from d3.domain.ports.images import ImageDecoder
from d3.domain.ports.queue import Lane
from d3.domain.ports.tracing import TraceContext, current, within
from d3.domain.services.clips import ClipService
from d3.domain.services.detection import ImageJudge, Job, Judged
from d3.domain.services.history_writer import HistoryWriter
from d3.domain.services.lanes import LanePool
from d3.domain.services.model_host import ModelHost
from d3.domain.services.questions import Question
from d3.domain.text import display_name

Outcome = Judged | D3Error


@dataclass(frozen=True, slots=True)
class Upload:
    """An image or a clip as it was sent.

    Attributes:
        name: what the sender calls it; any text.
        data: the encoded file; empty for a clip that is open already.
        sampling: which frames of a clip are judged; None for an image.
        clip: open already; whoever asked closes it.
    """

    name: str
    data: bytes
    sampling: FrameSampling | None = None
    clip: OpenedClip | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionRequest:
    """Images to be judged together, with one model or one panel.

    Attributes:
        uploads: one or more.
        answer: the body of the response, made of each image's outcome and of the ids of those that
            were judged; kept where there is a key.
        threshold: of the chief, in [0, 1]; the model's own unless said.
        views: 1 to 16.
        panel: names of the models that judge, the chief first; the service's own unless said.
        panel_rule: how their verdicts become one; likewise.
        stability: whether each image is also judged after harmless changes.
        lane: who goes first.
        within: seconds after which nobody waits; None for ever.
        all_or_nothing: whether one image that cannot be judged fails them all.
        user_id: whose request this is.
        request_id: kept with each result.
        key: under which the same request gets the same answer; None where each is new.
        judged: gets each outcome before it is stored; called on any thread.
        prepare: begins what ``answer`` needs besides, such as a heat map; None for nothing. It is
            not called if the request has been answered before.
    """

    uploads: Sequence[Upload]
    answer: Callable[[Sequence[Outcome], Sequence[int]], bytes]
    threshold: float | None = None
    views: int = 1
    panel: tuple[str, ...] | None = None
    panel_rule: PanelRule | None = None
    stability: bool = False
    lane: Lane = Lane.INTERACTIVE
    within: float | None = None
    all_or_nothing: bool = False
    user_id: int | None = None
    request_id: str | None = None
    key: IdempotencyKey | None = None
    judged: Callable[[Outcome], None] = lambda _: None
    prepare: Callable[[], Future[Any]] | None = None


@dataclass(frozen=True, slots=True)
class Predicted:
    """What became of a request.

    Attributes:
        request: the request.
        outcomes: of each upload, in order; empty for a replay.
        ids: of the stored rows, in the order of the outcomes that were judged.
        replayed: the body of an earlier response to the same key; None if this request was judged.
    """

    request: PredictionRequest
    outcomes: Sequence[Outcome] = ()
    ids: Sequence[int] = ()
    replayed: bytes | None = None

    @property
    def body(self) -> bytes:
        """Of the response; made where it is asked for, so that no writer waits for it."""
        if self.replayed is not None:
            return self.replayed
        return self.request.answer(self.outcomes, self.ids)


class PredictionService:
    """Judges uploads with the model in use and keeps the results.

    Args:
        host: holds the model.
        decoder: of images.
        judge: takes each image through its steps.
        clips: judges clips.
        pool: where decoding runs.
        writer: of the history.
        clock: tells the time.
        version: of D3, kept with each result.
    """

    def __init__(  # noqa: PLR0917  its parts, one by one
        self,
        host: ModelHost,
        decoder: ImageDecoder,
        judge: ImageJudge,
        clips: ClipService,
        pool: LanePool,
        writer: HistoryWriter,
        clock: Clock,
        version: str,
    ) -> None:
        self._host = host
        self._decoder = decoder
        self._judge = judge
        self._clips = clips
        self._pool = pool
        self._writer = writer
        self._clock = clock
        self._version = version

    def check_capacity(self, lane: Lane, within: float | None = None) -> None:
        """Ask whether an image would be let in, before its bytes are read.

        Raises:
            ModelNotLoaded: there is no model to ask.
            Overloaded: it would not.
        """
        with self._host.held() as model:
            model.queue.reserve(1, 0, 1, lane, self._deadline(within)).release()

    def predict(self, request: PredictionRequest) -> Future[Predicted]:
        """Judge uploads; the future is done when the results are committed.

        A future that is cancelled spares whatever has not begun; what is being written already is
        kept all the same.

        The future raises:
            ModelNotLoaded: there is no model to ask, or the panel's chief is not loaded.
            Overloaded: too much waits already, for one of the models.
            RequestInvalid: threshold, views or panel make no sense.
            IdempotencyKeyReused, RequestInFlight: see the key.
            D3Error: the only image's error; what :meth:`HistoryWriter.submit` raises.
        """
        return start(self._predict(request, current.get()))

    async def _predict(self, request: PredictionRequest, trace: TraceContext | None) -> Predicted:
        if request.key is None:
            return await self._judge_and_keep(request, None, trace)
        reserved = await finished(self._writer.reserve(request.key))
        if isinstance(reserved, StoredAnswer):
            return Predicted(request, replayed=reserved.body)
        try:
            return await self._judge_and_keep(request, reserved, trace)
        except BaseException as error:
            released = self._release(reserved)
            # Who is answered may send something else at once, and another process may get it.
            if isinstance(error, D3Error) and not isinstance(error, StorageFailed):
                await finished(released)
            raise

    async def _judge_and_keep(
        self,
        request: PredictionRequest,
        reservation: Reservation | None,
        trace: TraceContext | None,
    ) -> Predicted:
        if request.prepare is not None:
            await finished(request.prepare())
        names = None if request.panel is None else checked_panel(request.panel)
        with self._host.panel(names) as panel:
            question = Question.of(
                panel,
                threshold=request.threshold,
                views=request.views,
                rule=request.panel_rule,
                stability=request.stability,
            )
            outcomes = await self._judge_all(request, question, trace)
        for outcome in outcomes:
            request.judged(outcome)
        if request.all_or_nothing:
            for outcome in outcomes:
                if isinstance(outcome, D3Error):
                    raise outcome
        judged = [outcome for outcome in outcomes if isinstance(outcome, Judged)]
        entries = [self._entry(request, one) for one in judged]
        completion = None
        if reservation is not None:
            completion = Completion(reservation, partial(request.answer, outcomes))
        ids: list[int] = []
        if entries or completion:
            ids = await finished(self._writer.submit(entries, completion, trace))
        return Predicted(request, outcomes, ids)

    async def _judge_all(
        self, request: PredictionRequest, question: Question, trace: TraceContext | None
    ) -> Sequence[Outcome]:
        deadline = self._deadline(request.within)
        submit = partial(self._pool.submit, lane=request.lane)
        file_bytes = sum(len(upload.data) for upload in request.uploads)
        if any(upload.sampling is not None for upload in request.uploads):
            return [
                await _outcome(self._judge_clip(question, upload, deadline, trace))
                for upload in request.uploads
            ]
        slots = question.reserve(request.lane, len(request.uploads), file_bytes, deadline)
        jobs = [
            Job(
                question,
                display_name(upload.name),
                partial(question.decode, self._decoder, upload.data),
                submit,
                slots,
                request.lane,
                deadline,
                trace,
            )
            for upload in request.uploads
        ]
        if len(jobs) == 1:
            return [await _outcome(self._judge.judged(jobs[0]))]
        judging = [self._judge.judge(job) for job in jobs]
        try:
            return [await _outcome(finished(one)) for one in judging]
        finally:
            for one in judging:
                one.cancel()  # where it is not done, nobody waits any more

    async def _judge_clip(
        self,
        question: Question,
        upload: Upload,
        deadline: float | None,
        trace: TraceContext | None,
    ) -> Judged:
        """Judge a clip; of an image that stands beside it, the only frame."""
        with within(trace):
            judging = self._clips.begin(
                question,
                upload.clip or upload.data,
                display_name(upload.name),
                upload.sampling or FrameSampling(),
                deadline=deadline,
            )
        try:
            return await finished(judging)
        finally:
            judging.cancel()  # where it is not done, nobody waits any more

    def _entry(self, request: PredictionRequest, judged: Judged) -> NewEntry:
        return entry_of(
            judged.detection,
            created_at=self._clock.now(),
            d3_version=self._version,
            cached=judged.cached,
            user_id=request.user_id,
            request_id=request.request_id,
        )

    def _deadline(self, within: float | None) -> float | None:
        return None if within is None else self._clock.monotonic() + within

    def _release(self, reservation: Reservation) -> Future[None]:
        """Let the same request be sent again; should that fail, the reservation ends by itself.

        The future says that it was tried. Cancelling it changes nothing.
        """
        tried: Future[None] = Future()

        def tell(_: Future[None] | None = None) -> None:
            if tried.set_running_or_notify_cancel():
                tried.set_result(None)

        try:
            self._writer.release(reservation).add_done_callback(tell)
        except StorageFailed:
            tell()
        return tried


async def _outcome(judging: Awaitable[Judged]) -> Outcome:
    try:
        return await judging
    except D3Error as error:
        return error
