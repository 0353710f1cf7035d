"""Which models one forward pass can score together."""

from __future__ import annotations

from collections.abc import Iterable

from d3.domain.models import HEADS_ON_CLIP, Manifest, StoredModel

Group = tuple[StoredModel, ...]
"""Models that are scored in one pass, the one that decides its views first."""


def grouped(models: Iterable[StoredModel]) -> list[Group]:
    """Models, those that one forward pass can score together: other heads on the same features."""
    groups: list[list[StoredModel]] = []
    for model in sorted(models, key=lambda one: not one.manifest.permutations):
        group = next((one for one in groups if _shares(model, one[0])), None)
        if group is None:
            groups.append([model])
        else:
            group.append(model)
    return [tuple(one) for one in groups]


def _shares(model: StoredModel, first: StoredModel) -> bool:
    """Whether a model takes what the first one's forward pass computes anyway."""
    one, other = model.manifest, first.manifest
    return (
        {one.architecture, other.architecture} <= HEADS_ON_CLIP
        and (one.features, _form(one)) == (other.features, _form(other))
        and one.permutations in ((), other.permutations)
    )


def _form(model: Manifest) -> tuple[object, ...] | None:
    """What decides how an int8 form computes them."""
    return None if model.int8 is None else (model.int8.file, model.int8.group)
