"""``d3 train``: make a model."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from d3.domain.installation import install_hint
from d3.domain.models import STARTER, checked_name
from d3.entrypoints.cli.opening import build_container
from d3.entrypoints.cli.options import FILE, SEED, complete_model
from d3.entrypoints.cli.output import complain, counted, out, printable, remark
from d3.entrypoints.cli.progress import Unit, progress

if TYPE_CHECKING:
    from d3.training.paper.journal import Epoch

_LISTED = 10


@click.command()
@click.argument("datasets", nargs=-1, type=FILE, metavar="[DATASET...]")
@click.option(
    "--recipe",
    type=click.Choice(["paper", "starter"]),
    required=True,
    help="What to train: a head (paper) or the starter model.",
)
@SEED
@click.option(
    "--out",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder for the weights, metrics, checkpoints and the model card.",
)
@click.option("--name", help="paper: name of the new model.  [default: the folder's name]")
@click.option(
    "--model",
    shell_complete=complete_model,
    help="paper: D3 model whose encoder is used.  [default: the model in use]",
)
@click.option(
    "--validation",
    multiple=True,
    type=FILE,
    metavar="DATASET",
    help="paper: validation data set. Each generator counts the same. Without one, every tenth "
    "image is held out.",
)
@click.option(
    "--epochs",
    type=click.IntRange(1),
    default=100,
    show_default=True,
    help="Maximum number of epochs.",
)
@click.option(
    "--batch-size",
    type=click.IntRange(2),
    default=256,
    show_default=True,
    help="Number of images per step.",
)
@click.option(
    "--patience",
    type=click.IntRange(1),
    default=5,
    show_default=True,
    help="Divide the learning rate by ten after this many epochs in a row without improvement.",
)
@click.option(
    "--cache-epochs",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Keep the features of this many augmented passes and use them in turn.",
)
@click.option(
    "--photos",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="starter: folder that holds the photographs.",
)
@click.option(
    "--test",
    "others",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    metavar="DATASET",
    help="starter: another data set to measure the model on.",
)
@click.option(
    "--examples",
    type=click.Path(file_okay=False, path_type=Path),
    help="starter: folder for a few example images of both kinds.",
)
def train(
    datasets: tuple[str, ...],
    *,
    recipe: str,
    seed: int,
    folder: Path,
    name: str | None,
    model: str | None,
    validation: tuple[str, ...],
    epochs: int,
    batch_size: int,
    patience: int,
    cache_epochs: int,
    photos: Path | None,
    others: tuple[Path, ...],
    examples: Path | None,
) -> None:
    """Train a model.

    The recipe `paper` trains a new head on the frozen encoder of a model, as the authors' code
    does. DATASET holds real and generated images (see `d3 evaluate --help` for the layouts). The
    mean accuracy on the validation sets (each generator of each DATASET, with its real images)
    decides which epoch is kept and when the learning rate falls. After an interruption, run the
    same command again to continue. Under torchrun, the processes share the encoder's work.

    The recipe `starter` crops images from photographs, trains small generators to recreate them,
    and trains a small D3 to tell the two apart, within an hour on two cores. The same seed gives
    the same model. Run `python -m tests.real.fetch FOLDER photos` in D3's repository to download
    the photographs.
    """
    if recipe == "starter":
        _starter(folder, seed, _photos(photos, datasets), examples, others)
        return
    if not datasets or photos or examples or others:
        raise click.UsageError(
            "The recipe `paper` needs a DATASET; --photos, --test and --examples are for `starter`."
        )
    from d3.evaluation.dataset import Dataset

    name = checked_name(name or folder.resolve().name)
    if name == STARTER:
        raise click.BadParameter("the model starter ships with D3. Choose another --name.")
    Dataset([*datasets, *validation])  # refused where one is missing
    container = build_container()
    base = container.models().info(model or container.host().chosen())
    from d3.training.paper.augmentation import installed_codecs
    from d3.training.paper.fit import PaperPlan
    from d3.training.paper.recipe import check_base, train_on

    check_base(base)

    if "cv2" not in installed_codecs():
        complain(
            "OpenCV is not installed, so only Pillow's JPEG is used; the authors use both. "
            + install_hint("train"),
            "note",
        )
    plan = PaperPlan(
        epochs=epochs, batch=batch_size, patience=patience, kept_epochs=cache_epochs, seed=seed
    )
    try:
        with progress() as tell:
            trained = train_on(
                container,
                name,
                model,
                datasets,
                validation,
                folder,
                plan,
                command=shlex.join(["d3", *sys.argv[1:]]),
                progress=tell,
                on_epoch=_tell,
            )
    except KeyboardInterrupt:
        complain("Finished work is kept. Run the same command again to continue.", "note")
        raise
    if trained.manifest is None:
        return
    for path, code in sorted(trained.unreadable.items())[:_LISTED]:
        complain(f"{path}: {code}", "warning")
    if trained.unreadable:
        number = counted(len(trained.unreadable), "image")
        complain(f"{number} could not be read and were skipped. See unreadable.csv.", "warning")
    manifest = trained.manifest
    out().print(
        f"{manifest.name} version {manifest.version} is in the registry: epoch "
        f"{trained.best.number} of {trained.epochs}, validation AUROC "
        f"{trained.best.figures['auroc']:.3f}. "
        f"Log, curves and card are in {printable(str(folder))}.",
        markup=False,
    )
    complain(
        f"Run `d3 evaluate DATASET --model {manifest.name}` to measure it on other images.", "note"
    )


def _tell(epoch: Epoch) -> None:
    figures = epoch.figures
    remark(
        f"epoch {epoch.number}: loss {epoch.loss:.4f}, validation {epoch.validation_loss:.4f}, "
        f"mean accuracy {epoch.score:.3f}, AUROC {figures['auroc']:.3f}, rate {epoch.rate:g}"
    )


def _photos(photos: Path | None, datasets: tuple[str, ...]) -> Path:
    """Where the starter's photographs are."""
    if datasets:
        raise click.UsageError("The recipe `starter` takes --photos FOLDER instead of a DATASET.")
    if photos is None:
        raise click.UsageError(
            "The recipe `starter` needs --photos FOLDER. Run `python -m tests.real.fetch FOLDER "
            "photos` in D3's repository to download the photographs."
        )
    return photos


def _starter(
    folder: Path, seed: int, photos: Path, examples: Path | None, others: tuple[Path, ...]
) -> None:
    from d3.training.starter.photographs import find
    from d3.training.starter.recipe import build

    photographs = find(photos)
    with progress("Training the starter", Unit.SHARE) as tell:
        build(
            folder,
            photographs,
            seed=seed,
            progress=lambda stage, share: tell(stage, share, 1.0),
            examples=examples,
            others=others,
        )
    out().print(
        f"The model is in {folder}. Read MODEL_CARD.md there for its measured quality.",
        markup=False,
    )
    files = f"--encoder {folder / 'encoder.safetensors'} --head {folder / 'head.safetensors'}"
    complain(f"Run `d3 models import NAME {files}` to use it.", "note")
