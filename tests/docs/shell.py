"""A shell in which ``d3`` runs in the tests' own process, so that torch is loaded once."""

from __future__ import annotations

import gc
import io
import json
import os
import re
import select
import shutil
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self, cast

import pytest

from d3.entrypoints import library
from d3.entrypoints.cli import main, output
from d3.entrypoints.cli.serve import _say_where, see_to_keys
from d3.entrypoints.http import create_app
from d3.settings import Settings
from tests.serving import clean_environment, serving

ADDRESS = "(?:localhost|127.0.0.1):5000"
"""Where pages say that the service is."""

PRINTED = "127.0.0.1:5000"
"""Where it says itself that it is."""

PATIENCE = 120
"""Seconds for one command."""

_SHIM = f"""#!{sys.executable} -IS
import json, os, socket, sys
there = socket.socket(socket.AF_UNIX)
there.connect(os.environ["D3TEST_SHELL"])
asked = {{"arguments": sys.argv[1:], "folder": os.getcwd(), "environ": dict(os.environ)}}
socket.send_fds(there, [b"d"], [0, 1, 2])
there.sendall(json.dumps(asked).encode() + b"\\n")
sys.exit(int(there.makefile().readline() or 99))
"""

_LOOP = r"""
while IFS= read -r -d '' command <&3; do
    (exit $code)
    eval "$command" </dev/null >>"$D3TEST_SAID" 2>&1
    code=$?
    printf '%s\n' $code >&4
done
"""


@dataclass(frozen=True)
class Said:
    """How a command ended and what it printed on stdout and stderr together."""

    code: int
    text: str


@dataclass
class Shell:
    """One bash, whose variables and folder last; ``d3`` and Python are run by this process.

    ``d3 serve`` serves from a thread and leaves the shell to the next command. The address that
    pages give is turned into the real one, and back in what is printed.
    """

    folder: Path
    home: Path
    _stack: ExitStack = field(default_factory=ExitStack)
    _service: ExitStack = field(default_factory=ExitStack)
    _names: dict[str, Any] = field(default_factory=dict)
    _address: str | None = None

    def __enter__(self) -> Self:
        private = self.home.parent / f"{self.home.name}-shell"
        private.mkdir()
        (private / "d3").write_text(_SHIM)
        (private / "d3").chmod(0o755)
        self._said = private / "said"
        path = private / "s"
        self._door = socket.socket(socket.AF_UNIX)
        self._door.bind(str(path))
        self._door.listen()
        paths = (str(private), str(Path(sys.executable).parent), os.environ.get("PATH", ""))
        self._environ = clean_environment(
            D3_HOME=str(self.home),
            D3TEST_SHELL=str(path),
            D3TEST_SAID=str(self._said),
            PATH=os.pathsep.join(paths),
            LC_ALL="C.UTF-8",
        )
        commands, self._commands = os.pipe()
        self._codes, codes = os.pipe()
        self._bash = subprocess.Popen(
            ["bash", "--norc", "-c", f"exec 3<&{commands} 4>&{codes}; code=0; {_LOOP}"],
            cwd=self.folder,
            env=self._environ,
            stdin=subprocess.DEVNULL,
            pass_fds=(commands, codes),
        )
        os.close(commands)
        os.close(codes)
        return self

    def __exit__(self, *_: object) -> None:
        self._service.close()
        os.close(self._commands)
        os.close(self._codes)
        self._door.close()
        try:
            self._bash.wait(10)
        except subprocess.TimeoutExpired:
            self._bash.kill()
            self._bash.wait()
        _forget()

    def run(self, command: str) -> Said:
        """Run one command, which may be of several lines, and wait until it ends."""
        self._said.write_bytes(b"")
        os.write(self._commands, self._here(command).encode() + b"\0")
        until = time.monotonic() + PATIENCE
        while True:
            left = max(0.0, until - time.monotonic())
            ready, _, _ = select.select([self._codes, self._door], [], [], left)
            assert ready, f"it takes more than {PATIENCE} seconds: {command}"
            if self._door in ready:
                self._answer()
            else:
                code = os.read(self._codes, 16)
                assert code, f"the shell ended: {command}"
                said = self._said.read_text(encoding="utf-8", errors="replace")
                return Said(int(code), self._there(said))

    def run_python(self, code: str, name: str) -> str:
        """Run a block in the page's one namespace; what it prints."""
        printed = io.StringIO()
        compiled = compile(self._here(code), name, "exec")
        with _process_as(self._environ, self.folder), redirect_stdout(printed):
            exec(compiled, self._names)
        return self._there(printed.getvalue())

    def _here(self, text: str) -> str:
        """The same with the real address of the service, which is started if it is not there."""
        if not re.search(ADDRESS, text):
            return text
        if self._address is None:
            self._serve(self._environ, self.folder)
        return re.sub(ADDRESS, cast("str", self._address), text)

    def _there(self, text: str) -> str:
        return text if self._address is None else text.replace(self._address, PRINTED)

    def _answer(self) -> None:
        there, _ = self._door.accept()
        with there:
            _, descriptors, _, _ = socket.recv_fds(there, 1, 3)
            asked = json.loads(there.makefile().readline())
            streams = _Streams(*descriptors)
            with streams.open():
                code = self._run_here(asked["arguments"], asked["environ"], Path(asked["folder"]))
            there.sendall(b"%d\n" % code)

    def _run_here(self, arguments: list[str], environ: dict[str, str], folder: Path) -> int:
        output.out.cache_clear()
        output.err.cache_clear()
        if arguments[:1] == ["serve"] and "--help" not in arguments:
            return self._serve(environ, folder)
        with _process_as(environ, folder), pytest.raises(SystemExit) as left:
            main(arguments)
        gc.collect()
        return int(left.value.code or 0)

    def _serve(self, environ: Mapping[str, str], folder: Path) -> int:
        self._service.close()
        self._address = None
        with _process_as(environ, folder):
            application = create_app(Settings.from_environment())
            application.d3.start(lambda container: see_to_keys(container, local=True))
            url = self._service.enter_context(serving(application))
            self._address = url.removeprefix("http://")
            listeners = SimpleNamespace(address=f"http://{self._address}", files=())
            _say_where(cast("Any", listeners))
        return 0


