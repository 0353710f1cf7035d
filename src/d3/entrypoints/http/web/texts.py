"""The console's words, kept in ``texts.toml``: another language would be another file."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

TEXTS: dict[str, Any] = tomllib.loads(
    Path(__file__).with_name("texts.toml").read_text(encoding="utf-8")
)
"""Sections of sentences; templates see them as ``t``."""

VERDICTS: dict[str, str] = TEXTS["verdict"]
PROBLEMS: dict[str, str] = TEXTS["problem"]
