"""``d3 explain``: where an image's score comes from, as a picture."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from d3.entrypoints.cli.output import complain, out, printable
from d3.entrypoints.cli.progress import progress
from d3.entrypoints.cli.sources import STDIN, read_stdin


@click.command()
@click.argument("image", metavar="IMAGE")
@click.option(
    "-o",
    "--out",
    "target",
    type=click.Path(dir_okay=False, path_type=Path),
    help="PNG file to write.  [default: IMAGE's name with -explained.png, in this folder]",
)
@click.option("--views", type=int, default=1, show_default=True, help="Permutations, 1-16.")
@click.option("--model", metavar="NAME", help="A model of `d3 models list`.")
def explain(image: str, *, target: Path | None, views: int, model: str | None) -> None:
    """Draw where an image's score comes from.

    IMAGE is a file, or - for standard input. Red parts look most generated to the model when it
    sees them alone, blue ones least; the scale is the image's own. It is no proof.
    """
    from d3.container import Container
    from d3.domain.models import checked_name
    from d3.evaluation.files import put, writing
    from d3.settings import Settings

    settings = Settings.from_environment()
    if model is not None:
        settings = replace(settings, model=checked_name(model))
    container = Container(settings=settings)
    piped = image == STDIN
    source = read_stdin(settings.max_image_bytes) if piped else Path(image)
    target = target or Path(f"{'stdin' if piped else Path(image).stem}-explained.png")
    with progress("Explaining"):
        heatmap = container.explaining().explain(source, views=views)
        detection = container.detection().detect(source, name=image, views=views)
    with writing(target.parent):
        put(target, heatmap.png())
    verdict = f"{detection.verdict.value}{' demo' if detection.notice else ''}"
    out().print(
        f"{verdict}  {detection.prediction:.3f}  {printable(image)}: {printable(str(target))}",
        markup=False,
    )
    if detection.reason_text:
        complain(detection.reason_text, "note")
    if detection.image_note_text:
        complain(detection.image_note_text, "note")
    complain(heatmap.meaning, "note")
    if detection.notice:
        complain(detection.notice, "note")
