"""The recipe `paper`: a head trained on a frozen encoder, as Yang et al. (CVPR 2025) do it.

Each epoch first computes the features of the freshly augmented images and then fits the head on
them: the same as doing both batch by batch, since the encoder does not learn. After every epoch a
checkpoint is written, from which the same command goes on, bit by bit the same on a processor.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import distributed, nn

from d3.domain.errors import StorageFailed
from d3.domain.files import Progress, no_progress, replacing
from d3.evaluation.dataset import DatasetInvalid, Item
from d3.evaluation.files import claim_folder, writing
from d3.evaluation.metrics import Sample
from d3.network import DiscrepancyHead
from d3.training.paper.augmentation import Changes
from d3.training.paper.features import Extractor, Features, prepare
from d3.training.paper.journal import Epoch, write_journal


@dataclass(slots=True)
class Plateau:
    """Decides when the learning rate falls, by the validation accuracy, as the authors' code does.

    The mark to reach is the last accuracy that was not below the mark before it by more than the
    tolerance, so it may decrease slowly. It is reset when the rate falls.

    Attributes:
        patience: worse epochs in a row after which the rate falls.
        tolerance: how far below the mark an accuracy may lie.
        later_tolerance: the same once the rate has fallen.
        mark: None before the first epoch and after a fall.
        worse: epochs below the mark, in a row.
    """

    patience: int
    tolerance: float
    later_tolerance: float
    mark: float | None = None
    worse: int = 0

    def reached_by(self, accuracy: float) -> bool:
        """Add an epoch's accuracy in [0, 1]; whether the rate is to fall now."""
        if self.mark is None or accuracy >= self.mark - self.tolerance:
            self.mark, self.worse = accuracy, 0
            return False
        self.worse += 1
        if self.worse < self.patience:
            return False
        self.mark, self.worse, self.tolerance = None, 0, self.later_tolerance
        return True


@dataclass(frozen=True, slots=True)
class PaperPlan:
    """The recipe's numbers; the defaults are the paper's.

    Attributes:
        batch: images of an optimiser step.
        deviation: of the normal distribution around 0 from which the head begins, biases too.
        rate: AdamW's learning rate at the beginning.
        lowest_rate: training ends when the rate falls below.
        patience: worse epochs in a row after which the rate is divided by ten.
        tolerance: how far the validation accuracy may fall before an epoch counts as worse.
        later_tolerance: the same once the rate has been divided.
        kept_epochs: augmented passes whose features are kept and taken in turns; 0 makes new ones
            for every epoch.
    """

    epochs: int = 100
    batch: int = 256
    deviation: float = 0.02
    rate: float = 1e-4
    weight_decay: float = 0.0
    lowest_rate: float = 1e-6
    patience: int = 5
    tolerance: float = 0.001
    later_tolerance: float = 0.002
    kept_epochs: int = 0
    seed: int = 0
    changes: Changes = field(default_factory=Changes)


@dataclass(slots=True)
class State:
    """The state of a training."""

    rate: float
    plateau: Plateau
    epoch: int = 0
    best_epoch: int = 0
    journal: list[Epoch] = field(default_factory=list)

    @property
    def best(self) -> Epoch:
        """The epoch whose head is kept."""
        return self.journal[self.best_epoch - 1]

    def add(self, epoch: Epoch) -> bool:
        """Add an epoch and adjust the rate; whether it is the best so far."""
        self.epoch = epoch.number
        self.journal.append(epoch)
        better = not self.best_epoch or epoch.rank > self.best.rank
        if better:
            self.best_epoch = epoch.number
        if self.plateau.reached_by(epoch.score):
            self.rate /= 10
        return better


def hold_out(items: Sequence[Item], share: float) -> tuple[list[Item], list[Item]]:
    """Training and validation images; decided by an image's path alone."""
    training: list[Item] = []
    validation: list[Item] = []
    for item in items:
        digest = hashlib.sha256(item.path.encode("utf-8", "surrogateescape")).digest()
        mine = validation if int.from_bytes(digest[:8]) / 2**64 < share else training
        mine.append(item)
    return training, validation


def check_kinds(
    items: Sequence[Item],
    what: str,
    remedy: str = "Training needs real and generated images. Add the missing ones.",
) -> None:
    """Require both kinds.

    Raises:
        DatasetInvalid: one is missing.
    """
    fakes = sum(item.fake for item in items)
    if not fakes or fakes == len(items):
        missing = "generated" if not fakes else "real"
        raise DatasetInvalid(f"The {what} images include no {missing} image.", remedy)


