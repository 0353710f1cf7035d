"""Tables of images as people write them: with a first line or without, whatever divides values."""

from __future__ import annotations

import pytest

from d3.domain.errors import RequestInvalid
from d3.domain.tables import Layout, delimiter_of, layout_of


@pytest.mark.parametrize(
    ("text", "layout"),
    [
        ("path\na.jpg\n", Layout(",", 0, True)),
        ("label,URI\nreal,s3://b/a\n", Layout(",", 1, True)),
        ("label;path\nreal;a.jpg\n", Layout(";", 1, True)),
        ("path\tlabel\na.jpg\treal\n", Layout("\t", 0, True)),
        ("a.jpg\nb.jpg\n", Layout(",", 0, False)),
        ("\n\na.jpg,real\nb.jpg,fake\n", Layout(",", 0, False)),
        ("real;a.jpg\nfake;b.jpg\n", Layout(";", 1, False)),
        ("1\ts3://bucket/a.jpg\n2\ts3://bucket/b.jpg\n", Layout("\t", 1, False)),
        ("s3://bucket/key1\n", Layout(",", 0, False)),
        ('"a, b.jpg",real\n', Layout(",", 0, False)),
        ("here;gone\n", Layout(";", 0, False)),
        ("gone.jpg\nhere\n", Layout(",", 0, False)),
        ("picture,label\na.jpg,real\n", Layout(",", 0, True)),
        ("label;picture\nreal;a.jpg\n", Layout(";", 1, True)),
        ("", Layout(",", 0, False)),
    ],
)
def test_a_list_is_read_as_it_was_meant(text: str, layout: Layout) -> None:
    assert layout_of(text, {"here"}.__contains__) == layout


@pytest.mark.parametrize("text", ["picture\nhere\n", "one\ntwo\n", "picture;label\n"])
def test_a_first_line_that_may_be_an_image_or_a_title_is_refused(text: str) -> None:
    with pytest.raises(RequestInvalid, match="neither an image nor a column name"):
        layout_of(text, {"here"}.__contains__)


def test_a_long_table_is_decided_by_its_beginning() -> None:
    text = "path;note\n" + "a.jpg;" + "x" * 60_000
    assert layout_of(text, lambda _: False) == Layout(";", 0, True)


def test_a_delimiter_is_the_one_that_fits() -> None:
    assert delimiter_of("path;label\n", lambda head: "label" in head) == ";"
    assert delimiter_of("", lambda head: "label" in head) == ","
