"""A panel before a browser: each model's opinion, and where they disagree."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from d3.container import Container
from d3.domain.models import STARTER
from d3.domain.scoring import Calibration
from d3.testing.models import tiny_ferretnet
from tests.console.browsing import FAKE, REAL, Console, axe
from tests.homes import Home

TITLE = "What each model says"


@pytest.fixture
def panel() -> tuple[str, ...]:
    """The models of the service, of which the last one is not there."""
    return STARTER, "denier", "absent"


@pytest.fixture
def service(
    home: Home, start: Callable[..., Console], tmp_path: Path, panel: tuple[str, ...]
) -> Console:
    """The service whose panel is the starter, a model that says real of all, and one not there."""
    model = tiny_ferretnet(tmp_path, "denier")
    real = Calibration(1e-6, -4.0, "news")
    registry = Container(settings=home.settings()).registry()
    registry.put(replace(model, manifest=replace(model.manifest, calibration=real)))
    return start(panel=panel)


def test_each_opinion_is_on_the_card_and_on_the_page_of_the_result(
    page: Page, service: Console
) -> None:
    page.locator("#file").set_input_files([FAKE])
    card = page.locator("#cards .card")
    for place in (card, page):
        rows = place.locator(".opinions tbody tr")
        expect(rows).to_have_count(3)
        expect(rows.nth(0)).to_contain_text(STARTER)
        expect(rows.nth(0)).to_contain_text("Likely generated")
        expect(rows.nth(1)).to_contain_text("denier 1")
        expect(rows.nth(1)).to_contain_text("Likely real")
        expect(rows.nth(1)).to_contain_text("1.8 %")
        expect(rows.nth(2)).to_contain_text("absent")
        expect(rows.nth(2)).to_contain_text("gives no opinion")
        expect(place.locator(".opinions caption")).to_have_text("The models of the panel disagree.")
        expect(place.locator(".answer")).to_contain_text(f"generated, by {STARTER} alone")
        line = rows.nth(1).locator(".prediction")
        assert float(line.get_attribute("x1") or "") == pytest.approx(1.8, abs=0.01)
        assert axe(page) == []
        if place is card:
            card.get_by_role("link", name="Open result").click()
            expect(page.get_by_role("heading", name=TITLE)).to_be_visible()
    (result,) = service.results()
    assert result["agreement"] == "disagree"


@pytest.mark.parametrize("panel", [(STARTER, "absent")])
def test_a_panel_of_which_one_model_is_left_compares_nothing(page: Page) -> None:
    page.locator("#file").set_input_files([FAKE])
    said = "There is nothing to compare: absent gave no opinion."
    card = page.locator("#cards .card")
    expect(card.locator(".opinions caption")).to_have_text(said)
    card.get_by_role("link", name="Open result").click()
    expect(page.locator(".opinions caption")).to_have_text(said)


def test_one_model_alone_has_no_table_of_opinions(page: Page, service: Console) -> None:
    service.judge(REAL, panel=STARTER)
    page.goto(f"{service.url}history/1")
    expect(page.get_by_role("heading", name=TITLE)).to_have_count(0)
    expect(page.locator(".answer")).not_to_contain_text("alone")
    page.goto(f"{service.url}statistics")
    expect(page.get_by_text("Images judged by a panel")).to_have_count(0)


def test_where_the_models_disagree_is_marked_found_and_counted(
    page: Page, service: Console
) -> None:
    service.judge(FAKE, REAL)
    service.judge(FAKE, panel=STARTER)
    page.goto(f"{service.url}history")
    expect(page.locator("tbody tr")).to_have_count(3)
    marks = page.locator("tbody .tag", has_text="Models disagree")
    expect(marks).to_have_count(1)
    assert axe(page) == []
    choice = page.get_by_label("Panel", exact=True)
    for words, rows, query in (
        ("Models disagree", 1, "disagree=true"),
        ("Models do not disagree", 1, "disagree=false"),
        ("Any", 3, ""),
    ):
        choice.select_option(words)
        expect(page).to_have_url(re.compile(f"[?&]{query}(&|$)" if query else "history$"))
        expect(page.locator("tbody tr")).to_have_count(rows)
    page.goto(f"{service.url}history?disagree=true")
    address = page.get_by_role("link", name="Export as CSV").get_attribute("href") or ""
    assert "disagree=true" in address
    page.goto(f"{service.url}statistics")
    figures = page.get_by_role("heading", name="Images judged by a panel").locator("+ dl div")
    expect(figures.nth(0)).to_contain_text("2")
    expect(figures.nth(3)).to_contain_text("Models disagree")
    expect(figures.nth(3)).to_contain_text("1 50.0 %")
    assert axe(page) == []
    page.get_by_role("link", name="Results on which the models disagree").click()
    expect(page.locator("tbody tr")).to_have_count(1)


def test_the_models_page_names_the_panel_and_who_is_missing(page: Page, service: Console) -> None:
    page.goto(f"{service.url}models")
    loaded = page.locator("section", has=page.locator("#loaded"))
    expect(loaded).to_contain_text(f"Panel: {STARTER}, denier.")
    expect(loaded).to_contain_text("absent:")
    assert axe(page) == []
