"""Clips on the command line: which frames are judged, in what order, and how they are shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from d3.domain.formats import named_as_clip
from d3.entrypoints.cli.output import complain, counted, out
from d3.entrypoints.cli.sources import Found, Link

if TYPE_CHECKING:
    from d3.container import Container
    from d3.domain.clips import FrameSampling
    from d3.domain.detections import Detection, Failure
    from d3.domain.images import ImageSource
    from d3.domain.ports.images import ImageDecoder
    from d3.domain.services.clips import ClipService

_BARS = "▁▂▃▄▅▆▇█"
_LINKS_AT_ONCE = 8
"""Links that are fetched at the same time."""
_COURSE = 80
"""Frames that the course of a clip shows at most."""


def sampling_of(
    clips: ClipService, every: float | None, most: int | None, frames: str
) -> FrameSampling:
    """Which frames of clips are judged.

    Raises:
        click.UsageError: every frame is wanted, and a time between them.
        RequestInvalid: more frames are asked for than are allowed.
    """
    if frames == "all" and every is not None:
        raise click.UsageError("--frames all judges every frame. Leave --every out.")
    return clips.sampling(every, most, all_frames=frames == "all")


def clips_among(
    clips: ClipService, paths: Sequence[str], *, animations: bool, video: bool
) -> Callable[[ImageSource], bool]:
    """What is judged as a clip: of videos, with no ``--video`` only those that ``paths`` name."""
    named = {*map(Path, paths)}

    def is_clip(source: ImageSource) -> bool:
        if isinstance(source, Link):
            return False
        videos = video or not isinstance(source, Path) or source in named
        return clips.is_clip(source, animations=animations, videos=videos)

    return is_clip


def belonging(decoder: ImageDecoder, clips: ClipService, *, video: bool) -> Callable[[Path], bool]:
    """What is judged of folders beside what is named as an image, as scans do it."""

    def belongs(path: Path) -> bool:
        is_video = video and (named_as_clip(str(path)) or clips.is_clip(path))
        return is_video or decoder.recognises(path)

    return belongs


def outcomes_of(
    container: Container,
    found: Found,
    is_clip: Callable[[ImageSource], bool],
    sampling: FrameSampling,
    question: dict[str, Any],
) -> Iterator[Detection | Failure]:
    """Judge what was found, in order: runs of images many at once, clips one by one."""
    from d3.domain.detections import Failure
    from d3.domain.errors import DetectorFailed, ImageError, ScoreUndefined

    every = zip(found.sources, found.names, strict=True)
    for kind, run in groupby(every, key=lambda one: _kind(one[0], is_clip)):
        if kind == "link":
            links = [source for source, _ in run if isinstance(source, Link)]
            yield from _of_links(container, links, is_clip, sampling, question)
            continue
        if kind == "image":
            sources, names = zip(*run, strict=True)
            yield from container.detection().detect_many(
                sources,
                names=names,
                batch_size=container.settings().batch_size,
                errors="return",
                **question,
            )
            continue
        for source, name in run:
            assert isinstance(source, str | Path | bytes)
            try:
                yield container.clips().judge(source, sampling, name=name, **question)
            except (ImageError, ScoreUndefined, DetectorFailed) as error:
                yield Failure(name, error)


def _kind(source: ImageSource, is_clip: Callable[[ImageSource], bool]) -> str:
    if isinstance(source, Link):
        return "link"
    return "clip" if is_clip(source) else "image"


def _of_links(
    container: Container,
    links: Sequence[Link],
    is_clip: Callable[[ImageSource], bool],
    sampling: FrameSampling,
    question: dict[str, Any],
) -> Iterator[Detection | Failure]:
    """Fetch and judge what links lead to, in order; a few files are in memory at a time."""
    from d3.domain.detections import Failure
    from d3.domain.errors import D3Error

    fetch = container.links()

    def fetched(link: Link) -> bytes | D3Error:
        try:
            data: bytes = fetch(link.url).data
        except D3Error as error:
            return error
        return data

    with ThreadPoolExecutor(_LINKS_AT_ONCE, "d3-links") as pool:
        for first in range(0, len(links), _LINKS_AT_ONCE):
            some = links[first : first + _LINKS_AT_ONCE]
            contents = [*pool.map(fetched, some)]
            there = Found()
            for link, content in zip(some, contents, strict=True):
                if isinstance(content, bytes):
                    there.add(link.url, content)
            outcomes = outcomes_of(container, there, is_clip, sampling, question)
            for link, content in zip(some, contents, strict=True):
                if isinstance(content, bytes):
                    link.content = content
                    yield next(outcomes)
                    link.content = b""
                else:
                    yield Failure(link.url, content)


def hint_at_videos(passed_over: int) -> None:
    """Say how videos in folders are judged, where some were skipped."""
    if passed_over:
        complain(f"{counted(passed_over, 'video')} skipped. --video judges them too.", kind="note")


def print_clip(detection: Detection) -> None:
    """The course of a clip in a line, what that says, and what is unusual."""
    from rich.text import Text

    from d3.domain.services.reporting import clock

    clip = detection.clip_verdict
    if clip is None:
        return
    shown = clip.frames[:: -(-len(clip.frames) // _COURSE)]
    bars = "".join(_BARS[min(int(one.prediction * len(_BARS)), len(_BARS) - 1)] for one in shown)
    frames = counted(len(clip.frames), "frame")
    out().print(
        Text(
            f"  {frames} up to {clock(clip.judged_until)} of {clock(clip.duration)}: "
            f"{clip.share_above:.0%} above the threshold, the highest mean from "
            f"{clock(clip.highest_from)} to {clock(clip.highest_until)}",
            style="dim",
        )
    )
    out().print(Text(f"  {bars}", style="dim"))
    for sentence in (clip.end_text, *clip.note_texts):
        if sentence:
            out().print(Text(f"  {sentence}", style="dim"))
