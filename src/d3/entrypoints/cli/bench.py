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
    help="Measure random weights of this shape instead of a model.",
)
@click.option(
    "--quick", is_flag=True, help="Measure one round each with batch size 1: quick but imprecise."
)
@JSON
def bench(*, model: str | None, shape: str | None, quick: bool, as_json: bool) -> int:
    """Measure how fast D3 is on this machine.

    Measures the engine, preprocessing, HTTP and all of them together. The engine alternates with
    the published procedure on the same weights and is compared with the machine's own matrix
    product. The operations of every branch are counted in full. Writes only temporary files.
    """
    if model is not None and shape is not None:
        raise RequestInvalid("--model and --shape cannot be used together.", "Use one of them.")
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
