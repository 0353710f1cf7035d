"""A demo model's verdicts are greyed and called so on every page; open verdicts say why."""

import re
from datetime import UTC, datetime
from pathlib import Path

from playwright.sync_api import Locator, Page, expect

from d3.domain.scans import NewScan
from d3.domain.scoring import Reason
from tests.console.browsing import FAKE, Console, file, sign_in
from tests.images import encoded, picture
from tests.service.test_notices import WHITE

PLAIN = file("plain.png", WHITE)


def is_demo(place: Locator) -> None:
    """The verdict is greyed, and a word beside it says why to whoever sees no colour."""
    expect(place.locator(".verdict")).to_have_class(re.compile(r"\bdemo\b"))
    expect(place.locator(".tag.demo")).to_have_text("demo")
    expect(place.locator(".tag.demo")).to_be_visible()


def test_a_card_a_row_and_a_result_are_called_demo(page: Page, service: Console) -> None:
    page.locator("#file").set_input_files([FAKE])
    page.locator("#file").set_input_files([PLAIN])
    fake = page.locator("#cards > li").filter(has_text=FAKE.name)
    plain = page.locator("#cards > li").filter(has_text="plain.png")
    said = service.http.get("/api/model/info").json()["info"]["notice"]
    for card in (fake, plain):
        is_demo(card)
        expect(card.locator("[data-slot=notice]")).to_have_text(said)
    expect(plain.locator(".verdict")).to_have_text("Uncertain")
    expect(plain.locator("[data-slot=reason]")).to_have_text(Reason.ONE_COLOUR.sentence)
    expect(fake.locator("[data-slot=reason]")).to_be_hidden()
    expect(page.locator("#tally")).to_contain_text("Demo verdicts: 2. Do not act on them.")
    page.goto(f"{service.url}history")
    row = page.locator("tbody tr").filter(has_text="plain.png")
    is_demo(row)
    expect(row).to_contain_text("one colour")
    page.get_by_role("link", name="plain.png").click()
    is_demo(page.get_by_role("main"))
    expect(page.locator(".notice")).to_have_text(said)
    expect(page.locator(".card")).to_contain_text(Reason.ONE_COLOUR.sentence)
    expect(page.locator(".facts")).to_contain_text(said)


def test_statistics_count_by_verdict_and_say_how_many_are_demo(
    page: Page, service: Console, tmp_path: Path
) -> None:
    (tmp_path / "plain.png").write_bytes(WHITE)
    service.judge(FAKE, tmp_path / "plain.png")
    page.goto(f"{service.url}statistics")
    stats = service.http.get("/api/inference/stats").json()["stats"]
    figures = page.locator(".figures").first
    expect(figures).to_have_class(re.compile(r"\bdemo\b"))
    for words, verdict in (
        ("Likely generated", "fake"),
        ("Likely real", "real"),
        ("Uncertain", "uncertain"),
    ):
        figure = figures.locator("div").filter(has=page.get_by_text(words, exact=True))
        expect(figure.locator("dd")).to_have_text(str(stats["by_verdict"][verdict]))
    assert stats["by_verdict"]["uncertain"] >= 1
    expect(page.locator(".notice")).to_contain_text("2 of these verdicts come from a demo model.")
    expect(page.locator(".legend").first.locator("li")).to_have_text(
        ["Likely generated", "Uncertain", "Likely real"]
    )


def test_models_and_scans_are_called_demo(page: Page, service: Console) -> None:
    page.goto(f"{service.url}models")
    expect(page.locator("#models .tag.demo")).to_have_count(2)
    manifest = service.application.d3.host.loaded().manifest
    service.application.d3.scan_ledger.open(
        NewScan(
            name="archive",
            source="s3://photos/",
            model=manifest.reference,
            threshold=0.5,
            views=1,
            created_at=datetime.now(UTC),
            notice=manifest.notice,
        )
    )
    page.goto(f"{service.url}sign-in")
    sign_in(page, service.key("root", "admin").key)
    page.goto(f"{service.url}scans")
    panel = page.locator("li.panel")
    expect(panel.locator(".tag.demo")).to_have_text("demo")
    expect(panel.locator(".figures")).to_have_class(re.compile(r"\bdemo\b"))
    expect(panel.locator(".notice")).to_have_text(manifest.notice)


def test_a_model_without_a_notice_is_not_called_demo(page: Page, service: Console) -> None:
    service.http.post("/api/model/load", params={"name": "mine"})
    image = file("picture.png", encoded(picture(64, 48), "PNG"))
    page.goto(service.url)
    page.locator("#file").set_input_files([image])
    expect(page.locator("#cards .verdict")).to_have_class(re.compile("^verdict (fake|real|unc)"))
    expect(page.locator(".tag.demo:visible")).to_have_count(0)
    page.goto(f"{service.url}history")
    expect(page.locator(".tag.demo")).to_have_count(0)
