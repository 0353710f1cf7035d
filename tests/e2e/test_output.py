"""Where results go: readers that leave, full disks, streams that are closed, encodings."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from d3.domain.installation import hint_for, speak_to_owner
from d3.entrypoints.cli import results
from tests.e2e.conftest import Run
from tests.serving import clean_environment

Shell = Callable[..., "subprocess.CompletedProcess[bytes]"]
D3 = f'"{sys.executable}" -m d3'


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """Runs a line of bash in an empty folder; the exit code is that of its first command."""

    def shell(line: str, **environ: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            ["bash", "-c", f"{line.replace('d3 ', f'{D3} ', 1)}; exit ${{PIPESTATUS[0]}}"],
            cwd=tmp_path,
            env=clean_environment(D3_HOME=str(tmp_path / "home"), OMP_NUM_THREADS="1") | environ,
            capture_output=True,
            timeout=300,
            check=False,
        )

    return shell


@pytest.mark.parametrize("options", ["", "--json"])
def test_a_reader_that_has_seen_enough_is_no_error(shell: Shell, options: str) -> None:
    missing = " ".join(["missing.png"] * 20)  # each is a line of an error, none is a fake
    done = shell(f"d3 detect {options} {missing} 2>&1 | true")
    assert (done.returncode, done.stderr) == (0, b"")
    assert shell("d3 --help | true").returncode == 0


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("d3 models list > /dev/full", "No space left on device"),
        ("d3 models list --json > /dev/full", "No space left on device"),
        ("d3 --help > /dev/full", "No space left on device"),
        ("d3 models list >&-", "it is closed"),
        ("d3 models list --json >&-", "it is closed"),
    ],
)
def test_results_that_cannot_be_written_are_an_error_in_a_sentence(
    shell: Shell, line: str, reason: str
) -> None:
    done = shell(line)
    assert done.returncode == 2
    expected = f"error: The output cannot be written ({reason}). Write it somewhere else.\n"
    assert done.stderr.decode() == expected


def test_without_a_stream_for_errors_results_are_still_written(shell: Shell) -> None:
    done = shell("d3 models list 2>&-")
    assert done.returncode == 0
    assert b"starter" in done.stdout


@pytest.mark.parametrize("command", ["detect", "explain"])
def test_an_input_that_gives_nothing_is_said(shell: Shell, run: Run, command: str) -> None:
    closed, empty = shell(f"d3 {command} - <&-"), run(command, "-", stdin=b"")
    assert (closed.returncode, empty.code) == (2, 2)
    for said in (closed.stderr.decode(), empty.err):
        assert "Standard input is empty or closed." in said


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "ascii", "utf-8"])
def test_what_an_encoding_lacks_is_escaped_and_costs_no_other_image(
    run: Run, pack: Path, tmp_path: Path, encoding: str
) -> None:
    image = (pack / "images/rgb_224.png").read_bytes()
    names = ["a.png", "\u00e9.png", "\u732b.png", "\U0001f431.png"]
    for name in names:
        (tmp_path / name).write_bytes(image)
    (tmp_path / "\u9ed1.jpg").touch()
    files = [*names, "\u9ed1.jpg"]
    lines = run("detect", "--model", "mine", *files, encoding=encoding)
    assert lines.code == 2
    shown = [line.split()[-1] for line in lines.out.splitlines()[1:]]
    escaped = [one.encode(encoding, "backslashreplace").decode(encoding) for one in names]
    assert sorted(shown) == sorted(escaped)
    reported = run("detect", "--model", "mine", "--json", *files, encoding=encoding)
    assert [json.loads(one)["name"] for one in reported.out.splitlines()] == files


def test_who_has_no_home_is_told_to_name_one(shell: Shell, tmp_path: Path) -> None:
    # No entry for this user, as in a container that runs as any number.
    nobody = tmp_path / "nobody"
    nobody.mkdir()
    (nobody / "sitecustomize.py").write_text(
        "import os, pwd\n"
        "def getpwuid(number):\n"
        "    raise KeyError(f'getpwuid(): uid not found: {number}')\n"
        "pwd.getpwuid = getpwuid\n"
        "os.environ.pop('HOME', None)\n"
    )
    path = os.pathsep.join([str(nobody), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    done = shell("d3 models list", PYTHONPATH=path, D3_HOME="")
    assert done.returncode == 2
    assert b"This user has no home folder. Set D3_HOME" in done.stderr
    done = shell("d3 models list", PYTHONPATH=path)
    assert (done.returncode, b"starter" in done.stdout) == (0, True)


def test_an_encoding_that_the_environment_names_is_kept_to(
    shell: Shell, pack: Path, tmp_path: Path
) -> None:
    (tmp_path / "\u732b.png").write_bytes((pack / "images/rgb_224.png").read_bytes())
    done = shell("d3 detect --json \u732b.png", PYTHONIOENCODING="ascii")
    assert json.loads(done.stdout.decode("ascii"))["name"] == "\u732b.png"


def test_a_user_is_called_by_one_word(run: Run) -> None:
    done = run("users", "add", "a b/c")
    assert done.code == 2
    assert "'a b/c' cannot be a username." in done.err


@pytest.mark.parametrize("source", ["s3://x", "s3://192.168.0.1/in", "s3://a..b/"])
def test_a_bucket_that_cannot_be_is_said_to_be_one(run: Run, source: str) -> None:
    done = run(
        *("scan", source),
        MINIO_ENDPOINT="127.0.0.1:1",
        MINIO_ACCESS_KEY="k",
        MINIO_SECRET_KEY="s",
    )
    assert done.code == 2
    assert "cannot be a bucket's name" in done.err


@pytest.mark.parametrize("spelling", ["a.png", "../in/a.png", "link.png", "hard.png"])
@pytest.mark.parametrize(
    "line",
    ["detect in/a.png --json -o", "detect in -o", "explain in/a.png -o", "scan in --report"],
)
def test_no_input_is_ever_written_over(
    run: Run, pack: Path, tmp_path: Path, line: str, spelling: str
) -> None:
    image = tmp_path / "in/a.png"
    image.parent.mkdir()
    image.write_bytes(content := (pack / "images/rgb_224.png").read_bytes())
    (image.parent / "link.png").symlink_to("a.png")
    (image.parent / "hard.png").hardlink_to(image)
    done = run(*line.split(), f"in/{spelling}")
    assert done.code == 2
    assert "is also an input of this command, and would be lost." in done.err
    assert image.read_bytes() == content
    assert sorted(one.name for one in image.parent.iterdir()) == ["a.png", "hard.png", "link.png"]


def test_standard_input_from_a_file_is_not_written_over(
    shell: Shell, pack: Path, tmp_path: Path
) -> None:
    image = tmp_path / "a.png"
    image.write_bytes(content := (pack / "images/rgb_224.png").read_bytes())
    done = shell("d3 detect - -o ./a.png < a.png")
    assert (done.returncode, b"is also an input" in done.stderr) == (2, True)
    assert image.read_bytes() == content


def test_json_has_the_exact_name(run: Run, pack: Path, tmp_path: Path) -> None:
    names = ["new\nline.png", "\\n \x1b[2J.png", "\u202e.png"]
    for one in names:
        (tmp_path / one).write_bytes((pack / "images/rgb_224.png").read_bytes())
    done = run("detect", "--model", "mine", "--json", *names, "no\tne.png")
    found = [json.loads(line)["name"] for line in done.out.splitlines()]
    assert sorted(found) == sorted([*names, "no\tne.png"])
    assert "\x1b" not in run("detect", "--model", "mine", names[1]).out


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_ends_a_command_leaves_nothing_half_written(
    home: Path, tmp_path: Path, number: signal.Signals
) -> None:
    # The tests may run under nohup, and the command would go on as it has to.
    heard = f"import signal; signal.signal({number:d}, signal.SIG_DFL)"
    command = f"{heard}; from d3.entrypoints.cli import main; main()"
    # Standard input that stays open: the command waits for an image, with its output begun.
    with subprocess.Popen(
        [sys.executable, "-c", command, "detect", "-", "-o", "out.csv"],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        env=clean_environment(D3_HOME=str(home)),
    ) as process:
        until = time.monotonic() + 60
        while not [*tmp_path.glob(".partial*")]:
            assert time.monotonic() < until
            time.sleep(0.05)
        process.send_signal(number)
        try:
            said = process.communicate(timeout=60)[1].decode()
        finally:
            process.kill()
    assert process.returncode == 128 + number
    assert f"error: Stopped by {number.name}." in said
    assert not [*tmp_path.glob(".partial*")]
    assert not (tmp_path / "out.csv").exists()


def test_a_wrong_use_is_one_whoever_reads_it(shell: Shell) -> None:
    assert shell("d3 history list --since never 2>&1 | true").returncode == 2


def test_verdicts_are_shown_on_the_narrowest_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        results, "out", lambda: Console(width=20, force_terminal=True, soft_wrap=True)
    )
    columns = [results.Column("id", lambda _: 7), results.Column("verdict", lambda one: one)]
    columns.append(results.Column("prediction", lambda _: "0.512"))
    results.print_rows(results.Form.TABLE, ["uncertain"], columns, lambda _: {})
    shown = capsys.readouterr().out
    for word in ("7", "uncertain", "0.512", "PREDICTION"):
        assert word in shown


def test_hints_on_the_command_line_name_this_environment() -> None:
    # What may reach the callers of a service names no path; who runs a command sees it.
    assert "--python" not in hint_for("av", public=True)
    seen: list[str] = []
    undo = speak_to_owner()
    try:
        seen += [hint_for("av", public=True), hint_for("av")]
    finally:
        undo()
    assert seen[0] == seen[1]
    assert hint_for("av", public=True).startswith("Where D3 is installed")
