"""``d3 train``: make a model."""

from __future__ import annotations

from pathlib import Path

import click

from d3.entrypoints.cli.output import complain, err, out


@click.command()
@click.option(
    "--recipe", type=click.Choice(["starter"]), required=True, help="What is made, and how."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option(
    "--out",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder for the weights, the manifest, the figures and the model card.",
)
@click.option(
    "--examples",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for a handful of pictures of both kinds, of scenes not trained on.",
)
def train(*, recipe: str, seed: int, folder: Path, examples: Path | None) -> int:
    """Train a model.

    The recipe `starter` renders scenes, trains small generators to redraw them, and trains a small
    D3 to tell the two apart: within an hour on two cores, the same for the same seed.
    """
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from d3.training.starter import build

    assert recipe == "starter"
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err()) as shown:
        tasks: dict[str, int] = {}

        def progress(stage: str, share: float) -> None:
            if stage not in tasks:
                tasks[stage] = shown.add_task(stage, total=1.0)
            shown.update(tasks[stage], completed=share)  # type: ignore[arg-type]

        build(folder, seed=seed, progress=progress, examples=examples)
    out().print(f"The model is in {folder}; MODEL_CARD.md there says what it can do.", markup=False)
    files = f"--encoder {folder / 'encoder.safetensors'} --head {folder / 'head.safetensors'}"
    complain(f"`d3 models import NAME {files}` makes it usable.", "note")
    return 0
