"""D3 against a linear probe on the same CLIP features: the paper's claim in small, on real images.

::

    python -m tests.real.fetch FOLDER
    D3TEST_REAL=FOLDER PYTHONPATH=. python benchmarks/real.py [--passes 2] [--seeds 0 1]

Each answer is of a head that saw neither the package of the photograph nor the family of the
generator: packages are held out in four folds, families one by one, and images of text-to-image
generators always. D3's head is trained by the recipe ``paper`` on a frozen CLIP ViT-B/16; the
probes are logistic regressions on the same features of the same augmented images. Features are the
cost (half a second of a core for an image and a pass); they are kept in ``benchmarks/.real``, and
the same command goes on where it was stopped. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from real_images import REAL, TEXT_TO_IMAGE, Square, write_images
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from tests.real import clip
from tests.real.fetch import missing

from d3.adapters.pillow import PillowDecoder
from d3.entrypoints.bench.measure import processor
from d3.evaluation.bootstrap import interval, replicates_at_once, resample
from d3.evaluation.dataset import Item
from d3.evaluation.metrics import Numbers, Sample, auroc
from d3.network import D3Network, DiscrepancyHead
from d3.network.checkpoints import load_encoder, read_encoder, write_tensors
from d3.network.model import draw_permutations
from d3.network.precision import DTYPES, arithmetics
from d3.training.paper.augmentation import Changes
from d3.training.paper.features import Extractor, Features, prepare
from d3.training.paper.fit import PaperPlan, train_head

FOLDS = 4
VALIDATION = 0.15
EPOCHS = 40
"""At most: the loss on the training images is below 0.01 by then."""
REPLICATES = 1000
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
FIGURES = ("auroc", "ap", "balanced_accuracy")

Rows: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True)
class Kept:
    """The set and what the encoder makes of it.

    Attributes:
        squares: the images.
        items: the same as a data set's.
        extractor: that computed the features.
        plain: features of the images as they are.
        passes: features of augmented images, pass by pass.
    """

    squares: Sequence[Square]
    items: Sequence[Item]
    extractor: Extractor
    plain: Features
    passes: Sequence[Features]


@dataclass(frozen=True)
class Split:
    """Rows for one training: no photograph is in two of them, no package in ``test`` and another.

    Attributes:
        training: to learn from.
        validation: to choose by; other photographs of the same packages.
        test: of packages and a family that neither of those holds.
    """

    training: Rows
    validation: Rows
    test: Rows


Contestant: TypeAlias = Callable[[Kept, Split, int], Numbers]
"""Gives logits of a split's test rows; the number is the seed."""


