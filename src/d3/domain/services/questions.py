"""What is asked about an image: the members of a panel, and the passes that serve them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Self

from d3.domain.detections import Detection
from d3.domain.errors import D3Error, Overloaded, ScoreUndefined
from d3.domain.images import DecodedImage, ImageFacts, ImageSource, Pixels
from d3.domain.inputs import CHANGES, Change, PixelsWanted
from d3.domain.machine import libraries_of
from d3.domain.models import notice_of
from d3.domain.panels import Missing, Opinion, PanelRule, PanelVerdict, heard
from d3.domain.ports.history import CacheKey
from d3.domain.ports.images import ImageDecoder
from d3.domain.ports.queue import DetectionQueue, Lane, Scored, Slots
from d3.domain.scoring import Score, assess, checked_threshold, checked_views
from d3.domain.services.model_host import LoadedModel, Panel


@dataclass(frozen=True, slots=True)
class Member:
    """A model that is asked, in its own way.

    Attributes:
        model: which one.
        threshold: in [0, 1].
        views: 1 to 16, at most its own.
    """

    model: LoadedModel
    threshold: float
    views: int

    def score(self, logits: Sequence[float], facts: ImageFacts) -> Score:
        """Its verdict on an image, of its raw logits, one per view.

        Raises:
            ScoreUndefined: a logit is no finite number.
        """
        manifest = self.model.manifest
        try:
            return assess(
                logits,
                threshold=self.threshold,
                calibration=manifest.calibration,
                abstain_band=manifest.abstain_band,
                lack=facts.lack,
            )
        except ScoreUndefined as error:
            raise self.model.undefined() from error

    def opinion(self, score: Score, logits: Sequence[float], seconds: float) -> Opinion:
        """What it says of an image, which took so many seconds of the device."""
        manifest, detector = self.model.manifest, self.model.queue.detector
        calibration, band = manifest.calibration, manifest.abstain_band
        return Opinion(
            model=self.model.reference,
            prediction=score.prediction,
            verdict=score.verdict,
            reason=score.reason,
            threshold=score.threshold,
            logit=score.logit,
            calibration=calibration.name,
            calibrated=calibration.fitted,
            seconds=seconds,
            calibration_scale=calibration.scale,
            calibration_bias=calibration.bias,
            abstain_below=band.below,
            abstain_above=band.above,
            logits=tuple(logits) if len(logits) > 1 else (),
            engine=detector.engine,
            precision=detector.precision,
            device=detector.device,
        )


@dataclass(frozen=True, slots=True)
class Pass:
    """Pixels of an image that one detector scores at once, for one member or several.

    Attributes:
        members: that read their logits from it.
        views: that the detector is asked for.
        pixels: of the image.
    """

    members: tuple[Member, ...]
    views: int
    pixels: PixelsWanted

    @classmethod
    def of(cls, members: Sequence[Member]) -> Self:
        """The one that answers all of these, whose models share a detector."""
        views = max(one.views for one in members)
        return cls(tuple(members), views, members[0].model.pixels)

    @property
    def queue(self) -> DetectionQueue:
        """In front of the detector."""
        return self.members[0].model.queue

    @property
    def changed(self) -> bool:
        """Whether the image is changed first, to see whether its verdict stands."""
        return self.pixels.change is not Change.NONE

    def lane(self, asked: Lane) -> Lane:
        """Who goes first: the images as they are."""
        return Lane.BULK if self.changed else asked

    def key_of(self, facts: ImageFacts) -> CacheKey:
        """What decides the logits of an image."""
        detector = self.queue.detector
        return CacheKey(
            image_sha256=self.sha256_of(facts),
            model_sha256=self.members[0].model.key,
            views=self.views,
            engine=detector.engine,
            precision=detector.precision,
        )

    def sha256_of(self, facts: ImageFacts) -> str:
        """Stands for the pixels: the image's own, or another one where it was changed."""
        if not self.changed:
            return facts.sha256
        return hashlib.sha256(f"{facts.sha256}:{self.pixels.change}".encode()).hexdigest()

    def logits_of(self, member: Member, scored: Scored) -> list[float]:
        """A member's raw logits, one per view."""
        return member.model.own(scored.logits, member.views, self.views)


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, and of which models.

    Attributes:
        members: the chief first, whose threshold and views are the ones asked for.
        passes: that score an image for all members, the chief's first; then those that score its
            changes for the chief, where a test of stability is asked for.
        rule: how the members' verdicts become one.
        missing: members of the panel that cannot be asked.
    """

    members: tuple[Member, ...]
    passes: tuple[Pass, ...]
    rule: PanelRule = PanelRule.CHIEF
    missing: tuple[Missing, ...] = ()
    _wanted: tuple[PixelsWanted, ...] = field(init=False)

    def __post_init__(self) -> None:
        wanted = tuple(one.pixels for one in self.passes)
        if len(wanted) > 1:
            wanted = tuple(dict.fromkeys(wanted))
        object.__setattr__(self, "_wanted", wanted)

    @classmethod
    def of(
        cls,
        panel: Panel,
        *,
        threshold: float | None = None,
        views: int = 1,
        rule: PanelRule | None = None,
        stability: bool = False,
    ) -> Self:
        """Check what is asked of a panel, which may be one model.

        Args:
            panel: who answers.
            threshold: of the chief, in [0, 1]; the model's own unless said. The others use theirs.
            views: 1 to 16; a member that has fewer averages those.
            rule: the panel's unless said.
            stability: whether the chief also judges each of :data:`CHANGES` of the image.

        Raises:
            ThresholdInvalid: the threshold is not a number in [0, 1].
            ViewsInvalid: the chief cannot give that many views.
        """
        manifest = panel.chief.manifest
        chief = Member(
            panel.chief,
            manifest.threshold if threshold is None else checked_threshold(threshold),
            checked_views(views, manifest.views, manifest.name),
        )
        own = Pass.of((chief,))
        changes = CHANGES if stability else ()
        tried = [replace(own, pixels=replace(own.pixels, change=one)) for one in changes]
        if not panel.others:
            return cls((chief,), (own, *tried), rule or panel.rule, panel.missing)
        members = [
            chief,
            *(
                Member(one, one.manifest.threshold, min(chief.views, one.manifest.views))
                for one in panel.others
            ),
        ]
        sharing: dict[DetectionQueue, list[Member]] = {}
        for one in members:
            sharing.setdefault(one.model.queue, []).append(one)
        passes = tuple(map(Pass.of, sharing.values()))
        return cls(tuple(members), (*passes, *tried), rule or panel.rule, panel.missing)

    @property
    def chief(self) -> Member:
        """Whose verdict counts first."""
        return self.members[0]

    def decode(self, decoder: ImageDecoder, source: ImageSource) -> DecodedImage:
        """Decode an image once, for all that is wanted of it.

        Raises:
            ImageError: see the decoder.
        """
        wanted, *also = self._wanted
        return decoder.decode(source, wanted, also)

    def pixels_of(self, one: Pass, image: DecodedImage) -> Pixels:
        """The pixels (1, S, S, 3) of a decoded image that a pass takes."""
        place = self._wanted.index(one.pixels)
        return (image.also[place - 1] if place else image.pixels)[None]

    def reserve(
        self,
        lane: Lane,
        images: int = 1,
        file_bytes: int = 0,
        deadline: float | None = None,
        *,
        batch_size: int | None = None,
    ) -> tuple[Slots | D3Error, ...]:
        """Take slots in the queue of each pass, or in none; see :meth:`DetectionQueue.reserve`.

        Args:
            lane: who goes first.
            images: 1 or more; each counts with its pixels.
            file_bytes: of the images' files, where they are kept in memory too.
            deadline: on the monotonic clock, after which nobody waits for them.
            batch_size: images of one forward pass at most.

        Returns:
            For each pass its slots, which some share; what is wrong with its queue, for one
            without the chief.

        Raises:
            Overloaded: too much waits in one of the queues.
            D3Error: the chief's queue cannot be used.
        """
        places = [(one.queue, one.lane(lane)) for one in self.passes]
        taken: dict[tuple[DetectionQueue, Lane], Slots | D3Error] = {}
        for one, place in zip(self.passes, places, strict=True):
            if place in taken:
                continue
            # At once: a lane takes one request that is too large for it, and not a second one.
            together = images * places.count(place)
            size_bytes = (0 if taken else file_bytes) + together * 3 * one.pixels.size**2
            queue, its_lane = place
            try:
                taken[place] = queue.reserve(
                    together, size_bytes, one.views, its_lane, deadline, batch_size=batch_size
                )
            except D3Error as error:
                if not taken or isinstance(error, Overloaded):
                    for earlier, slots in taken.items():
                        release([slots], images * places.count(earlier))
                    raise
                taken[place] = error
        return tuple(taken[place] for place in places)

    def answer(
        self, name: str, facts: ImageFacts, scored: Sequence[Scored | D3Error], decoding: float
    ) -> Detection:
        """The detection that follows from what the passes gave.

        Args:
            name: the image's display name.
            facts: of the original.
            scored: of each pass its logits, or why there are none; the chief's are there.
            decoding: seconds spent decoding.

        Raises:
            ScoreUndefined: a logit of the chief is no finite number.
            D3Error: a change of the image could not be scored.
        """
        chief, first = self.chief, scored[0]
        assert isinstance(first, Scored)
        logits = self.passes[0].logits_of(chief, first)
        stability = self._tried(facts, scored)
        score, panel = chief.score(logits, facts).tried(stability.values()), None
        if len(self.members) + len(self.missing) > 1:
            score, panel = self._heard(score, facts, scored)
        manifest, detector = chief.model.manifest, chief.model.queue.detector
        return Detection.of(
            score,
            name=name,
            views=chief.views,
            image=facts,
            model=chief.model.reference,
            engine=detector.engine,
            precision=detector.precision,
            processing_time=decoding + device_seconds(scored),
            logits=logits,
            device=detector.device,
            libraries=libraries_of(detector.engine),
            calibration=manifest.calibration,
            abstain_band=manifest.abstain_band,
            notice=notice_of(one.model.manifest for one in self.members),
            panel=panel,
            stability=stability,
        )

    def _tried(self, facts: ImageFacts, scored: Sequence[Scored | D3Error]) -> dict[Change, float]:
        """The probability that the chief gives each change of the image."""
        found = dict[Change, float]()
        for one, result in zip(self.passes, scored, strict=True):
            if one.changed:
                if isinstance(result, D3Error):
                    raise result
                score = self.chief.score(one.logits_of(self.chief, result), facts)
                found[one.pixels.change] = score.prediction
        return found

    def _heard(
        self, score: Score, facts: ImageFacts, scored: Sequence[Scored | D3Error]
    ) -> tuple[Score, PanelVerdict]:
        """The chief's score with the panel's verdict, and what each member said."""
        said = dict[str, Opinion | Missing]()
        for one, found in zip(self.passes, scored, strict=True):
            for member in () if one.changed else one.members:
                name = member.model.manifest.name
                try:
                    if isinstance(found, D3Error):
                        raise found
                    logits = one.logits_of(member, found)
                    share = found.seconds / len(one.members)
                    said[name] = member.opinion(member.score(logits, facts), logits, share)
                except D3Error as error:
                    said[name] = Missing.of(name, error)
        told = [said[one.model.manifest.name] for one in self.members]
        opinions = tuple(one for one in told if isinstance(one, Opinion))
        silent = tuple(one for one in told if isinstance(one, Missing))
        verdict = PanelVerdict(self.rule, opinions, self.missing + silent)
        return heard(score, self.rule, opinions), verdict


def release(slots: Sequence[Slots | D3Error], images: int = 1) -> None:
    """Give back so many slots of each queue."""
    for one in slots:
        if not isinstance(one, D3Error):
            one.release(images)


def device_seconds(scored: Sequence[Scored | D3Error]) -> float:
    """An image's share of the time of all its passes."""
    return sum(one.seconds for one in scored if isinstance(one, Scored))
