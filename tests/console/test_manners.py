"""What every page owes its readers on any database: axe, phones, keys, nothing inline."""

import re
from collections.abc import Callable

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.console.browsing import FAKE, REAL, Console, axe, file
from tests.service.test_mounting import by_hand_with_the_prefix_in_the_path, in_starlette
from tests.serving import assert_problem, serving

PAGES = ("", "history", "statistics", "models", "service")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_on_any_page(
    browser: Browser, start: Callable[..., Console], scheme: str
) -> None:
    service = start(fetch_links=True)
    service.judge(FAKE, REAL)
    # axe is put into the page as a script, which the page's own policy rightly forbids.
    context = browser.new_context(color_scheme=scheme, bypass_csp=True)
    page = context.new_page()
    found = {}
    ordered = "history?sort=image_name&order=asc"
    for name in (*PAGES, ordered, "history/1", "history/99", "statistics?range=all"):
        page.goto(f"{service.url}{name}")
        for summary in page.locator("summary").all():
            summary.click()
        if name == "":
            bad = file("letter.jpg", b"Dear reader", "image/jpeg")
            page.locator("#file").set_input_files([file(FAKE.name, FAKE.read_bytes()), bad])
            expect(page.locator("#cards .verdict:visible")).to_have_count(1)
            expect(page.locator("#cards .problem:visible")).to_have_count(1)
            page.get_by_role("button", name="Show a heat map").click()
            expect(page.locator(".map:visible img")).to_be_visible()
        found[name] = axe(page)
    assert not any(found.values()), found
    context.close()


def test_axe_finds_nothing_on_the_reference_of_the_api(browser: Browser, service: Console) -> None:
    page = browser.new_context(bypass_csp=True).new_page()
    page.goto(f"{service.url}schema")
    for operation in ("inference-predict", "history-listHistory", "scans-startScan"):
        page.locator(f"#operations-{operation} .opblock-summary-control").click()
        expect(page.locator(f"#operations-{operation} .execute")).to_be_visible()
    assert axe(page) == []
    page.get_by_role("button", name="Authorize").first.click()
    expect(page.locator(".auth-container").first).to_be_visible()
    assert axe(page) == []
    page.context.close()


def test_the_reference_of_the_api_works_under_its_own_policy(page: Page, service: Console) -> None:
    page.goto(f"{service.url}schema")
    operation = page.locator("#operations-health-getHealth, #operations-health-health").first
    operation.locator(".opblock-summary-control").click()
    operation.get_by_role("button", name="Execute").click()
    expect(operation.locator(".live-responses-table").first).to_contain_text("200")
    page.get_by_role("link", name="Console").click()
    expect(page).to_have_url(service.url)


@pytest.mark.parametrize("path", ["/nowhere", "/api/nowhere", "/api/inference/result/99"])
def test_a_browser_meets_a_page_and_a_program_a_problem(service: Console, path: str) -> None:
    browsers = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
    page = service.http.get(path, headers={"Accept": browsers})
    assert (page.status_code, page.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert "Something went wrong" in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    for accepts in ("application/json", "*/*"):
        answer = service.http.get(path, headers={"Accept": accepts})
        assert answer.headers["content-type"] == "application/problem+json"
        assert "Accept" in answer.headers["vary"]


def test_no_page_is_wider_than_a_phone(browser: Browser, service: Console) -> None:
    service.judge(FAKE, REAL)
    context = browser.new_context(viewport={"width": 360, "height": 740}, has_touch=True)
    page = context.new_page()
    for name in (*PAGES, "history/1"):
        page.goto(f"{service.url}{name}")
        if name == "":
            page.locator("#file").set_input_files(FAKE)
            expect(page.locator("#cards .verdict")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, name
        if name == "history":
            page.get_by_role("link", name="Probability").click()
            expect(page.locator("[aria-sort=descending]")).to_have_text("Probability")
        for table in page.locator(".rows:visible").all():
            assert table.evaluate("(node) => node.parentElement.scrollWidth") <= 360, name
    context.close()


def test_the_keyboard_reaches_everything(page: Page, service: Console) -> None:
    page.keyboard.press("Tab")
    expect(page.locator(":focus")).to_have_text("Skip to the content")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.locator("#file")).to_be_focused()
    page.locator("#file").set_input_files(FAKE)
    expect(page.locator("#cards .verdict")).to_be_visible()
    reached = []
    for _ in range(8):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.textContent.trim()"))
    assert {"Options", "Clear the list", "Open result", "Copy as JSON"} <= set(reached)


def test_every_page_forbids_what_is_inline_or_elsewhere(service: Console) -> None:
    for name in (*PAGES, "history/99"):
        answer = service.http.get(f"/{name}", headers={"Accept": "text/html"})
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert not re.search(r"<script(?![^>]* src=)|<style| style=| on[a-z]+=", answer.text)
        assert not re.search(r"""(?:src|href|action)=["'](?:https?:)?//""", answer.text)


def test_programs_hear_of_no_page(service: Console) -> None:
    for name in PAGES:
        answer = service.http.get(f"/{name}", headers={"Accept": "application/json"})
        assert_problem(answer, 404, "not_found")


@pytest.mark.parametrize(
    "headers",
    [{"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://elsewhere.example"}],
)
def test_a_form_of_another_site_does_nothing(service: Console, headers: dict[str, str]) -> None:
    answer = service.http.post("/models/unload", headers=headers)
    assert answer.status_code == 403
    assert "another site" in answer.text
    assert service.http.get("/health").json()["model_loaded"] is True


@pytest.mark.parametrize("mounted", [in_starlette, by_hand_with_the_prefix_in_the_path])
def test_every_link_holds_beneath_a_prefix(
    browser: Browser, service: Console, mounted: Callable[[object], object]
) -> None:
    with serving(mounted(service.application), lifespan="off") as url:
        page = browser.new_page()
        page.goto(f"{url}/detector/")
        page.locator("#file").set_input_files(FAKE)
        page.get_by_role("link", name="Open result").click()
        for name in ("History", "Statistics", "Models", "Service", "Check"):
            page.get_by_role("banner").get_by_role("link", name=name).click()
            expect(page).to_have_url(re.compile(rf"/detector/({name.lower()})?$"))
            links = page.locator("a[href], link[href], script[src], img[src]").evaluate_all(
                "(nodes) => nodes.map((node) => node.href || node.src)"
            )
            assert all(link.startswith(f"{url}/detector/") for link in links)
            for link in set(links):
                reported = 403 if link.endswith(("/keys", "/scans")) else 200  # they ask for a key
                assert httpx.get(link).status_code == reported
        page.close()
