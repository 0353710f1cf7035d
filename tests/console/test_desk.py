"""The history as a place to work: selection, labels, deletion with a way back, keys, time zones."""

import csv
import hashlib
import io
import re
import zipfile
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import pytest
from PIL.PngImagePlugin import PngInfo
from playwright.sync_api import Browser, BrowserContext, Page, expect

from d3.domain.history import HistoryFilter, NewEntry
from d3.domain.labels import Label
from d3.domain.scoring import Verdict
from tests.console.browsing import FAKE, REAL, Console, axe, file, sign_in
from tests.images import picture
from tests.serving import wait_until

COUNT_PICTURES = """() => new Promise((done) => {
    indexedDB.open("d3").onsuccess = ({ target: { result } }) => {
        const asked = result.transaction("pictures").objectStore("pictures").count();
        asked.onsuccess = () => { result.close(); done(asked.result); };
    };
})"""
"""How many pictures this browser keeps."""


@pytest.fixture
def desk(page: Page, service: Console) -> Page:
    """The history with three results, newest first: c, b, a. The browser's clock stands still."""
    add(service, "a.jpg", "b.jpg", "c.jpg")
    page.clock.install()
    page.goto(f"{service.url}history")
    page.on("dialog", lambda dialog: dialog.accept())
    return page


def add(service: Console, *names: str, at: datetime | None = None) -> None:
    """Put results into the history, one for each name."""
    moment = at or datetime.now(UTC)
    service.application.d3.history.add_many([entry(name, moment) for name in names])


def entry(name: str, at: datetime) -> NewEntry:
    return NewEntry(
        image_name=name,
        prediction=0.9,
        is_fake=True,
        confidence=0.8,
        threshold=0.5,
        processing_time=0.01,
        created_at=at,
        verdict=Verdict.FAKE,
        image_sha256=hashlib.sha256(name.encode()).hexdigest(),
    )


def shown(page: Page) -> list[str]:
    return page.locator("tbody tr:visible th").all_inner_texts()


def kept(service: Console) -> list[str]:
    return [one["image_name"] for one in service.results()]


def pick(page: Page, *names: str) -> None:
    for name in names:
        page.get_by_label(f"Select {name}").check()


def labels(service: Console) -> dict[str, str | None]:
    return {one["image_name"]: one["label"] for one in service.results()}


def test_what_is_deleted_can_be_taken_back_for_ten_seconds(desk: Page, service: Console) -> None:
    expect(desk.locator(".total")).to_contain_text("3 results")
    expect(desk.get_by_role("button", name="Delete", exact=True)).to_be_disabled()
    pick(desk, "a.jpg", "c.jpg")
    expect(desk.locator("#chosen")).to_have_text("2 selected on this page")
    desk.get_by_role("button", name="Delete", exact=True).click()
    expect(desk.locator(".toast")).to_contain_text("2 results were deleted.")
    assert shown(desk) == ["b.jpg"]
    desk.clock.run_for(9_000)
    assert kept(service) == ["c.jpg", "b.jpg", "a.jpg"]
    desk.get_by_role("button", name="Undo").click()
    assert shown(desk) == ["c.jpg", "b.jpg", "a.jpg"]
    desk.clock.run_for(20_000)
    assert kept(service) == ["c.jpg", "b.jpg", "a.jpg"]
    desk.get_by_role("button", name="Delete the result of b.jpg").click()
    desk.clock.run_for(11_000)
    expect(desk.locator(".total")).to_contain_text("2 results")
    expect(desk.locator(".toast")).to_be_hidden()
    assert shown(desk) == kept(service) == ["c.jpg", "a.jpg"]


