"""``d3 dataset``: data sets to evaluate on: rendered ones, and checks of one's own."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from d3.entrypoints.cli.evaluate import looked_through
from d3.entrypoints.cli.opening import build_container
from d3.entrypoints.cli.options import DATASETS, JSON, SEED
from d3.entrypoints.cli.output import complain, counted, out, print_json, printable
from d3.entrypoints.cli.progress import Unit, progress

if TYPE_CHECKING:
    from d3.evaluation.check import Checked


@click.group()
def dataset() -> None:
    """Check a data set, or render one."""


@dataset.command()
@click.argument("folder", type=click.Path(path_type=Path), metavar="OUT")
@SEED
@click.option(
    "--scenes",
    type=click.IntRange(1, 100_000),
    default=150,
    show_default=True,
    help="Number of camera pictures; six generators redraw each.",
)
@click.option(
    "--quick", is_flag=True, help="Train the generators for a few seconds only, as a trial."
)
def render(folder: Path, *, seed: int, scenes: int, quick: bool) -> None:
    """Make a data set: rendered pictures and forgeries of them.

    OUT/real and OUT/fake/GENERATOR hold them, for `d3 evaluate OUT`. It takes a few minutes on two
    cores.
    """
    from d3.training.starter.rendering import render_dataset

    with progress("Training the generators", Unit.SHARE) as tell:
        files = render_dataset(
            folder,
            seed=seed,
            scenes=scenes,
            quick=quick,
            progress=lambda stage, share: tell(stage, share, 1.0),
        )
    out().print(f"{counted(files, 'picture')} are in {folder}.", markup=False)
    complain(f"`d3 evaluate {folder}` measures a model on them.", "note")


@dataset.command()
@DATASETS
@SEED
@JSON
def check(datasets: tuple[str, ...], *, seed: int, as_json: bool) -> int:
    """Check whether a data set is fit to measure a detector.

    Every file is read. D3 looks for unreadable files, for duplicates, for files in both kinds, and
    whether a simple classifier tells the kinds apart by format, size or JPEG quality alone.

    Exit codes: 0 fit; 1 unfit; 2 it could not be checked.
    """
    from d3.evaluation.check import check as checked

    container = build_container()
    data, counts = looked_through(datasets)
    with progress("Reading") as tell:
        result = checked(
            data,
            container.decoder(),
            threads=container.settings().decode_threads,
            seed=seed,
            progress=lambda done: tell("Reading", done, counts.total),
        )
    if as_json:
        print_json(asdict(result) | {"verdict": result.verdict})
    else:
        _print(result)
    return 1 if result.verdict == "unfit" else 0


def _print(result: Checked) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    for path, code in result.unreadable:
        complain(f"{path}: {code}", kind="warning")
    for path in result.across:
        complain(f"{path}: in both kinds", kind="warning")
    rows = {
        "real images": f"{result.real:,}",
        "generated images": f"{result.fake:,}",
        "unreadable": f"{result.unreadable_count:,}",
        "other files": f"{result.passed_over:,}",
        "files more than once": f"{result.duplicates:,}",
        "files in both kinds": f"{result.across_count:,}",
        "generated ones that look like a real one": f"{result.alike:,}",
    }
    if len(result.generators) > 1:
        for name, count in result.generators.items():
            rows[f"  {printable(name)}"] = f"{count:,}"
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(justify="right")
    for name, value in rows.items():
        table.add_row(Text(name), value)
    out().print(table)
    if result.leaks:
        facts = Table(
            "TOLD APART BY", "AUROC", "REAL", "GENERATED", box=box.SIMPLE_HEAD, pad_edge=False
        )
        order = sorted(result.leaks, key=lambda name: -result.leaks[name].value)
        for name in ["all", *(one for one in order if one != "all")]:
            figure = result.leaks[name]
            common = result.common.get(name, {"real": [], "fake": []})
            facts.add_row(
                Text("all of these facts" if name == "all" else name),
                f"{figure.value:.2f}  [{figure.low:.2f} to {figure.high:.2f}]",
                *(Text(printable(", ".join(common[kind]))) for kind in ("real", "fake")),
            )
        out().print(facts)
    style = {"sound": "bold green", "usable": "bold yellow", "unfit": "bold red"}
    out().print(Text(f"The data set is {result.verdict}.", style=style[result.verdict]))
    for sentence in [*result.problems, *result.warnings]:
        out().print(Text(f"  {sentence}"))
