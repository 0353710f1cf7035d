"""The recipe `starter`: from photographs and a seed to a small D3, its figures and its model card.

It learns to tell a photograph from what small generators make of it. Three parts of the photographs
(:mod:`d3.training.starter.photographs`), no package in two of them, teach it, set its threshold and
measure it. The model is for trying the software: the card says first how often it accuses a
photograph.
"""

from __future__ import annotations

import json
import math
import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image as PillowImage
from torch import Tensor

from d3.domain.models import STARTER, EncoderSpec
from d3.domain.scoring import AbstainBand, sigmoid
from d3.evaluation.calibration import Fitted
from d3.evaluation.calibration import fit as fit_calibration
from d3.network import D3Network, DiscrepancyHead, Encoder, draw_permutations
from d3.network.checkpoints import write_tensors
from d3.training.starter.card import COMMAND, headline, notice, write_card
from d3.training.starter.evaluate import (
    CONDITIONS,
    evaluate_baselines,
    evaluate_pairs,
    measure_others,
    score,
    share_of_verdicts,
)
from d3.training.starter.fit import FitSettings, fit, pair_batches, start_as_spectrum
from d3.training.starter.generators import SEEN, UNSEEN, Pictures, train_generators
from d3.training.starter.package import write_examples, write_manifest
from d3.training.starter.pairs import (
    Cutting,
    Source,
    make_photographs,
    make_test_pairs,
    make_training_pairs,
)
from d3.training.starter.parallel import one_core_each
from d3.training.starter.photographs import Collection, Part
from d3.training.starter.postprocessing import UNCHANGED_FILE, postprocess

Progress: TypeAlias = Callable[[str, float], None]

PERMUTATION_SEED = 0
PERMUTATIONS = 16


@dataclass(frozen=True, slots=True)
class StarterPlan:
    """How much of everything; the defaults are the shipped model's.

    Attributes:
        generator_pictures: on which the generators are trained.
        training_pairs: pictures, each redone by one of the seen families' generators.
        training_photographs: pictures without a partner, of every size.
        calibration_pairs: pictures of other packages, each redone by one of the seen families.
        test_pictures: of still other packages, each redone by every family.
        photograph_sides: shortest and longest length of pictures without a partner.
        max_false: share of the calibration's photographs, whole ones and parts, that may be called
            fake.
        max_missed: share of its redone pictures that may be called real.
    """

    generator_pictures: int = 200
    generator_steps: int = 150
    training_pairs: int = 1000
    training_photographs: int = 400
    calibration_pairs: int = 100
    test_pictures: int = 73
    cutting: Cutting = Cutting()
    photograph_sides: tuple[int, int] = (224, 1600)
    max_false: float = 0.02
    max_missed: float = 0.05
    encoder: EncoderSpec = EncoderSpec(width=192, layers=2, heads=3, mlp_width=384, projection=0)
    fit: FitSettings = FitSettings(steps=450)


