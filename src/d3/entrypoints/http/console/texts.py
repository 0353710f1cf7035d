"""The console's texts from ``texts.toml``. Another language would be another file."""

from __future__ import annotations

import tomllib
from pathlib import Path
from types import SimpleNamespace

_SECTIONS: dict[str, dict[str, str]] = tomllib.loads(
    Path(__file__).with_name("texts.toml").read_text(encoding="utf-8")
)

TEXTS = SimpleNamespace(**{name: SimpleNamespace(**words) for name, words in _SECTIONS.items()})
"""Sections of sentences, as attributes; templates see them as ``t``."""

VERDICTS = _SECTIONS["verdict"]
REASONS = _SECTIONS["reason"]
PROBLEMS = _SECTIONS["problem"]
CHANGES = _SECTIONS["change"]
AGREEMENTS = _SECTIONS["agreement"]
FACTS = _SECTIONS["fact"]
LABELS = _SECTIONS["label"]
SOURCES = _SECTIONS["source"]
SOURCE_FIELDS = _SECTIONS["source_field"]
SCAN_ERRORS = _SECTIONS["scan_error"]
