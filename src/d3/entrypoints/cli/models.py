"""``d3 models``: what there is, what is used, and how it comes and goes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from d3.entrypoints.cli.groups import LazyGroup
from d3.entrypoints.cli.opening import build_container
from d3.entrypoints.cli.options import FILE, JSON, NAME, NAMES
from d3.entrypoints.cli.output import complain, counted, out, print_json, printable
from d3.entrypoints.cli.progress import Unit, progress

if TYPE_CHECKING:
    from d3.container import Container
    from d3.domain.models import Activation, Int8Form, Manifest, ModelSummary
    from d3.domain.scoring import Calibration
    from d3.domain.services.models import ModelService

_VERSION = click.option("--version", type=click.IntRange(min=1), help="[default: the newest]")
_STORE = click.Choice(["folder", "s3"])
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group(cls=LazyGroup, modules=("diff", "quantize"))
def models() -> None:
    """List, pull, import, choose, verify, quantize and remove models."""


@models.command("list")
@JSON
def list_models(*, as_json: bool) -> None:
    """Show all models; * marks the one in use."""
    summaries = _service().list()
    if as_json:
        for one in summaries:
            print_json(described(one.manifest) | {"active": one.active, "packaged": one.packaged})
    else:
        _print_table(summaries)


@models.command()
@NAME
@_VERSION
@JSON
def info(name: str, *, version: int | None, as_json: bool) -> None:
    """Show one model's manifest."""
    manifest = _service().info(name, version)
    if as_json:
        print_json(described(manifest))
    else:
        _print_manifest(manifest)


@models.command()
@click.argument("name", metavar="d3-vit-l14")
@click.option(
    "--from",
    "origin",
    metavar="DIR|URL",
    help="Folder or web address that holds both files.  [default: where their authors publish "
    "them]",
)
@JSON
def pull(name: str, *, origin: str | None, as_json: bool) -> None:
    """Download the published detector from its authors.

    Downloads OpenAI's CLIP ViT-L/14 and the head of D3's authors. Verifies both files before it
    stores anything. After an interruption, run the same command again to continue. Does nothing if
    the model is already there and intact.
    """
    complain(
        "The authors' repository states no licence, so D3 does not distribute its files. They are "
        "downloaded from their authors, or from the source you name.",
        "note",
    )
    with _moving() as container:
        pulled = container.pulling().pull(name, origin)
        manifest = pulled.manifest
    for doubt in pulled.doubts:
        complain(doubt, "warning")
    if as_json:
        print_json(described(manifest) | {"new": pulled.new})
        return
    what = "Pulled" if pulled.new else "Already there and intact:"
    out().print(f"{what} {manifest.name} version {manifest.version}.", markup=False)
    _print_manifest(manifest)
    complain("It is now the default model.", "note")


@models.command()
@NAME
@_VERSION
@click.option(
    "--out",
    "target",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File to create.  [default: NAME.d3bundle]",
)
def bundle(name: str, *, version: int | None, target: Path | None) -> None:
    """Write a model to one file, to move it to another machine.

    Read it there with `d3 models import FILE`.
    """
    target = target or Path(f"{name}.d3bundle")
    with _moving(f"Reading {name}") as container:
        manifest = container.bundling().write(name, target, version).manifest
    size = target.stat().st_size
    out().print(
        f"Wrote {manifest.name} version {manifest.version} to {printable(str(target))} "
        f"({size:,} bytes).",
        markup=False,
    )
    complain(f"Its licence applies to the bundle too: {manifest.licence}.", "note")


