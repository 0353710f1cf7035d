"""The page Check, as people use it."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect

from tests.console.browsing import FAKE, REAL, Console, drop, file, small
from tests.homes import Home
from tests.sites import Answering, web_server

LETTER = file("letter.jpg", b"Dear reader", "image/jpeg")


def choose(page: Page, *files: Any) -> None:
    page.locator("#file").set_input_files(list(files))


def card(page: Page, name: str) -> Any:
    return page.locator("#cards > li").filter(has_text=name)


def test_images_become_cards_at_once_and_then_verdicts(page: Page, service: Console) -> None:
    choose(page, FAKE, REAL)
    expect(page.locator("#cards > li")).to_have_count(2)
    fake, real = card(page, FAKE.name), card(page, REAL.name)
    expect(fake.locator(".verdict")).to_have_text("Likely generated")
    expect(real.locator(".verdict")).to_have_text("Likely real")
    expect(page.locator("#tally")).to_have_text(re.compile(r"^2 of 2 judged: 1 likely generated"))
    kept = {one["image_name"]: one for one in service.results()}
    row = kept[FAKE.name]
    expect(fake.locator("[data-slot=prediction]")).to_have_text(f"{100 * row['prediction']:.1f} %")
    expect(fake.locator("[data-slot=model]")).to_have_text("starter 1")
    expect(fake.locator("[data-slot=threshold]")).to_have_text("threshold 50.0 %")
    expect(fake.locator("[data-slot=spread]")).to_contain_text("views differ by")
    expect(fake.locator("[data-slot=notice]")).to_contain_text("Do not act on it")
    expect(fake.locator("[data-slot=time]")).to_have_text(re.compile(r"^(\d+ ms|\d+\.\d s)$"))
    assert fake.locator("[data-slot=hash]").get_attribute("title") == row["image_sha256"]
    at = float(fake.locator("[data-slot=prediction-line]").get_attribute("x1"))
    assert at == pytest.approx(100 * row["prediction"])
    assert painted(fake)
    fake.get_by_role("link", name="Open result").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(FAKE.name)
    expect(page.locator(".facts")).to_contain_text(row["image_sha256"])
    expect(page.get_by_role("main")).to_contain_text("no heat map here because the image was not")


def painted(one: Any) -> bool:
    """Whether the thumbnail shows something."""
    one.page.wait_for_function(
        """(node) => node.querySelector("canvas").getContext("2d")
            .getImageData(0, 0, 192, 192).data.some((value) => value > 0)""",
        arg=one.element_handle(),
    )
    return True


def test_a_result_is_copied_as_json(page: Page, context: BrowserContext, service: Console) -> None:
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    choose(page, FAKE)
    card(page, FAKE.name).get_by_role("button", name="Copy as JSON").click()
    expect(card(page, FAKE.name).get_by_role("button", name="Copied")).to_be_visible()
    copied = json.loads(page.evaluate("navigator.clipboard.readText()"))
    assert copied["result"]["prediction"] == service.results()[0]["prediction"]
    assert copied["inference_id"] == service.results()[0]["id"]


def test_an_image_is_pasted(page: Page) -> None:
    page.evaluate(
        """(bytes) => {
            const transfer = new DataTransfer();
            const content = [new Uint8Array(bytes)];
            transfer.items.add(new File(content, "pasted.png", {type: "image/png"}));
            document.dispatchEvent(new ClipboardEvent("paste", {clipboardData: transfer}));
        }""",
        list(small(3)),
    )
    expect(card(page, "pasted.png").locator(".verdict")).to_be_visible()


def test_200_images_dropped_at_once_all_arrive_and_the_page_answers_meanwhile(
    page: Page, service: Console
) -> None:
    in_flight: set[int] = set()
    most = 0

    def begun(request: Any) -> None:
        nonlocal most
        if request.method == "POST":
            in_flight.add(id(request))
            most = max(most, len(in_flight))

    page.on("request", begun)
    page.on("requestfinished", lambda request: in_flight.discard(id(request)))
    drop(page, 200)
    expect(page.locator("#cards > li")).to_have_count(200)
    page.locator("summary").click()
    page.get_by_label("Views").select_option("8")
    expect(page.locator("#tally")).to_contain_text("200 of 200 judged", timeout=60_000)
    assert service.total() == 200
    assert most <= 4
    assert page.locator('#cards [data-state="done"]').count() == 200


def test_a_text_called_jpg_fails_alone_with_a_sentence_and_a_way_on(page: Page) -> None:
    choose(page, LETTER, file(FAKE.name, FAKE.read_bytes()))
    bad = card(page, "letter.jpg")
    expect(bad.locator(".problem")).to_contain_text("is not an image")
    expect(bad.get_by_role("button", name="Try again")).to_be_visible()
    expect(card(page, FAKE.name).locator(".verdict")).to_be_visible()
    bad.get_by_role("button", name="Remove from the list").click()
    expect(page.locator("#cards > li")).to_have_count(1)


def test_a_file_too_large_is_told_before_it_is_sent(
    context: BrowserContext, start: Callable[..., Console]
) -> None:
    page = context.new_page()
    page.goto(start(max_image_bytes=2_000_000).url)
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.method))
    choose(page, file("huge.png", b"x" * 3_000_000))
    expect(card(page, "huge.png").locator(".problem")).to_have_text(
        "This file has 3 MB. The largest allowed size is 2 MB."
    )
    assert "POST" not in sent


def test_a_cut_in_the_middle_of_an_upload_is_told_and_tried_again_and_counts_once(
    page: Page, service: Console
) -> None:
    keys: list[str] = []
    answers = iter(["lost", "refused"])

    def cut(route: Route) -> None:
        keys.append(route.request.headers["idempotency-key"])
        match next(answers, "through"):
            case "lost":  # the service judges it; the answer never arrives
                route.fetch()
                route.abort("connectionreset")
            case "refused":
                route.abort("connectionrefused")
            case _:
                route.continue_()

    page.route("**/api/inference/predict", cut)
    choose(page, FAKE)
    one = card(page, FAKE.name)
    for _ in range(2):
        expect(one.locator(".problem")).to_contain_text("did not respond. Nothing is lost")
        one.get_by_role("button", name="Try again").click()
    expect(one.locator(".verdict")).to_have_text("Likely generated")
    assert len(keys) == 3
    assert len(set(keys)) == 1
    assert service.total() == 1


def test_a_server_that_goes_away_and_comes_back_loses_no_card(
    browser: Browser, home: Home, start: Callable[..., Console]
) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(start().url)
    context.set_offline(True)
    choose(page, FAKE, REAL)
    expect(page.locator("#cards .problem:visible")).to_have_count(2)
    context.set_offline(False)
    page.get_by_role("button", name="Retry failed images").click()
    expect(page.locator("#cards .verdict:visible")).to_have_count(2)
    context.close()


def test_a_busy_service_is_waited_for(page: Page) -> None:
    busy = iter(range(2))

    def answer(route: Route) -> None:
        if next(busy, None) is None:
            route.continue_()
            return
        body = {"success": False, "code": "overloaded", "error": "Too much waits already."}
        route.fulfill(status=503, headers={"Retry-After": "0"}, json=body)

    page.route("**/api/inference/predict", answer)
    choose(page, FAKE)
    expect(card(page, FAKE.name).locator("[data-slot=state]")).to_have_text(re.compile("busy"))
    expect(card(page, FAKE.name).locator(".verdict")).to_be_visible()


def test_without_a_model_the_page_says_so_and_shows_the_way(page: Page, service: Console) -> None:
    service.http.post("/api/model/unload")
    choose(page, FAKE)
    expect(card(page, FAKE.name).locator(".problem")).to_contain_text("No model is loaded")
    page.reload()
    page.get_by_role("link", name="Load one on the Models page").click()
    page.get_by_role("button", name="Load starter").click()
    expect(page.get_by_role("status").first).to_have_text("The model is loaded and in use.")
    page.get_by_role("link", name="Check").click()
    choose(page, FAKE)
    expect(card(page, FAKE.name).locator(".verdict")).to_be_visible()


def test_threshold_and_views_are_asked_for(page: Page, service: Console) -> None:
    page.locator("summary").click()
    page.get_by_label("Views").select_option("1")
    page.get_by_label("Threshold").fill("0.999")
    choose(page, FAKE)
    expect(card(page, FAKE.name).locator("[data-slot=spread]")).to_contain_text("no spread")
    (row,) = service.results()
    assert (row["threshold"], row["views"], row["is_fake"]) == (0.999, 1, False)


def test_a_test_of_stability_is_asked_for_and_told(page: Page, service: Console) -> None:
    page.locator("summary").click()
    page.get_by_label("Test of stability").check()
    choose(page, FAKE)
    told = card(page, FAKE.name).locator("[data-slot=stability]")
    expect(told).to_contain_text("after harmless changes: as a JPEG again")
    (row,) = service.results()
    assert list(row["stability"]) == ["jpeg", "scaled", "cropped", "mirrored"]
    mirrored = f"mirrored {100 * row['stability']['mirrored']:.1f} %"
    expect(told).to_contain_text(mirrored)
    card(page, FAKE.name).get_by_role("link", name="Open result").click()
    expect(page.locator(".card")).to_contain_text(mirrored)
    expect(page.locator(".facts")).to_contain_text(mirrored)


def test_views_on_both_sides_of_the_threshold_are_uncertain(page: Page, service: Console) -> None:
    service.judge(REAL, views=8)
    (row,) = service.results()
    assert row["spread"] > 0
    page.locator("summary").click()
    page.get_by_label("Views").select_option("8")
    page.get_by_label("Threshold").fill(repr(row["prediction"]))
    choose(page, REAL)
    expect(card(page, REAL.name).locator(".verdict")).to_have_text("Uncertain")
    expect(page.locator("#tally")).to_contain_text("1 uncertain")


def test_a_heat_map_is_drawn_on_request_and_no_second_result_kept(
    page: Page, service: Console
) -> None:
    choose(page, FAKE)
    one = card(page, FAKE.name)
    expect(one.locator(".map")).to_be_hidden()
    page.route("**/api/inference/explain", lambda route: route.abort("connectionrefused"), times=1)
    one.get_by_role("button", name="Show a heat map").click()
    expect(one.locator("[data-slot=map-problem]")).to_contain_text("did not respond")
    one.get_by_role("button", name="Show a heat map").click()
    expect(one.get_by_role("img", name="The image with its heat map")).to_be_visible()
    expect(one.locator("figcaption")).to_contain_text("The map is not proof")
    page.wait_for_function("document.querySelector('.map img').naturalWidth > 0")
    expect(one.locator("[data-slot=map-problem]")).to_be_hidden()
    assert service.total() == 1


@pytest.fixture
def photos() -> Iterator[str]:
    """A web server on this machine; its address."""

    class Handler(Answering):
        def answer(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"Dear reader" if "letter" in self.path else FAKE.read_bytes())

    with web_server(Handler) as port:
        yield f"http://127.0.0.1:{port}"


def test_a_link_is_fetched_judged_and_explained(
    context: BrowserContext, start: Callable[..., Console], photos: str
) -> None:
    service = start(fetch_links=True, fetch_allow=("127.0.0.1/32",))
    page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(service.url)
    page.get_by_label("Or a link to an image").fill(f"{photos}/a/portrait.png?x=1")
    page.keyboard.press("Enter")
    one = card(page, "portrait.png")
    expect(one.locator(".verdict")).to_have_text("Likely generated")
    expect(page.get_by_label("Or a link to an image")).to_have_value("")
    assert service.results()[0]["image_name"] == "portrait.png"
    one.get_by_role("button", name="Show a heat map").click()
    expect(one.get_by_role("img", name="The image with its heat map")).to_be_visible()
    page.evaluate(
        """(link) => {
            const transfer = new DataTransfer();
            transfer.setData("text/plain", link);
            document.body.dispatchEvent(
                new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true }));
        }""",
        f"{photos}/letter.jpg",
    )
    expect(card(page, "letter.jpg").locator(".problem")).to_contain_text("is not an image")
    for link, reported in (
        ("http://10.0.0.1/inside.png", "has no public address"),
        ("ftp://example.org/ftp.png", "start with https"),
    ):
        page.get_by_label("Or a link to an image").fill(link)
        page.get_by_role("button", name="Check the link").click()
        bad = card(page, link)
        expect(bad.locator(".problem")).to_contain_text(reported)
        expect(bad.get_by_role("button", name="Try again")).to_be_visible()
    assert service.total() == 1
    assert not [url for url in asked if not url.startswith((service.url, "blob:"))]


def test_a_link_is_checked_without_scripts_and_none_where_the_setting_is_off(
    browser: Browser, start: Callable[..., Console], service: Console, photos: str
) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(service.url)
    expect(page.locator("#url")).to_have_count(0)
    refused = service.http.post(
        "/api/inference/predict", files={"url": (None, f"{photos}/portrait.png")}
    )
    assert (refused.status_code, refused.json()["code"]) == (403, "links_off")
    page.goto(start(fetch_links=True, fetch_allow=("127.0.0.0/8",)).url)
    page.get_by_label("Or a link to an image").fill(f"{photos}/portrait.png")
    page.get_by_role("button", name="Check the link").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("portrait.png")
    page.get_by_role("link", name="Check another image").click()
    page.get_by_label("Or a link to an image").fill(f"{photos}/letter.jpg")
    page.get_by_role("button", name="Check the link").click()
    expect(page.get_by_role("alert")).to_contain_text("is not an image")
    page.get_by_label("Or a link to an image").fill(f"{photos}/portrait.png")
    page.locator("#file").set_input_files(FAKE)
    page.get_by_role("button", name="Check", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("Send one of them")
    context.close()


def test_one_image_is_checked_without_scripts(
    browser: Browser, service: Console, tmp_path: Path
) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(service.url)
    page.locator("#file").set_input_files(FAKE)
    page.get_by_role("button", name="Check").click()
    expect(page).to_have_url(re.compile(r"/history/\d+$"))
    expect(page.locator(".verdict")).to_have_text("Likely generated")
    expect(page.locator(".notice")).to_contain_text("Do not act on it")
    page.get_by_role("link", name="Check another image").click()
    (tmp_path / "letter.jpg").write_text("Dear reader")
    page.locator("#file").set_input_files(tmp_path / "letter.jpg")
    page.get_by_role("button", name="Check").click()
    expect(page.get_by_role("alert")).to_contain_text("letter.jpg: ")
    expect(page.get_by_role("alert")).to_contain_text("is not an image")
    page.get_by_role("button", name="Check").click()
    expect(page.get_by_role("alert")).to_contain_text("No image was selected")
    assert service.total() == 1
    context.close()


def test_the_first_page_is_light(context: BrowserContext, service: Console) -> None:
    page = context.new_page()
    sizes: list[int] = []
    page.on("requestfinished", lambda request: sizes.append(len(request.response().body())))
    page.goto(service.url, wait_until="networkidle")
    assert len(sizes) >= 4
    assert sum(sizes) < 100_000
