"""``d3 dataset``: data sets to evaluate on: rendered ones, and checks of one's own."""

from __future__ import annotations

from pathlib import Path

import click

from d3.entrypoints.cli.output import complain, counted, err, out


@click.group()
def dataset() -> None:
    """Check a data set, or render one."""


@dataset.command()
@click.argument("folder", type=click.Path(path_type=Path), metavar="OUT")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option(
    "--scenes",
    type=click.IntRange(1, 100_000),
    default=150,
    show_default=True,
    help="Camera pictures; each is redrawn by six generators.",
)
@click.option("--quick", is_flag=True, help="Train the generators for seconds only, to try things.")
def render(folder: Path, *, seed: int, scenes: int, quick: bool) -> None:
    """Render camera pictures and small generators' forgeries of them into OUT.

    OUT/real and OUT/fake/GENERATOR are what `d3 evaluate OUT` takes. With seed 0 these are the
    pictures that the starter model is tested on. A few minutes on two cores.
    """
    from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

    from d3.training.rendering import render_dataset

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    quiet = not err().is_terminal
    with Progress(*columns, console=err(), transient=True, disable=quiet) as shown:
        tasks: dict[str, TaskID] = {}

        def progress(stage: str, share: float) -> None:
            if stage not in tasks:
                tasks[stage] = shown.add_task(stage, total=1.0)
            shown.update(tasks[stage], completed=share)

        files = render_dataset(folder, seed=seed, scenes=scenes, quick=quick, progress=progress)
    out().print(f"{counted(files, 'picture')} are in {folder}.", markup=False)
    complain(f"`d3 evaluate {folder}` measures a model on them.", "note")
