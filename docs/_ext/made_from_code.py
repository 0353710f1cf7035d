"""Pages of the reference that are made from the code while the site is built.

A comment ``<!-- made from the code: NAME -->`` in a page stands for what :data:`MAKERS` has under
that name. Such pages are read anew by every build.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import reference_calls
import reference_errors
import reference_events
import reference_metrics
import reference_rows
import reference_settings
from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

import d3

MAKERS: dict[str, Callable[[], str]] = {
    "calls": reference_calls.calls,
    "errors": reference_errors.errors,
    "events": reference_events.events,
    "metrics": reference_metrics.metrics,
    "manifest": reference_rows.manifest,
    "requests": reference_rows.requests,
    "results": reference_rows.results,
    "scans": reference_rows.scans,
    "scores": reference_rows.scores,
    "settings": reference_settings.settings,
}
_MARK = re.compile(r"^<!-- made from the code: ([a-z ]+) -->$", re.MULTILINE)
_PUBLIC = {f"{home}.{name}": f"d3.{name}" for name, home in d3._HOMES.items()}  # noqa: SLF001


def _read(_: Sphinx, docname: str, content: list[str]) -> None:
    if docname.startswith("reference/"):
        content[0] = _MARK.sub(lambda found: MAKERS[found[1]](), content[0])


def _outdated(_: Sphinx, env: BuildEnvironment, *__: Any) -> list[str]:
    return [name for name in env.found_docs if name.startswith("reference/")]


def _resolve(
    app: Sphinx, env: BuildEnvironment, node: Any, contents: nodes.Element
) -> nodes.reference | None:
    """A link to what is described under its public name, ``d3.Detection``."""
    public = _PUBLIC.get(node.get("reftarget", ""))
    if node.get("refdomain") != "py" or public is None:
        return None
    found: nodes.reference | None = env.domains["py"].resolve_xref(
        env, node["refdoc"], app.builder, "obj", public, node, contents
    )
    return found


def _keep_names(_: Sphinx, doctree: nodes.document) -> None:
    """Let links of other pages use a name as it is written: ``#D3_HOME``, not ``#d3-home``.

    The search finds such names and the addresses of calls before pages that only hold the word:
    ``port`` leads to ``D3_PORT``.
    """
    found: list[tuple[str, str]] = []
    for node in doctree.findall(nodes.inline):
        name = node.astext()
        if name.lower() in node.get("names", ()):
            if name not in node["ids"]:
                node["ids"].append(name)
            found.append((name, name))
    found += [
        (node.astext(), node.parent["ids"][0])
        for node in doctree.findall(nodes.paragraph)
        if "endpoint" in node["classes"] and node.parent["ids"]
    ]
    entries = [
        ("single", term, place, "main", None)
        for name, place in found
        for term in dict.fromkeys([name, *_words_to_find(name)])
    ]
    if entries:
        doctree.append(addnodes.index(entries=entries))


def _words_to_find(name: str) -> list[str]:
    """The words of a setting, a metric or an address; the code of an error is looked for whole."""
    if not re.match(r"[A-Z]|d3_", name):
        return []
    return [one.lower() for one in re.split(r"[^A-Za-z0-9]+", name) if len(one) > 3]  # noqa: PLR2004


def _label_cells(_: Sphinx, doctree: nodes.document) -> None:
    """Give each cell of a table of cards the class of its column, such as ``is-default``.

    On a narrow screen a cell stands without its heading, and the style sheet says it.
    """
    for made in doctree.findall(nodes.table):
        if "cards" in made["classes"]:
            titles, *rows = made.findall(nodes.row)
            names = [one.astext().partition(" ")[0] for one in titles]
            for row in rows:
                for name, cell in zip(names, row, strict=True):
                    cell["classes"].append(f"is-{name or 'note'}")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension."""
    app.connect("source-read", _read)
    app.connect("env-get-outdated", _outdated)
    app.connect("doctree-read", _keep_names)
    app.connect("doctree-read", _label_cells)
    app.connect("missing-reference", _resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
