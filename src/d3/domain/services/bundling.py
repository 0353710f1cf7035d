"""Models in one file: written out, carried anywhere, taken in again."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from d3.domain.errors import BundleInvalid
from d3.domain.models import StoredModel, with_encoders_notice
from d3.domain.ports.model_files import Bundles
from d3.domain.ports.models import Checkpoints, ModelRegistry
from d3.domain.services.copying import Copied, substance, versions_of


class BundleService:
    """Writes models of a registry as bundles and takes bundles into it.

    Args:
        registry: where models are kept.
        checkpoints: checks a bundle's weights.
        bundles: knows the format.
    """

    def __init__(
        self, registry: ModelRegistry, checkpoints: Callable[[], Checkpoints], bundles: Bundles
    ) -> None:
        self._registry = registry
        self._checkpoints = checkpoints
        self._bundles = bundles

    def write(self, name: str, target: Path, version: int | None = None) -> StoredModel:
        """Write a model as one new file.

        Args:
            name: the model's.
            target: where there is no file yet.
            version: the newest unless said.

        Raises:
            ModelNotFound: there is none.
            ModelDamaged: its files do not match their hashes.
            StorageFailed: the target is there already, or cannot be written.
        """
        model = self._registry.open(name, version)
        self._bundles.write(model, target)
        return model

    def read(self, file: Path) -> Copied:
        """Store a bundle's model as the next version of its name, unless it is there already.

        Raises:
            BundleInvalid: it is no bundle, or not what its manifest says.
            CheckpointInvalid: its weights are not sound.
            ModelProtected: its name is a packaged model's.
            StorageFailed: it cannot be stored.
        """
        with tempfile.TemporaryDirectory(prefix="d3-bundle-") as folder:
            model = self._bundles.read(file, Path(folder))
            models = (one.manifest for one in self._registry.list())
            manifest = with_encoders_notice(model.manifest, models)
            for known in versions_of(self._registry, manifest.name):
                if substance(known) == substance(manifest):
                    return Copied(manifest, known.version, new=False)
            self._check_weights(model, Path(folder), file.name)
            stored = self._registry.put(manifest, model.encoder, model.head)
            return Copied(manifest, stored.version, new=True)

    def _check_weights(self, model: StoredModel, folder: Path, called: str) -> None:
        """Look into the weights as into any that come from elsewhere, and compare the shapes."""
        spec = model.manifest.spec
        checked = folder / "checked"
        checked.mkdir()
        body = self._checkpoints().read_encoder(model.encoder, checked, spec.heads, called=called)
        top = self._checkpoints().read_head(model.head, checked, called=called)
        assert body.spec is not None
        found = replace(body.spec, projection=spec.projection, activation=spec.activation)
        if found != spec or top.width != spec.width:
            raise BundleInvalid(
                "The bundle's weights have other shapes than its manifest says.",
                "Write it anew with `d3 models bundle`.",
            )
