"""Making a model of a bare head: it is bound to an encoder that is there already."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from d3.domain.errors import CheckpointInvalid, ModelProtected
from d3.domain.hashing import file_of
from d3.domain.models import PUBLISHED, STARTER, Manifest, StoredModel, checked_name, derived_notice
from d3.domain.ports.models import Checkpoints, ModelRegistry
from d3.domain.scoring import AbstainBand, Calibration


class HeadBinder:
    """Binds heads to encoders.

    Args:
        registry: where the encoders are, and where the models go.
        checkpoints: gives what reads foreign files safely.
        encoder: the model whose encoder is taken; unless said, one of the head's width: the
            published detector's before others, a packaged one before somebody's.
    """

    def __init__(
        self,
        registry: ModelRegistry,
        checkpoints: Callable[[], Checkpoints],
        encoder: str | None = None,
    ) -> None:
        self._registry = registry
        self._checkpoints = checkpoints
        self._encoder = encoder

    def bind(
        self,
        name: str,
        head: Path,
        *,
        provenance: str,
        created_at: str = "",
        called: str | None = None,
    ) -> Manifest:
        """Store the head with the fitting encoder, as the next version of the name.

        Args:
            name: see :func:`d3.domain.models.checked_name`.
            head: ``.safetensors`` or ``.pth``.
            provenance: where it came from.
            created_at: ISO 8601 in UTC; now unless said.
            called: what to blame the file as; its name unless said.

        Raises:
            CheckpointInvalid: it is no head, or no encoder here makes features of its width.
            ModelNotFound: the model whose encoder is to be taken is not there.
            ModelNameInvalid: the name cannot be a model's.
            ModelProtected: it is a packaged model's.
        """
        if checked_name(name) == STARTER:
            raise ModelProtected("The starter model ships with D3.", "Choose another name.")
        with tempfile.TemporaryDirectory(prefix="d3-import-") as folder:
            top = self._checkpoints().read_head(head, Path(folder), called=called)
            donor = self._donor(top.width)
            manifest = replace(
                donor.manifest,
                name=name,
                version=1,
                head=file_of(top.path),
                threshold=0.5,
                calibration=Calibration(),
                abstain_band=AbstainBand(),
                licence="unknown",
                provenance=f"{provenance}, on the encoder of {donor.manifest.name}",
                notice=derived_notice(donor.manifest),
                metrics={},
                created_at=created_at,
            )
            return self._registry.put(manifest, donor.encoder, top.path)

    def _donor(self, width: int) -> StoredModel:
        """The model whose encoder a head of this width is bound to."""
        if self._encoder is not None:
            donor = self._registry.open(self._encoder)
            if donor.manifest.spec.width == width:
                return donor
            raise CheckpointInvalid(
                f"The head takes features of width {width}; the encoder of {self._encoder!r}, "
                f"which D3_ENCODER names, makes {donor.manifest.spec.width}.",
                "Use a head trained on that encoder, or change D3_ENCODER.",
            )
        fitting = [one for one in self._registry.list() if one.manifest.spec.width == width]
        fitting.sort(key=lambda one: (one.manifest.name != PUBLISHED, not one.packaged))
        if fitting:
            return self._registry.open(fitting[0].manifest.name)
        raise CheckpointInvalid(
            f"The head takes features of width {width}, and no encoder here makes them.",
            "Bring the encoder first: `d3 models import NAME --encoder FILE --head FILE`; the "
            "published head wants CLIP ViT-L/14, width 1024.",
        )