def main() -> None:
    """Make what is missing, train, and print the tables."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--work", type=Path, default=Path(__file__).parent / ".real")
    arguments.add_argument("--passes", type=int, default=2)
    arguments.add_argument("--seeds", type=int, nargs="+", default=[0])
    arguments.add_argument("--only-features", action="store_true")
    chosen = arguments.parse_args()
    data = Path(os.environ.get("D3TEST_REAL", "")).resolve()
    if lacking := missing(data):
        sys.exit(f"D3TEST_REAL={data} lacks {lacking[0]}: `python -m tests.real.fetch {data}`.")
    work = chosen.work.resolve()
    kept = prepared(data, work, chosen.passes)
    if chosen.only_features:
        return
    print(f"{processor()}, torch {torch.__version__}")
    scored = trained_and_scored(kept, chosen.seeds)
    report(kept.squares, scored)


def prepared(data: Path, work: Path, passes: int) -> Kept:
    """The images and their features, made where they are not there yet."""
    squares = write_images(data, work / "images")
    items = [Item(one.path, one.family != REAL, one.family, named=True) for one in squares]
    spec, tensors = read_encoder(data / clip.TOWER)
    write_tensors(work / "encoder.safetensors", tensors)
    encoder = load_encoder(spec, work / "encoder.safetensors")
    precision = arithmetics("cpu")[-1]
    extractor = Extractor(
        D3Network(encoder, DiscrepancyHead(spec.width)).eval(),
        PillowDecoder(),
        0,
        draw_permutations(0, 1, spec.patches)[0],
        None if precision == "fp32" else DTYPES[precision],
    )
    made: list[Features] = []
    for turn in range(passes + 1):
        file = work / f"pass-{turn}-{precision}.npy"
        prepare(file, len(items), spec.width)
        begun = time.perf_counter()
        extractor.extract(items, file, Changes() if turn else None, turn)
        print(f"pass {turn}: {time.perf_counter() - begun:.0f} s, {precision}", flush=True)
        made.append(np.load(file))
    return Kept(squares, items, extractor, made[0], made[1:])


def trained_and_scored(kept: Kept, seeds: Sequence[int]) -> dict[str, dict[str, list[Numbers]]]:
    """Logits of every image, NaN where it is not asked for: by contestant, family and seed."""
    families = list(dict.fromkeys(one.family for one in kept.squares if one.family != REAL))
    scored: dict[str, dict[str, list[Numbers]]] = {name: {} for name in CONTESTANTS}
    for family in families:
        for name in CONTESTANTS:
            scored[name][family] = [np.full(len(kept.items), np.nan) for _ in seeds]
        for number, seed in enumerate(seeds):
            for split in splits(kept.squares, family, seed):
                for name, contestant in CONTESTANTS.items():
                    scored[name][family][number][split.test] = contestant(kept, split, seed)
                print(f"held out: {family}, {split.test[0]}", file=sys.stderr, flush=True)
    return scored


def splits(squares: Sequence[Square], family: str, seed: int) -> Iterator[Split]:
    """For each fold of packages, what is learnt from and what is tested."""
    folds = folds_of(squares)
    fold = np.array([folds.get(one.package, -1 - one.photograph) % FOLDS for one in squares])
    whose = np.array([one.family for one in squares])
    partner = np.array([one.partner for one in squares])
    photograph = np.array([one.photograph for one in squares])
    first = np.array([one.place == 0 for one in squares])
    known = (whose != TEXT_TO_IMAGE) & (whose != family) & (partner != family)
    for number in range(FOLDS):
        learnable = np.flatnonzero((fold != number) & known)
        # One square of a photograph, so that the tested real images are independent.
        asked = (whose == REAL) & first | (whose == family)
        draw = np.random.default_rng([seed, number])
        there = np.unique(photograph[learnable])
        chosen = draw.choice(there, round(VALIDATION * len(there)), replace=False)
        checking = np.isin(photograph[learnable], chosen)
        yield Split(
            learnable[~checking], learnable[checking], np.flatnonzero((fold == number) & asked)
        )


def folds_of(squares: Sequence[Square]) -> dict[str, int]:
    """The fold of each package of photographs, so that the folds hold about as many."""
    sizes = Counter(one.package for one in squares if one.family == REAL)
    held = [0] * FOLDS
    folds = {}
    for package, size in sizes.most_common():
        folds[package] = int(np.argmin(held))
        held[folds[package]] += size
    return folds


def d3_head(kept: Kept, split: Split, seed: int) -> Numbers:
    """The recipe ``paper``, given the features that it would compute."""
    plan = PaperPlan(epochs=EPOCHS, kept_epochs=len(kept.passes), seed=seed)
    learnt = [kept.items[row] for row in split.training]
    checked = [kept.items[row] for row in split.validation]
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        (folder / "features").mkdir()
        np.save(folder / "features/validation.npy", kept.plain[split.validation])
        for number, features in enumerate(kept.passes, 1):
            np.save(folder / f"features/epoch-{number}.npy", features[split.training])
        head, _ = train_head(kept.extractor, learnt, {"held out": checked}, plan, folder, {})
    pairs = torch.from_numpy(kept.plain[split.test])
    with torch.inference_mode():
        logits: Numbers = head(pairs[:, 0], pairs[:, 1]).double().numpy()
    return logits


def probe(kept: Kept, split: Split, _seed: int) -> Numbers:
    """Logistic regression on the original's feature alone."""
    return _probe(kept, split, lambda features: features[:, 1])


