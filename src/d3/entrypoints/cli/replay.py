"""``d3 replay``: whether the numbers of a bundle of evidence hold."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from d3.entrypoints.cli.evidence import BUNDLE, KEY, caution, key_facts, refuse
from d3.entrypoints.cli.opening import build_container
from d3.entrypoints.cli.options import FILE, JSON
from d3.entrypoints.cli.output import complain, out, print_json, printable
from d3.entrypoints.cli.progress import progress

if TYPE_CHECKING:
    from collections.abc import Iterable

    from d3.domain.evidence import Means, OpenedEvidence, Replayed
    from d3.domain.history import NewEntry
    from d3.domain.scoring import Score

_EXIT_CODES = {True: 0, False: 1, None: 2}


@click.command()
@BUNDLE
@click.option(
    "--image",
    type=FILE,
    metavar="IMAGE",
    help="The image of the case.  [default: the one in the bundle, if it holds it]",
)
@KEY
@JSON
def replay(bundle: Path, *, image: str | None, key: Path | None, as_json: bool) -> int:
    """Score the image of BUNDLE again and compare the numbers.

    The bundle is checked first, as by `d3 evidence verify`; one that contradicts itself does not
    hold. The model is found by its SHA-256 under any name. If it is the published one and not here,
    it is downloaded. Engine and precision are this machine's (D3_ENGINE, D3_PRECISION); how much a
    number may differ depends on them.

    Exit codes: 0 the numbers hold; 1 they do not; 2 the case, or a model of its panel, could not be
    scored again.
    """
    from d3.domain.errors import EvidenceContradictory
    from d3.domain.evidence import check_case
    from d3.domain.services.replaying import check_replayable

    container = build_container()
    found = container.evidence_bundles().open(bundle, key)
    try:
        check_case(found.case)
    except EvidenceContradictory as error:
        return refuse(bundle, error, as_json=as_json)
    check_replayable(found.case)
    content = _image(found, image)
    with progress("Scoring again"):
        replayed = container.replaying().replay(found.case, content)
    if as_json:
        known = key_facts(container, found, key)
        why = None if replayed.holds else _headline(found, replayed)
        print_json(asdict(replayed) | {"holds": replayed.holds, "reason": why} | known)
    else:
        _show(found, replayed)
    caution(container, found, key)
    return _EXIT_CODES[replayed.holds]


def _image(found: OpenedEvidence, image: str | None) -> bytes:
    from d3.domain.errors import ImageNotFound, ReplayImpossible
    from d3.domain.evidence import check_image

    content = found.image
    if image is not None:
        try:
            content = Path(image).read_bytes()
        except OSError as error:
            raise ImageNotFound(
                f"{image} cannot be read ({error.strerror}).", "Check --image."
            ) from error
    if content is None:
        raise ReplayImpossible(
            "The bundle does not hold the image.", "Name the original file with --image."
        )
    check_image(found.case, content)
    return content


def _headline(found: OpenedEvidence, replayed: Replayed) -> str:
    """What replaying found, in a sentence."""
    if replayed.holds is not None:
        return f"The numbers {'hold' if replayed.holds else 'do not hold'}."
    members = [name for name in replayed.members if name not in replayed.unscored]
    scored = [found.case.result.model_name, *members]
    be = "was" if len(replayed.unscored) == 1 else "were"
    return (
        f"The numbers of {_listed(scored)} hold; {_listed(replayed.unscored)} {be} not scored "
        "again."
    )


def _listed(names: Iterable[object]) -> str:
    """Names in a sentence."""
    *most, last = map(str, names)
    return f"{', '.join(most)} and {last}" if most else last


def _show(found: OpenedEvidence, replayed: Replayed) -> None:
    result, score = found.case.result, replayed.score
    out().print(printable(_headline(found, replayed)), markup=False)
    rows = [
        ("recorded", f"{_says(result)}  {_told(replayed.before)}"),
        ("now", f"{_says(score)}  {_told(replayed.now)}"),
        ("difference", f"{replayed.drift:.2g} of a probability; allowed {replayed.allowed:.2g}"),
        *((printable(name), _of_member(one)) for name, one in replayed.members.items()),
        ("key", found.key_id or "none"),
    ]
    width = max(len(name) for name, _ in rows)
    for name, said in rows:
        out().print(f"  {name:<{width}}  {said}", markup=False)
    for name, one in {str(result.model_name): replayed, **replayed.members}.items():
        if not isinstance(one, str) and one.differs:
            complain(_differing(name, one), "warning")
    if replayed.verdict_changed:
        complain(
            "Another verdict follows from the new numbers, because the probability is this close "
            "to the threshold or to the edge of the abstain band."
            if replayed.holds is not False
            else "Another verdict follows from the new numbers.",
            "warning",
        )


def _says(one: Score | NewEntry) -> str:
    return f"{one.prediction:.6f}  {one.verdict.value:<9}"


def _of_member(one: Replayed | str) -> str:
    if isinstance(one, str):
        return printable(f"was not scored again. {one}")
    drift = f"difference {one.drift:<7.2g}  allowed {one.allowed:.2g}"
    return f"{_says(one.score)}  {drift}{'' if one.holds else '  does not hold'}"


def _differing(name: str, one: Replayed) -> str:
    """That the case says of a model what its manifest here does not."""
    words = (field.replace("calibrated", "calibration").split("_")[0] for field in one.differs)
    what = _listed(dict.fromkeys("abstain band" if one == "abstain" else one for one in words))
    said = f"What the case says of {name}'s {what} is not what its manifest here says"
    if one.same_version:
        return printable(f"{said}, which has the same name, version and weights.")
    return printable(
        f"{said}. That is of another version or name with the same weights, so this may be honest."
    )


def _told(means: Means) -> str:
    libraries = f" ({means.libraries})" if means.libraries else ""
    return f"{means.engine} {means.precision} on {means.device or 'an unknown device'}{libraries}"
