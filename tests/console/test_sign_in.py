"""Signing in, staying in, being put out: with a key, in a browser."""

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.console.browsing import FAKE, REAL, Console, axe, sign_in
from tests.service.test_mounting import by_hand_with_the_prefix_cut_off
from tests.serving import serving


@pytest.fixture
def closed(start: Callable[..., Console]) -> Console:
    """A service that asks everybody for a key, on this machine too."""
    return start(auth="required")


@pytest.fixture
def visitor(context: BrowserContext, closed: Console) -> Iterator[Page]:
    """Somebody without a key at the first page."""
    page = context.new_page()
    page.goto(closed.url)
    yield page
    page.close()


def cookie(context: BrowserContext) -> Any:
    (found,) = context.cookies()
    return found


def test_without_a_key_one_is_led_to_the_sign_in_page_and_back(
    context: BrowserContext, closed: Console
) -> None:
    page = context.new_page()
    page.goto(f"{closed.url}history?verdict=fake")
    expect(page).to_have_url(re.compile(r"/sign-in\?to=history%3Fverdict%3Dfake$"))
    expect(page.get_by_label("API key")).to_be_focused()
    expect(page.get_by_role("navigation").get_by_role("link")).to_have_count(0)
    sign_in(page, "d3_wrong")
    expect(page.get_by_role("alert")).to_contain_text("This API key is not accepted")
    assert context.cookies() == []
    sign_in(page, closed.key("ada").key)
    expect(page).to_have_url(f"{closed.url}history?verdict=fake")
    expect(page.get_by_text("Signed in as ada")).to_be_visible()
    given = cookie(context)
    assert (given["httpOnly"], given["sameSite"], given["path"]) == (True, "Strict", "/")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")
    assert context.cookies() == []
    page.goto(f"{closed.url}history")
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")


def test_images_are_checked_by_whoever_signed_in_and_are_theirs(
    visitor: Page, closed: Console
) -> None:
    sign_in(visitor, closed.key("ada").key)
    visitor.locator("#file").set_input_files(FAKE)
    expect(visitor.locator("#cards .verdict")).to_have_text("Likely generated")
    visitor.get_by_role("link", name="Open result").click()
    expect(visitor.get_by_role("heading", level=1)).to_have_text(FAKE.name)


def test_a_key_that_ends_leaves_the_card_and_signing_in_again_goes_on_by_itself(
    visitor: Page, context: BrowserContext, closed: Console
) -> None:
    made = closed.key("ada")
    sign_in(visitor, made.key)
    visitor.locator("#file").set_input_files(FAKE)
    expect(visitor.locator("#cards .verdict")).to_be_visible()
    closed.accounts.revoke_key(made.key_id)
    visitor.wait_for_timeout(1100)
    visitor.locator("#file").set_input_files(REAL)
    card = visitor.locator("#cards > li").filter(has_text=REAL.name)
    expect(card.locator(".problem")).to_contain_text("Your session has ended. Nothing is lost")
    with context.expect_page() as opened:
        card.get_by_role("link", name="Sign in").click()
    other = opened.value
    sign_in(other, closed.key("ada").key)
    expect(other.get_by_role("heading", level=1)).to_have_text("You are signed in")
    expect(card.locator(".verdict")).to_have_text("Likely real")
    expect(visitor.locator("#cards .verdict:visible")).to_have_count(2)


@pytest.mark.parametrize("end", ["expired", "revoked"])
def test_whoever_is_put_out_is_told_why(visitor: Page, closed: Console, end: str) -> None:
    lifetime = timedelta(seconds=3) if end == "expired" else None
    made = closed.key("ada", lifetime=lifetime)
    sign_in(visitor, made.key)
    visitor.get_by_role("link", name="History").click()
    expect(visitor.get_by_text("Signed in as ada")).to_be_visible()
    if end == "revoked":
        closed.accounts.revoke_key(made.key_id)
    visitor.wait_for_timeout(3000 if end == "expired" else 1100)
    visitor.get_by_label("Verdict").select_option("fake")  # htmx asks, and is led there too
    expect(visitor.get_by_role("status")).to_contain_text(f"signed in with {end_of(end)}")
    sign_in(visitor, closed.key("ada").key)
    expect(visitor).to_have_url(re.compile(r"/history\?(.*&)?verdict=fake&"))


def end_of(end: str) -> str:
    return "has expired" if end == "expired" else "was revoked"


def test_a_page_of_another_site_does_nothing_in_somebodys_name(
    visitor: Page, context: BrowserContext, closed: Console, start: Callable[..., Console]
) -> None:
    sign_in(visitor, closed.key("ada", "predict", "read", "models").key)
    expect(visitor.get_by_text("Signed in as ada")).to_be_visible()
    other = start(auth="required").url.replace("127.0.0.1", "localhost")
    page = context.new_page()
    page.goto(f"{other}schema/openapi.json")  # a page without a policy of its own, elsewhere
    page.evaluate(
        """(place) => {
            const form = document.createElement("form");
            form.method = "post";
            form.action = place;
            document.body.append(form);
            form.submit();
        }""",
        f"{closed.url}models/unload",
    )
    expect(page.get_by_role("alert")).to_contain_text("came from another site")
    assert closed.http.get("/health").json()["model_loaded"] is True


def test_on_this_machine_one_may_sign_in_or_go_on_without(page: Page, service: Console) -> None:
    page.get_by_role("link", name="History").click()
    expect(page).to_have_url(f"{service.url}history")
    page.get_by_role("link", name="Sign in").click()
    page.get_by_role("link", name="Continue without signing in").click()
    expect(page).to_have_url(f"{service.url}history")
    page.get_by_role("link", name="Sign in").click()
    sign_in(page, service.key("ada").key)
    expect(page).to_have_url(f"{service.url}history")
    expect(page.get_by_text("Signed in as ada")).to_be_visible()


def test_beneath_a_prefix_the_cookie_is_the_prefixes_own(
    context: BrowserContext, closed: Console
) -> None:
    mounted = by_hand_with_the_prefix_cut_off(closed.application)
    with serving(mounted, lifespan="off") as url:
        page = context.new_page()
        page.goto(f"{url}/detector/history")
        sign_in(page, closed.key("ada").key)
        expect(page).to_have_url(f"{url}/detector/history")
        assert cookie(context)["path"] == "/detector"
        page.get_by_role("button", name="Sign out").click()
        expect(page).to_have_url(f"{url}/detector/sign-in")
        assert context.cookies() == []


def test_the_sign_in_page_is_sound(browser: Browser, closed: Console) -> None:
    for scheme in ("light", "dark"):
        context = browser.new_context(
            color_scheme=scheme, bypass_csp=True, viewport={"width": 360, "height": 740}
        )
        page = context.new_page()
        page.goto(f"{closed.url}sign-in?why=expired&to=history")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        assert axe(page) == []
        sign_in(page, closed.key("ada" * 12 + scheme).key)
        expect(page.get_by_text("Signed in as")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        assert axe(page) == []
        page.goto(f"{closed.url}signed-in")
        assert axe(page) == []
        context.close()


def test_one_signs_in_without_scripts(browser: Browser, closed: Console) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(closed.url)
    sign_in(page, closed.key("ada").key)
    page.locator("#file").set_input_files(FAKE)
    page.get_by_role("button", name="Check").click()
    expect(page.locator(".verdict")).to_have_text("Likely generated")
    context.close()
