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
    from d3.domain.evidence import Means, OpenedEvidence, Replayed

_DOES_NOT_HOLD = 1


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

    Exit codes: 0 the numbers hold; 1 they do not; 2 the case could not be scored again.
    """
    from d3.domain.errors import EvidenceContradictory
    from d3.domain.evidence import check_case

    container = build_container()
    found = container.evidence_bundles().open(bundle, key)
    try:
        check_case(found.case)
    except EvidenceContradictory as error:
        return refuse(bundle, error, as_json=as_json)
    content = _image(found, image)
    with progress("Scoring again"):
        replayed = container.replaying().replay(found.case, content)
    if as_json:
        known = key_facts(container, found, key)
        print_json(asdict(replayed) | {"holds": replayed.holds} | known)
    else:
        _show(found, replayed)
    caution(container, found, key)
    return 0 if replayed.holds else _DOES_NOT_HOLD


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


def _show(found: OpenedEvidence, replayed: Replayed) -> None:
    result, score = found.case.result, replayed.score
    say = "hold" if replayed.holds else "do not hold"
    out().print(f"The numbers {say}.", markup=False)
    rows = (
        ("recorded", result.prediction, result.verdict, replayed.before),
        ("now", score.prediction, score.verdict, replayed.now),
    )
    for name, prediction, verdict, means in rows:
        out().print(
            f"  {name:<9} {prediction:.6f}  {verdict.value:<9}  {_told(means)}", markup=False
        )
    out().print(
        f"  difference {replayed.drift:.2g} of a probability; allowed {replayed.allowed:.2g}",
        markup=False,
    )
    for name, one in replayed.members.items():
        said = (
            f"was not scored again. {one}"
            if isinstance(one, str)
            else f"{one.score.prediction:.6f}  {one.score.verdict.value:<9}  "
            f"difference {one.drift:.2g}; allowed {one.allowed:.2g}"
            + ("" if one.holds else "  does not hold")
        )
        out().print(f"  {name:<9} {printable(said)}", markup=False)
    out().print(f"  key        {found.key_id or 'none'}", markup=False)
    if replayed.verdict_changed:
        complain(
            "Another verdict follows from the new numbers, because the probability is this close "
            "to the threshold or to the edge of the abstain band."
            if replayed.holds
            else "Another verdict follows from the new numbers.",
            "warning",
        )


def _told(means: Means) -> str:
    libraries = f" ({means.libraries})" if means.libraries else ""
    return f"{means.engine} {means.precision} on {means.device or 'an unknown device'}{libraries}"
