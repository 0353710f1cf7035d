"""What several models hold together: an encoder made once, and one forward pass for their heads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import Generic, TypeVar
from weakref import WeakValueDictionary

from d3.domain.errors import CheckpointInvalid
from d3.domain.models import EncoderSpec, Manifest, StoredModel

T = TypeVar("T")


class Shared(Generic[T]):
    """Things by what they were made of: made once, gone with the last that uses it."""

    def __init__(self) -> None:
        self._made: WeakValueDictionary[Hashable, T] = WeakValueDictionary()
        self._making = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The thing that this key stands for, made if nobody holds one."""
        with self._making:
            found = self._made.get(key)
            if found is None:
                found = self._made[key] = make()
            return found


def shape_of(spec: EncoderSpec) -> EncoderSpec:
    """What decides how an encoder is computed: all but the projection, which comes after it.

    It is the one that D3's import writes, so that encoders prepared before stay known.
    """
    return replace(spec, projection=EncoderSpec().projection)


def check_input(manifest: Manifest) -> None:
    """Check that a model's encoder takes the pixels that its manifest says.

    Raises:
        CheckpointInvalid: they are of another size, or are scaled otherwise.
    """
    spec, pixels = manifest.encoder_spec, manifest.input_spec
    if pixels.size != spec.image_size or not pixels.clip_normalised:
        raise CheckpointInvalid(
            f"The encoder of the model {manifest.name!r} takes {spec.image_size} pixels a side, "
            "scaled as for CLIP, and its manifest says otherwise.",
            "Import it again.",
        )


def shared_permutations(models: Sequence[StoredModel]) -> tuple[tuple[int, ...], ...]:
    """The permutations of models in one forward pass; none where no model shuffles.

    Raises:
        ValueError: the models cannot share a pass.
    """
    manifests = [one.manifest for one in models]
    orders = {one.permutations for one in manifests if one.permutations}
    if len({one.features for one in manifests}) > 1 or len(orders) > 1:
        raise ValueError("models beside one another have the same encoder, input and permutations")
    return next(iter(orders), ())
