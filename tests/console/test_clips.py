"""Videos on the pages: checked at once or in the background, drawn with their frames."""

from __future__ import annotations

from io import BytesIO

from PIL import Image
from playwright.sync_api import Page, expect

from movies import movie, scene
from tests.console.browsing import Console, file
from tests.console.test_check import card, choose, painted

CLIP = file("clip.webm", movie(6, 10, "webm", "libvpx-vp9", cuts=(3.0,)), "video/webm")
LONG = file("long.webm", movie(70, 2, "webm", "libvpx-vp9"), "video/webm")


def test_a_video_is_judged_and_its_course_is_drawn_with_its_frames(
    page: Page, service: Console
) -> None:
    choose(page, CLIP)
    one = card(page, CLIP["name"])
    expect(one.locator(".verdict").first).to_be_visible()
    expect(one.locator(".course rect:not(.window)")).to_have_count(6)
    expect(one.locator("[data-slot=course-says]")).to_contain_text(
        "6 frames up to 0:05.0 of 0:06.0"
    )
    expect(one.locator("[data-slot=rule]")).to_contain_text("five frames in a row")
    expect(one.get_by_role("button", name="Show a heat map")).to_be_hidden()
    expect(one.locator("[data-slot=strip]")).to_be_visible()
    assert painted(one)
    one.get_by_role("link", name="Open result").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(CLIP["name"])
    expect(page.locator(".course rect:not(.window)")).to_have_count(6)
    expect(page.get_by_role("main")).to_contain_text("five frames in a row")
    (kept,) = service.results()
    assert len(kept["clip"]["frames"]) == 6


def test_a_long_one_is_judged_in_the_background(page: Page, service: Console) -> None:
    choose(page, LONG)
    one = card(page, LONG["name"])
    expect(one.locator("[data-slot=course-says]")).to_contain_text("70 frames", timeout=60_000)
    (kept,) = service.results()
    assert kept["image_name"] == LONG["name"]


def test_every_frame_of_an_animation_is_judged_if_asked(page: Page) -> None:
    target = BytesIO()
    first, *others = (Image.fromarray(scene(number)) for number in range(4))
    first.save(target, "GIF", save_all=True, append_images=others, duration=200)
    moving = file("moving.gif", target.getvalue(), "image/gif")
    page.locator("#check summary").click()
    page.locator("[name=frames]").check()
    choose(page, moving)
    expect(card(page, moving["name"]).locator(".course rect:not(.window)")).to_have_count(4)
