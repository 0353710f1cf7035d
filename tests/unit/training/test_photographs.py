"""The table of photographs, and finding them in a folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from d3.domain.errors import RequestInvalid
from d3.domain.models import file_of
from d3.training.starter.package import may_be_passed_on
from d3.training.starter.photographs import Part, Photograph, find, table


def test_no_package_and_no_photograph_is_in_two_parts() -> None:
    rows = table()
    packages = [{one.package for one in rows if one.part is part} for part in Part]

    assert all(packages)
    assert sum(map(len, packages)) == len({one.package for one in rows})
    assert len({one.sha256 for one in rows}) == len(rows)


def test_what_trains_may_be_passed_on_and_is_credited() -> None:
    training = [one for one in table() if one.part is Part.TRAIN]
    free = ("CC0", "CC-BY-", "BSD", "public domain")

    assert all(one.author for one in training)
    assert all(one.licence.startswith(free) for one in training)
    assert not any("-SA" in one.licence or "-NC" in one.licence for one in training)


def test_share_alike_is_not_passed_on() -> None:
    shared = Photograph(Part.TEST, "p", "n", "0" * 64, "CC-BY-SA-3.0", "somebody")

    assert not may_be_passed_on(shared)
    assert may_be_passed_on(replace(shared, licence="CC-BY-3.0"))
    assert not may_be_passed_on(replace(shared, licence="CC-BY-3.0", author=""))


def test_photographs_are_found_by_content_wherever_they_lie(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "any-name.png"
    file.parent.mkdir()
    Image.new("RGB", (9, 8), "red").save(file)
    wanted = Photograph(Part.TRAIN, "package", "name.png", file_of(file).sha256, "CC0-1.0", "me")

    found = find(tmp_path, [wanted])

    assert found.of(Part.TRAIN) == ((wanted, file),)
    assert found.read(Part.TRAIN)[0].size == (9, 8)
    assert found.packages(Part.TRAIN) == {"package": 1}
    assert found.read(Part.TEST) == []


def test_a_missing_photograph_is_named_with_the_way_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(
        RequestInvalid, match=r"266 of the 266 photographs are missing.*tests\.real\.fetch"
    ):
        find(tmp_path)
