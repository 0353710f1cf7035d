"""Runs a model with the preferred engine, or with the one that runs everywhere; int8 likewise."""

from __future__ import annotations

import warnings
from collections.abc import Callable

from d3.domain.errors import EngineUnavailable
from d3.domain.models import EncoderSpec, StoredModel
from d3.domain.ports.detector import Detector, Engine

_WORTH_PREPARING = 2e9


def worth_preparing(spec: EncoderSpec) -> bool:
    """Whether an encoder is large enough to be worth compiling; the starter's is not."""
    return spec.operations >= _WORTH_PREPARING


class PreferredEngine:
    """Implements ``Engine`` with one of two.

    Args:
        suits: whether to try the preferred one with an encoder of this shape.
    """

    def __init__(
        self,
        preferred: Callable[[], Engine],
        fallback: Callable[[], Engine],
        suits: Callable[[EncoderSpec], bool] = lambda _spec: True,
    ) -> None:
        self._preferred = preferred
        self._fallback = fallback
        self._suits = suits

    def load(self, model: StoredModel) -> Detector:
        """Load with the preferred engine; if it cannot, warn and use the other."""
        if self._suits(model.manifest.spec):
            try:
                return self._preferred().load(model)
            except EngineUnavailable as error:
                warnings.warn(
                    (
                        f"{error.problem} D3 uses the fallback engine instead, which is slower but "
                        f"gives the same scores. {error.remedy}"
                    ).rstrip(),
                    RuntimeWarning,
                    stacklevel=2,
                )
        return self._fallback().load(model)


class Int8Engine:
    """Implements ``Engine``: a model's int8 form, where it has one that runs here.

    Args:
        int8: makes the engine of int8 forms; raises EngineUnavailable where there can be none.
        plain: makes the engine of all other models.
    """

    def __init__(self, int8: Callable[[], Engine], plain: Callable[[], Engine]) -> None:
        self._int8 = int8
        self._plain = plain

    def load(self, model: StoredModel) -> Detector:
        """Load the int8 form; without one, or if it cannot run, load the model as any other."""
        if model.int8 is not None:
            try:
                return self._int8().load(model)
            except EngineUnavailable as error:
                warnings.warn(
                    f"{error.problem} D3 uses the model {model.manifest.name!r} without its int8 "
                    "form, so its scores differ slightly. Set D3_PRECISION to hide this warning.",
                    RuntimeWarning,
                    stacklevel=2,
                )
        return self._plain().load(model)
