"""Every kind of problem: its code, its status, what it means and what to do about it.

What it means and what to do are the first two paragraphs of an error's docstring. The page
``/problems`` and the documentation are made of this list, so ``type`` of an error response leads to
words that fit this very version.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus

from d3.domain.errors import D3Error
from d3.entrypoints.http.errors import status_of


@dataclass(frozen=True, slots=True)
class ProblemType:
    """One kind of problem.

    Attributes:
        code: the stable word in error responses.
        status: of an error response with this code.
        meaning: what it means; commands and names stand in backticks.
        remedy: what to do about it; empty if nothing can be said for all cases.
        errors: the names of the errors in :mod:`d3.errors` that have the code.
    """

    code: str
    status: HTTPStatus
    meaning: str
    remedy: str
    errors: tuple[str, ...] = ()


_OF_THE_SERVICE = (
    ProblemType(
        "invalid_parameter",
        HTTPStatus.BAD_REQUEST,
        "A parameter or a field of the body is missing, unknown, or not of its kind.",
        "Correct the parameter that the message names. `/schema` describes all of them.",
    ),
    ProblemType(
        "not_found",
        HTTPStatus.NOT_FOUND,
        "There is nothing at this address.",
        "Compare the address with `/schema`, which lists all of them.",
    ),
    ProblemType(
        "method_not_allowed",
        HTTPStatus.METHOD_NOT_ALLOWED,
        "The address does not support the method.",
        "Use a method that the header `Allow` of the answer names.",
    ),
    ProblemType(
        "invalid_http",
        HTTPStatus.BAD_REQUEST,
        "What arrived is not a request in HTTP/1.1, or its head is too large.",
        "Send a valid request with a head of at most 64 KiB.",
    ),
    ProblemType(
        "head_too_slow",
        HTTPStatus.REQUEST_TIMEOUT,
        "The head of the request did not arrive in time.",
        "Send it at once, or use a faster connection.",
    ),
    ProblemType(
        "internal_error",
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "An unexpected error occurred, which is a defect of D3.",
        "Try again. If it happens again, report the `request_id`; the log has the details.",
    ),
)


@cache
def problem_types() -> tuple[ProblemType, ...]:
    """All kinds of problems, in the order of their codes."""
    by_code = {one.code: one for one in _OF_THE_SERVICE}
    # One that is of two kinds is met before the second of them.
    for kind in sorted(dict.fromkeys(_errors(D3Error)), key=lambda one: len(one.__mro__)):
        meaning, remedy = _paragraphs(kind)
        known = by_code.get(kind.code)
        errors = (kind.__name__,) if known is None else (*known.errors, kind.__name__)
        first = known or ProblemType(kind.code, status_of(_plain(kind)), meaning, remedy)
        by_code[kind.code] = ProblemType(
            first.code, first.status, first.meaning, first.remedy, errors
        )
    return tuple(by_code[code] for code in sorted(by_code))


def _errors(kind: type[D3Error]) -> Iterator[type[D3Error]]:
    """The class and all below it, those above first."""
    yield kind
    for one in kind.__subclasses__():
        if one.__module__ == D3Error.__module__:  # not an application's own
            yield from _errors(one)


def _plain(kind: type[D3Error]) -> D3Error:
    """An error of the kind, whatever its constructor takes."""
    return kind.__new__(kind)


def _paragraphs(kind: type[D3Error]) -> tuple[str, str]:
    """The first two paragraphs of a docstring; empty where Python leaves docstrings out."""
    paragraphs = [" ".join(one.split()) for one in (kind.__doc__ or "").split("\n\n")]
    meaning, remedy, *_ = *paragraphs, "", ""
    if remedy.startswith("Attributes:"):
        remedy = ""
    return meaning.replace("``", "`"), remedy.replace("``", "`")
