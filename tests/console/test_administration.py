"""Keys and scans, as administrators use them in a browser."""

import csv
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from d3.domain.access import UNRESTRICTED
from d3.domain.errors import AccessRefused
from d3.domain.scans import NewScan, ScanState
from d3.domain.webhooks import EventType, NewWebhook
from tests.console.browsing import EXAMPLES, FAKE, REAL, Console, axe, sign_in
from tests.homes import Home
from tests.support.receivers import LOOPBACK, receiver, status


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
        ({"scope": []}, "At least one scope is needed"),
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


@pytest.fixture
def opened(start: Callable[..., Console], tmp_path: Path, context: BrowserContext) -> Page:
    """An administrator at the scans of a service that may scan a folder of four images."""
    folder = tmp_path / "opened"
    folder.mkdir()
    for path in (FAKE, REAL, EXAMPLES / "camera-01.jpg"):
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "broken.jpg").write_bytes(REAL.read_bytes()[:40])
    service = start(scan_folder=folder)
    page = context.new_page()
    page.goto(f"{service.url}sign-in?to=scans")
    sign_in(page, service.key("root", "admin").key)
    return page


def test_a_panels_scan_shows_where_its_models_disagree(opened: Page, tmp_path: Path) -> None:
    page = opened
    page.get_by_label("Source").fill(str(tmp_path / "opened"))
    page.get_by_label("Name", exact=True).fill("panel")
    page.get_by_label("Panel").fill("starter, starter")
    page.get_by_role("button", name="Start the scan").click()
    expect(page.get_by_role("alert")).to_contain_text("different models")
    expect(page.get_by_label("Panel")).to_have_value("starter, starter")
    page.get_by_label("Panel").fill("starter, mine")
    page.get_by_label("Rule").select_option("any")
    page.get_by_label("Judge harmless changes").check()
    page.get_by_role("button", name="Start the scan").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("panel")
    expect(page.locator("#scan")).to_contain_text("with mine")
    expect(page.locator("h1 .tag").first).to_have_text("done", timeout=60_000)
    expect(page.locator("tbody tr")).to_have_count(4)
    page.get_by_role("link", name="Models disagree").click()
    expect(page.locator("tbody tr").first).to_contain_text("Models disagree")


def test_a_scan_is_started_read_exported_and_deleted(opened: Page, tmp_path: Path) -> None:
    page = opened
    page.get_by_label("Source").fill(str(tmp_path))
    page.get_by_role("button", name="Start the scan").click()
    expect(page.get_by_role("alert")).to_contain_text("may not scan this source")
    expect(page.get_by_label("Source")).to_have_value(str(tmp_path))
    page.get_by_label("Source").fill(str(tmp_path / "opened"))
    page.get_by_label("Name", exact=True).fill("not a name")
    page.get_by_role("button", name="Start the scan").click()
    expect(page.get_by_role("alert")).to_contain_text("cannot be the name of a scan")
    page.get_by_label("Name", exact=True).fill("desk")
    page.get_by_label("Model").select_option("starter")
    page.get_by_label("Threshold").fill("0.6")
    page.get_by_role("button", name="Start the scan").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("desk")
    expect(page.locator("#scan")).to_contain_text("threshold 60.0 %")
    expect(page.locator("#scan .figures dd").first).to_have_text("4", timeout=30_000)
    expect(page.get_by_role("button", name="Delete the scan desk")).to_be_visible(timeout=30_000)
    expect(page.locator("h1 .tag").first).to_have_text("done")  # by itself, as all that follows
    expect(page.locator("#kinds")).to_contain_text("Errors 1")
    expect(page.locator("tbody tr")).to_have_count(4)
    expect(page.locator("tbody .verdict.demo")).to_have_count(3)
    pictures = page.locator("tbody img")
    expect(pictures).to_have_count(3)
    for number in range(3):
        picture = pictures.nth(number)
        expect(picture).to_have_js_property("complete", value=True)
        assert picture.evaluate("(node) => node.naturalWidth") > 0
    place = pictures.first.evaluate("(node) => node.src")
    for uri in ("/etc/passwd", str(tmp_path / "opened" / "other.jpg"), ""):
        sent = page.request.get(f"{place.partition('?')[0]}?uri={uri}")
        assert sent.status == 422
    page.get_by_role("link", name="Errors 1").click()
    expect(page.locator("tbody tr")).to_have_count(1)
    expect(page.locator("tbody tr")).to_contain_text("broken.jpg")
    page.get_by_role("link", name="Likely generated 1").click()
    expect(page.locator("tbody th")).to_contain_text(FAKE.name)
    with page.expect_download() as download:
        page.get_by_role("link", name="Export as CSV").click()
    with download.value.path().open(newline="") as stream:
        (row,) = csv.DictReader(stream)
    assert row["uri"].endswith(FAKE.name)
    page.get_by_role("link", name="All", exact=True).click()
    with page.expect_download() as download:
        page.get_by_role("link", name="Export as JSON lines").click()
    assert len(download.value.path().read_text().splitlines()) == 4
    page.get_by_role("button", name="Delete the scan desk").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("delete the scan desk?")
    page.get_by_role("button", name="Delete the scan").click()
    expect(page.locator(".done")).to_have_text("The scan and its results were deleted.")
    expect(page.locator(".nothing")).to_contain_text("There are no scans yet")


