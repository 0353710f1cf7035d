"""What can be said of a block without running it: that all it names is there."""

from __future__ import annotations

import ast
import contextlib
import csv
import importlib
import importlib.util
import inspect
import io
import json
import re
import shlex
import tomllib
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import urlsplit

import click
import yaml

import d3
from d3.entrypoints.cli.app import cli
from d3.settings import Settings
from tests.docs.blocks import ROOT, Block
from tests.docs.shell import commands, session

OURS = r"(?:D3|POSTGRES|MINIO)_[A-Z0-9_]*[A-Z0-9]"
"""Names of variables that are settings of D3."""

OTHERS = frozenset(
    {
        *("POSTGRES_IMAGE", "MINIO_ROOT_USER", "MINIO_ROOT_PASSWORD"),  # of servers' images
        "D3_WEBHOOK_SECRET",  # of the receiver in docs/webhooks.md
    }
)
"""Variables that look like settings and belong to somebody else."""

PROGRAMS = """
. [ apt-get awk aws base64 cat cd celery chmod chown chromium cosign cp createdb
createuser cut date deactivate df diff done du echo eval exit fi find fish for git grep
head install jq kill ln ls mkdir mv nohup npm npx nvidia-smi openapi-python-client openssl
pg_dump pg_restore printf psql ray read redis-cli rm rsync scp sed set sha256sum shasum
sleep sort source sqlite3 ssh syft systemctl tail tar tee test touch true twine ulimit
umask unset unzip uvicorn wc wget whsec_... xargs zip
"""
"""Programs of others, whose options are not looked at."""


def check(block: Block) -> None:
    """Fail if the block is none of its kind, or names what is not there."""
    kind = block.kind or "no language"
    assert block.kind in _KINDS, (
        f"nobody checks a block of {kind}: use {', '.join(sorted(_KINDS))}, "
        "or say before it <!-- shown: why -->"
    )
    _KINDS[block.kind](block.text)


def _check_script(text: str) -> None:
    for command in commands(text):
        check_command(command)


def _check_session(text: str) -> None:
    for command, _ in session(text):
        check_command(command)


def _check_settings(text: str) -> None:
    for name in re.findall(rf"^\s*({OURS})\s*=", text, re.MULTILINE):
        check_setting(name)


def check_setting(name: str) -> None:
    assert name in _settings() | OTHERS or name.startswith("D3_TEST_"), (
        f"there is no setting {name}"
    )


@cache
def _settings() -> frozenset[str]:
    return frozenset(one.metadata["variable"] for one in Settings.__dataclass_fields__.values())


def check_command(command: str) -> None:
    """Every program of a line is known, and called with what it has."""
    text = re.sub(r"\$\([^()]*\)|`[^`]*`", "WORD", command)
    for inner in re.findall(r"\$\(([^()]*)\)", command):
        check_command(inner)
    text = re.sub(r"<<-?\s*['\"]?(\w+)['\"]?.*?^\1$", "", text, flags=re.DOTALL | re.MULTILINE)
    lexer = shlex.shlex(text.replace("\\\n", " "), posix=True, punctuation_chars="();<>|&\n")
    lexer.whitespace = " \t\r"
    lexer.whitespace_split = True
    simple: list[str] = []
    words = [*lexer, ";"]
    for place, word in enumerate(words):
        if re.fullmatch(r"[();|&\n]+", word):
            if simple:
                _check_simple(simple)
            simple = []
        elif re.fullmatch(r"\d?[<>]+&?|&>+", word) or (
            place and re.fullmatch(r"[<>]+&?|&>+", words[place - 1])
        ):
            continue  # a redirection, or its file
        else:
            simple.append(word)


def _check_simple(words: list[str]) -> None:
    while words and (found := re.fullmatch(r"([A-Za-z_]\w*)=.*", words[0], re.DOTALL)):
        if re.fullmatch(OURS, found[1]):
            check_setting(found[1])
        words = words[1:]
    if not words:
        return
    program, *rest = words
    name = program.rpartition("/")[2]
    if name in _BEFORE_OTHERS:
        _check_simple(rest)
    elif name in _CHECKED_PROGRAMS:
        _CHECKED_PROGRAMS[name](rest)
    else:
        assert program in PROGRAMS.split(), f"the program {program!r} is unknown: see PROGRAMS"


_BEFORE_OTHERS = frozenset({"do", "then", "else", "sudo", "exec", "time", "if", "while", "export"})


