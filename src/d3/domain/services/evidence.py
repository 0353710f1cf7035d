"""Making cases: all that is known of a verdict, gathered for a bundle of evidence."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict

from d3.domain.detections import Detection
from d3.domain.errors import ModelNotFound
from d3.domain.evidence import MOST_LABELS, Case, CaseLabel, format_of, recorded
from d3.domain.history import entry_of
from d3.domain.models import Manifest, ModelReference
from d3.domain.ports.clock import Clock
from d3.domain.ports.history import History
from d3.domain.ports.models import ModelRegistry
from d3.domain.services.accounts import AccountService
from d3.domain.services.copying import versions_of


class EvidenceService:
    """Gathers what bundles of evidence hold.

    Args:
        registry: of the models.
        history: of the results.
        accounts: whose names stand in a case.
        clock: tells the time.
        version: of D3.
    """

    def __init__(
        self,
        *,
        registry: ModelRegistry,
        history: Callable[[], History],
        accounts: Callable[[], AccountService],
        clock: Clock,
        version: str,
    ) -> None:
        self._registry = registry
        self._history = history
        self._accounts = accounts
        self._clock = clock
        self._version = version

    def of_result(self, result_id: int, whose: int | None = None, made_by: str = "") -> Case:
        """The case of a stored result.

        Args:
            result_id: in the history.
            whose: whose results may be seen; None for all.
            made_by: the account that asks for the case; empty without one.

        Raises:
            ResultNotFound: there is none, or it is another user's.
        """
        history = self._history()
        entry = history.get(result_id, whose)
        changes = history.labels(entry.id, whose) if entry.label is not None else []
        name, result = self._names(), recorded(entry)
        return Case(
            format_version=format_of(result),
            made_at=self._clock.now(),
            made_by=made_by,
            d3_version=self._version,
            result=result,
            result_id=entry.id,
            asked_by=name(entry.user_id),
            manifest=self._manifest(entry.model),
            labels=tuple(
                CaseLabel(**asdict(one), labelled_by=name(one.user_id))
                for one in changes[:MOST_LABELS]
            ),
            label_changes=len(changes),
        )

    def of_detection(self, detection: Detection) -> Case:
        """The case of a verdict just reached, which is stored nowhere else."""
        now = self._clock.now()
        result = entry_of(detection, created_at=now, d3_version=self._version)
        return Case(
            format_version=format_of(result),
            made_at=now,
            d3_version=self._version,
            result=result,
            manifest=self._manifest(detection.model),
        )

    def _manifest(self, model: ModelReference | None) -> Manifest | None:
        return None if model is None else find_model(self._registry, model)

    def _names(self) -> Callable[[int | None], str]:
        """Tells the name of an account; empty without one."""
        names = self._accounts().usernames()
        return lambda user_id: "" if user_id is None else names.get(user_id, f"user {user_id}")


def find_model(registry: ModelRegistry, wanted: ModelReference) -> Manifest | None:
    """The model that gives the same logits, under its own name or another; None if it is not here.

    Of several, the one that the reference names comes first: others may be calibrated otherwise.
    """
    with suppress(ModelNotFound):
        named = registry.describe(wanted.name, wanted.version)
        if named.sha256 == wanted.sha256:
            return named
    names = [one.manifest.name for one in registry.list()]
    for name in sorted(names, key=lambda name: name != wanted.name):
        same = [one for one in versions_of(registry, name) if one.sha256 == wanted.sha256]
        if same:
            return same[-1]
    return None
