"""Arguments and options that several commands share, checked while they are read."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import suppress

import click

from d3.domain.errors import D3Error
from d3.domain.scoring import checked_threshold, checked_views

FILE = click.Path(readable=False)
"""A place that the shell completes; the command itself says what is wrong with it."""


def complete_model(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    """Models of this machine whose names begin with what was typed; a store is not asked."""
    from d3.entrypoints.cli.opening import build_container

    with suppress(D3Error), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        names = [one.manifest.name for one in build_container().folder_registry().list()]
        return [one for one in names if one.startswith(incomplete)]
    return []


def check_threshold(_: click.Context, __: click.Parameter, given: float | None) -> float | None:
    """A callback of click: only a threshold that can be used passes."""
    return None if given is None else checked_threshold(given)


def check_views(_: click.Context, __: click.Parameter, given: int | None) -> int | None:
    """A callback of click: only a number of views that can be had passes."""
    return None if given is None else checked_views(given)


def check_panel(_: click.Context, __: click.Parameter, given: str | None) -> tuple[str, ...] | None:
    """A callback of click: only models that can be a panel pass."""
    from d3.domain.panels import panel_named

    return None if given is None else panel_named(given)


def check_every(_: click.Context, __: click.Parameter, given: str | None) -> float | None:
    """A callback of click: only a time between frames that can be had passes."""
    from d3.domain.clips import FrameSampling, seconds_of

    return None if given is None else FrameSampling(seconds_of(given)).every


def check_one_chief(model: str | None, panel: tuple[str, ...] | None) -> None:
    """Refuse both --model and --panel.

    Raises:
        click.UsageError: both were given.
    """
    if model is not None and panel is not None:
        raise click.UsageError("--panel names all models, the chief first. Leave --model out.")


def check_rule(rule: str | None, panel: Sequence[str]) -> None:
    """Refuse a --panel-rule that would be ignored.

    Raises:
        click.UsageError: one model judges alone.
    """
    if rule is not None and len(panel) < 2:  # noqa: PLR2004  as many as can disagree
        raise click.UsageError(
            "--panel-rule needs a panel. Name two or more models with --panel, or in D3_PANEL."
        )


NAME = click.argument("name", shell_complete=complete_model)
NAMES = click.argument("names", nargs=-1, shell_complete=complete_model, metavar="[NAME...]")
MODEL = click.option(
    "--model",
    shell_complete=complete_model,
    metavar="NAME",
    help="Name of a model; see `d3 models list`.",
)
PANEL = click.option(
    "--panel",
    callback=check_panel,
    metavar="NAME,NAME",
    help="Models that judge together, the chief first.  [default: D3_PANEL]",
)
PANEL_RULE = click.option(
    "--panel-rule",
    type=click.Choice(["chief", "any", "majority"]),
    help="How their opinions become one verdict.  [default: D3_PANEL_RULE, or chief]",
)
STABILITY = click.option(
    "--stability",
    is_flag=True,
    help="Judge each image again as JPEG, scaled, cropped and mirrored. The verdict is uncertain "
    "if one of them turns it. Takes about five times as long.",
)
EVERY = click.option(
    "--every",
    callback=check_every,
    metavar="TIME",
    help="Of a video: time between the frames that are judged, such as 500ms or 2s.  [default: 1s]",
)
MOST = click.option(
    "--most",
    type=click.IntRange(min=1),
    metavar="N",
    help="Of a video: largest number of frames that are judged.  [default: D3_VIDEO_FRAMES]",
)
MODEL_VERSION = click.option(
    "--model",
    shell_complete=complete_model,
    metavar="NAME[@VERSION]",
    help="Name of a model; see `d3 models list`.  [default: the one in use]",
)
DATASETS = click.argument("datasets", nargs=-1, required=True, type=FILE, metavar="DATASET...")
THRESHOLD = click.option(
    "--threshold",
    type=float,
    callback=check_threshold,
    help="Probability above which an image is fake, 0 to 1.  [default: the model's own]",
)
VIEWS = click.option(
    "--views",
    type=int,
    callback=check_views,
    default=1,
    show_default=True,
    help="Number of permutations to average, 1 to 16. More take longer and show the spread.",
)
LIMIT = click.option(
    "--limit",
    type=click.IntRange(1, 10_000),
    default=50,
    show_default=True,
    help="Largest number of rows.",
)
YES = click.option("-y", "--yes", is_flag=True, help="Do not ask for confirmation.")
SEED = click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Seed of the random numbers.",
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON, one object per line.")
