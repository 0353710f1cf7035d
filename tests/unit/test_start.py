"""The command line starts quickly: it imports what a command needs, and refuses before that."""

from __future__ import annotations

import json
import subprocess
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest
from click.shell_completion import CompletionItem, ShellComplete

from d3.entrypoints.cli import main
from d3.entrypoints.cli.app import cli

RunPython = Callable[..., subprocess.CompletedProcess[str]]

COMMANDS = """
import json, os, sys
os.environ["D3_HOME"] = os.getcwd()
open("picture.jpg", "wb").close()
from d3.entrypoints.cli import main
ended = []
for command in json.loads(sys.argv[1]):
    try:
        main(command.split())
    except SystemExit as ending:
        there = {name.split(".")[0] for name in sys.modules}
        ended.append((command, ending.code or 0, sorted(there & set(json.loads(sys.argv[2])))))
print(json.dumps(ended), file=sys.__stderr__)
"""
"""Runs commands one after the other; tells of each its exit code and which modules are there."""


def run(run_python: RunPython, commands: list[str], watched: list[str]) -> list[list[object]]:
    done = run_python(COMMANDS, json.dumps(commands), json.dumps(watched))
    ended: list[list[object]] = json.loads(done.stderr.splitlines()[-1])
    return ended


def test_what_cannot_be_done_is_refused_before_torch_or_a_database_is_imported(
    run_python: RunPython,
) -> None:
    commands = [
        "detect --threshold 7 picture.jpg",
        "detect --views 99 picture.jpg",
        "detect --model ../x picture.jpg",
        "detect --model nope picture.jpg",
        "detect missing.jpg",
        "detect missing.jpg picture.jpg",
        "explain missing.jpg",
        "explain --views 0 picture.jpg",
        "scan",
        "scan missing",
        "scan missing/*.jpg --views 17",
        "evaluate missing",
        "evaluate --robustness fog .",
        "calibrate missing",
        "dataset check missing",
        "models diff a b missing",
        "models info nope",
        "models import mine --encoder missing.pt --head missing.pth",
        "models import missing.d3bundle",
        "train --recipe paper --out out missing",
        "train --recipe starter --out out --photos missing",
        "bench --model nope",
        "serve --tls-cert missing.pem",
        "keys create",
        "nope",
    ]
    ended = run(run_python, commands, ["torch", "sqlalchemy", "litestar", "uvicorn", "sklearn"])
    assert ended == [[command, 2, []] for command in commands]


def test_commands_that_judge_nothing_import_no_torch_and_no_arrays(run_python: RunPython) -> None:
    light = ["--help", "models --help", "models list", "models info starter", "models verify"]
    heavy = ["torch", "PIL", "alembic", "psycopg", "litestar", "sqlalchemy"]
    assert run(run_python, light, heavy) == [[command, 0, []] for command in light]
    assert run(run_python, ["keys list"], heavy[:2]) == [["keys list", 0, []]]
    # The database is there now: nothing is left to upgrade.
    data = ["keys list", "users list", "scans list", "history purge", "db current"]
    assert run(run_python, data, heavy[:-1]) == [[command, 0, []] for command in data]


def completed(*words: str) -> list[CompletionItem]:
    """What the shell is offered for the last word."""
    return ShellComplete(cli, {}, "d3", "_D3_COMPLETE").get_completions(list(words[:-1]), words[-1])


def values(*words: str) -> list[str]:
    return [one.value for one in completed(*words)]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("D3_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_commands_options_and_choices_are_completed() -> None:
    assert values("mod") == ["models"]
    assert {"diff", "list", "pull"} <= set(values("models", ""))
    assert values("detect", "--fail") == ["--fail-on-fake", "--fail-on-uncertain"]
    assert values("train", "--recipe", "p") == ["paper"]


@pytest.mark.parametrize(
    "words",
    [("detect",), ("explain",), ("scan",), ("evaluate",), ("models", "import"), ("train",)],
)
def test_files_are_completed_by_the_shell(words: tuple[str, ...]) -> None:
    assert [(one.type, one.value) for one in completed(*words, "pic")] == [("file", "pic")]


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    "words",
    [("models", "info"), ("models", "verify"), ("detect", "--model"), ("models", "diff")],
)
def test_models_are_completed(words: tuple[str, ...]) -> None:
    assert values(*words, "st") == ["starter"]
    assert values(*words, "other") == []


@pytest.mark.usefixtures("home")
def test_where_settings_cannot_be_used_nothing_is_completed_and_nothing_said(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("D3_BATCH_SIZE", "many")
    assert values("models", "info", "") == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("shell", "line"),
    [
        ("bash", "complete -o nosort -F _d3_completion d3"),
        ("zsh", "compdef _d3_completion d3"),
        ("fish", "complete --no-files --command d3"),
    ],
)
def test_each_shell_gets_its_script(
    shell: str, line: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("_D3_COMPLETE", f"{shell}_source")
    with pytest.raises(SystemExit) as ending:
        main([])
    assert ending.value.code == 0
    assert line in capfd.readouterr().out


def test_bash_completes_with_what_the_page_says(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs/command-line.md").read_text(encoding="utf-8")
    line = 'eval "$(_D3_COMPLETE=bash_source d3)"'
    assert line in page
    script = f"""
        PATH={sysconfig.get_path("scripts")}:$PATH
        {line}
        COMP_WORDS=(d3 models inf) COMP_CWORD=2
        _d3_completion d3
        echo "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, cwd=tmp_path, timeout=60, check=True
    )
    assert done.stdout.split() == ["info"]
