"""The table of metrics, from the registry of a service that is not started."""

from __future__ import annotations

from typing import Any

from tables import anchored, service, table

_SUFFIXES = {"counter": "_total"}


def names() -> dict[str, Any]:
    """Every metric by the name that a scrape shows."""
    collectors = dict.fromkeys(service().d3.metrics.registry._collector_to_names)  # noqa: SLF001
    found = {}
    for one in collectors:
        metric: Any = one
        suffix = _SUFFIXES.get(metric._type, "")  # noqa: SLF001
        found[metric._name + suffix] = metric  # noqa: SLF001
    return dict(sorted(found.items()))


def metrics() -> str:
    """A row for each metric."""
    rows = (
        (
            anchored(name),
            one._type,  # noqa: SLF001
            ", ".join(f"`{label}`" for label in one._labelnames),  # noqa: SLF001
            one._documentation,  # noqa: SLF001
        )
        for name, one in names().items()
    )
    return table(("metric", "type", "labels", "meaning"), rows)