@dataclass(frozen=True)
class _Streams:
    """The streams of the process that asked."""

    stdin: int
    stdout: int
    stderr: int

    @contextmanager
    def open(self) -> Iterator[None]:
        with (
            os.fdopen(self.stdin, encoding="utf-8") as stdin,
            os.fdopen(self.stdout, "w", encoding="utf-8", buffering=1) as stdout,
            os.fdopen(self.stderr, "w", encoding="utf-8", buffering=1) as stderr,
            pytest.MonkeyPatch.context() as patch,
        ):
            patch.setattr(sys, "stdin", stdin)
            patch.setattr(sys, "stdout", stdout)
            patch.setattr(sys, "stderr", stderr)
            yield


@contextmanager
def _process_as(environ: Mapping[str, str], folder: Path) -> Iterator[pytest.MonkeyPatch]:
    """This process with another environment and folder, and with warnings as users have them."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.resetwarnings()
        warnings.simplefilter("ignore", ResourceWarning)
        for name in os.environ.keys() - environ.keys():
            patch.delenv(name)
        for name, value in environ.items():
            patch.setenv(name, value)
        patch.chdir(folder)
        yield patch


def _forget() -> None:
    """Let go of the detector of ``d3.detect``, which has the page's settings."""
    if library._shared.cache_info().currsize:
        library._shared().close()
        library._shared.cache_clear()


def commands(block: str) -> list[str]:
    """A block's commands, each whole: with its continued lines, its loop, its here-document."""
    whole: list[str] = []
    pending = ""
    for line in block.splitlines():
        pending += line + "\n"
        if not pending.strip() or pending.lstrip().startswith("#"):
            pending = ""
        elif not line.endswith("\\") and _is_complete(pending):
            whole.append(pending.rstrip("\n"))
            pending = ""
    assert not pending, f"a command that does not end:\n{pending}"
    return whole


def _is_complete(command: str) -> bool:
    bash = shutil.which("bash") or "bash"
    parsed = subprocess.run([bash, "-n", "-c", command], capture_output=True, check=False)
    return parsed.returncode == 0 and not parsed.stderr


def session(block: str) -> list[tuple[str, str]]:
    """A console block's commands, each with what it prints."""
    steps: list[tuple[str, str]] = []
    for line in block.splitlines(keepends=True):
        if line.startswith("$ "):
            steps.append((line[2:], ""))
            continue
        assert steps, "a console block begins with a command after '$ '"
        command, printed = steps[-1]
        if command.endswith("\\\n"):
            steps[-1] = (command + line.removeprefix("> "), printed)
        else:
            steps[-1] = (command, printed + line)
    return [(command.rstrip("\n"), printed) for command, printed in steps]


_DECIMAL = r"\d+\.\d+"


def differs(promised: str, printed: str) -> str | None:
    """What is not as promised, or None.

    ``...`` stands for anything in a line, and alone for any lines. Runs of spaces count as one.
    Decimal numbers may differ by 0.011: elsewhere floating-point sums differ a little.
    """
    lines = [" ".join(line.split()) for line in promised.strip("\n").splitlines()]
    text = "".join(" ".join(line.split()) + "\n" for line in printed.strip("\n").splitlines())
    numbers: list[float] = []
    pattern = ""
    for line in lines:
        if line == "...":
            pattern += r"(?:[^\n]*\n)*?"
            continue
        for part in re.split(rf"(\.{{3,}}|(?<![\w.]){_DECIMAL}(?![\w.]))", line):
            if re.fullmatch(r"\.{3,}", part):
                pattern += r"[^\n]*"
            elif re.fullmatch(_DECIMAL, part):
                numbers.append(float(part))
                pattern += rf"({_DECIMAL})"
            else:
                pattern += re.escape(part)
        pattern += "\n"
    found = re.fullmatch(pattern, text)
    if found is None:
        return f"--- promised:\n{promised}--- printed:\n{printed}"
    for expected, actual in zip(numbers, map(float, found.groups()), strict=True):
        if abs(expected - actual) > 0.011:
            return f"{expected} is promised, and {actual} printed:\n{printed}"
    return None