def test_deletions_run_side_by_side_and_messages_leave_their_undo(
    desk: Page, service: Console
) -> None:
    desk.get_by_role("button", name="Delete the result of b.jpg").click()
    expect(desk.get_by_role("link", name="a.jpg")).to_be_focused()
    desk.keyboard.press("g")
    expect(desk.locator("tr", has_text="a.jpg").locator(".label")).to_have_text("Generated")
    expect(desk.locator(".toast")).to_contain_text(["b.jpg was deleted", "a.jpg: Generated."])
    desk.evaluate("window.confirm = () => false")
    desk.get_by_role("button", name="Delete the result of c.jpg").click()
    assert shown(desk) == ["c.jpg", "a.jpg"]
    assert kept(service) == ["c.jpg", "b.jpg", "a.jpg"]
    desk.evaluate("window.confirm = () => true")
    desk.clock.run_for(5_000)
    desk.get_by_role("button", name="Delete the result of a.jpg").click()
    expect(desk.get_by_role("link", name="c.jpg")).to_be_focused()
    expect(desk.get_by_role("button", name="Undo")).to_have_count(2)
    desk.keyboard.press("z")
    expect(desk.get_by_role("link", name="a.jpg")).to_be_focused()
    expect(desk.get_by_role("button", name="Undo")).to_have_count(1)
    assert shown(desk) == ["c.jpg", "a.jpg"]
    desk.get_by_role("button", name="Delete the result of a.jpg").click()
    desk.get_by_role("button", name="Delete the result of c.jpg").click()
    expect(desk.get_by_label("Name contains")).to_be_focused()
    desk.get_by_role("button", name="Undo").last.click()
    pick(desk, "c.jpg")
    desk.clock.run_for(6_000)
    expect(desk.locator(".total")).to_contain_text("2 results")
    assert shown(desk) == ["c.jpg"]
    expect(desk.get_by_label("Select c.jpg")).to_be_checked()
    desk.clock.run_for(11_000)
    expect(desk.locator(".toast")).to_have_count(0)
    expect(desk.locator(".total")).to_contain_text("1 result")
    expect(desk.get_by_label("Select c.jpg")).to_be_checked()
    assert kept(service) == ["c.jpg"]


def test_what_was_just_deleted_is_hidden_after_a_reload(desk: Page, service: Console) -> None:
    desk.add_init_script("navigator.sendBeacon = () => true")  # it is slow to arrive
    desk.reload()
    desk.get_by_role("button", name="Delete the result of b.jpg").click()
    desk.reload()
    assert shown(desk) == ["c.jpg", "a.jpg"]
    desk.clock.run_for(3_500)
    expect(desk.get_by_role("link", name="b.jpg")).to_be_visible()  # it was not done after all
    assert kept(service) == ["c.jpg", "b.jpg", "a.jpg"]


def test_a_label_is_sent_once_and_a_message_can_be_closed(desk: Page, service: Console) -> None:
    sent: list[str] = []
    desk.on("request", lambda one: sent.append(one.url) if one.method == "POST" else None)
    for key in "jrrrgg":
        desk.keyboard.press(key)
    expect(desk.locator("tbody .label")).to_have_text("Generated")
    desk.get_by_label("Select c.jpg").check()
    desk.get_by_role("button", name="Generated", exact=True).dblclick()
    expect(desk.locator("tbody :checked")).to_have_count(0)
    assert len(sent) == 2
    assert labels(service)["c.jpg"] == "generated"
    desk.route("**/labels", lambda route: route.abort("connectionrefused"))
    pick(desk, "a.jpg", "b.jpg")
    desk.get_by_role("button", name="Real", exact=True).click()
    expect(desk.locator(".toast")).to_contain_text("did not respond")
    desk.clock.run_for(30_000)
    expect(desk.locator("tbody :checked")).to_have_count(2)
    desk.locator(".toast").get_by_role("button", name="Close").click()
    expect(desk.locator(".toast")).to_have_count(0)
    desk.unroute("**/labels")
    told = {"success": False, "error": "Run `d3 doctor` <b>first</b>."}
    desk.route("**/labels", lambda route: route.fulfill(status=503, json=told))
    desk.get_by_role("button", name="Real", exact=True).click()
    expect(desk.locator(".toast p")).to_have_text("Run d3 doctor <b>first</b>.")
    expect(desk.locator(".toast code")).to_have_text("d3 doctor")
    desk.unroute("**/labels")
    desk.get_by_role("button", name="Real", exact=True).click()
    expect(desk.locator(".toast")).to_contain_text("2 labelled: Real.")
    desk.clock.run_for(11_000)
    expect(desk.locator(".toast")).to_have_count(0)


