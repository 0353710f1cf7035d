"""What a page holds beside its words: code, and what is to become of it.

A comment right before a block says so where the block is not to be run:

- ``<!-- checked -->``: it is read, and not run: it needs a cluster, a GPU, the network;
- ``<!-- shown -->``: it is only to be looked at, such as a drawing or another program's file;
- ``<!-- write: NAME -->``: it is the content of the file NAME, which later blocks use;
- ``<!-- fresh -->``: the shell and the folder begin anew;
- those of ``OWNED``: another test runs it.

A reason may follow after a colon: ``<!-- checked: needs a cluster -->``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]

OWNED = {
    "command": "tests/e2e/test_readme.py",
    "example": "tests/e2e/test_webhooks.py",
    "file": "tests/e2e",
    "job": "tests/service/test_jobs.py",
}
"""The comments by which other tests know their blocks, and where these tests are."""

LAYOUT = frozenset({"toctree", "image", "figure", "eval-rst", "click", "contents", "automodule"})
"""Directives that hold no code."""


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        kind: the language, such as ``bash``.
        text: what is between the fences.
        line: the first fence's line in the page, from 1.
        note: the word of the comment before it, such as ``checked``, or "".
        value: what stands after the comment's colon, or "".
        follows: whether nothing but blank lines is between it and the block before.
    """

    kind: str
    text: str
    line: int
    note: str = ""
    value: str = ""
    follows: bool = False


def blocks(page: str) -> list[Block]:
    """All fenced blocks of a page, also those within admonitions, lists and tabs."""
    return list(_blocks(MarkdownIt("commonmark").parse(page), 0))


def _blocks(tokens: list[Token], above: int) -> Iterator[Block]:
    before: Token | None = None
    for token in tokens:
        if token.type == "fence":
            line = above + (token.map or [0])[0] + 1
            kind, _, rest = token.info.strip().partition(" ")
            directive = re.fullmatch(r"\{(.+)\}", kind)
            if directive is None or directive[1] in {"code-block", "code"}:
                kind = kind if directive is None else rest.strip()
                yield Block(kind, token.content, line, *_comment(before), _is_fence(before))
            elif directive[1] not in LAYOUT:
                yield from _blocks(MarkdownIt("commonmark").parse(token.content), line)
        before = token


def _is_fence(token: Token | None) -> bool:
    return token is not None and token.type == "fence"


def _comment(token: Token | None) -> tuple[str, str]:
    if token is None or token.type != "html_block":
        return "", ""
    found = re.fullmatch(r"<!-- *([\w-]+)(?:: *(.*?))? *-->\s*", token.content)
    return ("", "") if found is None else (found[1], found[2] or "")


def code_spans(page: str) -> list[str]:
    """What stands in backticks within the text."""
    tokens = MarkdownIt("commonmark").enable("table").parse(page)
    inline = (child for token in tokens for child in token.children or ())
    return [child.content for child in inline if child.type == "code_inline"]
