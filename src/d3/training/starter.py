"""The recipe `starter`: from a seed to a small D3, its weights, its figures and its model card.

The model is for trying the software. It has seen rendered scenes only and says nothing about real
photographs; the card says so first.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from d3.domain.models import STARTER, EncoderSpec
from d3.domain.scoring import AbstainBand
from d3.evaluation.calibration import fit_calibration
from d3.network import D3Network, DiscrepancyHead, Encoder, draw_permutations
from d3.network.checkpoints import write_tensors
from d3.training.augment import Augmentation
from d3.training.calibrate import fold_calibration
from d3.training.card import COMMAND, headline, write_card
from d3.training.evaluate import evaluate, evaluate_baselines, score
from d3.training.examples import write_examples
from d3.training.fit import FitSettings, fit, pair_batches
from d3.training.forging import train_generator
from d3.training.generators import SEEN, UNSEEN, Critic, Family, new_generator
from d3.training.initialise import start_as_spectrum
from d3.training.package import write_manifest
from d3.training.pairs import Pairs, make_pairs, photograph_scene
from d3.training.workers import one_core_each, two_at_a_time

Progress = Callable[[str, float], None]

PERMUTATION_SEED = 0
PERMUTATIONS = 16
EXAMPLES = 5
ABSTAIN_BAND = AbstainBand(0.1, 0.1)
"""Within a tenth of the threshold the starter leaves its verdict open."""


@dataclass(frozen=True, slots=True)
class StarterPlan:
    """How much of everything; the defaults are the shipped model's.

    Attributes:
        generator_scenes: on which the generators are trained.
        generator_steps: optimiser steps of each generator.
        training_scenes: each redrawn by `forgeries_per_scene` of the seen families.
        validation_scenes: for the calibration, redrawn by every seen family.
        test_scenes: redrawn by every family.
        encoder: the shape of the network.
        fit: the training of the network, and of the one without the shuffled branch.
        augmentation: of the training pictures.
    """

    generator_scenes: int = 300
    generator_steps: int = 300
    training_scenes: int = 1600
    forgeries_per_scene: int = 2
    validation_scenes: int = 50
    test_scenes: int = 150
    encoder: EncoderSpec = EncoderSpec(width=192, layers=3, heads=3, mlp_width=384, projection=0)
    fit: FitSettings = FitSettings(steps=450)
    augmentation: Augmentation = Augmentation()

    def splits(self) -> dict[str, range]:
        """Number the scenes: no scene is in two splits."""
        counts = {
            "test": self.test_scenes,
            "validation": self.validation_scenes,
            "generators": self.generator_scenes,
            "training": self.training_scenes,
        }
        splits, start = {}, 0
        for name, count in counts.items():
            splits[name] = range(start, start + count)
            start += count
        return splits


class WithoutShuffle(D3Network):
    """The ablation: the same network with the original picture in both branches."""

    def features(self, pixels: Tensor, permutations: Tensor) -> tuple[Tensor, Tensor]:
        """Return the original's features twice; only the number of permutations counts."""
        original = self.encoder.encode(self.encoder.embed(pixels)).float()
        return original, original.unsqueeze(1).expand(-1, permutations.shape[-2], -1)