def test_whoever_is_signed_out_at_work_is_led_back(
    context: BrowserContext, start: Callable[..., Console]
) -> None:
    service = start(auth="required")
    made = service.key("root", "admin")
    add(service, "a.jpg")
    page = context.new_page()
    page.clock.install()
    page.on("dialog", lambda dialog: dialog.accept())
    page.goto(f"{service.url}history?contains=jpg")
    sign_in(page, made.key)
    page.get_by_role("button", name="Delete the result of a.jpg").click()
    context.clear_cookies()
    page.clock.run_for(11_000)
    expect(page.locator(".toast")).to_contain_text("You are not signed in any more")
    assert shown(page) == ["a.jpg"]
    page.get_by_role("link", name="a.jpg").focus()
    page.keyboard.press("r")
    expect(page.locator(".toast")).to_have_count(1)
    page.locator(".toast").get_by_role("link", name="Sign in").click()
    sign_in(page, made.key)
    expect(page).to_have_url(f"{service.url}history?contains=jpg")
    assert shown(page) == ["a.jpg"]


def test_a_filter_that_fails_keeps_the_form_and_says_so(
    context: BrowserContext, service: Console
) -> None:
    add(service, "a.jpg", "b.jpg", "c.jpg")
    desk = context.new_page()  # on which htmx may complain of the line that is cut
    desk.goto(f"{service.url}history")
    pick(desk, "a.jpg")
    before = desk.url
    desk.get_by_label("To", exact=True).fill("9999-12-31")
    problem = desk.locator("#filter-problem")
    expect(problem).to_contain_text("The dates are not valid.")
    expect(problem).to_contain_text("The list below was not updated.")
    expect(desk.locator("#results.stale")).to_have_count(1)
    expect(desk).to_have_url(before)
    assert shown(desk) == ["c.jpg", "b.jpg", "a.jpg"]
    desk.get_by_label("To", exact=True).fill("")
    expect(problem).to_be_hidden()
    expect(desk.locator("#results.stale")).to_have_count(0)
    expect(desk.get_by_label("Select a.jpg")).to_be_checked()
    desk.route("**/history?*", lambda route: route.abort("connectionrefused"))
    desk.get_by_label("Verdict").select_option("real")
    expect(problem).to_contain_text("did not respond")
    expect(desk.locator("#results.stale")).to_have_count(1)
    desk.unroute("**/history?*")
    desk.get_by_label("Verdict").select_option("fake")
    expect(problem).to_be_hidden()


def test_a_result_and_its_images_others_are_labelled_by_the_keyboard(
    page: Page, service: Console
) -> None:
    service.judge(FAKE, FAKE)
    page.goto(f"{service.url}history/1")
    page.get_by_label("How it is known").fill("the author")
    page.locator("body").click(position={"x": 1, "y": 1})
    page.keyboard.press("g")
    expect(page.locator("#label-title")).to_have_text("Label: Generated")
    expect(page.locator(".changes li", has_text="the author")).to_have_count(1)
    page.wait_for_load_state()
    page.keyboard.press("g")  # it has this label already
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("r")
    expect(page.locator("li[data-id] .label")).to_have_text("Real")
    expect(page.locator(".toast")).to_contain_text(f"{FAKE.name}: Real.")
    assert [one["label"] for one in service.results()] == ["real", "generated"]
    assert len(service.application.d3.history.labels(1, None)) == 1


def test_a_phone_selects_all_of_a_page(browser: Browser, service: Console) -> None:
    add(service, "a.jpg", "b.jpg")
    context = browser.new_context(viewport={"width": 375, "height": 700})
    page = context.new_page()
    page.goto(f"{service.url}history")
    expect(page.locator("label.all")).to_have_text("Select all on this page")
    page.locator("label.all").click()
    expect(page.locator("#chosen")).to_have_text("2 selected on this page")
    expect(page.locator("tbody :checked")).to_have_count(2)
    context.close()


