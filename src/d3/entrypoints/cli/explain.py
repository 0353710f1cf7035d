"""``d3 explain``: where an image's score comes from, as a picture."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from d3.domain.errors import StorageFailed
from d3.entrypoints.cli.opening import build_container
from d3.entrypoints.cli.options import FILE, MODEL, VIEWS
from d3.entrypoints.cli.output import complain, out, printable, remark
from d3.entrypoints.cli.progress import progress
from d3.entrypoints.cli.results import STDOUT, keep_inputs
from d3.entrypoints.cli.sources import STDIN, check_file, fetch_one, is_link, read_stdin

if TYPE_CHECKING:
    from d3.container import Container
    from d3.domain.heatmaps import Encode


@click.command()
@click.argument("image", type=FILE, metavar="IMAGE")
@click.option(
    "-o",
    "--output",
    "--out",
    "target",
    type=click.Path(dir_okay=False, allow_dash=True, path_type=Path),
    metavar="FILE",
    help="Picture to write: .png, .jpg or .webp, or - for PNG on stdout. An existing one is "
    "replaced.  [default: the name of IMAGE with -explained.png, in the current folder]",
)
@VIEWS
@MODEL
def explain(image: str, *, target: Path | None, views: int, model: str | None) -> None:
    """Draw where an image's score comes from.

    IMAGE is a file, - for standard input, or a link if D3_FETCH_LINKS is True. Red marks the parts
    that look most generated to the model when it sees them alone, blue the least. The scale fits
    each image. The map is not proof.
    """
    from d3.domain.files import put, storage_errors

    container = build_container(model)
    encode = _encoder(container, target)
    stem = Path(image).stem
    if image == STDIN:
        source: bytes | Path = read_stdin(container.settings().max_image_bytes)
        stem = "stdin"
    elif is_link(image):
        fetched = fetch_one(container, image)
        source, stem = fetched.data, Path(fetched.name).stem
    else:
        source = Path(image)
        check_file(source, container.decoder())
    target = target or Path(f"{stem}-explained.png")
    keep_inputs([image], target)
    if target != STDOUT and not target.parent.is_dir():
        raise StorageFailed(
            f"There is no folder {printable(str(target.parent))!r}.", "Create it, or name another."
        )
    with progress("Explaining"):
        heatmap = container.explaining().explain(source, views=views)
        detection = container.detection().detect(source, name=image, views=views)
        picture = heatmap.encoded(encode)
    verdict = f"{detection.verdict.value}{' demo' if detection.notice else ''}"
    said = f"{verdict}  {detection.prediction:.3f}  {printable(image)}"
    if target == STDOUT:
        sys.stdout.buffer.write(picture)
        sys.stdout.flush()
        remark(said)
    else:
        with storage_errors(f"{printable(str(target))} cannot be written"):
            put(target, picture)
        out().print(f"{said}: {printable(str(target))}", markup=False)
    if detection.reason_text:
        complain(detection.reason_text, "note")
    if detection.image_note_text:
        complain(detection.image_note_text, "note")
    complain(heatmap.meaning, "note")
    if detection.notice:
        complain(detection.notice, "note")


def _encoder(container: Container, target: Path | None) -> Encode:
    """What writes the picture, by the name of its file.

    Raises:
        click.BadParameter: its ending names no kind of picture.
    """
    pictures: Mapping[str, Encode] = container.pictures()
    ending = ".png" if target is None or target == STDOUT else target.suffix.lower()
    if target is not None and ending not in pictures:
        raise click.BadParameter(
            f"The name {printable(target.name)!r} must end in {', '.join(pictures)}.",
            param_hint="'-o'",
        )
    return pictures[ending]
