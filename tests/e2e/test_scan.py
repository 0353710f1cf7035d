"""``d3 scan`` and ``d3 scans``: killed again and again, every image has its one row in the end."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image
from pyarrow import parquet

from d3.adapters.sql import Database, SqlScanLedger
from d3.container import Container
from d3.domain.errors import D3Error
from d3.entrypoints.cli.app import cli
from d3.evaluation.scans import rows_of
from d3.settings import Settings
from d3.testing.models import tiny_ferretnet
from tests.pictures import CRASHING_DECODER, paint, paint_crashing
from tests.serving import clean_environment

EXAMPLES = Path(__file__).parents[2] / "examples/images"
GENERATED = [EXAMPLES / f"generated-{name}" for name in ("01-transposed.jpg", "02-nearest.png")]
"""What the starter calls fake."""
IMAGES = int(os.environ.get("D3TEST_SCAN_IMAGES", "200"))
KILLS = int(os.environ.get("D3TEST_SCAN_KILLS", "2"))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Painted images, two that a generator made, one damaged, and a file that is none."""
    folder = tmp_path_factory.mktemp("scan") / "pictures"
    files = paint(folder, IMAGES - 3)
    for file in GENERATED:
        Image.open(file).save(folder / f"a/{file.stem}.png")
    (folder / "a/broken.png").write_bytes(files[0].read_bytes()[:90])
    (folder / "a/notes.txt").write_text("not an image")
    return folder


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., subprocess.Popen[bytes]]:
    """Starts ``d3`` in a home of this test's own."""
    environ = clean_environment(D3_HOME=str(tmp_path / "home"), OMP_NUM_THREADS="1")

    def start(*arguments: str | Path, **more: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "d3", *map(str, arguments)],
            cwd=tmp_path,
            env=environ | more,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    return start


def rows_in(home: Path) -> int:
    database = Database(home / "d3.db")
    try:
        return SqlScanLedger(database).get("s").counts.rows
    except D3Error:
        return 0
    finally:
        database.close()


def test_killed_again_and_again_every_image_has_its_one_row(start, pictures, tmp_path) -> None:
    command = ("scan", pictures, "--scan-id", "s", "--views", "4", "--out", "parts")
    command = (*command, "--format", "csv", "--top", "2", "--json")
    killed = 0
    for kill in range(KILLS):
        process = start(*command)
        wanted = IMAGES * (kill + 1) // (KILLS + 2)
        until = time.monotonic() + 120
        while rows_in(tmp_path / "home") < wanted and process.poll() is None:
            assert time.monotonic() < until
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        process.communicate()
    assert killed == KILLS
    before = rows_in(tmp_path / "home")
    assert before < IMAGES
    # Two go on at once: they share what is left, and both see it done.
    other = start("scan", "--scan-id", "s", "--no-report", "--json")
    for process in (start(*command), other):
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err.decode()
        ended = json.loads(out)
        assert (ended["state"], ended["error"], ended["passed_over"]) == ("done", 1, 1)
        assert "images already judged" in err.decode()

    expected = {str(one) for one in pictures.rglob("*.png")}
    database = Database(tmp_path / "home/d3.db")
    ledger = SqlScanLedger(database)
    rows = [one.uri for one in rows_of(ledger, ledger.get("s").id)]
    database.close()
    assert (
        len(rows) == IMAGES == ended["fake"] + ended["real"] + ended["uncertain"] + ended["error"]
    )
    assert set(rows) == expected
    written = []
    for part in (tmp_path / "parts").glob("part-*.csv"):
        with part.open(newline="") as stream:
            written += [one["uri"] for one in csv.DictReader(stream)]
    assert sorted(written) == sorted(expected)

    page = (tmp_path / "parts/report.html").read_text()
    assert "damaged_image: 1" in page
    assert page.count('<img src="data:image/webp') == 2
    assert "http" not in page.replace("http-equiv", "")


