"""Copying models from one registry to another: every version, in order, once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from d3.domain.errors import ModelNotFound
from d3.domain.models import Manifest, with_encoders_notice
from d3.domain.ports.models import ModelRegistry


@dataclass(frozen=True, slots=True)
class Copied:
    """A version that was copied, or was there.

    Attributes:
        manifest: as in the source.
        version: its number in the target.
        new: False if the target had it already.
    """

    manifest: Manifest
    version: int
    new: bool


def copy_models(
    source: ModelRegistry, target: ModelRegistry, names: Sequence[str] = ()
) -> Iterator[Copied]:
    """Copy models with all their versions; those that the target has are skipped.

    Without names, all are copied, and the source's active model becomes the target's, unless that
    has one. Packaged models are not copied. Versions are renumbered if the target has others of the
    name. What was stored before an error stays, so the same call goes on where it ended.

    Raises:
        ModelNotFound: the source has no model of such a name.
        D3Error: a model is damaged, or the target cannot be written.
    """
    packaged = {one.manifest.name for one in source.list() if one.packaged}
    wanted = names or [one.manifest.name for one in source.list()]
    for name in wanted:
        if name not in packaged:
            yield from _copy(source, target, name)
    active = source.active()
    if not names and active is not None and target.active() is None:
        target.activate(active)


def _copy(source: ModelRegistry, target: ModelRegistry, name: str) -> Iterator[Copied]:
    models = [one.manifest for one in target.list()]
    there = {substance(one): one.version for one in versions_of(target, name)}
    versions = versions_of(source, name)
    if not versions:
        source.describe(name)
    for manifest in versions:
        known = there.get(substance(with_encoders_notice(manifest, models)))
        if known is None:
            model = source.open(name, manifest.version)
            stored = target.put(replace(model, manifest=manifest))
            there[substance(stored)] = stored.version
        yield Copied(manifest, known or stored.version, new=known is None)


def versions_of(registry: ModelRegistry, name: str) -> list[Manifest]:
    """Every version, oldest first; numbers may have gaps."""
    found: list[Manifest] = []
    try:
        newest = registry.describe(name).version
    except ModelNotFound:
        return []
    for version in range(1, newest + 1):
        try:
            found.append(registry.describe(name, version))
        except ModelNotFound:
            continue
    return found


def substance(manifest: Manifest) -> str:
    """A manifest without its version."""
    return repr(replace(manifest, version=1))
