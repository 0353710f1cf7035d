"""The recipe `paper` from a data set to a model in the registry."""

from __future__ import annotations

import csv
import hashlib
import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import distributed

from d3.container import Container
from d3.domain.errors import ArchitectureUnsuitable, ModelNotFound
from d3.domain.files import Progress, no_progress, put
from d3.domain.models import D3, Manifest, StoredModel, derived_notice, file_of
from d3.domain.scoring import AbstainBand, Calibration
from d3.evaluation.dataset import Dataset, Item
from d3.evaluation.files import writing
from d3.network.checkpoints import load_network, write_tensors
from d3.training.paper.features import Extractor
from d3.training.paper.fit import PaperPlan, hold_out, train_head
from d3.training.paper.journal import Epoch, paper_card

if TYPE_CHECKING:
    from collections.abc import Iterator

_AUTOCAST: Mapping[str, torch.dtype | None] = {
    "fp32": None,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
}


@dataclass(frozen=True, slots=True)
class Trained:
    """What came of it.

    Attributes:
        manifest: of the model in the registry; None in the processes that only helped.
        best: the epoch whose head it is.
        unreadable: path and code of images that were skipped.
    """

    manifest: Manifest | None
    best: Epoch
    epochs: int
    unreadable: dict[str, str]


@contextmanager
def processes() -> Iterator[tuple[int, int, int]]:
    """Rank, number of processes and the device's number, as torchrun says; else one process."""
    if not (distributed.is_available() and distributed.is_torchelastic_launched()):
        yield 0, 1, 0
        return
    distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield (
            distributed.get_rank(),
            distributed.get_world_size(),
            distributed.get_node_local_rank(),
        )
    finally:
        distributed.destroy_process_group()


def train_on(  # noqa: PLR0917  its parts, one by one
    container: Container,
    name: str,
    base: str | None,
    training: Sequence[str | Path],
    validation: Sequence[str | Path],
    folder: Path,
    plan: PaperPlan,
    *,
    held_out: float = 0.1,
    command: str = "",
    progress: Progress = no_progress,
    on_epoch: Callable[[Epoch], None] = lambda _epoch: None,
) -> Trained:
    """Train a head on the frozen encoder of a model, and store both as a model.

    Args:
        container: has registry, decoder and settings.
        name: of the new model.
        base: whose encoder is taken; the model in use unless said.
        training: folders and CSV files.
        validation: the same; without, `held_out` of the training images.
        folder: checkpoints, log, curves and card; an unfinished training is gone on with.
        plan: the recipe's numbers.
        held_out: the share kept for validation.
        command: as it was typed, for the record.
        progress: called after each part.
        on_epoch: called with each epoch that ends.

    Raises:
        ArchitectureUnsuitable: the base is no D3.
        D3Error: see :func:`d3.training.paper.fit.train_head`.
    """
    settings = container.settings()
    registry = container.registry()
    sources = _items(training)
    checking = _items(validation)
    if not validation:
        halves = {source: hold_out(items, held_out) for source, items in sources.items()}
        sources = {source: kept for source, (kept, _) in halves.items()}
        checking = {source: held for source, (_, held) in halves.items()}
    kept = [item for items in sources.values() for item in items]
    with processes() as (rank, count, local):
        stored = registry.open(base or container.host().chosen())
        check_base(stored.manifest)
        spec = stored.manifest.encoder_spec
        network = load_network(spec, stored.encoder, stored.head, dtype=torch.float32)
        on_gpu = settings.cuda_device != "cpu" and torch.cuda.is_available()
        chosen = settings.cuda_device if isinstance(settings.cuda_device, int) else 0
        device = torch.device("cuda", local if count > 1 else chosen) if on_gpu else None
        network = network.float().to(device or torch.device("cpu"))
        precision = settings.effective_precision
        if precision in {"auto", "fast"}:
            precision = "bf16" if on_gpu else "fp32"
        if precision == "fp16" and not on_gpu:
            warnings.warn(
                "fp16 is not faster on a CPU, so D3 trains in fp32.", RuntimeWarning, stacklevel=2
            )
            precision = "fp32"
        extractor = Extractor(
            network,
            container.decoder(),
            plan.seed,
            stored.manifest.permutations[0],
            _AUTOCAST[precision],
            rank,
            count,
        )
        identity = {
            "encoder": stored.manifest.files["encoder"].sha256,
            "precision": precision,
            "images": _digest(kept),
            "validation": [_digest(items) for items in checking.values()],
        }
        head, state = train_head(
            extractor, kept, checking, plan, folder, identity, progress, on_epoch
        )
        if rank:
            return Trained(None, state.best, state.epoch, extractor.unreadable)
        card = paper_card(
            name=name,
            encoder=stored.manifest.name,
            counts=(len(kept), sum(map(len, checking.values()))),
            unreadable=len(extractor.unreadable),
            codecs=plan.changes.codecs,
            best=state.best,
            command=command,
            notice=derived_notice(stored.manifest),
        )
        with writing(folder):
            write_tensors(folder / "head.safetensors", head.cpu().state_dict())
            put(folder / "MODEL_CARD.md", card.encode("utf-8", "replace"))
            put(folder / "unreadable.csv", _listed(extractor.unreadable))
        manifest = replace(
            stored.manifest,
            name=name,
            version=1,
            head=file_of(folder / "head.safetensors"),
            threshold=0.5,
            calibration=Calibration(),
            abstain_band=AbstainBand(),
            licence=f"encoder: {stored.manifest.licence}; head: yours",
            provenance=f"{command or 'recipe paper'}, on the encoder of {stored.manifest.name}",
            notice=derived_notice(stored.manifest),
            metrics={"validation": state.best.figures, "generators": state.best.generators},
            created_at=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            int8=None,
        )
        paths = {role: path for role, path in stored.paths.items() if role != "int8"}
        paths["head"] = folder / "head.safetensors"
        manifest = _stored(container, StoredModel(manifest, paths))
        return Trained(manifest, state.best, state.epoch, extractor.unreadable)


def check_base(manifest: Manifest) -> None:
    """Make sure that a head can be trained on a model's encoder.

    Raises:
        ArchitectureUnsuitable: it is no D3.
    """
    if manifest.architecture != D3:
        raise ArchitectureUnsuitable(
            f"The model {manifest.name!r} is a {manifest.architecture}; the recipe `paper` trains "
            "heads of D3 models.",
            "Name a D3 model with --model.",
        )


def _stored(container: Container, model: StoredModel) -> Manifest:
    """The model in the registry; the same head again makes no new version."""
    registry, manifest = container.registry(), model.manifest
    try:
        there: Manifest = registry.describe(manifest.name)
    except ModelNotFound:
        pass
    else:
        if there.sha256 == manifest.sha256:
            return there
    made: Manifest = registry.put(model)
    return made


def _items(sources: Sequence[str | Path]) -> dict[str, list[Item]]:
    """By data set, every file that is named as an image; others are skipped."""
    return {
        source: [item for item in Dataset([source]).items() if item.named]
        for source in dict.fromkeys(map(str, sources))
    }


def _digest(items: Sequence[Item]) -> str:
    digest = hashlib.sha256()
    for item in items:
        digest.update(repr((item.path, item.fake, item.generator)).encode())
    return digest.hexdigest()


def _listed(unreadable: Mapping[str, str]) -> bytes:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["path", "code"])
    rows.writerows(sorted(unreadable.items()))
    return text.getvalue().encode("utf-8", "surrogateescape")