def test_leaving_the_page_deletes_what_was_not_taken_back(desk: Page, service: Console) -> None:
    pick(desk, "a.jpg", "b.jpg")
    desk.get_by_role("button", name="Delete", exact=True).click()
    expect(desk.get_by_role("button", name="Undo")).to_be_visible()
    desk.goto(f"{service.url}statistics")
    wait_until(lambda: kept(service) == ["c.jpg"], 10)
    desk.goto(f"{service.url}history")
    desk.get_by_role("button", name="Delete the result of c.jpg").click()
    desk.get_by_label("Verdict").select_option("real")
    expect(desk.locator(".nothing")).to_be_visible()
    assert kept(service) == ["c.jpg"]
    desk.goto(f"{service.url}statistics")
    wait_until(lambda: kept(service) == [], 10)


def test_signing_out_deletes_what_was_not_taken_back(
    context: BrowserContext, start: Callable[..., Console]
) -> None:
    service = start(auth="required")
    made = service.key("root", "admin")
    add(service, "a.jpg")
    page = context.new_page()
    page.goto(f"{service.url}history")
    sign_in(page, made.key)
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Delete the result of a.jpg").click()
    page.get_by_role("button", name="Sign out").click()
    history = service.application.d3.history
    wait_until(lambda: history.page(HistoryFilter(), 1).total == 0, 10)


def test_who_says_no_deletes_nothing(page: Page, service: Console) -> None:
    add(service, "a.jpg")
    page.goto(f"{service.url}history")
    page.once("dialog", lambda dialog: dialog.dismiss())
    page.get_by_role("button", name="Delete the result of a.jpg").click()
    assert shown(page) == ["a.jpg"]
    expect(page.locator(".toast")).to_be_hidden()


def test_what_cannot_be_deleted_comes_back_with_the_reason(desk: Page, service: Console) -> None:
    desk.get_by_role("button", name="Delete the result of b.jpg").click()
    desk.route("**/results/delete", lambda route: route.abort("connectionrefused"))
    desk.clock.run_for(11_000)
    expect(desk.locator(".toast")).to_contain_text("did not respond")
    assert shown(desk) == ["c.jpg", "b.jpg", "a.jpg"]
    assert kept(service) == ["c.jpg", "b.jpg", "a.jpg"]


def test_results_are_labelled_in_bulk_and_found_by_their_label(
    desk: Page, service: Console
) -> None:
    desk.get_by_label("Select all on this page").check()
    desk.get_by_role("button", name="Real", exact=True).click()
    expect(desk.locator("td .label.real")).to_have_count(3)
    expect(desk.get_by_role("status").locator("p")).to_have_text("3 labelled: Real.")
    expect(desk.locator("tbody :checked")).to_have_count(0)
    pick(desk, "b.jpg", "c.jpg")
    desk.get_by_role("button", name="Generated", exact=True).click()
    expect(desk.locator("td .label.generated")).to_have_count(2)
    assert labels(service) == {"a.jpg": "real", "b.jpg": "generated", "c.jpg": "generated"}
    assert {one["verdict"] for one in service.results()} == {"fake"}
    desk.get_by_label("Label", exact=True).select_option("Real")
    expect(desk.locator("tbody tr")).to_have_count(1)
    assert shown(desk) == ["a.jpg"]
    expect(desk).to_have_url(f"{service.url}history?label=real")
    desk.get_by_label("Label", exact=True).select_option("Without a label")
    expect(desk.locator(".nothing")).to_contain_text("No results match")


def test_the_selection_is_exported(desk: Page) -> None:
    pick(desk, "a.jpg", "c.jpg")
    with desk.expect_download() as download:
        desk.get_by_role("button", name="Export selected").click()
    with download.value.path().open(newline="") as stream:
        assert {row["image_name"] for row in csv.DictReader(stream)} == {"a.jpg", "c.jpg"}


