"""Frames of videos, decoded with FFmpeg in the child: few of them, and only from the given bytes.

The packets are listed first, without decoding: that gives the true length, the times of all frames
and the places where decoding can begin. Then only the stretches between such a place and the frames
that are wanted are decoded, without the frames that no other one needs.
"""

from __future__ import annotations

import math
import pkgutil
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import import_module
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import av
import numpy as np
from av.codec.context import ThreadType
from av.container import InputContainer
from av.sidedata.sidedata import SideData
from av.video.reformatter import ColorPrimaries, Colorspace, ColorTrc, VideoReformatter
from PIL import Image

from d3.adapters.video.source import Shared, start_of
from d3.adapters.video.worker import Question
from d3.domain.clips import ClipEnd, ClipNote, Frame, FrameSampling, moments
from d3.domain.errors import VideoInvalid, VideoTooLarge
from d3.domain.formats import SNIFFED_BYTES, sniff_clip

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.codeccontext import VideoCodecContext
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream
    from numpy.typing import NDArray

    from d3.domain.images import Pixels

_CONTAINERS = "mov,mp4,matroska,webm,avi,mpeg,mpegvideo,mpegts,flv,ogg,asf"
"""Of FFmpeg's formats, those whose data is all inside: no playlist, no list of files, no device."""

_BUFFER = 2**20
_MOST_PACKETS = 1_000_000
_FEW = 0.02
"""Of what a header announces; as much may be missing before a clip counts as cut short."""

_DENSE = 8
"""Frames of a clip for one that is wanted, from which on the next one will do instead."""

_CUT = 30.0
"""Of 255: how much two frames differ, on average, where one shows another scene."""

_SAMPLES = (18, 32)
"""Places of a frame, down and across, that are compared."""

_CUTS_SHARE = 5
"""Of the frames of a clip that is sampled thinly, one in so many is kept for cuts."""

_MATRIX = 9
"""Numbers of a matrix of display."""

_ROUNDED = 1e-6
"""Of a step between frames: as much of a clip's end needs no frame."""

_HIGH_RANGE = frozenset({ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67})
_UNSAID = 2
"""A colour space that the file does not name."""

_HD = 720
"""Lines from which on players take the colours of HDTV where the file names none."""

_AGAIN = "Convert it with another program, for example: ffmpeg -i FILE -c:v libx264 clip.mp4"


@dataclass(frozen=True, slots=True)
class _Index:
    """The packets of a video.

    Attributes:
        ticks: of the frames that are shown and looked at, in the order of showing.
        keys: of the places where decoding can begin, those first whose frames are shown earlier:
            from which tick on it gives frames, and which keyframe of the file it is. Edit lists
            hide frames that others need, so not all of them are shown.
        base: seconds of a tick.
        span: ticks from the first frame to the end of the last one that is looked at.
        whole: likewise of the last one in the file.
        frames: that are shown, in the whole file.
        end: why there are no more packets.
    """

    ticks: list[int]
    keys: list[tuple[int, int]]
    base: float
    span: int
    whole: int
    frames: int
    end: ClipEnd

    @property
    def looked_at(self) -> float:
        """Seconds that are looked at, the last frame's included."""
        return self.span * self.base

    @property
    def duration(self) -> float:
        """Seconds of the whole clip, the last frame's included."""
        return self.whole * self.base

    @property
    def shown_keys(self) -> list[int]:
        """Ticks of the shown frames where decoding can begin."""
        shown = set(self.ticks)
        return [tick for tick, _ in self.keys if tick in shown]

    def tick_at(self, seconds: float) -> int:
        """Of the frame that is shown at a time."""
        wanted = self.ticks[0] + seconds / self.base
        return self.ticks[max(0, bisect_right(self.ticks, wanted + 0.5) - 1)]

    def key_before(self, tick: int) -> int:
        """The number of the keyframe with which decoding has to begin for a frame."""
        return self.keys[max(0, bisect_right(self.keys, tick, key=itemgetter(0)) - 1)][1]


