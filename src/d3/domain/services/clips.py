"""Judging clips: each frame is judged as an image, and their scores are read as one detection.

:class:`ClipService` is all that others need. :meth:`ClipService.begin` judges with a question that
is asked of other images too (a request, a job, a scan) and gives a future;
:meth:`ClipService.judge` makes the question itself and waits, for libraries and the command line::

    if recognises(first_bytes):
        judged = clips.begin(question, path_or_bytes_or_file, name, FrameSampling(every=1.0))
        detection = judged.result().detection  # its `clip_verdict` has all frames

At most :data:`_AT_ONCE` clips are decoded at a time; the others wait their turn. Frames are scored
in the bulk lane, and where that is full they wait for a slot.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeGuard

from d3.domain.clips import (
    ALL_FRAMES,
    ClipFrame,
    ClipSource,
    ClipVerdict,
    Course,
    Frame,
    FrameSampling,
    course_of,
    limited,
    score_of,
)
from d3.domain.detections import Detection
from d3.domain.errors import (
    D3Error,
    DeadlineExceeded,
    DetectorFailed,
    ImageError,
    Overloaded,
    VideoInvalid,
)
from d3.domain.formats import ANIMATED, sniff_clip
from d3.domain.images import SMALLEST_SIDE, ImageSource
from d3.domain.inputs import Change
from d3.domain.panels import Missing, Opinion, PanelRule, PanelVerdict, checked_panel, heard
from d3.domain.ports.clips import ClipReader, OpenedClip
from d3.domain.ports.clock import Clock
from d3.domain.ports.images import ImageDecoder
from d3.domain.ports.queue import Lane, Slots
from d3.domain.ports.tracing import current
from d3.domain.services.detection import ImageJudge, Job, Judged
from d3.domain.services.lanes import LanePool
from d3.domain.services.model_host import ModelHost
from d3.domain.services.questions import Member, Question, release

_AT_ONCE = 2
_WINDOW_FRAMES = 64
_WINDOW_BYTES = 256 * 2**20
"""Frames that are scored or wait for it: so many, or as many as take this memory."""

_PAUSE = 0.1
"""Seconds until a full lane is asked again."""


def recognises(start: bytes) -> bool:
    """Whether a file that begins with these bytes is a video; an animated image is not.

    Args:
        start: the first :data:`d3.domain.formats.SNIFFED_BYTES` of the file, or all of it.
    """
    return sniff_clip(start) is not None


class ClipService:
    """Judges videos and animated images. Safe to call from many threads.

    Args:
        host: holds the model.
        reader: opens clips.
        decoder: cuts frames to what models take.
        judge: takes each frame through its steps.
        pool: where frames are cut.
        clock: tells the time.
        most: frames of a clip that may be asked for.
    """

    def __init__(  # noqa: PLR0917  its parts, one by one
        self,
        host: ModelHost,
        reader: ClipReader,
        decoder: ImageDecoder,
        judge: ImageJudge,
        pool: LanePool,
        clock: Clock,
        most: int,
    ) -> None:
        self._host = host
        self._reader = reader
        self._decoder = decoder
        self._judge = judge
        self._pool = pool
        self._clock = clock
        self._most = most
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="d3-clip")

    @property
    def reader(self) -> ClipReader:
        """Opens clips, and gives pictures of their frames."""
        return self._reader

    def is_clip(
        self, source: ImageSource, *, animations: bool = False, videos: bool = True
    ) -> TypeGuard[str | Path | bytes]:
        """Whether a source is a video, or an image of several frames, where those count.

        What cannot be read is none: whoever judges it as an image says what is wrong with it.
        """
        if not isinstance(source, str | Path | bytes):
            return False
        try:
            kind = self._reader.kind(source)
            if kind not in ANIMATED:
                return videos and kind is not None
            return animations and self._decoder.decode(source, SMALLEST_SIDE).facts.frames > 1
        except ImageError:
            return False

    def sampling(
        self, every: float | None = None, most: int | None = None, *, all_frames: bool = False
    ) -> FrameSampling:
        """Which frames are judged where this is asked for.

        Args:
            every: seconds between frames; unless said one, and less in clips of a few seconds.
            most: frames at most; as many as are allowed unless said.
            all_frames: every frame, as far as ``most`` allows.

        Raises:
            RequestInvalid: a number that makes no sense, or more frames than are allowed.
        """
        asked = ALL_FRAMES
        if not all_frames:
            asked = FrameSampling(closer=True) if every is None else FrameSampling(every)
        return replace(asked, most=limited(most, self._most))

    def judge(
        self,
        source: ClipSource,
        sampling: FrameSampling,
        *,
        name: str,
        threshold: float | None = None,
        views: int = 1,
        panel: Sequence[str] | None = None,
        panel_rule: PanelRule | None = None,
        stability: bool = False,
    ) -> Detection:
        """Judge one clip and wait for it; the arguments are those of an image.

        Raises:
            VideoUnavailable: the package that decodes videos is not installed.
            D3Error: see :mod:`d3.domain.errors`; never anything foreign.
        """
        names = None if panel is None else checked_panel(panel)
        with self._host.panel(names, load=True) as models:
            question = Question.of(
                models, threshold=threshold, views=views, rule=panel_rule, stability=stability
            )
            judged = self.begin(question, source, name, sampling)
            try:
                return judged.result().detection
            finally:
                judged.cancel()

    def begin(
        self,
        question: Question,
        source: ClipSource | OpenedClip,
        name: str,
        sampling: FrameSampling,
        *,
        deadline: float | None = None,
    ) -> Future[Judged]:
        """Judge one clip; a future that is cancelled ends its decoding and spares what is left.

        Args:
            question: what is asked of each frame; its models stay loaded meanwhile.
            source: a path, bytes, an open file, which stays open until the future is done, or a
                clip that was opened with the same sampling.
            name: the clip's display name.
            sampling: which frames.
            deadline: on the monotonic clock, after which nobody waits; None for ever.

        Raises:
            Overloaded: not even one frame could be judged now.

        The future raises:
            D3Error: as :meth:`judge`.
        """
        release(question.reserve(Lane.BULK, deadline=deadline))
        future: Future[Judged] = Future()
        work = _Judging(
            question, name, sampling, deadline, future, self._judge, self._decoder, self._pool
        )
        open_clip = partial(self._open, source, sampling)
        begun = self._threads.submit(self._run, work, open_clip)
        future.add_done_callback(lambda _: begun.cancel())
        return future

    def _open(self, source: ClipSource | OpenedClip, sampling: FrameSampling) -> OpenedClip:
        """The clip; of an animated image also what its file says about itself."""
        if isinstance(source, OpenedClip):
            return source
        clip = self._reader.open(source, sampling)
        if clip.facts.format in ANIMATED and isinstance(source, str | Path | bytes):
            try:
                clip.facts = self._decoder.decode(source, SMALLEST_SIDE).facts
            except BaseException:
                clip.close()
                raise
        return clip

    def close(self) -> None:
        """Stop the threads; what is being judged ends first."""
        self._threads.shutdown(cancel_futures=True)
        self._reader.close()

    def _run(self, work: _Judging, open_clip: Callable[[], OpenedClip]) -> None:
        future = work.future
        try:
            judged = work.run(open_clip, self._clock)
        except D3Error as error:
            _settle(future, error)
        except Exception as error:  # noqa: BLE001  the future carries it to whoever waits
            failed = DetectorFailed("This clip could not be judged.", "Try again.")
            failed.__cause__ = error
            _settle(future, failed)
        else:
            _settle(future, judged)


class _Judging:
    """One clip on its way, on one thread.

    Attributes:
        future: gets the outcome; once it is cancelled, nothing more is begun.
        deadline: see :meth:`ClipService.begin`.
    """

    def __init__(  # noqa: PLR0917  its parts, one by one
        self,
        question: Question,
        name: str,
        sampling: FrameSampling,
        deadline: float | None,
        future: Future[Judged],
        judge: ImageJudge,
        decoder: ImageDecoder,
        pool: LanePool,
    ) -> None:
        self.future = future
        self.deadline = deadline
        self._question = question
        self._name = name
        self._sampling = sampling
        self._judge = judge
        self._decoder = decoder
        self._submit = partial(pool.submit, lane=Lane.BULK)
        self._trace = current.get()
        self._begun: deque[tuple[Frame, Future[Judged]]] = deque()
        self._judged: list[tuple[float, bool, Judged]] = []

    def run(self, open_clip: Callable[[], OpenedClip], clock: Clock) -> Judged:
        """Judge the clip.

        Raises:
            D3Error: it cannot be.
        """
        self._check_wanted(clock)
        begun = clock.monotonic()
        clip = open_clip()
        try:
            self.future.add_done_callback(lambda _: clip.close())  # should it be cancelled
            for frame in clip:
                self._check_wanted(clock)
                self._put(frame, clock)
            while self._begun:
                self._take()
        finally:
            clip.close()
            for _, judging in self._begun:
                judging.cancel()
        if not self._judged:
            raise VideoInvalid("The clip has no frames that can be judged.", "Use another file.")
        seconds = clock.monotonic() - begun
        sampling = self._sampling
        if clip.facts.format in ANIMATED:
            sampling = replace(sampling, every=0.0)  # all its frames were wanted
        return _read(self._question, self._name, clip, sampling, self._judged, seconds)

    def _check_wanted(self, clock: Clock) -> None:
        if self.deadline is not None and clock.monotonic() >= self.deadline:
            raise _too_late()
        if self.future.done():
            raise DeadlineExceeded("Nobody waits for this clip any more.")

    def _put(self, frame: Frame, clock: Clock) -> None:
        room = max(2, min(_WINDOW_FRAMES, _WINDOW_BYTES // max(1, frame.pixels.nbytes)))
        while len(self._begun) >= room:
            self._take()
        slots = self._slots(clock)
        decode = partial(self._question.decode, self._decoder, frame.pixels)
        asked = self._question, self._name, decode, self._submit, slots, Lane.BULK
        job = Job(*asked, self.deadline, self._trace)
        self._begun.append((replace(frame, pixels=frame.pixels[:0]), self._judge.judge(job)))

    def _slots(self, clock: Clock) -> tuple[Slots | D3Error, ...]:
        """Slots for one frame; a lane that is full empties again."""
        while True:
            try:
                return self._question.reserve(Lane.BULK, deadline=self.deadline)
            except Overloaded:
                self._check_wanted(clock)
                if self._begun:
                    self._take()
                else:
                    time.sleep(_PAUSE)

    def _take(self) -> None:
        frame, judging = self._begun.popleft()
        self._judged.append((frame.time, frame.is_cut, judging.result()))


def _read(  # noqa: PLR0917  all that is known of a clip
    question: Question,
    name: str,
    clip: OpenedClip,
    sampling: FrameSampling,
    judged: Sequence[tuple[float, bool, Judged]],
    seconds: float,
) -> Judged:
    """The scores of a clip's frames as one detection."""
    chief = question.chief
    detections = [one.detection for _, _, one in judged]
    frames = [
        ClipFrame.of(at, chief.score(one.detection.logits, one.detection.image), is_cut=is_cut)
        for at, is_cut, one in judged
    ]
    course = _course(chief, frames)
    stability = _stability(chief, frames, detections)
    score = score_of(course, chief.threshold).tried(stability.values())
    panel = None
    if len(question.members) + len(question.missing) > 1:
        opinions, missing = _opinions(question, frames, detections)
        if opinions:
            panel = PanelVerdict(question.rule, opinions, question.missing + missing)
            score = heard(score, question.rule, opinions)
    first, manifest = detections[0], chief.model.manifest
    detection = Detection.of(
        score,
        name=name,
        views=chief.views,
        image=clip.facts,
        model=chief.model.reference,
        engine=first.engine,
        precision=first.precision,
        processing_time=sum(one.processing_time for one in detections),
        device=first.device,
        libraries=first.libraries,
        calibration=manifest.calibration,
        abstain_band=manifest.abstain_band,
        notice=first.notice,
        panel=panel,
        stability=stability,
        clip=ClipVerdict.of(
            frames,
            course,
            sampling=sampling,
            duration=clip.duration,
            end=clip.end,
            notes=clip.notes,
        ),
    )
    model_seconds = sum(one.model_seconds for _, _, one in judged)
    return Judged(
        detection,
        cached=all(one.cached for _, _, one in judged),
        decode_seconds=max(0.0, seconds - model_seconds),
        queue_seconds=max(one.queue_seconds for _, _, one in judged),
        model_seconds=model_seconds,
    )