def probe_of_both(kept: Kept, split: Split, _seed: int) -> Numbers:
    """Logistic regression on both features, one beside the other."""
    return _probe(kept, split, lambda features: features.reshape(len(features), -1))


def _probe(kept: Kept, split: Split, view: Callable[[Features], Features]) -> Numbers:
    learnt = np.concatenate([view(features[split.training]) for features in kept.passes])
    scaler = StandardScaler().fit(learnt)
    fake = np.array([item.fake for item in kept.items])
    labels = np.tile(fake[split.training], len(kept.passes))
    checking, asked = (
        scaler.transform(view(kept.plain[rows])) for rows in (split.validation, split.test)
    )
    best, logits = -np.inf, np.empty(0)
    for penalty in PENALTIES:
        fitted = LogisticRegression(C=penalty, max_iter=300).fit(scaler.transform(learnt), labels)
        reached = auroc(fake[split.validation], fitted.decision_function(checking))
        if reached > best:
            best, logits = reached, fitted.decision_function(asked)
    return logits


CONTESTANTS: Mapping[str, Contestant] = {
    "D3, recipe paper": d3_head,
    "linear probe": probe,
    "linear probe, both features": probe_of_both,
}


def report(squares: Sequence[Square], scored: Mapping[str, Mapping[str, list[Numbers]]]) -> None:
    """Print figures with 95 % intervals, the mean over seeds, and differences from D3."""
    families = list(next(iter(scored.values())))
    known = [family for family in families if family != TEXT_TO_IMAGE]
    draws = {
        name: {
            family: replicates(squares, family, number, by_family[family])
            for number, family in enumerate(families, 1)
        }
        for name, by_family in scored.items()
    }
    photographs = Counter(one.package for one in squares if one.family == REAL and not one.place)
    print("\nfolds:", folds_of(squares))
    print("photographs:", photographs.total(), dict(photographs))
    made = Counter(one.family for one in squares if one.family != REAL)
    print("generated images:", dict(made))
    for title, group in (
        *((family, [family]) for family in families),
        ("mean of the five that redo photographs", known),
    ):
        print(f"\n| {title} | {' | '.join(FIGURES)} | AUROC, D3 less this |")
        print("|---|---|---|---|---|")
        means = {
            name: {figure: mean(by_family, group, figure) for figure in FIGURES}
            for name, by_family in draws.items()
        }
        ours = means[next(iter(scored))]
        for name, figures in means.items():
            cells = [reported(figures[figure]) for figure in FIGURES]
            difference = reported(ours["auroc"] - figures["auroc"]) if figures is not ours else ""
            print(f"| {name} | {' | '.join(cells)} | {difference} |")


def replicates(
    squares: Sequence[Square], family: str, number: int, seeds: Sequence[Numbers]
) -> dict[str, Numbers]:
    """Figures of a family against the real images, as drawn first and then 1000 times.

    Contestants and seeds see the same draws; the mean is over the seeds.
    """
    found = []
    for logits in seeds:
        rows = np.flatnonzero(~np.isnan(logits))
        fake = np.array([squares[row].family == family for row in rows.tolist()])
        sample = Sample(fake, logits[rows])
        drawn = resample(
            sample,
            np.where(fake, number, 0),
            seed=0,
            replicates=REPLICATES,
            at_once=replicates_at_once(len(rows)),
        )
        plain = sample.measure()
        found.append({name: np.append(plain[name], drawn[name]) for name in FIGURES})
    return {name: np.mean([one[name] for one in found], axis=0) for name in FIGURES}


def mean(
    by_family: Mapping[str, Mapping[str, Numbers]], group: Sequence[str], figure: str
) -> Numbers:
    """A figure's mean over families, draw by draw."""
    return np.asarray(np.mean([by_family[family][figure] for family in group], axis=0))


def reported(values: Numbers) -> str:
    """A figure with its interval."""
    low, high = interval(values[1:])
    return f"{values[0]:.3f} ({low:.3f} to {high:.3f})"


if __name__ == "__main__":
    main()
