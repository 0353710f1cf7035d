"""D3 as a Python library: one function, or an object that you open and close."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NoReturn, Self, overload

from d3.container import Container
from d3.domain.clips import ClipSource, FrameSampling, seconds_of
from d3.domain.detections import Detection, Failure
from d3.domain.errors import RequestInvalid
from d3.domain.heatmaps import Heatmap
from d3.domain.images import ImageSource
from d3.domain.panels import checked_rule
from d3.domain.services.model_host import models_work_here
from d3.domain.services.models import ModelService
from d3.settings import Settings


class D3:
    """A detector and its models.

    ::

        with d3.D3() as detector:
            detector.detect("photo.jpg", views=4)

    Args:
        settings: read from the environment and ``.env`` by default.

    Raises:
        SettingsInvalid: the environment holds invalid settings.

    You can use one object from many threads. It loads its models once, with the first image.

    A process that is forked after D3 has judged an image cannot judge any: every call there raises
    ``fork_unsupported``. An object that was not used yet works in each child.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self._container = Container(settings=settings or Settings.from_environment())
        _all.add(self)

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "A D3 cannot be copied or sent to another process. Make one in each process, or call "
            "d3.detect there: it keeps one D3 for each process."
        )

    def _renew(self) -> None:
        """Have parts of one's own in a forked process: connections and locks are the parent's."""
        _left_behind.append(self._container)
        self._container = Container(settings=self._container.settings())

    def detect(
        self,
        source: ImageSource,
        *,
        name: str | None = None,
        threshold: float | None = None,
        views: int = 1,
        panel: Sequence[str] | None = None,
        panel_rule: str | None = None,
        stability: bool = False,
        frames: Literal["first", "all"] = "first",
    ) -> Detection:
        """Judge one image.

        Args:
            source: a path, the bytes of an image file, a PIL image, or uint8 pixels
                (height, width, 3).
            name: the display name; by default that of the path.
            threshold: in [0, 1]; by default the model's. Other models of a panel use their own.
            views: 1 to 16 permutations to average; costs ``1 + views`` encodings.
            panel: names of the models that judge, such as ``["d3-vit-l14", "ferretnet-s"]``, the
                chief first, or a text with commas between them; by default those of ``D3_PANEL``,
                else the model in use. A model that is named is loaded and kept. Each one's opinion
                is in ``Detection.opinions``.
            panel_rule: ``"chief"``, ``"any"`` or ``"majority"``; by default that of
                ``D3_PANEL_RULE``.
            stability: judges the image once more as a JPEG, at three quarters of its size, cropped
                by 5 % and mirrored, which is in ``Detection.stability``. The verdict
                is ``uncertain`` if one of them turns it. Takes about five times as long.
            frames: ``"all"`` judges every frame of a video or an animated image, as
                :meth:`detect_clip` does; ``"first"`` the first one of an animation alone.

        Raises:
            D3Error: see :mod:`d3.errors`; each has a ``code`` and says what to do.
        """
        models_work_here()
        if frames not in {"first", "all"}:
            raise RequestInvalid(f"frames={frames!r} is not valid.", "Use 'first' or 'all'.")
        if frames == "all" and self._container.clips().is_clip(source, animations=True):
            return self._judge_clip(
                source,
                self._container.clips().sampling(all_frames=True),
                name=name,
                threshold=threshold,
                views=views,
                panel=panel,
                panel_rule=panel_rule,
                stability=stability,
            )
        detection: Detection = self._container.detection().detect(
            source,
            name=name,
            threshold=threshold,
            views=views,
            panel=panel,
            panel_rule=checked_rule(panel_rule),
            stability=stability,
        )
        return detection

    def detect_clip(
        self,
        source: ClipSource,
        *,
        every: float | str = 1.0,
        most: int | None = None,
        name: str | None = None,
        threshold: float | None = None,
        views: int = 1,
        panel: Sequence[str] | None = None,
        panel_rule: str | None = None,
        stability: bool = False,
    ) -> Detection:
        """Judge a video, or every frame of an animated image: one detection of many frames.

        ``Detection.clip_verdict`` has each frame's probability, and the rule of the verdict.
        Videos need D3's extra ``video``; without it, the error says how to install it.

        Args:
            source: a path, the bytes of a file, or an open file with a descriptor.
            every: seconds between frames, such as ``0.5`` or ``"2s"``. The first frames after cuts
                are judged too. Of an animated image every frame is judged.
            most: frames at most; by default, and at most, ``D3_VIDEO_FRAMES``. A longer clip is
                sampled more thinly over its whole length.
            name: the display name; by default that of the path.
            threshold: as in :meth:`detect`, for each frame; likewise the following.
            views: 1 to 16 permutations to average.
            panel: names of models.
            panel_rule: how their verdicts on the clip become one.
            stability: judges each frame after harmless changes too.

        Raises:
            D3Error: as :meth:`detect`; ``video_unavailable`` without the extra, ``video_invalid``
                if no frame can be decoded.
        """
        seconds = seconds_of(every) if isinstance(every, str) else every
        return self._judge_clip(
            source,
            self._container.clips().sampling(seconds, most),
            name=name,
            threshold=threshold,
            views=views,
            panel=panel,
            panel_rule=panel_rule,
            stability=stability,
        )

    def _judge_clip(
        self,
        source: ClipSource,
        sampling: FrameSampling,
        *,
        name: str | None,
        panel_rule: str | None,
        **question: Any,
    ) -> Detection:
        models_work_here()
        called = str(source) if isinstance(source, str | Path) else "clip"
        detection: Detection = self._container.clips().judge(
            source,
            sampling,
            name=called if name is None else name,
            panel_rule=checked_rule(panel_rule),
            **question,
        )
        return detection

    @overload
    def detect_many(
        self,
        sources: Iterable[ImageSource],
        *,
        threshold: float | None = None,
        views: int = 1,
        panel: Sequence[str] | None = None,
        panel_rule: str | None = None,
        stability: bool = False,
        batch_size: int = 32,
        errors: Literal["raise"] = "raise",
    ) -> Iterator[Detection]: ...
    @overload
    def detect_many(
        self,
        sources: Iterable[ImageSource],
        *,
        threshold: float | None = None,
        views: int = 1,
        panel: Sequence[str] | None = None,
        panel_rule: str | None = None,
        stability: bool = False,
        batch_size: int = 32,
        errors: Literal["return"],
    ) -> Iterator[Detection | Failure]: ...
    def detect_many(
        self,
        sources: Iterable[ImageSource],
        *,
        threshold: float | None = None,
        views: int = 1,
        panel: Sequence[str] | None = None,
        panel_rule: str | None = None,
        stability: bool = False,
        batch_size: int = 32,
        errors: Literal["raise", "return"] = "raise",
    ) -> Iterator[Detection | Failure]:
        """Judge images in order, decoding ahead of the detector, in bounded memory.

        Args:
            sources: an iterable of any length with the sources that :meth:`detect` takes.
            threshold: in [0, 1]; by default the model's.
            views: 1 to 16 permutations to average.
            panel: as in :meth:`detect`.
            panel_rule: likewise.
            stability: likewise.
            batch_size: images per forward pass; it changes the speed, not the scores.
            errors: ``"raise"`` stops at the first bad image; ``"return"`` yields a
                :class:`d3.Failure` instead and continues.
        """
        models_work_here()
        outcomes: Iterator[Detection | Failure] = self._container.detection().detect_many(
            sources,
            threshold=threshold,
            views=views,
            panel=panel,
            panel_rule=checked_rule(panel_rule),
            stability=stability,
            batch_size=batch_size,
            errors=errors,
        )
        return outcomes

    def explain(self, source: ImageSource, *, views: int = 1) -> Heatmap:
        """Draw a heat map of where the score comes from; see :meth:`Heatmap.overlay` and ``png``.

        The map is not proof: its scale fits each image, so a real photograph has red parts too.

        Args:
            source: as in :meth:`detect`.
            views: 1 to 16 permutations to average.

        Raises:
            D3Error: as :meth:`detect`; ``explanation_unavailable`` if the engine cannot explain.
        """
        models_work_here()
        heatmap: Heatmap = self._container.explaining().explain(source, views=views)
        return heatmap

    def prompts(self, source: ImageSource) -> list[str]:
        """The prompts that generators have written into a file, in full.

        ``Detection.provenance`` says only whether there are any: nothing of them is ever stored.

        Args:
            source: as in :meth:`detect`; pixels hold none.

        Raises:
            ImageError: it is missing, no image, or beyond a limit.
        """
        found: list[str] = self._container.prompts()(source)
        return found

    @property
    def models(self) -> ModelService:
        """List, import, choose, verify and remove models."""
        service: ModelService = self._container.models()
        return service

    def close(self) -> None:
        """Unload the model; a later call loads it again."""
        self._container.host().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


_all: weakref.WeakSet[D3] = weakref.WeakSet()
_left_behind: list[Container] = []
"""Never freed: what frees a model would wait for the parent's threads."""
_shared_lock = threading.Lock()


def _renew_all() -> None:
    global _shared_lock  # noqa: PLW0603  another thread of the parent may hold it
    _shared_lock = threading.Lock()
    for one in list(_all):
        one._renew()  # noqa: SLF001


os.register_at_fork(after_in_child=_renew_all)


@cache
def _shared() -> D3:
    return D3()


def detect(
    source: ImageSource,
    *,
    name: str | None = None,
    threshold: float | None = None,
    views: int = 1,
    panel: Sequence[str] | None = None,
    panel_rule: str | None = None,
    stability: bool = False,
    frames: Literal["first", "all"] = "first",
) -> Detection:
    """Judge one image with the settings of the environment; see :meth:`D3.detect`.

    The model is loaded with the first call and kept for the next ones.
    """
    models_work_here()
    with _shared_lock:
        detector = _shared()
    return detector.detect(
        source,
        name=name,
        threshold=threshold,
        views=views,
        panel=panel,
        panel_rule=panel_rule,
        stability=stability,
        frames=frames,
    )