def test_a_scan_at_work_is_not_deleted(administrator: Page, service: Console) -> None:
    service.application.d3.scan_ledger.open(an_archive(service, datetime.now(UTC)))
    administrator.goto(f"{service.url}scans/archive/delete")
    administrator.get_by_role("button", name="Delete the scan").click()
    expect(administrator.get_by_role("main")).to_contain_text("Cancel it and wait")
    expect(administrator).to_have_url(f"{service.url}scans/archive?done=scan_busy")
    expect(administrator.get_by_role("button", name="Cancel the scan archive")).to_be_visible()
    assert service.application.d3.scan_ledger.get("archive").state is ScanState.RUNNING
    administrator.goto(f"{service.url}scans/none")
    expect(administrator.get_by_role("alert")).to_contain_text("no scan with this name")


def test_what_cannot_be_undone_is_asked_for_without_scripts(
    browser: Browser, service: Console, home: Home
) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{service.url}sign-in?to=keys")
    sign_in(page, service.key("root", "admin").key)
    made = service.key("ada")
    page.reload()
    page.get_by_role("button", name=f"Revoke the key {made.key_id} of ada").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text(f"revoke the key {made.key_id}?")
    page.get_by_role("link", name="No, go back").click()
    assert service.accounts.authenticate(made.key)
    page.get_by_role("button", name=f"Revoke the key {made.key_id} of ada").click()
    page.get_by_role("button", name="Revoke the key").click()
    expect(page.locator(".done")).to_have_text("The key was revoked.")
    files = {"file": ("spare.safetensors", home.head())}
    assert service.http.post("/api/model/upload", files=files).status_code == 200
    page.goto(f"{service.url}models")
    page.get_by_role("button", name="Unload").click()
    page.get_by_role("button", name="Unload the model").click()
    expect(page.locator(".done")).to_have_text("The model was unloaded.")
    page.get_by_role("button", name="Remove spare.safetensors").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("remove the model spare.saf")
    page.get_by_role("button", name="Remove the model").click()
    expect(page.locator(".done")).to_have_text("The model was removed.")
    expect(page.get_by_role("button", name="Load spare.safetensors")).to_have_count(0)
    context.close()


def test_a_webhook_is_made_tested_disabled_and_removed(
    context: BrowserContext, start: Callable[..., Console]
) -> None:
    service, page = start(webhook_allow=LOOPBACK), context.new_page()
    page.goto(f"{service.url}sign-in?to=webhooks")
    sign_in(page, service.key("root", "admin").key)
    with receiver() as there:
        expect(page.get_by_role("main")).to_contain_text("There are no webhooks yet")
        page.get_by_label("Address").fill("https://user:secret@app.example")
        page.get_by_role("button", name="Create the webhook").click()
        expect(page.get_by_role("alert")).to_contain_text("may not contain a user name")
        page.get_by_label("Address").fill(there.at("/d3?of=console"))
        page.get_by_label("result.created").check()
        page.get_by_label("Likely generated").check()
        page.get_by_role("button", name="Create the webhook").click()
        secret = page.get_by_label("Secret", exact=True).input_value()
        page.get_by_role("button", name="Send a test to the webhook 1").click()
        expect(page.get_by_role("status")).to_contain_text("The receiver took the test")
        assert there.messages[0].verified(secret)["type"] == "webhook.test"
        assert secret not in page.content()
        there.answer = status(500)
        page.get_by_role("button", name="Send a test to the webhook 1").click()
        expect(page.get_by_role("alert")).to_contain_text("answered with status 500")
        expect(page.get_by_role("heading", name="Given up")).to_be_visible()
        there.answer = status(204)
        page.get_by_role("button", name="Send the delivery 2 again").click()
        expect(page.get_by_role("status")).to_have_text("The event is sent again.")
        assert there.wait(3)[1].id == there.messages[2].id
        page.get_by_role("button", name="Disable the webhook 1").click()
        expect(page.get_by_role("status")).to_contain_text("is disabled")
        page.get_by_role("button", name="Enable the webhook 1").click()
        expect(page.get_by_role("status")).to_contain_text("is enabled")
        page.get_by_role("button", name="Make a new secret for the webhook 1").click()
        page.get_by_role("button", name="Make a new secret").click()
        assert page.get_by_label("Secret", exact=True).input_value() != secret
        page.on("dialog", lambda dialog: dialog.accept())
        page.get_by_role("button", name="Remove the webhook 1").click()
        expect(page.locator("#webhooks .done")).to_have_text("The webhook was removed.")
        expect(page.get_by_role("main")).to_contain_text("There are no webhooks yet")


@pytest.mark.parametrize("name", ["keys", "scans", "webhooks"])
def test_these_pages_are_sound(browser: Browser, service: Console, name: str) -> None:
    webhooks = service.application.d3.webhooks
    new = NewWebhook(url="https://app.example/" + "deep/" * 20, events=(EventType.JOB_FINISHED,))
    webhooks.add(UNRESTRICTED, new)
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