@one_core_each()
def build(
    out: Path,
    *,
    seed: int = 0,
    progress: Progress = lambda _stage, _share: None,
    plan: StarterPlan | None = None,
    examples: Path | None = None,
) -> dict[str, Any]:
    """Render, forge, train, measure; write the model, its figures and its card into `out`.

    With a folder for `examples`, the first test scenes are written there too, as files.
    `progress` is told the stage and its share done, in [0, 1]. Returns what `metrics.json` holds.
    With the same seed, plan, machine and library versions the weights are the same bytes.
    """
    plan = plan or StarterPlan()
    clock = Stopwatch()
    splits = plan.splits()
    size = plan.encoder.image_size
    generators = train_generators(plan, seed, progress, clock)
    if examples is not None:
        write_examples(examples, generators, splits["test"][:EXAMPLES], seed=seed, size=size)

    def pairs_of(split: str, families: tuple[Family, ...], per_scene: int) -> Pairs:
        with clock.stage("pairs"):
            return make_pairs(
                {family: generators[family] for family in families},
                splits[split],
                seed=seed,
                size=size,
                per_scene=per_scene,
                progress=lambda share: progress(f"{split} pairs", share),
            )

    training = pairs_of("training", SEEN, plan.forgeries_per_scene)
    validation = pairs_of("validation", SEEN, len(SEEN))
    test = pairs_of("test", (*SEEN, *UNSEEN), len(SEEN) + len(UNSEEN))

    permutations = draw_permutations(PERMUTATION_SEED, PERMUTATIONS, plan.encoder.patches)
    networks = {
        "starter": _start(D3Network, plan, seed),
        "without_shuffle": _start(WithoutShuffle, plan, seed),
    }

    def learn(name: str) -> dict[str, dict[str, Tensor]]:
        _train(networks[name], training, plan, seed, partial(progress, f"fit {name}"))
        _calibrate(networks[name], validation, permutations[:1])
        return _round_to_half(networks[name])

    with clock.stage("fit both networks"), two_at_a_time() as pool:
        stored = dict(zip(networks, pool.map(learn, networks), strict=True))
    with clock.stage("evaluation"):
        groups = {"seen": SEEN, "unseen": UNSEEN}
        figures = {
            name: evaluate(network, test, permutations[:1], groups)
            for name, network in networks.items()
        }
        baselines = evaluate_baselines(test)
    out.mkdir(parents=True, exist_ok=True)
    for part, weights in stored["starter"].items():
        write_tensors(out / f"{part}.safetensors", weights)
    metrics = {
        "recipe": "starter",
        "seed": seed,
        "plan": asdict(plan),
        "families": {"seen": [str(f) for f in SEEN], "unseen": [str(f) for f in UNSEEN]},
        "permutation_seed": PERMUTATION_SEED,
        "views": 1,
        **figures,
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
        abstain_band=ABSTAIN_BAND,
        provenance=f"{COMMAND.format(seed=seed)} (see MODEL_CARD.md)",
        metrics=headline(metrics),
    )
    return metrics


def train_generators(
    plan: StarterPlan, seed: int, progress: Progress, clock: Stopwatch
) -> dict[Family, nn.Module]:
    """Photograph the generators' scenes and train one generator of every family on them."""
    with clock.stage("generators"):
        photograph = partial(photograph_scene, seed, size=plan.encoder.image_size)
        with two_at_a_time() as pool:
            pictures = np.stack(list(pool.map(photograph, plan.splits()["generators"])))
        seeds = {family: seed + number for number, family in enumerate(Family)}
        fresh = {family: new_generator(family, seed=seeds[family]) for family in Family}
        critics = {Family.ADVERSARIAL: Critic()}

        def train(family: Family) -> nn.Module:
            return train_generator(
                fresh[family],
                critics.get(family),
                pictures,
                steps=plan.generator_steps,
                seed=seeds[family],
            )

        generators = {}
        with two_at_a_time() as pool:
            for family, trained in zip(Family, pool.map(train, Family), strict=True):
                generators[family] = trained
                progress("generators", len(generators) / len(Family))
        return generators


def _start(kind: type[D3Network], plan: StarterPlan, seed: int) -> D3Network:
    torch.manual_seed(seed)
    encoder = Encoder(plan.encoder)
    start_as_spectrum(encoder, seed=seed)
    return kind(encoder, DiscrepancyHead(plan.encoder.width))


def _train(
    network: D3Network,
    pairs: Pairs,
    plan: StarterPlan,
    seed: int,
    progress: Callable[[float], None],
) -> None:
    batches = pair_batches(
        pairs, plan.fit.pairs_per_batch, plan.augmentation, np.random.default_rng([seed, 6])
    )
    fit(
        network,
        batches,
        plan.fit,
        seed=seed,
        progress=lambda step, _loss: progress((step + 1) / plan.fit.steps),
    )


def _calibrate(network: D3Network, pairs: Pairs, permutations: tuple[tuple[int, ...], ...]) -> None:
    """Fit the probability on both kinds in equal weight, and fold it into the head."""
    camera = np.tile(score(network, pairs.camera, permutations), len(pairs.families))
    forged = score(network, pairs.generated, permutations)
    labels = np.repeat([0, 1], [len(camera), len(forged)])
    fold_calibration(network.head, *fit_calibration(labels, np.concatenate([camera, forged])))


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