def train_head(  # noqa: PLR0917  its parts, one by one
    extractor: Extractor,
    training: Sequence[Item],
    validation: Mapping[str, Sequence[Item]],
    plan: PaperPlan,
    folder: Path,
    identity: dict[str, Any],
    progress: Progress = no_progress,
    on_epoch: Callable[[Epoch], None] = lambda _epoch: None,
) -> tuple[DiscrepancyHead, State]:
    """Train until validation gets no better; the best head comes back.

    Args:
        extractor: has the frozen encoder.
        training: images of both kinds.
        validation: other images, by data set.
        plan: the recipe's numbers.
        folder: checkpoints, features, log and curves.
        identity: what must not change between an interruption and going on.
        progress: called after each part, in the first of several processes.
        on_epoch: called with each epoch that ends, in the same process.

    Raises:
        DatasetInvalid: a kind is missing, or nothing of it can be read.
        RequestInvalid: the folder holds a training of something else.
        StorageFailed: the folder cannot be written; the same call goes on later.
    """
    check_kinds(training, "training")
    checked = [item for items in validation.values() for item in items]
    check_kinds(
        checked,
        "validation",
        "Add images (one in ten is held out for validation), or name a data set with --validation.",
    )
    width = extractor.network.encoder.spec.width
    leading = extractor.rank == 0
    if not leading:
        progress = no_progress
    else:
        whose = identity | {"plan": msgspec.to_builtins(asdict(plan) | {"epochs": 0})}
        claim_folder(folder, "training.json", whose, "training")
    file = folder / "features/validation.npy"
    checking = _features(extractor, checked, file, None, 0, "validation: features", progress)
    sets = validation_sets(validation, ~np.isnan(checking[:, 0, 0]))
    head, optimiser, state = _start(
        width, plan, folder, next(extractor.network.parameters()).device
    )
    while state.epoch < plan.epochs and state.rate >= plan.lowest_rate:
        turn = state.epoch % plan.kept_epochs if plan.kept_epochs else state.epoch
        file = folder / f"features/epoch-{turn + 1}.npy"
        stage = f"{_numbered(state.epoch, plan)}: features"
        features = _features(extractor, training, file, plan.changes, turn + 1, stage, progress)
        # The encoder's work is shared by all processes; the head's is too little to be worth it.
        loss = fit_epoch(head, optimiser, features, training, plan, state.epoch, progress)
        epoch = validated(head, checking, checked, sets, state.epoch + 1, state.rate, loss)
        better = state.add(epoch)
        for group in optimiser.param_groups:
            group["lr"] = state.rate
        if leading:
            _keep(folder, head, optimiser, state, best=better)
            on_epoch(epoch)
        del features
        state = _broadcast(state)
        if leading and not plan.kept_epochs:
            file.unlink(missing_ok=True)
    head.load_state_dict(torch.load(folder / "best.pt", weights_only=True))
    return head.eval(), state


def fit_epoch(  # noqa: PLR0917  its parts, one by one
    head: DiscrepancyHead,
    optimiser: torch.optim.Optimizer,
    features: Features,
    items: Sequence[Item],
    plan: PaperPlan,
    epoch: int,
    progress: Progress = no_progress,
) -> float:
    """One pass over all readable features in a new order; the mean loss (BCE, in nats)."""
    device = next(head.parameters()).device
    labels = np.fromiter((item.fake for item in items), np.float32, len(items))
    rows = np.flatnonzero(~np.isnan(features[:, 0, 0]))
    rows = np.random.default_rng([plan.seed, epoch, 7]).permutation(rows)
    head.train()
    total = 0.0
    for start in range(0, len(rows), plan.batch):
        chosen = np.sort(rows[start : start + plan.batch])
        pair = torch.from_numpy(np.asarray(features[chosen])).to(device)
        wanted = torch.from_numpy(labels[chosen]).to(device)
        logits = head(pair[:, 0], pair[:, 1])
        loss = nn.functional.binary_cross_entropy_with_logits(logits, wanted)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        total += loss.item() * len(chosen)
        done = min(start + plan.batch, len(rows))
        progress(f"{_numbered(epoch, plan)}: head", done, len(rows))
    return total / len(rows)


def validation_sets(
    sources: Mapping[str, Sequence[Item]], readable: NDArray[np.bool_]
) -> dict[str, NDArray[np.int64]]:
    """The sets whose accuracies are averaged: each generator of each data set, and its real images.

    Those are the real images beside it: its own and those of no generator, in the same data set,
    else in all of them, else every real image there is.

    Args:
        sources: images by data set, of both kinds.
        readable: [n] which of all these images, in this order, can be read.

    Returns:
        By name, the numbers of a set's readable images among all n: both kinds are there.
    """
    items = [item for part in sources.values() for item in part]
    origin = np.repeat(np.arange(len(sources)), [len(part) for part in sources.values()])
    fake = readable & np.array([item.fake for item in items], bool)
    camera = readable & ~fake
    generator = np.array([item.generator for item in items], str)
    places = dict.fromkeys(zip(origin[fake].tolist(), generator[fake].tolist(), strict=True))
    times = Counter(name for _, name in places)
    titles = list(sources)
    sets: dict[str, NDArray[np.int64]] = {}
    for source, name in sorted(places, key=lambda place: (place[1], place[0])):
        here, theirs = origin == source, np.isin(generator, ["", name])
        choices = (camera & theirs & here, camera & theirs, camera)
        real = next(mask for mask in choices if mask.any())
        title = name if times[name] == 1 else f"{name} of {titles[source]}"
        sets[title] = np.flatnonzero(real | fake & here & (generator == name))
    return sets


