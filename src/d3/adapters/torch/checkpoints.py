"""Foreign checkpoints checked and converted with torch; see :mod:`d3.network.checkpoints`."""

from __future__ import annotations

from pathlib import Path

from d3.domain.ports import CheckpointFile
from d3.network import checkpoints, draw_permutations


class TorchCheckpoints:
    """Fills :class:`d3.domain.ports.Checkpoints`."""

    def read_encoder(self, file: Path, into: Path, heads: int | None = None) -> CheckpointFile:
        """Check an encoder and convert it into the folder ``into``."""
        spec, tensors = checkpoints.read_encoder(file, heads)
        target = into / "encoder.safetensors"
        checkpoints.write_tensors(target, tensors)
        return CheckpointFile(target, spec.width, spec)

    def read_head(self, file: Path, into: Path) -> CheckpointFile:
        """Check a head and convert it into the folder ``into``."""
        width, tensors = checkpoints.read_head(file)
        target = into / "head.safetensors"
        checkpoints.write_tensors(target, tensors)
        return CheckpointFile(target, width)

    def draw_permutations(self, seed: int, count: int, patches: int) -> tuple[tuple[int, ...], ...]:
        """See :func:`d3.network.permutations.draw_permutations`."""
        return draw_permutations(seed, count, patches)
