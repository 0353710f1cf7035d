"""Videos for tests, encoded as they are needed: small ones of known scenes."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from functools import lru_cache
from tempfile import NamedTemporaryFile
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
_TICKS = 1000
"""Of a second."""


@lru_cache(maxsize=64)
def scene(number: int, width: int = 160, height: int = 96) -> Pixels:
    """A picture with a texture of its own; its brightness tells it from the other scenes."""
    rng = np.random.default_rng(number)
    coarse = rng.integers(-20, 20, (height // 8 + 1, width // 8 + 1, 3))
    fine = np.kron(coarse, np.ones((8, 8, 1)))[:height, :width]
    return (np.clip(30 + 50 * (number % 5) + fine, 0, 255)).astype(np.uint8)


def movie(
    seconds: float = 6.0,
    fps: int = 10,
    container: str = "mp4",
    codec: str = "libx264",
    *,
    size: tuple[int, int] = (160, 96),
    cuts: Sequence[float] = (),
    times: Iterable[float] | None = None,
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    streams: int = 1,
    prepare: Callable[[Any], None] = lambda _: None,
    change: Callable[[Any], None] = lambda _: None,
    picture: Callable[[float], Pixels] | None = None,
) -> bytes:
    """The bytes of a video.

    Args:
        seconds: its length.
        fps: frames of a second.
        container: such as ``"mp4"``.
        codec: such as ``"libx264"``.
        size: width and height.
        cuts: when another scene begins.
        times: of the frames; one every ``1 / fps`` seconds unless given.
        pix_fmt: of the codec.
        options: of the codec.
        container_options: of the container.
        streams: videos in it, of the same frames.
        prepare: gets each stream before anything is encoded.
        change: gets each frame before it is encoded.
        picture: the pixels at a time; a scene between two cuts unless given.
    """
    shown = [number / fps for number in range(round(seconds * fps))]
    with (
        NamedTemporaryFile() as target,  # some containers are read again while they are written
        av.open(target.name, "w", container, options=container_options or {}) as file,
    ):
        made = []
        for _ in range(streams):
            stream = file.add_stream(codec, rate=fps, options=options or {})
            stream.width, stream.height = size
            stream.pix_fmt = pix_fmt
            stream.codec_context.time_base = Fraction(1, _TICKS if times else fps)
            prepare(stream)
            made.append(stream)
        file.start_encoding()
        for place, at in enumerate(shown if times is None else times):
            pixels = (
                scene(sum(at >= one for one in cuts), *size) if picture is None else picture(at)
            )
            for stream in made:
                frame = av.VideoFrame.from_ndarray(pixels, "rgb24").reformat(format=pix_fmt)
                frame.time_base = stream.codec_context.time_base
                frame.pts = round(at * _TICKS) if times else place
                change(frame)
                file.mux(stream.encode(frame))
        for stream in made:
            file.mux(stream.encode())
        file.close()
        return target.read()


def sound(container: str = "mp4") -> bytes:
    """A file with sound and nothing to see."""
    target = io.BytesIO()
    with av.open(target, "w", container) as file:
        stream = file.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 44100
        frame.pts = 0
        file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return target.getvalue()