def test_the_keyboard_walks_labels_selects_and_opens(desk: Page, service: Console) -> None:
    desk.keyboard.press("r")
    desk.keyboard.press("j")
    desk.keyboard.press("j")
    expect(desk.locator(":focus")).to_have_text("b.jpg")
    desk.keyboard.press("g")
    expect(desk.locator("tr", has_text="b.jpg").locator(".label")).to_have_text("Generated")
    desk.keyboard.press("k")
    expect(desk.locator(":focus")).to_have_text("c.jpg")
    desk.keyboard.press("r")
    expect(desk.locator("tr", has_text="c.jpg").locator(".label")).to_have_text("Real")
    assert labels(service) == {"a.jpg": None, "b.jpg": "generated", "c.jpg": "real"}
    desk.keyboard.press("x")
    expect(desk.get_by_label("Select c.jpg")).to_be_checked()
    desk.keyboard.press("/")
    expect(desk.get_by_label("Name contains")).to_be_focused()
    desk.keyboard.type("jrg?x")
    expect(desk.get_by_label("Name contains")).to_have_value("jrg?x")
    expect(desk.get_by_role("dialog")).to_be_hidden()
    desk.goto(f"{service.url}history")
    desk.keyboard.press("?")
    expect(desk.get_by_role("dialog")).to_contain_text("next or previous image")
    desk.get_by_label("Shortcuts are on").uncheck()
    desk.get_by_role("button", name="Close").click()
    desk.keyboard.press("j")
    expect(desk.locator("tbody :focus")).to_have_count(0)
    desk.keyboard.press("?")
    desk.get_by_label("Shortcuts are on").check()
    desk.keyboard.press("Escape")
    desk.keyboard.press("j")
    desk.keyboard.press("Enter")
    expect(desk.get_by_role("heading", level=1)).to_have_text("c.jpg")


def test_a_label_has_a_history_and_needs_no_scripts(browser: Browser, service: Console) -> None:
    add(service, "a.jpg")
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{service.url}sign-in?to=history/1")
    sign_in(page, service.key("ada", "admin").key)
    page.get_by_label("How it is known").fill("the photographer")
    page.get_by_label("Note").fill("called on Monday")
    page.get_by_role("button", name="Real").click()
    expect(page.locator(".done")).to_contain_text("It does not change the verdict")
    page.get_by_role("button", name="Unknown").click()
    expect(page.locator("#label-title")).to_have_text("Label: Unknown")
    changes = page.locator(".changes li")
    expect(changes).to_contain_text(["Unknown", "Real"])
    expect(changes.last).to_contain_text("ada · the photographer")
    expect(changes.last).to_contain_text("called on Monday")
    expect(page.locator(".verdict")).to_have_text("Likely generated")
    page.get_by_role("link", name="Back to the history").click()
    pick(page, "a.jpg")
    page.get_by_role("button", name="Generated", exact=True).click()
    expect(page.locator("td .label")).to_have_text("Generated")
    context.close()


