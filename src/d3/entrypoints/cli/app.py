"""The command ``d3`` and what all its commands share: errors, exit codes, warnings.

Exit codes: 0 done, 1 a fake was found and ``--fail-on-fake`` given, 2 could not do it, 3 a verdict
is uncertain and ``--fail-on-uncertain`` given, 130 interrupted, 129 and 143 ended by SIGHUP and
SIGTERM. A command and what it needs are imported when it is run.
"""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TextIO

import click
from click.shell_completion import shell_complete

from d3.domain.errors import D3Error
from d3.domain.installation import speak_to_owner
from d3.entrypoints.cli.groups import LazyGroup
from d3.entrypoints.cli.output import complain, give_up_output, is_lost, prepare_streams

COULD_NOT = 2
INTERRUPTED = 130
_BY_SIGNAL = 128
_ENDING = ("SIGTERM", "SIGHUP")
_OWN_SIGNALS = frozenset({"serve"})
"""Commands that see to signals themselves."""
_ONE_END_SECONDS = 1.0
"""A closed terminal may say so twice; what cleans up meanwhile is not disturbed."""
_COMPLETION = "_D3_COMPLETE"
"""The variable in which a shell asks click for completions."""


class Stopped(KeyboardInterrupt):
    """A signal asks the command to end, which it does as after Ctrl-C."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@click.group(
    cls=LazyGroup,
    modules=(
        *("bench", "calibrate", "config", "dataset", "db", "detect", "doctor", "drift", "evaluate"),
        *("evidence", "explain", "history", "jobs", "keys", "labels", "models", "replay"),
        *("scan", "scans", "serve", "train", "users", "webhooks"),
    ),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="d3-deepfake", prog_name="d3")
@click.option("--traceback", is_flag=True, help="Show the full traceback of an unexpected error.")
def cli(*, traceback: bool) -> None:
    """D3 tells whether an image was made or altered by a generator."""
    context = click.get_current_context()
    context.obj = traceback
    if context.invoked_subcommand not in _OWN_SIGNALS:
        context.call_on_close(_end_in_order())
        context.call_on_close(speak_to_owner())


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and leave the process with its exit code."""
    prepare_streams()
    # Python looks for garbage once more when it ends, which takes half a second after torch.
    atexit.register(gc.freeze)
    if instruction := os.environ.get(_COMPLETION):
        sys.exit(shell_complete(cli, {}, "d3", _COMPLETION, instruction))
    warnings.showwarning = _show_warning
    context: click.Context | None = None
    try:
        with cli.make_context("d3", sys.argv[1:] if arguments is None else arguments) as context:
            code = cli.invoke(context)
        sys.stdout.flush()
    except click.ClickException as error:
        code = _after(COULD_NOT, error.show)
    except D3Error as error:
        code = _after(COULD_NOT, partial(complain, str(error)))
    except click.exceptions.Exit as leaving:
        code = leaving.exit_code
    except Stopped as stopped:
        code = _after_stop(stopped)
    except (KeyboardInterrupt, click.Abort):
        code = _after(INTERRUPTED, partial(complain, "Interrupted."))
    except Exception as error:
        if context is not None and context.obj and not is_lost(error):
            raise
        behind = _stop_behind(error)
        code = _ended_by(error) if behind is None else _after_stop(behind)
    sys.exit(code)


def _after(code: int, say: Callable[[], None]) -> int:
    """The code, whether or not somebody still reads what is said."""
    try:
        say()
    except OSError:
        give_up_output()
    return code


def _after_stop(stopped: Stopped) -> int:
    said = f"Stopped by {signal.Signals(stopped.number).name}."
    return _after(_BY_SIGNAL + stopped.number, partial(complain, said))


def _stop_behind(error: BaseException) -> Stopped | None:
    """The signal while whose handling this failed: the terminal may be closed by then."""
    behind: BaseException | None = error
    while behind is not None and not isinstance(behind, Stopped):
        behind = behind.__context__
    return behind


def _end_in_order() -> Callable[[], None]:
    """Let signals that end a process end the command as Ctrl-C does; how to undo that.

    One that is ignored stays so: ``nohup`` wants that.
    """
    if threading.current_thread() is not threading.main_thread():
        return lambda: None
    first: list[float] = []

    def stop(number: int, _: object) -> None:
        now = time.monotonic()
        if not first or now - first[0] > _ONE_END_SECONDS:
            first[:] = [now]
            raise Stopped(number)

    numbers = [getattr(signal, one) for one in _ENDING if hasattr(signal, one)]
    ours = [one for one in numbers if signal.getsignal(one) is signal.SIG_DFL]
    for one in ours:
        signal.signal(one, stop)

    def undo() -> None:
        for one in ours:
            signal.signal(one, signal.SIG_DFL)

    return undo


def _ended_by(error: Exception) -> int:
    """Say why results could not be written, or what nobody foresaw; how the command ends."""
    if is_lost(error):
        give_up_output()
        if isinstance(error, BrokenPipeError):
            return 0  # whoever read our output has seen enough (`d3 detect . | head`)
        reason = "it is closed" if error.strerror is None else error.strerror
        sentence = f"The output cannot be written ({reason}). Write it somewhere else."
    else:
        sentence = (
            f"An unexpected error occurred ({type(error).__name__}). Run the command again as `d3 "
            "--traceback ...` and report the traceback."
        )
    with suppress(OSError):  # the same may be wrong with what is said here
        complain(sentence)
    return COULD_NOT


def _show_warning(  # noqa: PLR0917  the signature is the standard library's
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,  # noqa: ARG001
    file: TextIO | None = None,  # noqa: ARG001
    line: str | None = None,  # noqa: ARG001
) -> None:
    """Say D3's own warnings in one line; those of libraries are for developers."""
    if issubclass(category, RuntimeWarning) and f"{os.sep}d3{os.sep}" in filename:
        complain(str(message), kind="warning")
