"""``d3 bench``: what this machine gives."""

from __future__ import annotations

from dataclasses import asdict

import click

from d3.domain.errors import RequestInvalid
from d3.entrypoints.cli.opening import build_container
from d3.entrypoints.cli.options import JSON, MODEL
from d3.entrypoints.cli.output import out, print_json, printable
from d3.entrypoints.cli.progress import progress


@click.command()
@MODEL
@click.option(
    "--shape",
    type=click.Choice(["vit-l-14", "vit-b-16", "vit-b-32"]),
    help="Random weights of this shape instead of a model.",
)
@click.option("--quick", is_flag=True, help="One round each, batch size 1: quick but rough.")
@JSON
def bench(*, model: str | None, shape: str | None, quick: bool, as_json: bool) -> int:
    """Measure how fast D3 is on this machine.

    The parts are the engine, preprocessing, HTTP, and all of them together. The engine takes turns
    with the published procedure on the same weights; the rate of the machine's own matrix product
    stands beside it. Operations are counted in full for every branch. Only temporary files are
    written.
    """
    if model is not None and shape is not None:
        raise RequestInvalid("--model and --shape exclude each other.", "Give one of them.")
    container = build_container(model)
    if model is not None:
        container.models().info(model)
    from d3.entrypoints.bench.run import QUICK, Figure, Plan, measured_model, run

    def show(figure: Figure, part: str) -> None:
        if as_json:
            print_json(asdict(figure))
            return
        title = figure.part if figure.part != part else ""
        number = f"{figure.value:,.{_digits(figure.value)}f}"
        line = f"{title:<14} {figure.what:<52} {number:>10} {figure.unit}"
        out().print(printable(f"{line}  {figure.note}".rstrip()), markup=False)

    with progress("Measuring", below_rows=True) as tell:

        def say(what: str) -> None:
            tell(f"Measuring {what}")

        part = ""
        with measured_model(container.settings(), shape, say) as chosen:
            for figure in run(chosen, QUICK if quick else Plan(), say):
                show(figure, part)
                part = figure.part
    return 0


def _digits(value: float) -> int:
    """Three figures where there are decimals."""
    return 0 if value >= 100 else 1 if value >= 10 else 2  # noqa: PLR2004