def test_a_panels_scan_that_was_killed_goes_on_as_it_began(start, pictures, tmp_path) -> None:
    container = Container(settings=Settings(home=tmp_path / "home"))
    container.registry().put(tiny_ferretnet(tmp_path, "witness"))
    command = ("scan", pictures, "--scan-id", "s", "--panel", "starter,witness", "--json")
    process = start(*command, "--panel-rule", "any")
    until = time.monotonic() + 120
    while not rows_in(tmp_path / "home") and process.poll() is None:
        assert time.monotonic() < until
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.communicate()

    refused = start(*command, "--panel-rule", "majority")
    assert "panel rule any instead of majority" in refused.communicate()[1].decode()
    process = start("scan", "--scan-id", "s", "--json")
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err.decode()
    ended = json.loads(out)
    assert [one["name"] for one in ended["panel"]] == ["starter", "witness"]
    assert (ended["state"], ended["panel_rule"], ended["stability"]) == ("done", "any", False)
    agreement = ended["agreement"]
    assert sum(agreement.values()) == IMAGES - 1  # all but the damaged one
    assert f"The models disagree on {agreement['disagree']:,} of" in err.decode()
    assert "witness is not calibrated, so it has no vote" in err.decode()

    table = tmp_path / "disputed.csv"
    exported = start("scans", "export", "s", table, "--disagree")
    out, err = exported.communicate()
    assert exported.returncode == 0, err.decode()
    with table.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == agreement["disagree"]
    assert {row["agreement"] for row in rows} <= {"disagree"}
    shown, _ = start("scans", "show", "s").communicate()
    assert "member       witness version 1" in shown.decode()


def test_images_that_crash_the_decoder_cost_a_start_and_their_own_rows(start, tmp_path) -> None:
    files = paint(tmp_path / "few", 20)
    for name in ("a/crash.png", "c/crash.png"):
        paint_crashing(tmp_path / "few" / name)
    command = ("scan", "few", "--scan-id", "s", "--no-report", "--json")
    first = start(*command, **CRASHING_DECODER)
    first.communicate(timeout=300)
    assert first.returncode == -signal.SIGSEGV
    assert rows_in(tmp_path / "home") < len(files)
    second = start(*command, **CRASHING_DECODER)
    out, err = second.communicate(timeout=300)
    assert second.returncode == 0, err.decode()
    ended = json.loads(out)
    assert (ended["state"], ended["error"]) == ("done", 2)
    database = Database(tmp_path / "home/d3.db")
    ledger = SqlScanLedger(database)
    rows = {one.uri: one.error for one in rows_of(ledger, ledger.get("s").id)}
    database.close()
    crashed = {
        str(tmp_path / "few" / one): "damaged_image" for one in ("a/crash.png", "c/crash.png")
    }
    assert rows == dict.fromkeys(map(str, files)) | crashed


