"""Foreign checkpoints checked and converted with torch; see :mod:`d3.network.checkpoints`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from d3.adapters.torch.clip_table import fetch_entry, find_entry
from d3.domain.errors import CheckpointInvalid
from d3.domain.models import Activation
from d3.domain.ports.models import CheckpointFile
from d3.network import checkpoints, draw_permutations
from d3.network.encoder import with_normalisation


class TorchCheckpoints:
    """Implements ``Checkpoints``."""

    def read_encoder(
        self,
        file: Path,
        into: Path,
        heads: int | None = None,
        activation: Activation = "quick_gelu",
        *,
        called: str | None = None,
    ) -> CheckpointFile:
        spec, tensors = checkpoints.read_encoder(file, heads, activation, called=called)
        target = into / "encoder.safetensors"
        checkpoints.write_tensors(target, tensors)
        return CheckpointFile(target, spec.width, spec)

    def read_head(self, file: Path, into: Path, *, called: str | None = None) -> CheckpointFile:
        width, tensors = checkpoints.read_head(file, called=called)
        target = into / "head.safetensors"
        checkpoints.write_tensors(target, tensors)
        return CheckpointFile(target, width)

    def read_open_clip(self, name: str, into: Path) -> CheckpointFile:
        entry = find_entry(name)
        file = fetch_entry(entry.name)
        spec, tensors = checkpoints.read_encoder(
            file, entry.spec.heads, entry.spec.activation, called=f"{entry.name} ({file.name})"
        )
        if replace(spec, projection=entry.spec.projection) != entry.spec:
            raise CheckpointInvalid(
                f"The shapes of the weights of {entry.name} do not match open_clip's table.",
                "Download them again, or import the file with --encoder.",
            )
        target = into / "encoder.safetensors"
        checkpoints.write_tensors(target, with_normalisation(tensors, entry.mean, entry.std))
        return CheckpointFile(target, spec.width, spec)

    def draw_permutations(self, seed: int, count: int, patches: int) -> tuple[tuple[int, ...], ...]:
        return draw_permutations(seed, count, patches)
