"""Arguments and options that several commands share, checked while they are read."""

from __future__ import annotations

import warnings
from contextlib import suppress

import click
from click.shell_completion import CompletionItem

from d3.domain.errors import D3Error
from d3.domain.scoring import checked_threshold, checked_views

FILE = click.Path(readable=False)
"""A place that the shell completes; the command itself says what is wrong with it."""


class ModelName(click.ParamType[str]):
    """The name of a model, completed with those on this machine; a store is not asked."""

    name = "name"

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002  click's signature
        param: click.Parameter,  # noqa: ARG002
        incomplete: str,
    ) -> list[CompletionItem]:
        """The names that begin with what was typed."""
        from d3.entrypoints.cli.opening import build_container

        with suppress(D3Error), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            names = (one.manifest.name for one in build_container().folder_registry().list())
            return [CompletionItem(one) for one in names if one.startswith(incomplete)]
        return []


def check_threshold(_: click.Context, __: click.Parameter, given: float | None) -> float | None:
    """A callback of click: only a threshold that can be used passes."""
    return None if given is None else checked_threshold(given)


def check_views(_: click.Context, __: click.Parameter, given: int | None) -> int | None:
    """A callback of click: only a number of views that can be had passes."""
    return None if given is None else checked_views(given)


NAME = click.argument("name", type=ModelName())
NAMES = click.argument("names", nargs=-1, type=ModelName(), metavar="[NAME...]")
MODEL = click.option("--model", type=ModelName(), metavar="NAME", help="One of `d3 models list`.")
MODEL_VERSION = click.option(
    "--model",
    type=ModelName(),
    metavar="NAME[@VERSION]",
    help="One of `d3 models list`.  [default: the one in use]",
)
DATASETS = click.argument("datasets", nargs=-1, required=True, type=FILE, metavar="DATASET...")
THRESHOLD = click.option(
    "--threshold", type=float, callback=check_threshold, help="0 to 1.  [default: the model's own]"
)
VIEWS = click.option(
    "--views",
    type=int,
    callback=check_views,
    default=1,
    show_default=True,
    help="How many permutations to average, 1 to 16: more take longer and show the spread.",
)
SEED = click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of random numbers."
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a line.")