class _Movie:
    """Implements ``Decoding``."""

    def __init__(self, descriptor: int, question: Question) -> None:
        self._descriptor = descriptor
        self._question = question
        self.notes: set[ClipNote] = set()
        self._broken, self._begun = False, 0
        self._container, self._stream = self._opened()
        context = self._stream.codec_context
        self._check_size(context.width, context.height)
        self._index = self._listed()
        self.end, self.duration = self._index.end, self._index.duration
        self._shown_keys = self._index.shown_keys
        self._wanted, self._step, self._cuts_left = self._plan()
        self._maybe = self._candidates()
        self._convert = VideoReformatter()

    def facts(self) -> dict[str, Any]:
        context = self._stream.codec_context
        return {
            "format": sniff_clip(start_of(self._descriptor, SNIFFED_BYTES)),
            "width": context.width,
            "height": context.height,
            "frames": self._index.frames,
            "duration": self.duration,
            "planned": len(self._wanted) + self._cuts_left,
        }

    def frames(self) -> Iterator[Frame]:
        left, start = iter(self._wanted), self._index.ticks[0]
        target = next(left, None)
        given, before, latest = -math.inf, None, start - 1
        for frame, tick in self._decoded():
            if target is None:
                return
            if tick <= latest:
                continue  # it leads into a place where decoding began, and lacks what it needs
            latest, look = tick, _look(frame)
            is_cut = before is not None and _differ(before, look)
            before, seconds = look, (tick - start) * self._index.base
            if tick < target:
                gap = (target - tick) * self._index.base
                near = min(gap, seconds - given) <= self._step / 4
                if not is_cut or near or self._cuts_left < 1:
                    continue
                self._cuts_left -= 1
            given = seconds
            yield Frame(max(0.0, seconds), self._pixels(frame), is_cut)
            while target is not None and target <= tick:
                target = next(left, None)
        if target is not None and self.end is ClipEnd.WHOLE:
            self.end = ClipEnd.DAMAGED
        if given == -math.inf:
            raise VideoInvalid("Not one frame of the video can be decoded.", _AGAIN)

    def _opened(self) -> tuple[InputContainer, VideoStream]:
        """The container and the stream that players show."""
        try:
            container = av.open(
                Shared(self._descriptor),
                container_options={"format_whitelist": _CONTAINERS, "protocol_whitelist": "none"},
                buffer_size=_BUFFER,
            )
        except (av.FFmpegError, ValueError) as error:
            raise VideoInvalid(
                "The file is no video that can be read, or its index is missing or broken.", _AGAIN
            ) from error
        assert isinstance(container, InputContainer)
        streams = [
            one
            for one in container.streams.video
            if not one.disposition & one.disposition.attached_pic and one.codec_context is not None
        ]
        if not streams:
            raise VideoInvalid(
                "The file holds no video, only sound or a cover.", "Use a file with a video in it."
            )
        if len(streams) > 1:
            self.notes.add(ClipNote.SEVERAL_STREAMS)
        chosen = next((one for one in streams if one.disposition & one.disposition.default), None)
        stream = chosen or streams[0]
        context = stream.codec_context
        context.thread_type = ThreadType.AUTO
        context.thread_count = self._question.threads
        context.options = {"max_pixels": str(self._question.pixels)}
        return container, stream

    def _listed(self) -> _Index:
        """The packets, without decoding them."""
        stream, base = self._stream, float(self._stream.time_base or 1)
        shown, keys, end = dict[int, int](), dict[int, int](), ClipEnd.WHOLE
        latest, found, is_torn = -(2**63), 0, False
        for number, (packet, tick) in enumerate(self._packets(self._container, stream)):
            if number >= _MOST_PACKETS:
                end = ClipEnd.TOO_LONG
                break
            is_torn = packet.is_corrupt
            if packet.is_keyframe:
                # A hidden one comes after all that was shown before it, whatever its time is.
                place = max(tick, latest + 1) if packet.is_discard else tick
                keys.setdefault(place, found)
                found += 1
            if keys and not packet.is_discard:  # nothing can be decoded before the first keyframe
                shown[tick] = packet.duration or 0
                latest = max(latest, tick)
        ticks = sorted(one for one in shown if one >= next(iter(keys)))
        if not ticks:
            raise VideoInvalid("The video has no frames that can be decoded.", _AGAIN)
        within = ticks[: bisect_right(ticks, ticks[0] + self._question.seconds / base)]
        if len(within) < len(ticks):
            end = ClipEnd.TOO_LONG
        step = (ticks[-1] - ticks[0]) // max(1, len(ticks) - 1)
        span, whole = (one[-1] - one[0] + (shown[one[-1]] or step) for one in (within, ticks))
        if end is ClipEnd.WHOLE and (
            self._broken or is_torn or self._announced() * (1 - _FEW) - 1 > whole * base
        ):
            end = ClipEnd.CUT_SHORT
        return _Index(within, sorted(keys.items()), base, span, whole, len(ticks), end)

    def _announced(self) -> float:
        """Seconds that the header announces; 0 where it announces none."""
        stream = self._stream
        if self._container.format.name == "avi" and stream.average_rate:
            return float(stream.frames / stream.average_rate)  # FFmpeg guesses by the file's size
        if stream.duration is not None and stream.time_base is not None:
            return float(stream.duration * stream.time_base)
        return (self._container.duration or 0) / av.time_base

    def _plan(self) -> tuple[list[int], float, int]:
        """The frames that are wanted, seconds between them, and how many more there may be."""
        asked, index = self._question, self._index
        if asked.times is not None:
            return sorted({index.tick_at(one) for one in asked.times}), 0.0, 0
        if not asked.every:
            count = len(index.ticks)
            places = range(count) if count <= asked.most else _spread(count, asked.most)
            if count > asked.most:
                self.notes.add(ClipNote.SPARSE)
            return [index.ticks[one] for one in places], 0.0, 0
        kept = asked.most // _CUTS_SHARE if asked.cuts else 0
        span = index.looked_at
        sampling = FrameSampling(asked.every, asked.most, closer=asked.closer)
        times = moments(span, sampling)
        if len(index.ticks) <= len(times):
            return index.ticks, 0.0, 0
        if len(times) == asked.most and span > sampling.step(span) * (asked.most + _ROUNDED):
            self.notes.add(ClipNote.SPARSE)
            times = moments(span, replace(sampling, most=asked.most - kept))
        step = times[1] - times[0] if len(times) > 1 else asked.every
        wanted = sorted({self._near(index.tick_at(one), step) for one in times})
        return wanted, step, min(asked.most - len(wanted), len(wanted)) if asked.cuts else 0

    def _near(self, tick: int, step: float) -> int:
        """A frame where decoding can begin, if there is one near; else the frame itself."""
        keys, slack = self._shown_keys, step / 2 / self._index.base
        place = bisect_left(keys, tick)
        beside = keys[max(0, place - 1) : place + 1]
        near = min(beside, key=lambda one: abs(one - tick), default=tick)
        return near if abs(near - tick) < slack else tick

    def _candidates(self) -> list[int]:
        """Frames where decoding can begin that nobody asked for: encoders put some at cuts."""
        if not self._cuts_left:
            return []
        known = set(self._wanted)
        others = [one for one in self._shown_keys if one not in known]
        return [others[one] for one in _spread(len(others), min(len(others), self._question.most))]

    def _decoded(self) -> Iterator[tuple[VideoFrame, int]]:
        """Frames in order, among them those that are wanted; each with its tick."""
        needed = sorted({*self._wanted, *self._maybe})
        last_of = {self._index.key_before(one): one for one in needed}
        container, stream = self._opened()
        context = stream.codec_context
        if len(self._index.ticks) >= _DENSE * len(self._wanted):
            context.skip_frame = "NONREF"  # no other frame needs these, so the rest is as it was
        until, number = None, -1
        for packet, tick in self._packets(container, stream):
            number += packet.is_keyframe
            if packet.is_keyframe and number in last_of:
                self._begun = tick if until is None else self._begun
                until = last_of.pop(number)
            if until is None:
                continue
            found = self._frames_of(context, packet)
            if packet.is_keyframe and tick == until and not packet.is_discard:
                found += self._drained(context)
            yield from found
            if found and found[-1][1] >= until:
                context.flush_buffers()
                until = None
                if not last_of:
                    return
        yield from self._drained(context)

    def _packets(
        self, container: InputContainer, stream: VideoStream
    ) -> Iterator[tuple[Packet[VideoStream], int]]:
        """The packets of a video with their ticks, up to where the file can be read."""
        try:
            for packet in container.demux(stream):
                tick = packet.dts if packet.pts is None else packet.pts
                if tick is not None and packet.size:
                    yield packet, tick
        except av.FFmpegError:
            self._broken = True

    def _frames_of(
        self, context: VideoCodecContext, packet: Packet[VideoStream] | None
    ) -> list[tuple[VideoFrame, int]]:
        """What comes out where a packet goes in; the rest that is inside where there is none."""
        try:
            frames = context.decode(packet)
        except MemoryError as error:
            raise _too_much_memory() from error
        except av.FFmpegError:
            frames = []
            self._damaged(None if packet is None else packet.pts)
        found = []
        for one in frames:
            if one.is_corrupt:
                self._damaged(one.pts)
            elif one.pts is not None:
                found.append((one, one.pts))
        return found

    def _drained(self, context: VideoCodecContext) -> list[tuple[VideoFrame, int]]:
        frames = self._frames_of(context, None)
        context.flush_buffers()
        return frames

    def _damaged(self, tick: int | None) -> None:
        """Note it, but not of frames that need some from before the place where decoding began."""
        if self.end is ClipEnd.WHOLE and (tick is None or tick >= self._begun):
            self.end = ClipEnd.DAMAGED

    def _pixels(self, frame: VideoFrame) -> Pixels:
        """RGB of 8 bits as it is stored; or, for people, upright and small."""
        self._check_size(frame.width, frame.height)
        turns = _turns(frame)
        if any(turns):
            self.notes.add(ClipNote.ROTATED)
        how: dict[str, Any] = {}
        if frame.color_trc in _HIGH_RANGE:
            self.notes.add(ClipNote.HDR)
            how = {"dst_color_trc": ColorTrc.BT709, "dst_color_primaries": ColorPrimaries.BT709}
        elif frame.colorspace == _UNSAID and frame.height >= _HD:
            how = {"src_colorspace": Colorspace.ITU709}
        try:
            rgb = self._convert.reformat(frame, format="rgb24", **how).to_ndarray()
        except MemoryError as error:
            raise _too_much_memory() from error
        if self._question.times is None:
            return np.ascontiguousarray(rgb)
        side = self._question.picture
        is_transposed, is_flipped, is_mirrored = turns
        rgb = rgb.transpose(1, 0, 2) if is_transposed else rgb
        rgb = rgb[:: -1 if is_flipped else 1, :: -1 if is_mirrored else 1]
        upright = Image.fromarray(np.ascontiguousarray(rgb))
        upright.thumbnail((side, side), Image.Resampling.BILINEAR)
        return np.ascontiguousarray(upright)

    def _check_size(self, width: int, height: int) -> None:
        if width < 1 or height < 1:
            raise VideoInvalid("The size of the video's frames is not known.", _AGAIN)
        if width * height > self._question.pixels or max(width, height) > self._question.side:
            raise VideoTooLarge(
                f"The video's frames have {width:,} x {height:,} pixels, which is more than is "
                "allowed.",
                "Scale it down, or raise D3_MAX_IMAGE_PIXELS and D3_MAX_IMAGE_SIDE.",
            )