@torch.inference_mode()
def validated(  # noqa: PLR0917  what an epoch is known by
    head: DiscrepancyHead,
    features: Features,
    items: Sequence[Item],
    sets: Mapping[str, NDArray[np.int64]],
    number: int,
    rate: float,
    loss: float,
) -> Epoch:
    """An epoch's figures: of all validation images, and of each set of :func:`validation_sets`."""
    device = next(head.parameters()).device
    head.eval()
    parts = [
        head(pair[:, 0], pair[:, 1]).double().cpu()
        for pair in (
            torch.from_numpy(np.array(features[start : start + 1024])).to(device)
            for start in range(0, len(features), 1024)
        )
    ]
    logits = torch.cat(parts).numpy()
    sound = np.isfinite(logits)
    fake = np.array([item.fake for item in items])
    both = nn.functional.binary_cross_entropy_with_logits(
        torch.from_numpy(logits[sound]), torch.from_numpy(fake[sound].astype(float))
    )

    def figures(rows: NDArray[np.int64]) -> dict[str, float]:
        mine = rows[sound[rows]]
        found = Sample(fake[mine], logits[mine]).measure()
        return {name: float(found[name]) for name in ("accuracy", "ap", "auroc")}

    generators = {name: figures(rows) for name, rows in sets.items()}
    return Epoch(number, rate, loss, both.item(), figures(np.flatnonzero(sound)), generators)


def _features(  # noqa: PLR0917  its parts, one by one
    extractor: Extractor,
    items: Sequence[Item],
    file: Path,
    changes: Changes | None,
    turn: int,
    stage: str,
    progress: Progress,
) -> Features:
    if extractor.rank == 0:
        prepare(file, len(items), extractor.network.encoder.spec.width)
    _barrier()
    progress(stage, 0, len(items))
    extractor.extract(items, file, changes, turn, lambda done: progress(stage, done, len(items)))
    _barrier()
    features: Features = np.load(file, mmap_mode="r")
    sound = ~np.isnan(features[:, 0, 0])
    for index in np.flatnonzero(~sound).tolist():  # other processes' too, and earlier runs'
        extractor.unreadable.setdefault(items[index].path, "unreadable")
    check_kinds([item for item, good in zip(items, sound, strict=True) if good], "readable")
    return features


def _start(
    width: int, plan: PaperPlan, folder: Path, device: torch.device
) -> tuple[DiscrepancyHead, torch.optim.AdamW, State]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        head = DiscrepancyHead(width)
        for parameter in head.parameters():
            nn.init.normal_(parameter, 0.0, plan.deviation)
    head = head.to(device)
    optimiser = torch.optim.AdamW(head.parameters(), plan.rate, weight_decay=plan.weight_decay)
    state = State(plan.rate, Plateau(plan.patience, plan.tolerance, plan.later_tolerance))
    file = folder / "checkpoint.pt"
    if file.exists():
        try:
            kept = torch.load(file, weights_only=True, map_location=device)
        except Exception as error:
            raise StorageFailed(
                f"{file} is damaged.", "Remove it to start again. Stored features are reused."
            ) from error
        head.load_state_dict(kept["head"])
        optimiser.load_state_dict(kept["optimiser"])
        state = msgspec.json.decode(kept["state"], type=State)
    return head, optimiser, state


def _keep(
    folder: Path,
    head: DiscrepancyHead,
    optimiser: torch.optim.Optimizer,
    state: State,
    *,
    best: bool,
) -> None:
    """Write best head, then log, then checkpoint; after an interruption the epoch is repeated."""
    with writing(folder):
        if best:
            _save(folder / "best.pt", head.state_dict())
        write_journal(folder, state.journal)
        kept = {
            "head": head.state_dict(),
            "optimiser": optimiser.state_dict(),
            "state": msgspec.json.encode(state).decode(),
        }
        _save(folder / "checkpoint.pt", kept)


def _save(file: Path, content: Any) -> None:
    with replacing(file) as partial:
        try:
            torch.save(content, partial)
        except RuntimeError as error:  # so torch says that the disk is full
            raise OSError(None, str(error).splitlines()[0]) from error


def _numbered(epoch: int, plan: PaperPlan) -> str:
    return f"epoch {epoch + 1} of at most {plan.epochs}"


def _barrier() -> None:
    """Wait for the other processes, if there are any."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.barrier()


def _broadcast(state: State) -> State:
    """The first process's state, for all: they must not differ by a rounding."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return state
    held: list[Any] = [state]
    distributed.broadcast_object_list(held, src=0)
    shared: State = held[0]
    return shared
