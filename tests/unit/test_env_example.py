"""``.env.example`` lists every setting with its default, and nothing else."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
from dotenv import dotenv_values

from d3.settings import Settings

EXAMPLE = Path(__file__).parents[2] / ".env.example"
DEPENDS_ON_THE_MACHINE = {"D3_HOME", "D3_DECODE_THREADS"}


def test_every_setting_is_listed_once_and_nothing_else() -> None:
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
    named = [line.split("=")[0] for line in lines if line and not line.startswith("#")]
    assert sorted(named) == sorted(one.metadata["variable"] for one in fields(Settings))


def test_the_example_as_it_stands_is_the_defaults() -> None:
    assert Settings.from_environment({}, EXAMPLE) == Settings()


@pytest.mark.parametrize("one", fields(Settings), ids=lambda one: one.metadata["variable"])
def test_each_default_is_written_out_where_there_is_one(one) -> None:
    written = dotenv_values(EXAMPLE)[one.metadata["variable"]]
    empty = one.default in (None, ()) or one.metadata["variable"] in DEPENDS_ON_THE_MACHINE
    assert written == ("" if empty else str(one.default))
