"""``d3 explain``: where an image's score comes from, as a picture."""

from __future__ import annotations

from pathlib import Path

import click

from d3.entrypoints.cli.opening import build_container
from d3.entrypoints.cli.options import FILE, MODEL, VIEWS
from d3.entrypoints.cli.output import complain, out, printable
from d3.entrypoints.cli.progress import progress
from d3.entrypoints.cli.sources import STDIN, check_file, read_stdin


@click.command()
@click.argument("image", type=FILE, metavar="IMAGE")
@click.option(
    "-o",
    "--out",
    "target",
    type=click.Path(dir_okay=False, path_type=Path),
    help="PNG file to write.  [default: the name of IMAGE with -explained.png, in the current "
    "folder]",
)
@VIEWS
@MODEL
def explain(image: str, *, target: Path | None, views: int, model: str | None) -> None:
    """Draw where an image's score comes from.

    IMAGE is a file, or - for standard input. Red marks the parts that look most generated to the
    model when it sees them alone, blue the least. The scale fits each image. The map is not proof.
    """
    from d3.domain.files import put
    from d3.evaluation.files import writing

    container = build_container(model)
    if piped := image == STDIN:
        source: bytes | Path = read_stdin(container.settings().max_image_bytes)
    else:
        source = Path(image)
        check_file(source, container.decoder())
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
