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
    help="Number of rendered camera images. Six generators redraw each of them.",
)
@click.option(
    "--quick", is_flag=True, help="Train the generators for only a few seconds, as a quick try."
)
def render(folder: Path, *, seed: int, scenes: int, quick: bool) -> None:
    """Make a data set of rendered images and forgeries of them.

    The images are written to OUT/real and OUT/fake/GENERATOR, ready for `d3 evaluate OUT`. This
    takes a few minutes on two cores.
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
    out().print(f"Wrote {counted(files, 'image')} to {folder}.", markup=False)
    complain(f"Run `d3 evaluate {folder}` to measure a model on them.", "note")


@dataset.command()
@DATASETS
@SEED
@JSON
def check(datasets: tuple[str, ...], *, seed: int, as_json: bool) -> int:
    """Check whether a data set is fit to measure a detector.

    Reads every file. Finds unreadable files, duplicates, and files that are both real and
    generated. Tests whether a simple classifier can separate real from generated images by format,
    size or JPEG quality alone.

    Exit codes: 0 fit; 1 unfit; 2 the check failed.
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
        complain(f"{path}: both real and generated", kind="warning")
    rows = {
        "real images": f"{result.real:,}",
        "generated images": f"{result.fake:,}",
        "unreadable": f"{result.unreadable_count:,}",
        "other files": f"{result.passed_over:,}",
        "duplicate files": f"{result.duplicates:,}",
        "files that are both real and generated": f"{result.across_count:,}",
        "generated images that look like a real one": f"{result.alike:,}",
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
            "SEPARATED BY", "AUROC", "REAL", "GENERATED", box=box.SIMPLE_HEAD, pad_edge=False
        )
        order = sorted(result.leaks, key=lambda name: -result.leaks[name].value)
        for name in ["all", *(one for one in order if one != "all")]:
            figure = result.leaks[name]
            common = result.common.get(name, {"real": [], "fake": []})
            facts.add_row(
                Text("all of these together" if name == "all" else name),
                f"{figure.value:.2f}  [{figure.low:.2f} to {figure.high:.2f}]",
                *(Text(printable(", ".join(common[kind]))) for kind in ("real", "fake")),
            )
        out().print(facts)
    style = {"sound": "bold green", "usable": "bold yellow", "unfit": "bold red"}
    out().print(Text(f"The data set is {result.verdict}.", style=style[result.verdict]))
    for sentence in [*result.problems, *result.warnings]:
        out().print(Text(f"  {sentence}"))
