"""``d3 models``: what there is, what is used, and how it comes and goes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from d3.domain.errors import ModelError
from d3.entrypoints.cli.groups import LazyGroup
from d3.entrypoints.cli.opening import build_container
from d3.entrypoints.cli.options import FILE, JSON, NAME, NAMES, YES
from d3.entrypoints.cli.output import complain, confirmed, counted, out, print_json, printable
from d3.entrypoints.cli.progress import Unit, progress
from d3.entrypoints.cli.results import Column, Form, print_facts, print_rows, shows

if TYPE_CHECKING:
    from d3.container import Container
    from d3.domain.inputs import InputSpec
    from d3.domain.models import (
        Activation,
        EncoderSpec,
        Int8Form,
        Manifest,
        ModelSummary,
        Role,
    )
    from d3.domain.ports.architectures import ArchitectureInfo
    from d3.domain.scoring import Calibration
    from d3.domain.services.models import ModelService

_VERSION = click.option("--version", type=click.IntRange(min=1), help="[default: the newest]")
_NOT_INTACT = 2
_STORE = click.Choice(["folder", "s3"])
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_WAYS = (
    "Use --encoder and --head, or --open-clip and --head, or --checkpoint, or --file, or only the "
    "file of a bundle."
)


def _made_of(summary: ModelSummary) -> str:
    spec, what = summary.manifest.spec, summary.manifest.architecture
    if spec is None:
        return what
    return f"{what}, ViT {spec.width}x{spec.layers}, patch {spec.patch_size}"


def _marked(summary: ModelSummary) -> str:
    manifest = summary.manifest
    return f"{manifest.name} (demo)" if manifest.notice else manifest.name


_COLUMNS: list[Column[ModelSummary]] = [
    Column("active", lambda one: one.active, lambda one: "*" if one.active else "", ""),
    Column("name", lambda one: one.manifest.name, _marked),
    Column("version", lambda one: one.manifest.version),
    Column("architecture", lambda one: one.manifest.architecture, _made_of),
    Column("licence", lambda one: one.manifest.licence),
    Column(
        "sha256", lambda one: one.manifest.sha256, lambda one: one.manifest.sha256[:12], "SHA-256"
    ),
    Column("packaged", lambda one: one.packaged, printed=False),
    Column("notice", lambda one: one.manifest.notice, printed=False),
]


@click.group(cls=LazyGroup, modules=("diff", "quantize"))
def models() -> None:
    """List, pull, import, choose, verify, quantize and remove models."""


@models.command("list")
@shows
def list_models(*, form: Form) -> None:
    """Show all models; * marks the one in use."""
    service = _service()

    def document(one: ModelSummary) -> dict[str, Any]:
        trouble = service.trouble(one.manifest)
        state = {"active": one.active, "packaged": one.packaged}
        said = None if trouble is None else str(trouble)
        return described(one.manifest) | state | {"trouble": said}

    summaries = service.list()
    print_rows(form, summaries, _COLUMNS, document)
    for one in () if form is Form.JSON else summaries:
        if (trouble := service.trouble(one.manifest)) is not None:
            complain(str(trouble), "warning")


@models.command()
@NAME
@_VERSION
@shows
def info(name: str, *, version: int | None, form: Form) -> None:
    """Show one model's manifest."""
    manifest = _service().info(name, version)
    if form is Form.TABLE:
        _print_manifest(manifest)
    else:
        print_facts(form, [], described(manifest))


@models.command()
@click.argument("name", metavar="[NAME]", required=False)
@click.option(
    "--from",
    "origin",
    metavar="DIR|URL",
    help="Folder or web address that holds the files.  [default: where their authors publish them]",
)
@JSON
def pull(name: str | None, *, origin: str | None, as_json: bool) -> None:
    """Download a published detector from its authors. Without a NAME, list what there is.

    Verifies every file before it stores anything. A file of an encoder that another pulled model
    was made of is not downloaded again. After an interruption, run the same command again to
    continue. Does nothing if the model is already there and intact.
    """
    if name is None:
        _list_sources(as_json=as_json)
        return
    with _moving() as container:
        pulling = container.pulling()
        if note := pulling.source(name).note:
            complain(note, "note")
        pulled = pulling.pull(name, origin)
        manifest, chosen = pulled.manifest, container.host().chosen()
    for doubt in pulled.doubts:
        complain(doubt, "warning")
    if as_json:
        print_json(described(manifest) | {"new": pulled.new})
        return
    what = "Pulled" if pulled.new else "Already there and intact:"
    out().print(f"{what} {manifest.name} version {manifest.version}.", markup=False)
    _print_manifest(manifest)
    if manifest.name == chosen:
        complain("It is now the default model.", "note")
    else:
        _say_how_to_use(manifest.name)