def test_without_scripts_a_page_asks_before_anything_is_deleted(
    browser: Browser, service: Console
) -> None:
    add(service, "a.jpg", "b.jpg", "c.jpg", "d.png")
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{service.url}history?contains=jpg")
    page.get_by_role("button", name="Delete the result of b.jpg").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("delete the result of b.jpg?")
    page.get_by_role("link", name="No, go back").click()
    expect(page).to_have_url(f"{service.url}history?contains=jpg")
    pick(page, "a.jpg", "c.jpg")
    page.get_by_role("button", name="Delete", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("delete 2 results?")
    assert service.total() == 4
    page.get_by_role("button", name="Delete").click()
    expect(page.locator(".done")).to_have_text("2 results were deleted.")
    assert shown(page) == ["b.jpg"]
    page.get_by_role("link", name="b.jpg").click()
    page.get_by_role("button", name="Delete this result").click()
    page.get_by_role("button", name="Delete").click()
    expect(page.locator(".done")).to_have_text("The result was deleted.")
    assert kept(service) == ["d.png"]
    page.go_back()  # to the question, which is no answer to a form
    expect(page.get_by_role("alert")).to_contain_text("does not exist or was deleted")
    page.goto(f"{service.url}history/2")
    expect(page.get_by_role("alert")).to_contain_text("This result does not exist")
    context.close()


@pytest.mark.parametrize(
    ("zone", "day", "clock"),
    [("Asia/Tokyo", "2026-03-02", "00:30"), ("America/New_York", "2026-03-01", "10:30")],
)
def test_times_and_days_are_the_readers(
    browser: Browser, service: Console, zone: str, day: str, clock: str
) -> None:
    add(service, "a.jpg", at=datetime(2026, 3, 1, 15, 30, tzinfo=UTC))
    context = browser.new_context(timezone_id=zone)
    page = context.new_page()
    page.goto(f"{service.url}history")
    time = page.locator("tbody time")
    expect(time).to_have_text(f"{day} {clock}")
    expect(time).to_have_attribute("title", "2026-03-01 15:30:00 UTC")
    page.get_by_label("From").fill(day)
    page.get_by_label("To", exact=True).fill(day)
    expect(page).to_have_url(re.compile("until=.*zone="))
    assert shown(page) == ["a.jpg"]
    context.close()
    context = browser.new_context(timezone_id=zone, java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{service.url}history")
    expect(page.locator("tbody time")).to_have_text("2026-03-01 15:30 UTC")
    context.close()


def test_a_zone_that_is_none_is_utc(service: Console) -> None:
    add(service, "a.jpg", at=datetime(2026, 3, 1, 15, 30, tzinfo=UTC))
    for zone in ("Nowhere/None", "../../etc/passwd", "/etc/passwd", "\x00", "a" * 5000):
        asked = {"since": "2026-03-01", "until": "2026-03-01", "zone": zone}
        answer = service.http.get("/history", params=asked, headers={"Accept": "text/html"})
        assert "a.jpg" in answer.text


def test_pictures_of_what_was_dropped_stay_in_this_browser_until_one_signs_out(
    page: Page, context: BrowserContext, service: Console
) -> None:
    page.locator("#file").set_input_files([FAKE, REAL])
    expect(page.locator("#cards .verdict:visible")).to_have_count(2)
    page.get_by_role("link", name="History").click()
    expect(page.locator(".mini:visible")).to_have_count(2)
    page.get_by_role("link", name=FAKE.name).click()
    expect(page.locator(".thumb")).to_be_visible()
    page.goto(f"{service.url}sign-in")
    wait_until(lambda: page.evaluate(COUNT_PICTURES) == 0, 10)
    page.goto(f"{service.url}history")
    expect(page.locator("tbody tr")).to_have_count(2)
    page.wait_for_timeout(300)
    expect(page.locator(".mini:visible")).to_have_count(0)


def test_a_card_is_labelled(page: Page, service: Console) -> None:
    page.locator("#file").set_input_files(file("letter.jpg", b"Dear reader", "image/jpeg"))
    expect(page.locator("#cards .problem")).to_contain_text("is not an image")
    page.keyboard.press("g")  # there is nothing to label
    page.get_by_role("button", name="Remove from the list").click()
    page.locator("#file").set_input_files(FAKE)
    page.get_by_role("button", name="Generated").click()
    pressed = page.locator("#cards [aria-pressed=true]")
    expect(pressed).to_have_text("Generated")
    page.keyboard.press("r")
    expect(pressed).to_have_text("Real")
    assert labels(service) == {FAKE.name: Label.REAL}


def test_a_result_names_the_other_results_of_its_image(page: Page, service: Console) -> None:
    service.judge(FAKE, FAKE, REAL, views=4)
    page.goto(f"{service.url}history/1")
    others = page.get_by_role("region", name="Other results of the same image")
    expect(others.get_by_role("link")).to_have_count(1)
    others.get_by_role("link").click()
    expect(page).to_have_url(f"{service.url}history/2")
    expect(page.locator(".scale .view")).to_have_count(4)
    expect(page.get_by_text("4 views:")).to_be_visible()


def test_the_desk_is_sound(browser: Browser, service: Console) -> None:
    add(service, "a.jpg", "a-name-that-is-" + "long-" * 20 + ".jpg")
    service.http.post("/api/inference/result/1/label", json={"label": "real", "note": "n"})
    for scheme in ("light", "dark"):
        context = browser.new_context(
            color_scheme=scheme, bypass_csp=True, viewport={"width": 360, "height": 740}
        )
        page = context.new_page()
        page.clock.install()
        page.on("dialog", lambda dialog: dialog.accept())
        page.goto(f"{service.url}history")
        pick(page, "a.jpg")
        page.get_by_role("button", name="Delete", exact=True).click()
        expect(page.locator(".toast")).to_be_visible()
        assert axe(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        page.get_by_role("button", name="Undo").click()
        page.get_by_role("button", name="Real", exact=True).click()
        expect(page.locator(".toast")).to_have_count(1)
        page.get_by_label("To", exact=True).fill("9999-12-31")
        expect(page.locator("#results.stale")).to_have_count(1)
        assert axe(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        page.get_by_role("button", name="Keyboard shortcuts").click()
        assert axe(page) == []
        page.goto(f"{service.url}history/1")
        assert axe(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        context.close()


def test_what_the_file_says_stands_beside_the_score_everywhere(
    page: Page, service: Console
) -> None:
    texts = PngInfo()
    settings = "Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 64x48, Model: dream-3"
    texts.add_text("parameters", f"a <b>cat</b>\n{settings}")
    stream = io.BytesIO()
    picture(64, 48, 5).save(stream, "PNG", pnginfo=texts)
    page.locator("#file").set_input_files(file("cat.png", stream.getvalue()))
    card = page.locator("#cards > li")
    expect(card.locator("[data-slot=says]")).to_contain_text("a generator made or altered it")
    expect(card.locator("[data-slot=provenance]")).to_contain_text("can be forged and removed")
    expect(card.locator("[data-slot=sources]")).to_contain_text("A generator's record")
    expect(card.locator("[data-slot=sources]")).to_contain_text("model dream-3")
    service.judge(REAL)
    page.goto(f"{service.url}history")
    expect(page.locator("tbody tr", has_text="cat.png")).to_contain_text("file says: generated")
    page.get_by_label("File says").select_option("Generated")
    expect(page.locator("tbody tr")).to_have_count(1)
    page.get_by_role("link", name="cat.png").click()
    section = page.get_by_role("region", name="What the file says about itself")
    expect(section).to_contain_text("a generator made or altered it")
    expect(section).to_contain_text("A generator's record")
    expect(section).to_contain_text("model dream-3")
    expect(section).to_contain_text("It is not part of the score.")


def test_a_report_is_saved_and_a_missing_key_for_evidence_is_explained(
    page: Page, service: Console, tmp_path: Path
) -> None:
    service.judge(FAKE)
    page.goto(f"{service.url}history/1")
    with page.expect_download() as download:
        page.get_by_role("link", name="Report (PDF)").click()
    assert download.value.path().read_bytes().startswith(b"%PDF")
    page.get_by_role("link", name="Signed evidence (zip)").click()
    expect(page.get_by_role("alert")).to_contain_text("d3 keys sign-init")
    service.application.d3.evidence_bundles.keys.make()
    page.go_back()
    with page.expect_download() as download:
        page.get_by_role("link", name="Signed evidence (zip)").click()
    with zipfile.ZipFile(download.value.path()) as bundle:
        report = Path(bundle.extract("report.html", tmp_path))
    assert page.context.browser is not None
    phone = page.context.browser.new_page(bypass_csp=True, viewport={"width": 390, "height": 844})
    phone.goto(report.as_uri())
    assert phone.evaluate("document.documentElement.scrollWidth") == 390
    assert axe(phone) == []
    phone.close()


def test_statistics_show_drift_and_each_model(page: Page, service: Console) -> None:
    manifest = service.application.d3.host.loaded().manifest
    now = datetime.now(UTC)
    random = Random(1)
    entries = [
        replace(
            entry(f"{number}.jpg", now - timedelta(days=number % 3)),
            prediction=random.random(),
            model_name=manifest.name,
            model_version=manifest.version,
            model_sha256=manifest.sha256,
        )
        for number in range(600)
    ]
    service.application.d3.history.add_many([*entries, entry("old.jpg", now)])
    page.goto(f"{service.url}statistics")
    panel = page.get_by_role("region", name=re.compile("^Drift"))
    expect(panel.locator(".tag").first).to_have_text("drifted")
    expect(panel.get_by_role("img", name=re.compile("now and at the calib"))).to_be_visible()
    expect(panel.get_by_role("img", name="Stability index by day (UTC)")).to_be_visible()
    rows = page.get_by_role("region", name="By model").locator("tbody tr")
    expect(rows).to_contain_text([manifest.name, "not recorded"])
    expect(rows.first.locator("td").last).to_have_text("600")
    page.get_by_label("Model", exact=True).select_option("mine")
    page.get_by_role("button", name="Show").click()
    expect(page).to_have_url(re.compile("model=mine"))
    expect(page.locator(".nothing")).to_be_visible()