def _course(member: Member, frames: Sequence[ClipFrame]) -> Course:
    return course_of(frames, member.threshold, member.model.manifest.abstain_band)


def _stability(
    chief: Member, frames: Sequence[ClipFrame], detections: Sequence[Detection]
) -> dict[Change, float]:
    """The clip's probability after each harmless change of its frames."""
    changed = [json.loads(one.stability_probabilities or "{}") for one in detections]
    return {
        change: _course(
            chief,
            [
                replace(frame, prediction=one[change])
                for frame, one in zip(frames, changed, strict=True)
            ],
        ).highest
        for change in map(Change, changed[0])
    }


def _opinions(
    question: Question, frames: Sequence[ClipFrame], detections: Sequence[Detection]
) -> tuple[tuple[Opinion, ...], tuple[Missing, ...]]:
    """What each member says of the clip by its own frames; one that missed a frame is missing."""
    opinions, missing = list[Opinion](), list[Missing]()
    for member in question.members:
        name = member.model.manifest.name
        said = [one for each in detections for one in each.opinions if one.model.name == name]
        silent = [one for each in detections for one in each.missing if one.model == name]
        if silent or len(said) < len(frames):
            missing += silent[:1]
            continue
        course = _course(
            member,
            [
                replace(
                    frame,
                    prediction=one.prediction,
                    verdict=one.verdict,
                    reason=one.reason,
                    logit=one.logit,
                )
                for frame, one in zip(frames, said, strict=True)
            ],
        )
        opinions.append(
            replace(
                said[0],
                prediction=course.highest,
                verdict=course.verdict,
                reason=course.reason,
                logit=course.logit,
                logits=(),
                seconds=sum(one.seconds for one in said),
            )
        )
    return tuple(opinions), tuple(missing)


def _settle(future: Future[Judged], outcome: Judged | D3Error) -> None:
    if not future.set_running_or_notify_cancel():
        return
    with suppress(Exception):
        if isinstance(outcome, D3Error):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)


def _too_late() -> DeadlineExceeded:
    return DeadlineExceeded(
        "The clip could not be judged before the request's time limit.",
        "Ask for fewer frames, or send it as a job.",
    )
