"""Logs of the service: readable on a terminal, one JSON object a line elsewhere.

Configured by ``d3 serve`` alone; an application that embeds D3 keeps its own logging.
"""

from __future__ import annotations

import logging
import sys
from typing import Any, Literal, TextIO

import structlog

from d3.domain.ports.tracing import current

LogFormat = Literal["auto", "text", "json"]
_EXTRA = ("request_id", "method", "path", "status", "milliseconds", "requests")
_WARNINGS_A_SECOND = 10


def configure_logs(
    form: LogFormat, level: str, stream: TextIO = sys.stderr, process: str | None = None
) -> None:
    """Send everything that D3 and its libraries log to the stream in one form.

    Args:
        form: ``auto`` is ``text`` on a terminal and ``json`` elsewhere.
        level: the least important one shown, such as ``"info"``.
        stream: where to.
        process: name of this one of several processes, such as ``"front-1"``, for each line.
    """
    as_text = form == "text" or (form == "auto" and stream.isatty())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        _add_trace,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.ExtraAdder(allow=_EXTRA),
    ]
    # Without local variables, which hold callers' keys.
    ending: list[Any] = (
        [
            structlog.dev.ConsoleRenderer(
                colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback
            )
        ]
        if as_text
        else [
            structlog.processors.ExceptionRenderer(
                structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
            ),
            structlog.processors.JSONRenderer(),
        ]
    )
    if process is not None:
        ending.insert(0, _process_column(process) if as_text else _process_field(process))
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *ending],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    for name in ("uvicorn", "uvicorn.error", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Callers decide how often these warn: each malformed request is one line.
    for name in ("uvicorn.error", "d3.http"):
        logging.getLogger(name).addFilter(FewWarnings())


def _add_trace(
    _logger: Any, _method: str, line: structlog.types.EventDict
) -> structlog.types.EventDict:
    """Name the span in which something was logged."""
    if (here := current.get()) is not None:
        line["trace_id"], line["span_id"] = f"{here.trace_id:032x}", f"{here.span_id:016x}"
    return line


def _process_field(process: str) -> structlog.types.Processor:
    return lambda _logger, _method, line: {**line, "process": process}


def _process_column(process: str) -> structlog.types.Processor:
    return lambda _logger, _method, line: {**line, "event": f"{process:<8} {line['event']}"}


class FewWarnings:
    """Lets so many warnings of a logger through in a second, and says how many it held back."""

    def __init__(self, most: int = _WARNINGS_A_SECOND) -> None:
        self._most = most
        self._second = 0
        self._seen = 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is shown."""
        if record.levelno != logging.WARNING:
            return True
        if int(record.created) != self._second:
            held_back = self._seen - self._most
            self._second, self._seen = int(record.created), 0
            if held_back > 0:
                record.msg = f"{record.msg} ({held_back:,} earlier warnings were left out)"
        self._seen += 1
        return self._seen <= self._most