for _module in pkgutil.walk_packages(av.__path__, "av."):
    # The package imports these when it needs them, and then the child can open no file any more.
    if _module.name not in {"av.__main__", "av.datasets"}:
        import_module(_module.name)


def open_movie(descriptor: int, question: Question) -> _Movie:
    """Open a video.

    Raises:
        VideoInvalid: it is none, or none of its frames can be decoded.
        VideoTooLarge: its frames are.
    """
    return _Movie(descriptor, question)


def _spread(count: int, wanted: int) -> list[int]:
    """So many places of so many, evenly."""
    return [number * count // wanted for number in range(wanted)]


def _turns(frame: VideoFrame) -> tuple[bool, bool, bool]:
    """What players do to show a frame: transpose it, turn it upside down, mirror it, in this order.

    Of angles in between, the nearest right one.
    """
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if not isinstance(matrix, SideData):
        return False, False, False
    numbers = np.frombuffer(bytes(matrix), np.int32)
    if len(numbers) < _MATRIX:
        return False, False, False
    a, b, _, c, d = map(int, numbers[:5])
    if abs(b) + abs(c) > abs(a) + abs(d):
        return True, b < 0, c < 0
    return False, d < 0, a < 0


def _look(frame: VideoFrame) -> NDArray[np.float32]:
    """A few samples of a frame's first plane, which are brightness in most formats."""
    plane, part = frame.planes[0], frame.format.components[0]
    wide = part.bits > 8  # noqa: PLR2004
    kind = np.dtype(np.uint16 if wide else np.uint8)
    rows = np.frombuffer(memoryview(plane), kind).reshape(plane.height, -1)
    down, across = _SAMPLES
    seen = rows[:: max(1, plane.height // down), :: max(1, plane.width // across)]
    looked: NDArray[np.float32] = seen[:down, :across].astype(np.float32)
    return looked / np.float32(1 << max(0, part.bits - 8))


def _differ(one: NDArray[np.float32], other: NDArray[np.float32]) -> bool:
    """Whether two frames show different scenes."""
    return one.shape != other.shape or float(np.abs(one - other).mean()) > _CUT


def _too_much_memory() -> VideoTooLarge:
    return VideoTooLarge("There is not enough memory to decode the video.", "Scale it down.")