@models.command("import")
@click.argument("name", type=FILE, metavar="NAME|BUNDLE")
@click.option(
    "--encoder", type=_FILE, help="Checkpoint of a whole CLIP, or of its vision transformer alone."
)
@click.option(
    "--open-clip", metavar="MODEL:TAG", help="Take the encoder from open_clip's table instead."
)
@click.option(
    "--head", type=_FILE, help="Checkpoint of a D3 head, such as the authors' classifier.pth."
)
@click.option("--checkpoint", type=_FILE, help="One checkpoint that holds encoder and head.")
@click.option(
    "--heads",
    type=click.IntRange(min=1),
    help="Number of attention heads of the encoder.  [default: its width / 64]",
)
@click.option(
    "--activation",
    type=click.Choice(["quick_gelu", "gelu"]),
    help="Activation of the encoder. OpenAI, DFN and MetaCLIP use quick_gelu, most others gelu.  "
    "[default: quick_gelu]",
)
def import_model(
    name: str,
    *,
    encoder: Path | None,
    open_clip: str | None,
    head: Path | None,
    checkpoint: Path | None,
    heads: int | None,
    activation: Activation | None,
) -> None:
    """Create a model from checkpoint files or a bundle.

    \b
    d3 models import mine --encoder ViT-L-14.pt --head classifier.pth
    d3 models import mine --open-clip ViT-L-14:openai --head classifier.pth
    d3 models import mine --checkpoint model_epoch_best.pth
    d3 models import mine.d3bundle

    Reads .safetensors and the files of torch.save and torch.jit.save. Accepts state dicts with or
    without "module.", "model.", "_orig_mod." and similar prefixes, training checkpoints (without
    the optimiser), the tensor names of OpenAI, open_clip and Hugging Face transformers, and
    float32, float16 or bfloat16. Never runs code from these files.

    --open-clip downloads the encoder with open_clip, which knows its heads, activation and
    normalisation. HF_HOME and HF_HUB_OFFLINE apply.

    Importing a NAME again creates its next version. A BUNDLE is a file of `d3 models bundle`.
    """  # noqa: D301  click's mark for lines as they stand
    sources = [one for one in (encoder, open_clip, checkpoint) if one is not None]
    if not sources and head is None and heads is None and activation is None:
        _import_bundle(Path(name))
        return
    if len(sources) != 1 or (head is None) != (checkpoint is not None):
        raise click.UsageError(
            "Use --encoder and --head, or --open-clip and --head, or --checkpoint, or only the "
            "file of a bundle."
        )
    if open_clip is not None and (heads is not None or activation is not None):
        raise click.UsageError(
            "With --open-clip, leave out --heads and --activation. They are known."
        )
    body, top = encoder or checkpoint, head or checkpoint
    assert top is not None
    said = open_clip if body is None else body.name
    with _moving(f"Checking {' and '.join(dict.fromkeys((str(said), top.name)))}") as container:
        service: ModelService = container.models()
        if body is None:
            manifest = service.import_open_clip(name, str(open_clip), top)
        else:
            manifest = service.import_files(
                name, body, top, heads=heads, activation=activation or "quick_gelu"
            )
    _say_imported("Imported", manifest.name, manifest.version)
    if body is not None:
        _say_taken_for(manifest, heads, activation)


def _say_taken_for(manifest: Manifest, heads: int | None, activation: str | None) -> None:
    """What no file says of itself, and a wrong one would spoil in silence."""
    spec = manifest.encoder_spec
    assumed = []
    if heads is None:
        assumed.append(f"{counted(spec.heads, 'attention head')} (--heads)")
    if activation is None:
        assumed.append("QuickGELU, as OpenAI's weights need (--activation)")
    if assumed:
        complain(f"The file does not say, so D3 assumes {' and '.join(assumed)}.", "note")


def _import_bundle(file: Path) -> None:
    if not file.is_file():
        raise click.UsageError(
            f"There is no file {printable(str(file))!r}. Name a bundle, or a NAME with --encoder "
            "and --head, --open-clip and --head, or --checkpoint."
        )
    with _moving(f"Checking {file.name}") as container:
        taken = container.bundling().read(file)
    what = "Imported" if taken.new else "Already there:"
    _say_imported(what, taken.manifest.name, taken.version)


def _say_imported(what: str, name: str, version: int) -> None:
    out().print(f"{what} {name} version {version}.", markup=False)
    complain(
        f"`d3 detect --model {name} IMAGE` uses it once. `d3 models use {name}` makes it the "
        "default.",
        "note",
    )


@models.command()
@NAME
def use(name: str) -> None:
    """Make NAME the default model."""
    manifest = _service().use(name)
    out().print(
        f"{manifest.name} version {manifest.version} is now the default model.", markup=False
    )


@models.command()
@NAMES
@_VERSION
def verify(names: tuple[str, ...], *, version: int | None) -> None:
    """Check the files of models against their SHA-256.

    Checks all models unless a NAME is given.
    """
    for name in names or [one.manifest.name for one in _service().list()]:
        with _moving(f"Reading {name}") as container:
            manifest = container.models().verify(name, version)
        out().print(f"{manifest.name} version {manifest.version} is intact.", markup=False)


@models.command()
@NAME
@click.option("--version", type=click.IntRange(min=1), help="Version to remove.  [default: all]")
@click.option("--yes", "-y", is_flag=True, help="Do not ask for confirmation.")
def remove(name: str, *, version: int | None, yes: bool) -> None:
    """Remove a model and the files that no other model needs."""
    service = _service()
    what = _going(service, name, version)
    if not yes and not click.confirm(printable(f"Permanently remove {what}?")):
        complain("Nothing was removed.", "note")
        return
    service.remove(name, version)
    out().print(printable(f"Removed {what}."), markup=False)


def _going(service: ModelService, name: str, version: int | None) -> str:
    """What a removal takes away, in words."""
    from d3.domain.errors import ModelDamaged

    try:
        versions = [service.info(name, version)] if version else service.versions(name)
    except ModelDamaged:  # what cannot be read can be removed
        return name if version is None else f"{name} version {version}"
    if len(versions) == 1:
        (only,) = versions
        return f"{name} version {only.version} ({only.provenance or 'of unknown provenance'})"
    numbers = ", ".join(str(one.version) for one in versions)
    return f"{name} with all versions ({numbers})"