def _list_sources(*, as_json: bool) -> None:
    from rich import box
    from rich.table import Table

    container = build_container()
    there = {one.manifest.name for one in container.models().list()}
    table = Table("", "NAME", "DETECTOR", "LICENCE", box=box.SIMPLE_HEAD)
    for one in container.pulling().sources().values():
        if as_json:
            print_json(asdict(one) | {"there": one.name in there})
        table.add_row("+" if one.name in there else "", one.name, one.about, one.licence)
    if not as_json:
        out().print(table)
        complain("`d3 models pull NAME` downloads one; + marks those that are here.", "note")


@models.command()
@shows
def architectures(*, form: Form) -> None:
    """Show the architectures that are installed: what models can be made of.

    Packages add more: docs/detectors.md tells how.
    """
    infos = _service().architectures()
    columns: list[Column[ArchitectureInfo]] = [
        Column("name", lambda one: one.name),
        Column("files", _files, lambda one: "cannot be used" if one.trouble else _files(one)),
        Column("views", lambda one: "" if one.trouble else one.views),
        Column(
            "explains",
            lambda one: one.explains,
            lambda one: "" if one.trouble else "yes" if one.explains else "no",
        ),
        Column("package", lambda one: one.package or "D3"),
        Column("trouble", lambda one: one.trouble, printed=False),
    ]
    print_rows(form, infos, columns, asdict)
    for one in infos:
        if one.trouble:
            complain(f"{one.name}: {one.trouble}", "warning")


def _files(info: ArchitectureInfo) -> str:
    return ", ".join(f"{role} ({what})" for role, what in (info.files or {}).items())


@models.command()
@NAME
@_VERSION
@click.option(
    "-o",
    "--output",
    "--out",
    "target",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
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
    "--architecture",
    metavar="NAME",
    help="What the files are of; see `d3 models architectures`.  [default: d3]",
)
@click.option(
    "--encoder", type=_FILE, help="Checkpoint of a whole CLIP, or of its vision transformer alone."
)
@click.option(
    "--open-clip", metavar="MODEL:TAG", help="Take the encoder from open_clip's table instead."
)
@click.option(
    "--head", type=_FILE, help="Checkpoint of a head, such as the authors' classifier.pth."
)
@click.option("--checkpoint", type=_FILE, help="One checkpoint that holds encoder and head.")
@click.option(
    "--file",
    "files",
    multiple=True,
    metavar="[ROLE=]FILE",
    help="Checkpoint of another architecture. A file without a ROLE is all that the architecture "
    "wants, or a head, which gets an encoder that is there already.",
)
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
    architecture: str | None,
    encoder: Path | None,
    open_clip: str | None,
    head: Path | None,
    checkpoint: Path | None,
    files: tuple[str, ...],
    heads: int | None,
    activation: Activation | None,
) -> None:
    """Create a model from checkpoint files or a bundle.

    \b
    d3 models import mine --encoder ViT-L-14.pt --head classifier.pth
    d3 models import mine --open-clip ViT-L-14:openai --head classifier.pth
    d3 models import mine --checkpoint model_epoch_best.pth
    d3 models import mine --architecture ferretnet --file ferretnet-s-median-3.pth
    d3 models import mine.d3bundle

    Reads .safetensors and the files of torch.save and torch.jit.save. Accepts state dicts with or
    without "module.", "model.", "_orig_mod." and similar prefixes, training checkpoints (without
    the optimiser), the tensor names of OpenAI, open_clip and Hugging Face transformers, and
    float32, float16 or bfloat16. Never runs code from these files.

    --open-clip downloads the encoder with open_clip, which knows its heads, activation and
    normalisation. HF_HOME and HF_HUB_OFFLINE apply.

    Importing a NAME again creates its next version. A BUNDLE is a file of `d3 models bundle`.
    """  # noqa: D301  click's mark for lines as they stand
    if not any((architecture, encoder, open_clip, head, checkpoint, files, heads, activation)):
        _import_bundle(Path(name))
        return
    given = _by_role(encoder, head, checkpoint, files, open_clip)
    alone = given.get("")
    if (open_clip or alone) and (heads is not None or activation is not None):
        raise click.UsageError(
            "Leave out --heads and --activation. With --open-clip, or a head alone, they are known."
        )
    said = dict.fromkeys([*filter(None, [open_clip]), *(one.name for one in given.values())])
    with _moving(f"Checking {' and '.join(said)}") as container:
        service: ModelService = container.models()
        if alone is not None:
            manifest = service.import_file(name, alone, architecture=architecture or "d3")
        else:
            manifest = service.import_files(
                name,
                architecture=architecture or "d3",
                files=given,
                open_clip=open_clip,
                heads=heads,
                activation=activation or "quick_gelu",
            )
    _say_imported("Imported", manifest.name, manifest.version)
    if manifest.spec is not None and "encoder" in given:
        _say_taken_for(manifest.spec, heads, activation)