@one_core_each()
def build(
    out: Path,
    photographs: Collection,
    *,
    seed: int = 0,
    progress: Progress = lambda _stage, _share: None,
    plan: StarterPlan | None = None,
    examples: Path | None = None,
    others: Sequence[Path] = (),
) -> dict[str, Any]:
    """Train, set the threshold, measure; write the model, its figures and its card into `out`.

    With a folder for `examples`, some of the test photographs and what generators made of them are
    written there. `others` are data sets that the card has figures of as well. `progress` gets
    the stage and its share done, in [0, 1]. Returns what `metrics.json` holds. With the same seed,
    plan, photographs, machine and library versions the weights are the same bytes.
    """
    plan = plan or StarterPlan()
    clock = Stopwatch()
    size = plan.encoder.image_size
    originals = {part: photographs.read(part) for part in Part}

    def source(split: str, part: Part, cutting: Cutting = plan.cutting) -> Source:
        return Source(split, originals[part], seed, cutting)

    with clock.stage("generators"):
        generators = train_generators(
            _learning_pictures(source("generators", Part.TRAIN), plan.generator_pictures),
            steps=plan.generator_steps,
            seed=seed,
            coarse=True,
            progress=partial(progress, "generators"),
        )
    seen = {family: generators[family] for family in SEEN}
    if examples is not None:
        write_examples(examples, generators, photographs, seed=seed)
    with clock.stage("pictures"):
        training = make_training_pairs(
            seen,
            source("training", Part.TRAIN),
            plan.training_pairs,
            size=size,
            progress=partial(progress, "training pairs"),
        )
        alone = make_photographs(
            source("alone", Part.TRAIN, Cutting(plan.photograph_sides, scenes=0.0)),
            plan.training_photographs,
            size=size,
            progress=partial(progress, "training photographs"),
        )
    network = _start(plan, seed)
    with clock.stage("fit"):
        batches = pair_batches(training, alone, plan.fit, np.random.default_rng([seed, 6]))
        fit(
            network,
            batches,
            plan.fit,
            seed=seed,
            progress=lambda step, _loss: progress("fit", (step + 1) / plan.fit.steps),
        )
        stored = _round_to_half(network)
    permutations = draw_permutations(PERMUTATION_SEED, PERMUTATIONS, plan.encoder.patches)
    judge = partial(score, network, permutations=permutations[:1])

    with clock.stage("calibration"):
        progress("calibration", 0.0)
        whole = _whole(originals[Part.CALIBRATE], size, ("clean", "jpeg75"))
        redone = make_training_pairs(
            seen,
            source("calibration", Part.CALIBRATE, _without_scenes(plan.cutting)),
            plan.calibration_pairs,
            size=size,
        )
        real = np.concatenate([judge(these) for these in (*whole.values(), redone.camera)])
        forged = judge(redone.generated)
        fake = np.repeat([False, True], [len(real), len(forged)])
        logits = np.concatenate([real, forged])
        fitted, share = around_one_half(
            fit_calibration(fake, logits, max_fpr=plan.max_false, max_miss=plan.max_missed)
        )
        progress("calibration", 1.0)
    with clock.stage("evaluation"):
        test, longer = make_test_pairs(
            generators,
            source("test", Part.TEST, _without_scenes(plan.cutting)),
            plan.test_pictures,
            CONDITIONS,
            size=size,
            progress=partial(progress, "test pairs"),
        )
        groups = {"seen": SEEN, "unseen": UNSEEN}
        families = evaluate_pairs(judge, test, longer, groups, fitted, seed=seed)
        whole = _whole(originals[Part.TEST], size, tuple(CONDITIONS))
        packages = [photograph.package for photograph, _ in photographs.of(Part.TEST)]
        figures = {
            "families": families,
            "photographs": {
                name: share_of_verdicts(fitted, judge(pictures), packages)
                for name, pictures in whole.items()
            },
            "others": [
                measure_others(folder, judge, fitted, size=size, seed=seed) for folder in others
            ],
        }
        baselines = evaluate_baselines(test["clean"])
    out.mkdir(parents=True, exist_ok=True)
    for part, weights in stored.items():
        write_tensors(out / f"{part}.safetensors", weights)
    metrics = {
        "recipe": "starter",
        "seed": seed,
        "plan": asdict(plan),
        "families": {"seen": [str(f) for f in SEEN], "unseen": [str(f) for f in UNSEEN]},
        "photographs": {str(part): photographs.packages(part) for part in Part},
        "credits": [
            {"name": one.name, "package": one.package, "author": one.author, "licence": one.licence}
            for one, _ in photographs.of(Part.TRAIN)
        ],
        "permutation_seed": PERMUTATION_SEED,
        "views": 1,
        "calibration": {**asdict(fitted), "generated_share": share},
        "starter": figures,
        "baselines": baselines,
        "cost": {"seconds": clock.seconds, **_machine()},
    }
    (out / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n", encoding="utf-8")
    write_card(out / "MODEL_CARD.md", metrics)
    write_manifest(
        out,
        name=STARTER,
        spec=plan.encoder,
        permutations=permutations,
        permutation_seed=PERMUTATION_SEED,
        fitted=fitted,
        reference=fitted.reference(fake, logits),
        provenance=f"{COMMAND.format(seed=seed)} (see MODEL_CARD.md, which has the credits)",
        notice=notice(metrics),
        metrics=headline(metrics),
    )
    return metrics


def _learning_pictures(source: Source, count: int, side: int = 224) -> Pictures:
    """Cut squares [count, side, side, 3] at many scales, as they are, for generators to learn."""
    squares = []
    for number in range(count):
        picture = PillowImage.fromarray(source.picture(number, source.chance(number)))
        if min(picture.size) < side:
            scale = side / min(picture.size)
            width, height = (max(side, round(scale * one)) for one in picture.size)
            picture = picture.resize((width, height), PillowImage.Resampling.BICUBIC)
        squares.append(np.asarray(picture)[:side, :side])
    return np.stack(squares)


def _without_scenes(cutting: Cutting) -> Cutting:
    return replace(cutting, scenes=0.0)


def _start(plan: StarterPlan, seed: int) -> D3Network:
    torch.manual_seed(seed)
    encoder = Encoder(plan.encoder)
    start_as_spectrum(encoder, seed=seed)
    return D3Network(encoder, DiscrepancyHead(plan.encoder.width))


def around_one_half(fitted: Fitted) -> tuple[Fitted, float]:
    """Move a calibration so that its threshold is one half, with the same verdicts.

    Who asks for the threshold 0.5 then accuses no more photographs than the model's own does. The
    probabilities hold for another share of generated images than one half: it is returned too.
    """

    def odds(probability: float) -> float:
        return math.log(probability / (1 - probability))

    shift = odds(fitted.threshold)
    lowest = fitted.threshold - fitted.band.below
    below = 0.5 - sigmoid(odds(lowest) - shift) if fitted.band.below else 0.0
    moved = Fitted(fitted.scale, fitted.bias - shift, 0.5, AbstainBand(below=below))
    return moved, 1 - fitted.threshold


def _whole(
    originals: Sequence[PillowImage.Image], size: int, conditions: Sequence[str]
) -> dict[str, Pictures]:
    """Return whole photographs as the detector sees them, and as it sees JPEG files of them."""
    return {
        name: np.stack(
            [
                postprocess(np.asarray(one), UNCHANGED_FILE.then_jpeg(CONDITIONS[name]), size)
                for one in originals
            ]
        )
        for name in conditions
    }


def _round_to_half(network: D3Network) -> dict[str, dict[str, Tensor]]:
    """Return the weights as stored, float16, and give the network exactly those, in float32."""
    stored = {}
    for part, module in (("encoder", network.encoder), ("head", network.head)):
        stored[part] = {name: tensor.half() for name, tensor in module.state_dict().items()}
        module.load_state_dict({name: tensor.float() for name, tensor in stored[part].items()})
    return stored


class Stopwatch:
    """Seconds spent in each named stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the block's seconds towards the stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - start
            self.seconds[name] = round(self.seconds.get(name, 0.0) + spent, 1)


def _machine() -> dict[str, str | int]:
    return {
        "cores": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "processor": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
