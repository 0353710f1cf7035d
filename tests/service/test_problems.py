"""The page that the ``type`` of every error response leads to."""

from __future__ import annotations

import re
from urllib.parse import urljoin

import pytest

from d3.domain import errors
from d3.entrypoints.http.errors import STATUS
from d3.entrypoints.http.problem_types import ProblemType, problem_types
from tests.service.conftest import Service
from tests.serving import assert_problem


def test_the_type_of_a_problem_leads_to_what_it_means(service: Service) -> None:
    answer = service.http.get("/api/inference/result/1234")
    problem = assert_problem(answer, 404, "result_not_found")
    assert problem["type"] == "/problems#result_not_found"
    page = service.http.get(urljoin(str(answer.url), problem["type"]))
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    section = page.text.partition('id="result_not_found"')[2].partition("</section>")[0]
    assert "404 Not Found" in section
    assert "No result with this id is in the history" in section
    assert "<code>d3.errors.ResultNotFound</code>" in section


def test_the_page_is_the_same_for_everybody_small_and_kept(service: Service) -> None:
    page = service.http.get("/problems", headers={"Accept": "application/json"})
    assert page.headers["cache-control"] == "public, max-age=3600"
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert len(page.content) < 100_000
    assert not re.search("https?:|//|<script|`", page.text)
    for address in re.findall(r'(?:href|src)="([^"#]+)"', page.text):
        assert service.http.get(urljoin(str(page.url), address)).status_code in {200, 302}
    anchors = re.findall(r'id="([a-z_]+)"', page.text)
    assert anchors == [one.code for one in problem_types()]


@pytest.mark.parametrize("kind", problem_types(), ids=lambda one: one.code)
def test_every_kind_says_what_it_means_and_what_to_do(kind: ProblemType) -> None:
    assert re.fullmatch(r"[A-Z].*\.", kind.meaning)
    assert re.fullmatch(r"[A-Z].*\.", kind.remedy)
    assert "try again" not in kind.meaning.lower()  # is said once, by the remedy
    for name in kind.errors:
        assert getattr(errors, name).code == kind.code


def test_every_error_and_every_status_is_in_the_list() -> None:
    named = {name for one in problem_types() for name in one.errors}
    public = {
        name
        for name, one in vars(errors).items()
        if isinstance(one, type) and issubclass(one, errors.D3Error)
    }
    assert named == public
    statuses = {one.code: one.status for one in problem_types()}
    # One of the classes that share a code decides; the service answers each of them alike.
    for kind, status in STATUS.items():
        assert statuses[kind.code] == status, kind
