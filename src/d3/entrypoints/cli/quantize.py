"""``d3 models quantize``: a model in int8, measured against itself before it is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from d3.entrypoints.cli.evaluate import named_version
from d3.entrypoints.cli.opening import build_container
from d3.entrypoints.cli.options import FILE, JSON, complete_model
from d3.entrypoints.cli.output import complain, counted, out, print_json, remark
from d3.entrypoints.cli.progress import progress

if TYPE_CHECKING:
    from d3.domain.models import Int8Form

_SHARE = click.FloatRange(0, 1)


@click.command()
@click.argument("name", shell_complete=complete_model, metavar="NAME[@VERSION]")
@click.option(
    "--images",
    type=FILE,
    required=True,
    metavar="FOLDER",
    help="Images like those you judge: a folder, a pattern or s3://BUCKET/PREFIX.",
)
@click.option(
    "--max-mean-drift",
    type=_SHARE,
    default=0.01,
    show_default=True,
    help="Mean difference from the fp32 probability that is allowed.",
)
@click.option(
    "--max-flips",
    type=_SHARE,
    default=0.01,
    show_default=True,
    help="Share of images that may change sides of the threshold. Images in the abstain band do "
    "not count.",
)
@click.option(
    "--min-speedup",
    type=click.FloatRange(min=0),
    default=1.05,
    show_default=True,
    help="Least gain over fp32 that is worth storing.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=160,
    show_default=True,
    help="Number of images to use. They are drawn at random.",
)
@click.option("--as", "target", metavar="NAME", help="Store the new model under another name.")
@JSON
def quantize(
    name: str,
    *,
    images: str,
    max_mean_drift: float,
    max_flips: float,
    min_speedup: float,
    limit: int,
    target: str | None,
    as_json: bool,
) -> None:
    """Add an int8 form to a model, for faster scores on a CPU.

    Tries several forms, from fast to careful. Measures the speed of each, and how far its
    probabilities are from fp32 on images that were not used to make it. Stores the fastest one
    within the limits as a new version of the model. Stores nothing if there is none. Forms slower
    than one within the limits are only timed.

    OpenVINO runs the int8 form. Machines without it, and GPUs, use the weights of the same version
    as before. Needs D3's extra `openvino`. ViT-L/14 takes about half an hour on two cores.
    """
    model, version = named_version(name)
    assert model is not None
    with progress("Reading images") as tell:
        container = build_container(progress=tell)
        done = container.quantizing().quantize(
            model,
            images,
            version=version,
            target=target,
            limit=limit,
            max_mean_drift=max_mean_drift,
            max_flips=max_flips,
            min_speedup=min_speedup,
        )
    manifest = done.manifest
    form = manifest.int8
    assert form is not None
    if as_json:
        from d3.entrypoints.cli.models import described

        print_json(described(manifest))
    else:
        _print(form)
    if done.unused:
        complain(f"{counted(done.unused, 'file')} could not be used.", "note")
    if manifest.notice:
        complain(manifest.notice, "note")
    if manifest.calibration.fitted:
        complain(
            "The calibration was fitted in fp32. Run `d3 calibrate` to fit it to int8.", "note"
        )
    remark(f"Stored as {manifest.name} version {manifest.version}.")


def _print(form: Int8Form) -> None:
    from rich import box
    from rich.table import Table

    table = Table(
        *("", "S/IMAGE", "SPEED", "MEAN DRIFT", "LARGEST", "CHANGED SIDES"),
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_row("fp32", f"{form.fp32_seconds:.3f}", "1.00", "", "", "")
    for one in form.candidates:
        table.add_row(
            f"{one.name} (kept)" if one.name == form.kept else one.name,
            f"{one.seconds:.3f}",
            f"{one.speedup:.2f}",
            f"{one.mean_drift:.4f}",
            f"{one.max_drift:.4f}",
            f"{one.flips:.1%}",
        )
    table.caption = (
        f"Made with {counted(form.learnt, 'image')}, measured on {form.measured:,} others. Drift "
        "is the difference from the fp32 probability."
    )
    table.caption_justify = "left"
    out().print(table)
