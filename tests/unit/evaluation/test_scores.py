from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from d3.domain.errors import StorageFailed
from d3.evaluation.scores import Row, Said, ScoreFile, gather, of_member

ROW = Row(
    condition="original",
    path="a.jpg",
    label="fake",
    generator="sd",
    prediction=0.1 + 0.2,
    logit=-0.8,
    spread=0.0,
)
STRANGE = ['with "quotes", commas', "two\nlines\r\nand more", "\udcff\udc80 no UTF-8", ""]


def filled(folder: Path, count: int = 3) -> ScoreFile:
    file = ScoreFile(folder)
    file.known()
    for number in range(count):
        file.append(replace(ROW, path=f"{number}.jpg", logit=number / 3))
    return file


def test_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    file = filled(tmp_path)
    rows = [replace(ROW, path=name) for name in STRANGE]
    for row in rows:
        file.append(row)
    file.close(complete=True)
    assert file.finished.name == "scores.csv"
    assert list(file.rows())[3:] == rows
    assert [row.logit for row in file.rows()][:3] == [0, 1 / 3, 2 / 3]


@pytest.mark.parametrize("torn", range(1, 60, 7))
def test_a_row_torn_off_by_an_interruption_is_written_again(tmp_path: Path, torn: int) -> None:
    file = filled(tmp_path)
    file.append(replace(ROW, path=STRANGE[1]))
    file.close(complete=False)
    content = file.unfinished.read_bytes()
    file.unfinished.write_bytes(content[:-torn])

    again = ScoreFile(tmp_path)
    known = again.known()
    assert known.has("original", "2.jpg")
    assert not known.has("original", STRANGE[1])
    assert not known.has("jpeg-90", "2.jpg")
    again.append(replace(ROW, path=STRANGE[1]))
    again.close(complete=True)
    assert again.finished.read_bytes() == content


def test_of_an_image_that_could_not_be_judged_the_numbers_are_empty(tmp_path: Path) -> None:
    bad = Row(condition="original", path="b", label="real", generator="", error="damaged_image")
    file = filled(tmp_path, 0)
    file.append(bad)
    file.close(complete=True)
    assert list(file.rows()) == [bad]
    (row,) = csv.DictReader(file.finished.read_text().splitlines())
    filled_in = {name for name, value in row.items() if value}
    assert filled_in == {"condition", "path", "label", "error"}


def test_finished_scores_are_gone_on_with(tmp_path: Path) -> None:
    filled(tmp_path).close(complete=True)
    file = ScoreFile(tmp_path)
    assert len(file.known()) == 3
    file.close(complete=True)
    assert len(list(file.rows())) == 3


def test_a_file_torn_in_its_first_line_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "scores.partial.csv").write_text("condi")
    file = filled(tmp_path)
    file.close(complete=True)
    assert len(list(file.rows())) == 3


def test_arrays_leave_out_what_could_not_be_judged(tmp_path: Path) -> None:
    rows = [ROW, replace(ROW, error="damaged_image"), replace(ROW, label="real", generator="")]
    scores = gather(rows)["original"]
    assert scores.fake.tolist() == [True, False]
    assert [scores.names[one] for one in scores.generator] == ["sd", ""]


def test_a_folder_that_cannot_be_made_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageFailed, match="Run the same command again"):
        ScoreFile(tmp_path / "file" / "below")


PANEL = replace(
    ROW,
    verdict="fake",
    agreement="disagree",
    by_rule=("uncertain", "fake", "uncertain"),
    others=(Said(0.2, -1.4, 0.0, "real"), Said()),
)


def test_a_panels_rows_have_columns_for_each_member(tmp_path: Path) -> None:
    file = ScoreFile(tmp_path, ("b", "c"))
    file.known()
    bad = Row(condition="original", path="b", label="real", generator="", error="damaged_image")
    for one in (PANEL, bad):
        file.append(one)
    file.close(complete=True)
    assert list(file.rows()) == [PANEL, bad]
    first, _ = csv.DictReader(file.finished.read_text().splitlines())
    assert (first["by chief"], first["by any"], first["agreement"]) == (
        *("uncertain", "fake"),
        "disagree",
    )
    assert (first["b prediction"], first["b verdict"], first["c verdict"]) == ("0.2", "real", "")
    assert [getattr(one, "b logit") for one in file.records()] == [-1.4, None]
    again = ScoreFile(tmp_path, ("b", "c"))
    assert again.known().has("original", "a.jpg")


def test_a_members_rows_are_those_with_its_opinion() -> None:
    (second,) = of_member([PANEL], 1)
    assert (second.prediction, second.logit, second.verdict) == (0.2, -1.4, "real")
    assert list(of_member([PANEL], 0)) == [PANEL]
    assert list(of_member([PANEL], 2)) == []
