"""Keys and scans, as administrators use them in a browser."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from d3.domain.errors import AccessRefused
from d3.domain.scans import NewScan, ScanState
from tests.console.browsing import EXAMPLES, Console, axe, sign_in


@pytest.fixture
def administrator(context: BrowserContext, service: Console) -> Iterator[Page]:
    """Signed in with a key that may do everything, at the keys."""
    page = context.new_page()
    page.goto(f"{service.url}sign-in?to=keys")
    sign_in(page, service.key("root", "admin").key)
    yield page
    page.close()


def test_a_key_is_made_shown_once_opens_the_door_and_is_revoked(
    administrator: Page, browser: Browser, service: Console
) -> None:
    page = administrator
    expect(page.locator("tbody tr")).to_have_count(1)
    page.get_by_label("User", exact=True).fill("ada")
    page.get_by_label("Name", exact=True).fill("laptop")
    page.get_by_label("Days until it expires").fill("30")
    page.get_by_label("models").check()
    page.get_by_role("button", name="Create the key").click()
    expect(page.get_by_role("alert")).to_contain_text("There is no user 'ada'")
    expect(page.get_by_label("models")).to_be_checked()
    expect(page.get_by_label("Name", exact=True)).to_have_value("laptop")
    page.get_by_label("Create an account with this name").check()
    page.get_by_role("button", name="Create the key").click()
    expect(page.get_by_label("API key", exact=True)).to_be_focused()
    key = page.get_by_label("API key", exact=True).input_value()
    assert service.accounts.authenticate(key).scopes == {"predict", "read", "models"}
    (made,) = service.accounts.keys("ada")
    assert made.name == "laptop"
    assert made.expires_at is not None
    assert abs(made.expires_at - datetime.now(UTC) - timedelta(days=30)) < timedelta(minutes=5)
    page.goto(f"{service.url}keys")
    assert key not in page.content()
    expect(page.locator("tbody tr")).to_have_count(2)
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name=f"Revoke the key {made.key_id} of ada").click()
    expect(page.locator("#keys .done")).to_have_text("The key was revoked.")
    expect(page.locator("tbody tr").filter(has_text="ada")).to_contain_text("revoked")
    with pytest.raises(AccessRefused):
        service.accounts.authenticate(key)


@pytest.mark.parametrize(
    ("fields", "reported"),
    [
        ({"days": "0"}, "a whole number from 1 to 36500"),
        ({"days": "1.5"}, "a whole number from 1 to 36500"),
        ({"days": "9" * 400}, "a whole number from 1 to 36500"),
        ({"scope": []}, "A key needs at least one scope"),
        ({"scope": ["everything"]}, "There is no scope"),
        ({"username": " ", "new_user": "on"}, "cannot be a username"),
        ({"name": "a\nb"}, "cannot be a name of a key"),
    ],
)
def test_a_key_that_cannot_be_is_refused_with_a_sentence(
    service: Console, fields: dict[str, str], reported: str
) -> None:
    admin = {"X-API-Key": service.key("root", "admin").key, "Accept": "text/html"}
    sent = {"username": "root", "name": "", "days": "", "scope": ["read"]} | fields
    answer = service.http.post("/keys", data=sent, headers=admin)
    assert answer.status_code in (400, 422)
    assert reported in answer.text.replace("&#39;", "'")
    assert len(service.accounts.keys()) == 1
    assert len(service.accounts.users()) == 1


def test_whoever_revokes_the_key_they_use_is_led_out(administrator: Page) -> None:
    page = administrator
    expect(page.locator("tbody tr")).to_contain_text("(yours)")
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Revoke").click()
    page.wait_for_timeout(1100)
    page.goto(page.url)
    expect(page.get_by_role("status")).to_contain_text("was revoked")


def test_without_a_key_the_page_says_what_to_do(page: Page, service: Console) -> None:
    for name, command in (("API keys", "d3 keys"), ("Scans", "d3 scans")):
        page.goto(f"{service.url}service")
        page.get_by_role("main").get_by_role("link", name=name).click()
        expect(page.get_by_role("alert")).to_contain_text(command)
        page.get_by_role("main").get_by_role("link", name="Sign in").click()
        expect(page.get_by_label("API key", exact=True)).to_be_focused()


def an_archive(service: Console, now: datetime, *, by_service: bool = False) -> NewScan:
    """A scan of the name ``archive`` by the model that is loaded."""
    model = service.application.d3.host.loaded()
    assert model is not None
    return NewScan(
        name="archive",
        source="s3://photos/2026/",
        model=model.manifest.reference,
        threshold=0.5,
        views=1,
        created_at=now,
        by_service=by_service,
    )


def test_a_scan_is_followed_and_cancelled(administrator: Page, service: Console) -> None:
    page, ledger = administrator, service.application.d3.scan_ledger
    page.get_by_role("link", name="Scans").click()
    expect(page.locator(".nothing")).to_contain_text("There are no scans yet")
    now = datetime.now(UTC)
    scan = ledger.open(an_archive(service, now))
    page.reload()
    panel = page.locator("li.panel")
    expect(panel).to_contain_text("0 done, 0 found so far")
    until = now + timedelta(minutes=1)
    assert ledger.begin_listing(scan.id, "here:1:a", now, until) is not None
    ledger.add_shard(scan.id, "here:1:a", 0, [f"s3://photos/2026/{n}.jpg" for n in range(40)], None)
    expect(panel).to_contain_text("0 of 40")  # by itself
    page.get_by_role("link", name="archive").click()
    expect(page.locator("#scan")).to_contain_text("0 of 40")
    page.get_by_role("button", name="Cancel the scan archive").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Cancel the scan archive?")
    page.get_by_role("link", name="No, go back").click()
    assert ledger.get("archive").state is ScanState.RUNNING
    page.get_by_role("button", name="Cancel the scan archive").click()
    page.get_by_role("button", name="Cancel the scan").click()
    expect(page.locator(".done")).to_contain_text("The scan was cancelled")
    expect(page.locator("h1 .tag")).to_have_text("cancelled")
    assert ledger.get("archive").state is ScanState.CANCELLED
    page.goto(f"{service.url}scans")
    expect(page.locator("#scans[hx-get]")).to_have_count(0)
    page.request.post(f"{service.url}scans/none/cancel", headers={"Accept": "text/html"})
    answer = page.goto(f"{service.url}scans")
    assert answer is not None
    assert answer.status == 200


def test_a_scan_says_what_keeps_it_from_going_on_until_it_goes_on(
    administrator: Page, service: Console
) -> None:
    ledger = service.application.d3.scan_ledger
    scan = ledger.open(an_archive(service, datetime.now(UTC), by_service=True))
    ledger.note(scan.id, "The bucket 'photos' <b>is</b> not there.")
    administrator.goto(f"{service.url}scans")
    panel = administrator.locator("li.panel")
    expect(panel.locator(".trouble")).to_have_text(
        "The scan is stuck: The bucket 'photos' <b>is</b> not there."
    )
    ledger.note(scan.id, None)
    expect(panel.locator(".trouble")).to_have_count(0)  # by itself
    expect(panel.locator(".tag")).to_have_text("running")


def test_a_scan_of_the_command_line_is_shown(
    administrator: Page, service: Console, tmp_path: Path
) -> None:
    scans = service.application.d3._container.scans()
    for number, path in enumerate(sorted(EXAMPLES.iterdir())[:3]):
        (tmp_path / f"{number}{path.suffix}").write_bytes(path.read_bytes())
    model = service.application.d3.host.loaded()
    assert model is not None
    collection = scans.collection(str(tmp_path))
    scan = scans.begin("mine", collection, model.manifest, threshold=None, views=None)
    scans.run(scan, collection)
    administrator.goto(f"{service.url}scans")
    panel = administrator.locator("li.panel")
    expect(panel.locator(".tag")).to_have_text(["done", "demo"])
    expect(panel.locator("dd").first).to_have_text("3")
    expect(panel.get_by_role("button")).to_have_count(0)


@pytest.mark.parametrize("name", ["keys", "scans"])
def test_these_pages_are_sound(browser: Browser, service: Console, name: str) -> None:
    model = service.application.d3.host.loaded()
    assert model is not None
    for state in ("one", "two"):
        new = NewScan(
            name=state,
            source="s3://a-bucket-with-a-long-name/" + "deep/" * 20,
            model=model.manifest.reference,
            threshold=0.5,
            views=1,
            created_at=datetime.now(UTC),
        )
        service.application.d3.scan_ledger.open(new)
    for scheme in ("light", "dark"):
        context = browser.new_context(
            color_scheme=scheme, bypass_csp=True, viewport={"width": 360, "height": 740}
        )
        page = context.new_page()
        page.goto(f"{service.url}sign-in?to={name}")
        sign_in(page, service.key(f"root-{scheme}", "admin").key)
        assert axe(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        context.close()