@models.command("copy")
@NAMES
@click.option("--from", "source", type=_STORE, required=True, help="Store to copy from.")
@click.option("--to", "target", type=_STORE, required=True, help="Store to copy to.")
@JSON
def copy(names: tuple[str, ...], *, source: str, target: str, as_json: bool) -> None:
    """Copy models between D3_HOME and the S3 store.

    Copies all versions and skips those that are already there. It is safe to run again.
    """
    from d3.domain.services.copying import copy_models

    if source == target:
        raise click.UsageError("--from and --to are the same store.")
    with _moving() as container:
        registries = {"folder": container.folder_registry, "s3": container.s3_registry}
        for one in copy_models(registries[source](), registries[target](), names):
            name, version = one.manifest.name, one.manifest.version
            if as_json:
                print_json({"name": name, "from": version, "to": one.version, "new": one.new})
            else:
                what = "Copied" if one.new else "Already there:"
                out().print(f"{what} {name} version {version} as {one.version}.", markup=False)


def _service() -> ModelService:
    service: ModelService = build_container().models()
    return service


@contextmanager
def _moving(first: str = "Looking") -> Iterator[Container]:
    """The parts of D3; how far large files have moved is shown."""
    with progress(first, Unit.BYTES) as tell:
        yield build_container(progress=tell)


def described(manifest: Manifest) -> dict[str, Any]:
    """The manifest without the permutations' thousands of numbers."""
    described = asdict(manifest) | {"sha256": manifest.sha256}
    described["permutations"] = manifest.views
    return described


def _print_table(summaries: list[ModelSummary]) -> None:
    from rich import box
    from rich.table import Table

    table = Table("", "NAME", "VERSION", "ENCODER", "LICENCE", "SHA-256", box=box.SIMPLE_HEAD)
    for one in summaries:
        manifest, spec = one.manifest, one.manifest.encoder_spec
        encoder = f"ViT {spec.width}x{spec.layers}, patch {spec.patch_size}"
        name = f"{manifest.name} (demo)" if manifest.notice else manifest.name
        row = (name, str(manifest.version), encoder, manifest.licence)
        table.add_row("*" if one.active else "", *row, manifest.sha256[:12])
    out().print(table)


def _measured(calibration: Calibration) -> str:
    """The rates of a calibration's threshold, where they were measured."""
    known = calibration.measured
    if known is None:
        return ""
    fpr, tpr = known.fpr, known.tpr
    return (
        f"at {known.threshold:g}, FPR {fpr.value:.1%} [{fpr.low:.1%} to {fpr.high:.1%}] on "
        f"{known.real:,} real images, TPR {tpr.value:.1%} [{tpr.low:.1%} to {tpr.high:.1%}] on "
        f"{known.fake:,} generated ones"
    )


def _reference(calibration: Calibration) -> str:
    """How many images `d3 drift` compares others with."""
    known = calibration.reference
    if known is None:
        return ""
    return f"{sum(known.real):,} real and {sum(known.fake):,} generated images, for `d3 drift`"


def _int8(form: Int8Form | None) -> str:
    """What is known of an int8 form."""
    if form is None:
        return ""
    kept = next(one for one in form.candidates if one.name == form.kept)
    return (
        f"{form.kept} ({form.file.size_bytes:,} bytes), {kept.speedup:.1f} "
        f"times as fast as fp32 where it was measured; on {form.measured:,} images, probabilities "
        f"differ by {kept.mean_drift:.4f} in the mean and {kept.max_drift:.3f} at most, "
        f"{kept.flips:.1%} change sides"
    )


def _print_manifest(manifest: Manifest) -> None:
    from rich.table import Table
    from rich.text import Text

    spec, calibration = manifest.encoder_spec, manifest.calibration
    rows = {
        "name": f"{manifest.name} version {manifest.version}",
        "sha256": manifest.sha256,
        "encoder": f"width {spec.width}, {spec.layers} layers, {spec.heads} heads, "
        f"{spec.image_size} px in patches of {spec.patch_size}",
        "files": ", ".join(
            f"{role} {file.size_bytes:,} bytes" for role, file in manifest.files.items()
        ),
        "int8": _int8(manifest.int8),
        "permutations": str(manifest.views),
        "threshold": f"{manifest.threshold:g}",
        "uncertain": f"from {manifest.threshold - manifest.abstain_band.below:g} "
        f"to {manifest.threshold + manifest.abstain_band.above:g}",
        "calibration": f"{calibration.name} (scale {calibration.scale:g}, "
        f"bias {calibration.bias:g})",
        "measured": _measured(calibration),
        "reference": _reference(calibration),
        "licence": manifest.licence,
        "provenance": manifest.provenance,
        "created": manifest.created_at,
        "notice": manifest.notice,
        **{f"metric {name}": str(value) for name, value in manifest.metrics.items()},
    }
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(overflow="fold")
    for key, value in rows.items():
        if value:
            table.add_row(Text(key, style="bold"), Text(value))
    out().print(table)