@pytest.fixture
def d3_here(tmp_path, monkeypatch) -> Callable[..., Result]:
    """Runs ``d3`` in this process and a home of this test's own."""
    monkeypatch.chdir(tmp_path)
    for name in [one for one in os.environ if one.startswith(("D3_", "MINIO_", "POSTGRES_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("D3_HOME", str(tmp_path / "home"))
    return lambda *arguments: CliRunner().invoke(cli, [*map(str, arguments)], standalone_mode=False)


def test_a_scan_is_listed_shown_and_exported(d3_here, tmp_path: Path) -> None:
    paint(tmp_path / "few", 6)
    (tmp_path / "list.txt").write_text("few/a/00000.png\nfew/b/00001.png\nfew/gone.png\n")
    done = d3_here("scan", "list.txt", "--scan-id", "few")
    assert done.return_value == 0
    assert "Scan few is done: 3 images" in done.stderr
    left = {"few", "home", "list.txt"}
    assert {one.name for one in tmp_path.iterdir()} == left, "no file that nobody asked for"
    listed = [json.loads(one) for one in d3_here("scans", "list", "--json").stdout.splitlines()]
    assert [(one["id"], one["error"]) for one in listed] == [("few", 1)]
    assert "few" in d3_here("scans", "list").stdout
    assert "starter version 1" in d3_here("scans", "show", "few").stdout
    for form in ("csv", "jsonl", "parquet"):
        assert "3 rows" in d3_here("scans", "export", "few", f"rows.{form}").stdout
    lines = [json.loads(one) for one in (tmp_path / "rows.jsonl").read_text().splitlines()]
    with (tmp_path / "rows.csv").open(newline="") as stream:
        assert [one["uri"] for one in csv.DictReader(stream)] == [one["uri"] for one in lines]
    table = parquet.read_table(tmp_path / "rows.parquet").to_pylist()
    assert [one["prediction"] for one in table] == [one["prediction"] for one in lines]
    assert [one["error"] for one in lines] == [None, None, "image_not_found"]
    again = d3_here("scan", "--scan-id", "few", "--no-report")
    assert again.return_value == 0
    assert "0 files in this run's" in again.stderr
    assert "few is done" in d3_here("scans", "cancel", "few").stdout
    assert "Removed the scan few with 3 rows." in d3_here("scans", "remove", "few", "-y").stdout
    assert d3_here("scans", "list", "--json").stdout == ""


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (("scan", "nowhere"), "There is no such folder or file."),
        (("scan", "few/a/00000.png"), "Use `d3 detect` for single images."),
        (("scan", "s3://bucket/x"), "MINIO_ENDPOINT"),
        (("scan",), "Name a SOURCE"),
        (("scan", "few", "--format", "csv"), "--format needs --out"),
        (("scan", "few", "--top", "3"), "Name one with --report"),
        (("scan", "few", "--scan-id", "a b"), "cannot be a scan's id"),
        (("scan", "few", "--views", "17"), "views"),
        (("scans", "show", "none"), "`d3 scans list` shows all scans."),
        (("scans", "export", "few", "rows.doc"), ".csv or .jsonl or .parquet"),
    ],
)
def test_what_cannot_be_done_is_said(d3_here, wrong, said, tmp_path: Path) -> None:
    paint(tmp_path / "few", 1)
    refused = d3_here(*wrong)
    assert refused.exit_code
    assert said in str(refused.exception)
    assert not [one for one in tmp_path.iterdir() if one.name not in {"few", "home"}]


def test_a_report_is_written_where_it_is_asked_for_whenever_that_is(d3_here, tmp_path) -> None:
    paint(tmp_path / "few", 2)
    assert d3_here("scan", "./few/../few/", "--scan-id", "s").return_value == 0
    ended = json.loads(d3_here("scans", "show", "s", "--json").stdout)
    assert ended["source"] == str(tmp_path / "few")
    assert d3_here("scan", "--scan-id", "s", "--report", "s.html").return_value == 0
    assert "2" in (tmp_path / "s.html").read_text()
    d3_here("scans", "export", "s", "rows.jsonl")
    uris = [json.loads(one)["uri"] for one in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert uris == [str(one) for one in sorted((tmp_path / "few").rglob("*.png"))]


IMAGES_OR_NOT = {
    "a photo.png": None,
    "b photo without a suffix": None,
    "c empty.jpg": "empty_file",
    "d web page.jpg": "not_an_image",
    "e drawing.qoi": "unsupported_image",
    "f drawing": "unsupported_image",
    "g itself.heic": "image_not_found",
    "notes.txt": "skipped",
    "empty": "skipped",
    "itself": "skipped in silence",
}


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Images, others, and what looks like either."""
    (picture,) = paint(tmp_path / "painted", 1)
    folder = tmp_path / "mixed"
    folder.mkdir()
    content = {
        "a photo.png": picture.read_bytes(),
        "b photo without a suffix": picture.read_bytes(),
        "d web page.jpg": b"<!doctype html><title>403</title>",
        "e drawing.qoi": b"qoif" + bytes(60),
        "f drawing": b"qoif" + bytes(60),
        "notes.txt": b"words",
    }
    for name in IMAGES_OR_NOT:
        if "itself" in name:
            (folder / name).symlink_to(name)
        else:
            (folder / name).write_bytes(content.get(name, b""))
    return folder


@pytest.mark.parametrize("source", ["mixed", "mixed/*"])
def test_what_is_an_image_by_content_or_name_has_its_row_in_every_command(
    d3_here, mixed: Path, source: str, tmp_path: Path
) -> None:
    expected = {
        str(Path("mixed", name)): code
        for name, code in IMAGES_OR_NOT.items()
        if not (code or "").startswith("skipped")
    }
    detected = d3_here("detect", source, "--json")
    lines = [json.loads(one) for one in detected.stdout.splitlines()]
    assert {one["name"]: one.get("code") for one in lines} == expected
    assert detected.return_value == 2
    assert "2 other files skipped" in detected.stderr

    assert d3_here("scan", source, "--scan-id", "s").return_value == 0
    d3_here("scans", "export", "s", "rows.jsonl")
    rows = [json.loads(one) for one in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert {one["uri"]: one["error"] for one in rows} == {
        str(tmp_path / name): code for name, code in expected.items()
    }
    assert json.loads(d3_here("scans", "show", "s", "--json").stdout)["passed_over"] == 2


@pytest.mark.parametrize(
    "command", [("detect",), ("scan", "--scan-id", "s"), ("scan", "--dry-run")]
)
def test_a_place_without_an_image_ends_alike_in_every_command(
    d3_here, command: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "papers").mkdir()
    done = d3_here(*command, "papers")
    assert done.return_value == 2
    assert "No image was found." in done.stderr


@pytest.fixture
def locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Two folders, one of which cannot be read before somebody opens it with this."""
    paint(tmp_path / "images", 4)
    scandir = os.scandir
    closed = [str(tmp_path / "images/a"), "images/a"]

    def scan(path: str) -> object:
        if path in closed:
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr("d3.domain.folders.os.scandir", scan)
    return closed.clear


def test_a_locked_folder_is_told_and_listed_when_it_is_open(d3_here, locked, tmp_path) -> None:
    before = len(list((tmp_path / "images").glob("[!a]*/*.png")))
    detected = d3_here("detect", "images", "images/**/*.png", "--json")
    codes = [json.loads(one).get("code") for one in detected.stdout.splitlines()]
    assert (detected.return_value, codes.count("folder_unreadable")) == (2, 2)
    assert codes.count(None) == 2 * before

    first = d3_here("scan", "images", "--scan-id", "s", "--report", "s.html", "--json")
    assert first.return_value == 2
    ended = json.loads(first.stdout)
    assert (ended["state"], ended["listed_all"]) == ("running", False)
    assert "images/a' cannot be read (Permission denied)" in ended["trouble"]
    assert ended["trouble"] in first.stderr
    assert "Not everything is in here" in (tmp_path / "s.html").read_text()
    locked()
    second = d3_here("scan", "--scan-id", "s", "--json")
    ended = json.loads(second.stdout)
    assert (second.return_value, ended["state"], ended["trouble"]) == (0, "done", None)
    assert ended["listed"] == len(list((tmp_path / "images").rglob("*.png"))) > before


def test_a_dry_run_counts_and_keeps_nothing(d3_here, tmp_path: Path) -> None:
    paint(tmp_path / "few", 9)
    done = d3_here("scan", "few", "--dry-run", "--sample-seconds", "5", "--json")
    assert done.return_value == 0, done.exception
    ended = json.loads(done.stdout)
    assert (ended["keys"], ended["sampled"], ended["errors"]) == (9, 9, 0)
    assert ended["rate"] > 0
    assert not (tmp_path / "home/d3.db").exists()
