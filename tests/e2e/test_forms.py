"""What all commands share: forms of results, files for them, quiet, exit codes and links."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from PIL import Image

from d3.domain.scoring import Verdict
from d3.entrypoints.cli.app import cli
from tests.e2e.conftest import Run
from tests.sites import Answering, web_server

LISTS = (
    *(("users", "list"), ("keys", "list"), ("models", "list"), ("models", "architectures")),
    *(("scans", "list"), ("jobs", "list"), ("webhooks", "list"), ("webhooks", "deliveries")),
)
"""Commands that print rows and need nothing in the database."""


@pytest.fixture
def image(pack: Path) -> Path:
    return pack / "images/rgb_224.png"


@pytest.fixture
def web(image: Path) -> Iterator[str]:
    """A web server of this machine that has one image, and a page that is none."""

    class Site(Answering):
        def answer(self) -> None:
            found = self.path.startswith("/photo.png")
            self.send_response(200 if found or self.path == "/page" else 404)
            self.end_headers()
            self.wfile.write(image.read_bytes() if found else b"<html>")

    with web_server(Site) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.mark.parametrize("command", LISTS, ids=" ".join)
def test_every_list_has_the_same_three_forms(
    run: Run, tmp_path: Path, command: tuple[str, ...]
) -> None:
    fresh = {"D3_HOME": str(tmp_path / "fresh")}
    if command[0] in {"users", "keys"}:
        assert run("users", "add", "ada", **fresh).code == 0
        assert run("keys", "create", "ada", "--name", "=1+1", **fresh).code == 0
    plain = run(*command, **fresh)
    as_json, short = run(*command, "--format", "json", **fresh), run(*command, "--json", **fresh)
    table = run(*command, "--format", "csv", "-o", "list.csv", **fresh)
    assert {plain.code, as_json.code, short.code, table.code} == {0}, table.err
    assert as_json.out == short.out
    assert table.out == ""
    with (tmp_path / "list.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    objects = [json.loads(line) for line in as_json.out.splitlines()]
    assert len(rows) == len(objects)
    for row, found in zip(rows, objects, strict=True):
        shared = row.keys() & found.keys() - {"scopes", "created_at"}
        assert shared
        for name in shared - {"name", "files", "package"}:
            value = found[name]
            text = "" if value is None else str(value).lower() if value in {True, False} else value
            assert row[name] == str(text)
    if command[0] == "keys":  # a spreadsheet must not run a name
        assert (rows[0]["name"], objects[0]["name"]) == ("'=1+1", "=1+1")
    both = run(*command, "--json", "--format", "csv", **fresh)
    assert (both.code, both.out) == (2, "")
    assert "exclude each other" in both.err


def test_a_table_fits_the_terminal_and_is_not_cut_in_a_pipe(run: Run, tmp_path: Path) -> None:
    fresh = {"D3_HOME": str(tmp_path / "fresh")}
    mail = f"{'a' * 60}@{'example' * 10}.org"
    assert run("users", "add", "n" * 90, "--email", mail, **fresh).code == 0
    piped = run("users", "list", **fresh)
    assert "n" * 90 in piped.out
    assert mail in piped.out
    narrow = run("users", "list", **fresh, FORCE_COLOR="1", COLUMNS="60", NO_COLOR="1")
    lines = click.unstyle(narrow.out).splitlines()
    assert max(map(len, lines)) <= 60
    assert "\u2026" not in narrow.out
    assert narrow.out.count("n") >= 90


def test_verdicts_as_csv_have_the_columns_of_an_export(
    run: Run, image: Path, tmp_path: Path
) -> None:
    from d3.domain.services.export import COLUMNS

    done = run("detect", "--model", "mine", "--format", "csv", image, "=missing.png")
    assert done.code == 2
    (row, failed) = csv.DictReader(io.StringIO(done.out, newline=""))
    answer = json.loads(run("detect", "--model", "mine", "--json", image).out)
    assert (row["verdict"], row["image_name"]) == (answer["verdict"], str(image))
    assert float(row["prediction"]) == pytest.approx(answer["prediction"])
    assert [one for one in COLUMNS if one in row] == [*row][:-2]
    assert (row["error"], row["code"], failed["verdict"]) == ("", "", "")
    assert failed["image_name"] == "'=missing.png"
    assert failed["code"] == "image_not_found"


def test_a_file_of_results_appears_whole_or_not_at_all(
    run: Run, image: Path, tmp_path: Path
) -> None:
    target = tmp_path / "verdicts.jsonl"
    target.write_text("the last run's\n")
    refused = run("detect", image, "--model", "nobodys", "--json", "-o", target)
    assert refused.code == 2
    assert target.read_text() == "the last run's\n"
    done = run("detect", "--model", "mine", "--json", "--output", target, image, "missing.png")
    assert (done.code, done.out) == (2, "")
    assert [json.loads(line)["name"] for line in target.read_text().splitlines()] == [
        "missing.png",
        str(image),
    ] or len(target.read_text().splitlines()) == 2
    assert [one.name for one in tmp_path.iterdir()] == [target.name]
    nowhere = run("models", "list", "-o", tmp_path / "no/where.txt")
    assert nowhere.code == 2
    assert "cannot be written (No such file or directory). Check the path" in nowhere.err
    stdout = run("models", "list", "-o", "-")
    assert "starter" in stdout.out
    assert not (tmp_path / "-").exists()


def test_quiet_leaves_results_warnings_and_errors(run: Run, image: Path) -> None:
    loud = run("detect", image, "missing.png")
    quiet = run("detect", "-q", image, "missing.png")
    assert quiet.out == loud.out
    assert " demo " in quiet.out  # what the notice says of a verdict stays beside it
    assert "note: " in loud.err
    assert "2 images" not in quiet.err
    assert quiet.err == "error: missing.png: There is no such file. Check the path.\n"
    assert "note: " in run("detect", image).err  # only that run was


def _commands(group: click.Group, before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from _commands(command, (*before, name))
        elif command is not None:
            yield (*before, name)


def _found(path: tuple[str, ...]) -> click.Command:
    command: click.Command | None = cli
    for name in path:
        assert isinstance(command, click.Group)
        command = command.get_command(click.Context(command), name)
    assert command is not None
    return command


def test_options_mean_the_same_in_every_command() -> None:
    commands = {path: _found(path) for path in _commands(cli)}
    assert ("models", "diff") in commands
    for path, command in commands.items():
        options = [one for one in command.params if isinstance(one, click.Option)]
        assert command.help, path
        assert all(one.help for one in options), path
        names = [name for one in options for name in one.opts]
        assert len(names) == len(set(names)), path
        for short, long in (("-q", "--quiet"), ("-o", "--output"), ("-y", "--yes")):
            assert (short in names) == (long in names), path
        assert ("--quiet" in names) == (path != ("serve",)), path
        if "--output" in names and "--format" not in names:
            assert path in {("explain",), ("evidence", "make"), ("models", "bundle")}


@pytest.mark.parametrize(
    ("picture", "options", "code"),
    [
        ("fake", ["--fail-on-fake", "--fail-on-uncertain"], 1),
        ("fake", ["--fail-on-uncertain"], 0),
        ("blank", ["--fail-on-uncertain"], 3),
        ("blank", ["--fail-on-fake"], 0),
    ],
)
def test_exit_codes_tell_fakes_from_what_is_uncertain(  # noqa: PLR0917
    run: Run, image: Path, tmp_path: Path, picture: str, options: list[str], code: int
) -> None:
    file, threshold = image, "0"
    if picture == "blank":
        file, threshold = tmp_path / "blank.png", "0.5"
        Image.new("RGB", (64, 64), "white").save(file)
    done = run("detect", "--model", "mine", "--threshold", threshold, *options, file)
    assert done.code == code, done.out + done.err
    missing = run("detect", "--model", "mine", *options, file, "missing.png")
    assert missing.code == 2


def test_links_are_fetched_where_that_is_allowed(run: Run, web: str, image: Path) -> None:
    link = f"{web}/photo.png?token=secret"
    asked = ("detect", "--model", "mine", "--json")
    off = run(*asked, link)
    assert (off.code, json.loads(off.out)["code"]) == (2, "links_off")
    assert "D3_FETCH_LINKS=True" in off.err
    private = run(*asked, link, D3_FETCH_LINKS="true")
    assert private.code == 2
    assert "has no public address" in private.err
    on = {"D3_FETCH_LINKS": "true", "D3_FETCH_ALLOW": "127.0.0.0/8"}
    links = [link, *(f"{web}/photo.png?{number}" for number in range(9)), f"{web}/none"]
    done = run(*asked, image, *links, f"{web}/page", **on)
    assert done.code == 2
    rows = [json.loads(line) for line in done.out.splitlines()]
    assert [row["name"] for row in rows] == [str(image), *links, f"{web}/page"]
    assert len({row["prediction"] for row in rows[:-2]}) == 1
    assert [row["code"] for row in rows[-2:]] == ["link_unavailable", "not_an_image"]


def test_a_file_with_the_name_of_a_link_comes_first(run: Run, image: Path, tmp_path: Path) -> None:
    file = tmp_path / "http:/127.0.0.1/photo.png"
    file.parent.mkdir(parents=True)
    file.write_bytes(image.read_bytes())
    done = run("detect", "--model", "mine", "http://127.0.0.1/photo.png")
    assert done.code == 0, done.err


def test_evidence_and_explanations_take_links_too(run: Run, web: str, tmp_path: Path) -> None:
    link = f"{web}/photo.png?token=secret"
    on = {"D3_FETCH_LINKS": "true", "D3_FETCH_ALLOW": "127.0.0.0/8"}
    drawn = run("explain", "--model", "mine", link, **on)
    assert drawn.code == 0, drawn.err
    assert (tmp_path / "photo-explained.png").is_file()
    made = run("evidence", "--unsigned", "--model", "mine", link, **on)
    assert made.code == 0, made.err
    bundle = tmp_path / "photo-evidence.zip"
    shown = json.loads(run("evidence", "verify", bundle, "--json").out)
    assert shown["image_name"] == "photo.png"  # what stands behind it may be secret
    for command in ("explain", "evidence"):
        off = run(command, "--model", "mine", link, "-o", "other.png")
        assert off.code == 2
        assert "D3 does not fetch links" in off.err or "sign-init" in off.err


@pytest.mark.parametrize(
    ("ending", "form"), [("jpg", "JPEG"), ("JPEG", "JPEG"), ("webp", "WEBP"), ("png", "PNG")]
)
def test_a_map_is_written_as_its_name_says(
    run: Run, image: Path, tmp_path: Path, ending: str, form: str
) -> None:
    target = tmp_path / f"map.{ending}"
    done = run("explain", "--model", "mine", image, "-o", target)
    assert done.code == 0, done.err
    with Image.open(target) as drawn:
        drawn.load()
        texts = getattr(drawn, "text", {})
        said = texts.get("Description") or drawn.getexif()[0x010E]
        assert (drawn.format, drawn.size) == (form, (224, 224))
        assert "It is not proof." in said


def test_a_map_of_no_known_kind_is_refused_before_any_work(
    run: Run, image: Path, tmp_path: Path
) -> None:
    done = run("explain", "--model", "mine", image, "-o", "map.gif")
    assert done.code == 2
    assert "must end in .png, .jpg, .jpeg, .webp" in done.err
    assert [*tmp_path.iterdir()] == []
    piped = run("explain", "--model", "mine", image, "-o", "-", encoding="latin-1")
    assert piped.out.startswith("\x89PNG")
    assert str(image) in piped.err


def test_every_verdict_has_an_exit_code() -> None:
    said = _found(("detect",)).help or ""
    assert all(word in said for word in Verdict if word != Verdict.REAL)