def _by_role(
    encoder: Path | None,
    head: Path | None,
    checkpoint: Path | None,
    files: tuple[str, ...],
    open_clip: str | None,
) -> dict[Role, Path]:
    """The checkpoints by their role; one whose role nobody named under an empty one."""
    whole = {"encoder": checkpoint or encoder, "head": checkpoint or head}
    found = {role: file for role, file in whole.items() if file is not None}
    if checkpoint is not None and (encoder or head or open_clip or files):
        raise click.UsageError(f"--checkpoint holds both. {_WAYS}")
    if files and (found or open_clip):
        raise click.UsageError(f"With --file, name every file so: --file head=FILE. {_WAYS}")
    if not files and ("head" not in found or ("encoder" in found) == (open_clip is not None)):
        raise click.UsageError(_WAYS)
    found |= (by_role := dict(_with_role(one) for one in files))
    if len(by_role) < len(files) or ("" in by_role and len(files) > 1):
        raise click.UsageError("Name each ROLE once: --file ROLE=FILE --file ROLE=FILE.")
    return found


def _with_role(given: str) -> tuple[Role, Path]:
    """A file of --file and its role, empty where none was named."""
    role, equals, file = given.partition("=")
    if not equals or Path(given).is_file():  # a name may hold the sign
        role, file = "", given
    path = Path(file)
    if not path.is_file():
        raise click.UsageError(f"There is no file {printable(file)!r}.")
    return role, path


def _say_taken_for(spec: EncoderSpec, heads: int | None, activation: str | None) -> None:
    """What no file says of itself, and a wrong one would spoil in silence."""
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
            "and --head, --open-clip and --head, --checkpoint or --file."
        )
    with _moving(f"Checking {file.name}") as container:
        taken = container.bundling().read(file)
    what = "Imported" if taken.new else "Already there:"
    _say_imported(what, taken.manifest.name, taken.version)


def _say_imported(what: str, name: str, version: int) -> None:
    out().print(f"{what} {name} version {version}.", markup=False)
    _say_how_to_use(name)


def _say_how_to_use(name: str) -> None:
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
def verify(names: tuple[str, ...], *, version: int | None) -> int:
    """Check the files of models against their SHA-256.

    Checks all models unless a NAME is given. Exit codes: 0 all are intact; 2 one or more are not.
    """
    code = 0
    for name in names or [one.manifest.name for one in _service().list()]:
        try:
            with _moving(f"Reading {name}") as container:
                service: ModelService = container.models()
                manifest = service.verify(name, version)
        except ModelError as error:
            complain(str(error))
            code = _NOT_INTACT
            continue
        out().print(f"{manifest.name} version {manifest.version} is intact.", markup=False)
        if (trouble := service.trouble(manifest)) is not None:
            complain(str(trouble), "warning")
    return code


@models.command()
@NAME
@click.option("--version", type=click.IntRange(min=1), help="Version to remove.  [default: all]")
@YES
def remove(name: str, *, version: int | None, yes: bool) -> None:
    """Remove a model and the files that no other model needs."""
    service = _service()
    what = _going(service, name, version)
    if version is None and name in build_container().settings().panel:
        complain(f"D3_PANEL names {name}, so its panel will lack it.", "warning")
    if not yes and not confirmed(f"Permanently remove {what}?"):
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
    return described | {"permutations": len(manifest.permutations), "views": manifest.views}


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


def _encoder(spec: EncoderSpec | None) -> str:
    if spec is None:
        return ""
    return (
        f"width {spec.width}, {spec.layers} layers, {spec.heads} heads, "
        f"{spec.image_size} px in patches of {spec.patch_size}"
    )


def _input(spec: InputSpec) -> str:
    """What pixels a model takes."""
    how = {
        "squash": "the image squashed to a square",
        "crop": "a square out of the middle, with zeros around smaller images",
        "resize_crop": f"the shorter side resized to {spec.resize} px, then the middle square",
    }
    return f"{spec.size} px: {how[spec.fit]}"


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

    calibration = manifest.calibration
    rows = {
        "name": f"{manifest.name} version {manifest.version}",
        "sha256": manifest.sha256,
        "architecture": manifest.architecture,
        "package": manifest.package,
        "encoder": _encoder(manifest.spec),
        "input": _input(manifest.input_spec),
        "files": ", ".join(
            f"{role} {file.size_bytes:,} bytes" for role, file in manifest.files.items()
        ),
        "int8": _int8(manifest.int8),
        "views": str(manifest.views),
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
