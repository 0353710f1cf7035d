"""Labelled results of the history as rows of scores: corrections that count."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

from d3.domain.history import HistoryEntry
from d3.domain.labels import Label
from d3.evaluation.dataset import DatasetInvalid
from d3.evaluation.perturbations import ORIGINAL
from d3.evaluation.scores import Row

_NAMED = 5
_SELECTED = (
    "People label what they look at, often because the verdict seems wrong. The rates are those of "
    "labelled images, not of all images."
)
_TRUTH = {Label.REAL: "real", Label.GENERATED: "fake"}


@dataclass(frozen=True, slots=True)
class Labelled:
    """What labelled results say of images, one row each.

    Attributes:
        rows: in the order of their first results.
        views: how many permutations each logit is the mean of.
        warnings: what was left out, and what the labels cannot show, as sentences.
    """

    rows: list[Row]
    views: int
    warnings: list[str]

    def check_enough(self, reals: int, fakes: int, purpose: str) -> None:
        """Refuse what is too few.

        Args:
            reals: real images that are needed.
            fakes: generated ones.
            purpose: of them, for the message.

        Raises:
            DatasetInvalid: there are fewer.
        """
        found = Counter(row.label for row in self.rows)
        if found["real"] < reals or found["fake"] < fakes:
            raise DatasetInvalid(
                f"{found['real']:,} real and {found['fake']:,} generated labelled images are too "
                f"few. For {purpose}, at least {reals:,} real and {fakes:,} generated are needed.",
                "Label more results (`d3 labels import`), or look further back with --since.",
            )


def labelled_rows(entries: Iterable[HistoryEntry], model_sha256: str) -> Labelled:
    """The images that people labelled and these weights judged, each once.

    A logit depends on the weights and the number of views alone, whichever version of the manifest
    gave the verdict, alone or in a panel. Only the number of views that most results have is used.
    Of several results of an image the newest gives the logit; an image with contradictory labels is
    left out.

    Args:
        entries: labelled results, of any model.
        model_sha256: of the weights, see :attr:`d3.domain.models.Manifest.sha256`.
    """
    labelled = (one for one in entries if one.label in _TRUTH)
    said = (_said_by(model_sha256, one) for one in labelled)
    own = [one for one in said if one is not None]
    usable = [one for one in own if one.logit is not None and one.image_sha256]
    counts = Counter(one.views for one in usable)
    views = max(counts, key=lambda one: (counts[one], -one), default=1)
    images: dict[str, list[HistoryEntry]] = {}
    for one in sorted(usable, key=lambda one: (one.created_at, one.id)):
        if one.views == views:
            images.setdefault(str(one.image_sha256), []).append(one)
    kept: list[HistoryEntry] = []
    unclear: list[HistoryEntry] = []
    for results in images.values():
        agreed = len({one.label for one in results}) == 1
        (kept if agreed else unclear).append(results[-1])
    warnings = [_SELECTED]
    if unclear:
        warnings.append(_contradictory(unclear))
    if others := len(usable) - counts[views]:
        warnings.append(
            f"Labelled results with another number of views than {views} were left out: {others:,}."
        )
    if incomplete := len(own) - len(usable):
        warnings.append(
            "Labelled results were left out of which an old version of D3 recorded no logit or no "
            f"SHA-256 of the image: {incomplete:,}."
        )
    engines = Counter(f"{one.engine} {one.precision}" for one in kept)
    if len(engines) > 1:
        shown = ", ".join(f"{name}: {count:,}" for name, count in engines.most_common())
        warnings.append(f"The logits are those of several engines ({shown}).")
    return Labelled([_row(one) for one in kept], views, warnings)


def _said_by(model_sha256: str, entry: HistoryEntry) -> HistoryEntry | None:
    """The result as these weights alone gave it; None where they did not judge."""
    if not entry.panel:
        return entry if entry.model_sha256 == model_sha256 else None
    opinion = next((one for one in entry.opinions if one.model.sha256 == model_sha256), None)
    if opinion is None:
        return None
    return replace(
        entry,
        prediction=opinion.prediction,
        logit=opinion.logit,
        views=len(opinion.logits) or 1,
        spread=opinion.spread,
        verdict=opinion.verdict,
        reason=opinion.reason,
        engine=opinion.engine,
        precision=opinion.precision,
    )


def _contradictory(images: list[HistoryEntry]) -> str:
    names = ", ".join(f"{one.image_name} (result {one.id})" for one in images[:_NAMED])
    more = f" and {len(images) - _NAMED:,} more" if len(images) > _NAMED else ""
    return f"Images with contradictory labels were left out: {names}{more}."


def _row(one: HistoryEntry) -> Row:
    assert one.label is not None
    return Row(
        condition=ORIGINAL,
        path=f"{one.image_name} (result {one.id})",
        label=_TRUTH[one.label],
        generator="labelled results",
        prediction=one.prediction,
        logit=one.logit,
        spread=one.spread,
        verdict=one.verdict.value,
        sha256=one.image_sha256 or "",
        reason=one.reason or "",
        notice=one.notice,
    )