def check_d3(words: list[str]) -> None:
    """Raise a usage error for an argument or an option that the command does not have."""
    if not words:  # completion
        return
    command, rest, context = _command(words)
    name = context.info_name
    context = context.parent or context
    with (
        patch.object(click.Path, "convert", lambda _, value, *__: Path(value)),  # it may be missing
        contextlib.suppress(click.exceptions.Exit),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        command.make_context(name, rest, parent=context)


def _command(words: list[str]) -> tuple[click.Command, list[str], click.Context]:
    """The command that the first words name, the words that are left, and its context."""
    command: click.Command = cli
    rest, context = words, click.Context(cli, info_name="d3")
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        if command.get_command(context, rest[0]) is None and "make" in command.commands:
            rest = ["make", *rest]  # `d3 evidence photo.jpg`
        name, found, rest = command.resolve_command(context, rest)
        assert found is not None, words
        command, context = found, click.Context(found, parent=context, info_name=name)
    return command, rest, context


def _check_extras(words: list[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for word in words:
        for extras in re.findall(r"(?:^\.|d3[-_]deepfake.*?|d3)\[([\w,-]+)\]", word):
            missing = set(extras.split(",")) - project["optional-dependencies"].keys()
            assert not missing, f"there is no extra {missing}"


def _check_sessions(words: list[str]) -> None:
    sessions = re.findall(r"^def (\w+)\(", (ROOT / "noxfile.py").read_text(), re.MULTILINE)
    for before, name in pairwise(words):
        assert before != "-s" or name in sessions, f"there is no session {name}"


def _check_urls(words: list[str]) -> None:
    for word in words:
        _check_url(word)


def _check_url(word: str) -> None:
    """An address of the service leads to a call, or to a page."""
    url = word if "://" in word else f"http://{word}"
    if not re.match(r"https?://(?:localhost|127\.0\.0\.1|d3\.[\w.-]+|\$D3)(?::5000)?/", url):
        return
    path = urlsplit(url).path.replace("/api/v1/", "/api/")
    known = [re.sub(r"\{\w+\}", r"[^/]+", one) for one in _calls()]
    assert any(re.fullmatch(one, path.rstrip("/") or "/") for one in known), f"no call has {path}"


@cache
def _calls() -> tuple[str, ...]:
    document = json.loads((ROOT / "docs/openapi.json").read_text(encoding="utf-8"))
    own = ("/", "/metrics", "/schema", "/docs", "/openapi.json", "/history", "/result/{id}")
    return (*(one.replace("/api/v1/", "/api/") for one in document["paths"]), *own)


def _check_python_program(words: list[str]) -> None:
    if words[:1] == ["-m"]:
        assert importlib.util.find_spec(words[1]) is not None, f"there is no module {words[1]}"
    elif words[:1] == ["-c"]:
        compile(words[1], "-c", "exec")
    elif words and words[0].endswith(".py") and "/" in words[0]:
        assert (ROOT / words[0]).is_file(), f"there is no file {words[0]}"


def _check_files(words: list[str]) -> None:
    for before, name in pairwise(words):
        if before in {"-k", "-f", "--file", "--filename"} and re.match(r"[\w.-]+/", name):
            assert (ROOT / name).exists(), f"there is no {name}"


def check_python(text: str) -> None:
    """It compiles, and what it takes of D3 is there."""
    tree = ast.parse(text)
    compile(text, "page", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    names: dict[str, Any] = {"d3": d3}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "d3":
            module = importlib.import_module(str(node.module))
            for one in node.names:
                if not hasattr(module, one.name):
                    importlib.import_module(f"{node.module}.{one.name}")
                names[one.asname or one.name] = getattr(module, one.name)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name):
            _resolve(node, names)
        if isinstance(node, ast.Call) and (called := _resolve(node.func, names)) is not None:
            _check_keywords(called, [one.arg for one in node.keywords if one.arg])


def _resolve(node: ast.expr, names: dict[str, Any]) -> Any:
    """The thing of D3 that a dotted name means, or None where it is another's."""
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if isinstance(node, ast.Attribute) and (of := _resolve(node.value, names)) is not None:
        if inspect.ismodule(of) or inspect.isclass(of):
            assert hasattr(of, node.attr), f"{ast.unparse(node)} is not there"
            return getattr(of, node.attr)
        return None
    return None


def _check_keywords(called: Any, given: list[str]) -> None:
    with contextlib.suppress(TypeError, ValueError):
        parameters = inspect.signature(called).parameters.values()
        if any(one.kind is one.VAR_KEYWORD for one in parameters):
            return
        wrong = set(given) - {one.name for one in parameters}
        assert not wrong, f"{called.__name__} does not take {wrong}"


def check_span(span: str) -> None:
    """What the text names in backticks is there too: settings, and commands of ``d3``."""
    if re.fullmatch(OURS, name := span.partition("=")[0]):
        check_setting(name)
    if (found := re.fullmatch(r"(?:[A-Z0-9_]+=\S* )*d3 ([a-z].*)", span)) and "|" not in span:
        words = found[1].split()
        place = next(
            (at for at, one in enumerate(words) if not re.fullmatch(r"[a-z-]+", one)), None
        )
        named = words[:place]
        command, _, _ = _command(named or words)
        made = command.commands.get("make") if isinstance(command, click.Group) else None
        options = {
            name
            for one in (*command.params, *(made.params if made else ()))
            for name in (*one.opts, *one.secondary_opts)
        }
        for option in re.findall(r"(?<!\S)(--[a-z][a-z-]*)", found[1]):
            assert option in {*options, "--help"}, f"d3 {found[1]}: there is no option {option}"


_KINDS: dict[str, Callable[[str], Any]] = {
    "bash": _check_script,
    **dict.fromkeys(("sh", "zsh", "fish"), _check_script),
    "console": _check_session,
    "python": check_python,
    "json": json.loads,
    "jsonl": lambda text: [json.loads(line) for line in text.splitlines()],
    "yaml": lambda text: list(yaml.safe_load_all(text)),
    "toml": tomllib.loads,
    "csv": lambda text: list(csv.reader(io.StringIO(text), strict=True)),
    "ini": _check_settings,
}

_CHECKED_PROGRAMS: dict[str, Callable[[list[str]], None]] = {
    "d3": check_d3,
    "curl": _check_urls,
    "nox": _check_sessions,
    **dict.fromkeys(("pip", "uv", "uvx", "pipx"), _check_extras),
    **dict.fromkeys(("python", "python3"), _check_python_program),
    **dict.fromkeys(("docker", "kubectl", "kustomize", "promtool", "helm"), _check_files),
}
