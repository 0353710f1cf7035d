"""D3's parts, for the commands that use them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from d3.domain.models import checked_name
from d3.entrypoints.cli.output import complain
from d3.entrypoints.cli.progress import progress

if TYPE_CHECKING:
    from d3.container import Container


def build_container(
    model: str | None = None,
    *,
    panel: tuple[str, ...] | None = None,
    panel_rule: Any = None,
    watermarks: bool = False,
    **others: Any,
) -> Container:
    """All parts, under the settings of the environment.

    Args:
        model: answers alone, in place of what the settings name.
        panel: answers together, the chief first, in place of what the settings name.
        panel_rule: a :class:`d3.domain.panels.PanelRule`, in place of the settings' one.
        watermarks: whether to look for them, whatever the settings say.
        others: parts that take the place of the usual ones.

    Raises:
        D3Error: no model can have this name, or settings cannot be used.
    """
    if model is not None:
        checked_name(model)
    from d3.container import Container
    from d3.settings import Settings

    settings = Settings.from_environment()
    if model is not None:
        settings = replace(settings, model=model, panel=())
    if panel is not None:
        settings = replace(settings, model=panel[0], panel=panel)
    if panel_rule is not None:
        settings = replace(settings, panel_rule=panel_rule)
    if watermarks:
        settings = replace(settings, watermarks=True)
    return Container(settings=settings, **others)


def opened(container: Container | None = None) -> Container:
    """All parts, with a database that is ready; it is closed when the command ends.

    An embedded one is filled or upgraded first, with a word on the backup.
    """
    container = container or build_container()
    click.get_current_context().call_on_close(container.database().close)
    with progress("Opening the database"):
        backup = container.schema().make_ready()
    if backup is not None:
        complain(
            f"The database was upgraded. The database before the upgrade is saved in {backup}.",
            "note",
        )
    return container
