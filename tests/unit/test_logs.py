"""Logs: JSON lines away from a terminal, with the request's id wherever there is one."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator

import pytest
import structlog

from d3.entrypoints.logs import LogFormat, configure_logs


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


def logged(form: LogFormat, level: str = "info", process: str | None = None) -> str:
    stream = io.StringIO()
    configure_logs(form, level, stream, process)
    with structlog.contextvars.bound_contextvars(request_id="r-1"):
        logging.getLogger("d3.http").info("request", extra={"status": 200, "path": "/health"})
        logging.getLogger("some.library").debug("too much")
        key = "d3_of_a_caller"
        try:
            int("no\nnumber", len(key))
        except ValueError:
            logging.getLogger("d3.http").exception("unexpected error")
    logging.getLogger("d3.http").warning("by itself")
    return stream.getvalue()


@pytest.mark.parametrize("form", ["json", "auto"])
def test_away_from_a_terminal_each_line_is_an_object_with_the_requests_id(form: LogFormat) -> None:
    request, broken, alone = map(json.loads, logged(form).splitlines())
    assert (request["event"], request["level"], request["logger"]) == ("request", "info", "d3.http")
    assert (request["status"], request["path"], request["request_id"]) == (200, "/health", "r-1")
    assert request["timestamp"].endswith("Z")
    assert broken["request_id"] == "r-1"
    assert broken["exception"][0]["exc_type"] == "ValueError"
    assert "request_id" not in alone


def test_as_text_it_is_for_reading() -> None:
    text = logged("text")
    assert "request" in text
    assert "status=200" in text
    assert "request_id=r-1" in text
    assert not text.startswith("{")


@pytest.mark.parametrize("form", ["json", "text"])
def test_an_error_is_logged_without_the_variables_that_may_hold_a_key(form: LogFormat) -> None:
    text = logged(form)
    assert "ValueError" in text
    assert "d3_of_a_caller" not in text


def test_each_line_of_several_processes_names_its_own() -> None:
    lines = list(map(json.loads, logged("json", process="front-1").splitlines()))
    assert [line["process"] for line in lines] == ["front-1"] * 3
    assert [line["event"] for line in lines] == ["request", "unexpected error", "by itself"]
    assert re.search(r"\] .*front-1  by itself", logged("text", process="front-1"))
    assert not any("process" in json.loads(line) for line in logged("json").splitlines())


def test_less_important_things_are_left_out() -> None:
    assert [json.loads(line)["event"] for line in logged("json", "warning").splitlines()] == [
        "unexpected error",
        "by itself",
    ]
