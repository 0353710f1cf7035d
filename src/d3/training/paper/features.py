"""Features of a data set under a frozen encoder: augmented, stored in a file, resumable.

An image's changes depend on the seed, the pass and its number alone, so neither the batch, the
number of processes nor an interruption changes a feature.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from d3.domain.errors import ImageError
from d3.domain.files import replacing
from d3.domain.images import Pixels
from d3.domain.machine import available_cores
from d3.domain.ports.images import ImageDecoder
from d3.evaluation.dataset import Item
from d3.evaluation.files import writing
from d3.network import D3Network
from d3.training.paper.augmentation import Changes, changed

Features: TypeAlias = NDArray[np.float32]
"""float32 (n, 2, width): the shuffled image's, then the original's; NaN where it is unreadable."""

_CHUNK = 32


@dataclass(slots=True)
class Extractor:
    """Computes features with a frozen network.

    Attributes:
        network: in evaluation mode, on its device.
        permutation: of validation images, (patches).
        autocast: precision of the encoder on its device; None for its own.
        unreadable: path and code of what this process could not read.
    """

    network: D3Network
    decoder: ImageDecoder
    seed: int
    permutation: Sequence[int]
    autocast: torch.dtype | None = None
    rank: int = 0
    processes: int = 1
    unreadable: dict[str, str] = field(default_factory=dict)

    def extract(
        self,
        items: Sequence[Item],
        file: Path,
        changes: Changes | None,
        turn: int,
        progress: Callable[[int], None] = lambda _done: None,
    ) -> None:
        """Fill a file with this process's share of the features; those there stay.

        Args:
            items: the images.
            file: made with :func:`prepare`.
            changes: of training images; None for validation.
            turn: the number of the pass; each has other changes and orders.
            progress: called with how many images are done, as if the other processes were as far.
        """
        with writing(file.parent):
            kept = np.load(file, mmap_mode="r+")
        share = range(self.rank * _CHUNK, len(items), self.processes * _CHUNK)
        with ThreadPoolExecutor(min(available_cores(), 16)) as pool:
            for start in share:
                chunk = range(start, min(start + _CHUNK, len(items)))
                # A zero row was not written yet: a feature after a layer norm is never zero.
                if (kept[chunk.start : chunk.stop] == 0).all(axis=(1, 2)).any():
                    read = list(pool.map(lambda i: self._read(items[i], i, changes, turn), chunk))
                    kept[chunk.start : chunk.stop] = self._encode(read, chunk, changes, turn)
                progress(min(start + self.processes * _CHUNK, len(items)))
        with writing(file.parent):
            kept.flush()

    def _read(self, item: Item, index: int, changes: Changes | None, turn: int) -> Pixels | None:
        size = self.network.encoder.spec.image_size
        try:
            if changes is None:
                return self.decoder.decode(Path(item.path), size).pixels
            pixels = self.decoder.decode(Path(item.path), None).pixels
        except ImageError as error:
            self.unreadable[item.path] = error.code
            return None
        return changed(pixels, size, changes, np.random.default_rng([self.seed, turn, index]))

    def _encode(
        self, read: Sequence[Pixels | None], chunk: range, changes: Changes | None, turn: int
    ) -> Features:
        spec = self.network.encoder.spec
        made = np.full((len(read), 2, spec.width), np.nan, np.float32)
        sound = [row for row, one in enumerate(read) if one is not None]
        if not sound:
            return made
        orders = [
            np.random.default_rng([self.seed, turn, chunk[row], 1]).permutation(spec.patches)
            if changes is not None
            else np.asarray(self.permutation)
            for row in sound
        ]
        device = next(self.network.head.parameters()).device
        pixels = torch.from_numpy(np.stack([one for one in read if one is not None])).to(device)
        permutations = torch.from_numpy(np.stack(orders))[:, None].to(device)
        lower = (
            torch.autocast(device.type, self.autocast)
            if self.autocast is not None
            else nullcontext()
        )
        with torch.inference_mode(), lower:
            original, shuffled = self.network.features(pixels, permutations)
        made[sound] = torch.stack([shuffled[:, 0], original], dim=1).float().cpu().numpy()
        return made


def prepare(file: Path, count: int, width: int) -> None:
    """Make an empty file of features, unless there is one of that shape.

    Raises:
        StorageFailed: there is no room for it.
    """
    with writing(file.parent):
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.exists():
            try:
                if np.load(file, mmap_mode="r").shape == (count, 2, width):
                    return
            except (OSError, ValueError):
                pass
        with replacing(file) as partial:
            made = np.lib.format.open_memmap(partial, "w+", np.float32, (count, 2, width))
            made.flush()
            del made
            # A sparse file would meet the full disk in the middle of a write, and kill the process.
            if hasattr(os, "posix_fallocate"):
                with partial.open("r+b") as stream:
                    os.posix_fallocate(stream.fileno(), 0, partial.stat().st_size)
