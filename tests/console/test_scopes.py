"""What a key does not allow is not offered; asked for all the same, a page says so."""

from collections.abc import Callable

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.console.browsing import FAKE, REAL, Console, sign_in


@pytest.fixture
def closed(start: Callable[..., Console]) -> Console:
    return start(auth="required")


@pytest.fixture
def enter(context: BrowserContext, closed: Console) -> Callable[..., Page]:
    """Signs somebody in with these scopes, at an address."""

    def enter(username: str, *scopes: str, at: str = "") -> Page:
        context.clear_cookies()
        page = context.new_page()
        page.goto(f"{closed.url}{at}")
        sign_in(page, closed.key(username, *scopes).key)
        return page

    return enter


def offered(page: Page) -> list[str]:
    return page.get_by_role("navigation").first.get_by_role("link").all_inner_texts()


FIRST = "Was this image made or altered by a generator?"


def test_pages_are_offered_as_the_key_allows_and_the_first_is_one_of_them(
    enter: Callable[..., Page],
) -> None:
    everything = ["Check", "History", "Statistics", "Models", "Service", "Scans"]
    everything += ["Webhooks", "Keys"]
    for scope, pages, first in (
        ("predict", ["Check"], FIRST),
        ("read", ["History", "Statistics", "Service", "Webhooks"], "History"),
        ("models", ["Models"], "Models"),
        ("admin", everything, FIRST),
    ):
        page = enter(f"only-{scope}", scope)
        assert offered(page) == pages
        expect(page.get_by_role("heading", level=1)).to_have_text(first)


def test_what_a_key_does_not_allow_is_a_page_with_a_sentence_and_ways_on(
    enter: Callable[..., Page], closed: Console
) -> None:
    closed.key("chief", "admin")
    for scopes, addresses, scope in (
        (("predict",), ("history", "history/1", "statistics", "service"), "read"),
        (("predict", "read"), ("models",), "models"),
        (("predict", "read", "models"), ("keys", "scans"), "admin"),
    ):
        page = enter(f"not-{scope}", *scopes, at=addresses[0])
        for address in addresses:
            page.goto(f"{closed.url}{address}")
            alert = page.get_by_role("alert")
            expect(alert).to_contain_text(f"does not have the scope '{scope}'")
            expect(alert).to_contain_text("Ask for a key that has it: chief.")
            ways = page.get_by_role("main").get_by_role("link")
            expect(ways.first).to_have_text("Check")
            expect(ways.last).to_have_text("Sign in with another key")
        ways.first.click()
        expect(page.locator("#check")).to_be_visible()


def test_one_sees_ones_own_results_alone_and_an_administrator_all(
    enter: Callable[..., Page], closed: Console
) -> None:
    page = enter("ada", at="")
    page.locator("#file").set_input_files(FAKE)
    expect(page.locator("#cards .verdict")).to_be_visible()
    page = enter("grace", at="history/1")
    expect(page.get_by_role("alert")).to_contain_text("This result does not exist")
    assert page.request.get(f"{closed.url}history/1", headers={"Accept": "text/html"}).status == 404
    page.goto(closed.url)
    page.locator("#file").set_input_files(REAL)
    expect(page.locator("#cards .verdict")).to_be_visible()
    page.get_by_role("link", name="History").click()
    expect(page.locator("tbody th")).to_have_text([REAL.name])
    page.get_by_role("link", name="Statistics").click()
    expect(page.locator(".figures dd").first).to_have_text("1")
    page = enter("root", "admin", at="history")
    expect(page.locator("tbody th")).to_have_text([REAL.name, FAKE.name])


def test_a_key_that_only_reads_deletes_nothing_and_is_not_offered_to(
    enter: Callable[..., Page], closed: Console
) -> None:
    page = enter("ada", "predict", "read")
    page.locator("#file").set_input_files(FAKE)
    expect(page.locator("#cards .verdict")).to_be_visible()
    page = enter("ada", "read", at="history")
    expect(page.locator("tbody th")).to_have_text([FAKE.name])
    expect(page.get_by_role("button", name="Delete")).to_have_count(0)
    page.get_by_label(f"Select {FAKE.name}").check()
    with page.expect_download() as download:
        page.get_by_role("button", name="Export selected").click()
    assert FAKE.name in download.value.path().read_text()
    page.get_by_role("link", name=FAKE.name).click()
    expect(page.get_by_role("button", name="Delete this result")).to_have_count(0)
    expect(page.get_by_role("link", name="Check another image")).to_have_count(0)
    own = {"Origin": closed.url.rstrip("/"), "Accept": "text/html"}
    for path, form in (
        ("delete", {"id": "1"}),
        ("selected", {"do": "real", "id": "1"}),
        ("selected", {"do": "delete", "id": "1"}),
    ):
        refused = page.request.post(f"{closed.url}history/{path}", headers=own, form=form)
        assert refused.status == 403
    page.goto(f"{closed.url}history")
    expect(page.locator("tbody th")).to_have_text([FAKE.name])
