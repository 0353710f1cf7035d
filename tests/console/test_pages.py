"""History, statistics, models and health in a browser."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from playwright.sync_api import Browser, Page, expect

from d3.container import Container
from d3.testing import tiny_ferretnet
from tests.console.browsing import FAKE, REAL, Console, file
from tests.homes import Home
from tests.serving import wait_until


def visit(page: Page, name: str) -> None:
    """Go to another page; its scripts are there once it is loaded."""
    page.get_by_role("link", name=name).click()
    page.wait_for_load_state()


def rows(page: Page) -> list[str]:
    return page.locator("tbody th").all_inner_texts()


def reported(service: Console) -> str:
    return service.http.get("/statistics", headers={"Accept": "text/html"}).text


def test_the_history_is_paged_by_place_while_rows_arrive(page: Page, service: Console) -> None:
    service.fill(60)
    visit(page, "History")
    first = rows(page)
    assert first == [f"shot-{n:03}.png" for n in range(59, 9, -1)]
    service.judge(FAKE)
    page.get_by_role("link", name="Older").click()
    expect(page.locator("tbody tr")).to_have_count(10)
    assert rows(page) == [f"shot-{n:03}.png" for n in range(9, -1, -1)]
    page.get_by_role("link", name="Newest").click()
    expect(page.locator("tbody th").first).to_have_text(FAKE.name)


def test_the_history_is_put_in_order_by_a_column_and_paged_in_it(
    page: Page, service: Console
) -> None:
    service.fill(60)
    service.judge(FAKE)
    visit(page, "History")
    head = page.locator("thead th")
    expect(head.nth(6)).to_have_attribute("aria-sort", "descending")
    expect(head.nth(2)).not_to_have_attribute("aria-sort", re.compile("."))
    page.get_by_role("link", name="Probability").click()
    expect(page).to_have_url(f"{service.url}history?sort=prediction&order=desc")
    expect(head.nth(3)).to_have_attribute("aria-sort", "descending")
    expect(head.nth(6)).to_have_attribute("aria-sort", "none")
    results = service.http.get("/api/inference/history", params={"limit": 500}).json()["results"]
    by_score = sorted(
        results, key=lambda one: (one["prediction"], one["created_at"], one["id"]), reverse=True
    )
    wanted = [one["image_name"] for one in by_score]
    assert rows(page) == wanted[:50]
    service.judge(FAKE, REAL)
    page.get_by_role("link", name="Next page").click()
    expect(page).to_have_url(re.compile("cursor="))
    assert [name for name in rows(page) if name.startswith("shot")] == wanted[50:]
    page.get_by_label("Name contains").fill("shot-00")
    expect(page.locator("tbody tr")).to_have_count(10)
    assert rows(page) == [name for name in wanted if name.startswith("shot-00")]
    page.get_by_role("link", name="Image").click()
    expect(head.nth(1)).to_have_attribute("aria-sort", "ascending")
    assert rows(page) == [f"shot-{n:03}.png" for n in range(10)]
    page.get_by_role("link", name="Image").focus()
    page.keyboard.press("Enter")
    expect(head.nth(1)).to_have_attribute("aria-sort", "descending")
    assert rows(page) == [f"shot-{n:03}.png" for n in range(9, -1, -1)]
    page.goto(f"{service.url}history?sort=prediction&order=asc&cursor=AQAGS_U1sPJAAAAAAAAA")
    expect(page.get_by_role("alert")).to_contain_text("Start at the first page")
    page.goto(f"{service.url}history?sort=secret&order=up")
    expect(head.nth(6)).to_have_attribute("aria-sort", "descending")


def test_the_history_is_put_in_order_without_scripts(browser: Browser, service: Console) -> None:
    service.judge(FAKE, REAL)
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{service.url}history?verdict=&model=starter&sort=image_name&order=desc")
    assert rows(page) == sorted([FAKE.name, REAL.name], reverse=True)
    page.get_by_role("link", name="Image").click()
    assert rows(page) == sorted([FAKE.name, REAL.name])
    page.get_by_label("Name contains").fill("generated")
    page.get_by_role("button", name="Filter").click()
    assert rows(page) == [FAKE.name]
    expect(page.locator("thead th").nth(1)).to_have_attribute("aria-sort", "ascending")
    context.close()


def test_the_history_is_filtered_as_one_types_and_the_address_says_how(
    page: Page, service: Console
) -> None:
    service.judge(FAKE, REAL)
    visit(page, "History")
    page.get_by_label("Verdict").select_option("fake")
    expect(page.locator("tbody tr")).to_have_count(1)
    assert rows(page) == [FAKE.name]
    expect(page).to_have_url(f"{service.url}history?verdict=fake")
    page.get_by_label("Verdict").select_option("")
    expect(page.locator("tbody tr")).to_have_count(2)
    page.get_by_label("Name contains").fill("camera")
    expect(page.locator("tbody tr")).to_have_count(1)
    assert rows(page) == [REAL.name]
    page.reload()
    assert rows(page) == [REAL.name]
    with page.expect_download() as download:
        page.get_by_role("link", name="Export as CSV").click()
    text = download.value.path().read_text()
    assert REAL.name in text
    assert FAKE.name not in text
    with page.expect_download() as download:
        page.get_by_role("link", name="Export as JSON lines").click()
    (line,) = download.value.path().read_text().splitlines()
    assert json.loads(line)["image_name"] == REAL.name
    page.goto(f"{service.url}history?contains=camera&model=nobody")
    expect(page.locator(".nothing")).to_contain_text("No results match")
    expect(page.get_by_label("Model")).to_have_value("nobody")
    page.get_by_label("Model").select_option("starter")
    page.get_by_label("From").fill("2020-01-01")
    expect(page.locator("tbody tr")).to_have_count(1)
    page.goto(f"{service.url}history?contains=camera")
    page.get_by_label("Name contains").fill("")
    page.get_by_label("To", exact=True).fill("2020-01-01")
    expect(page.locator(".nothing")).to_contain_text("No results match")
    expect(page).to_have_url(re.compile(r"/history\?until=2020-01-01&zone=\S+$"))
    page.wait_for_timeout(600)  # what was typed before is asked for late
    page.go_back()
    expect(page.locator("tbody tr")).to_have_count(2)


def test_statistics_say_in_tables_what_they_draw(page: Page, service: Console) -> None:
    visit(page, "Statistics")
    expect(page.locator(".nothing")).to_contain_text("No images were judged in this range")
    service.judge(FAKE, REAL, REAL)
    page.get_by_role("link", name="7 days").click()
    figures = page.locator(".figures > div")
    expect(figures.nth(0).locator("dd")).to_have_text("3")
    expect(figures.nth(1).locator("dd")).to_have_text("1")
    for place, number in ((2, "0"), (3, "2"), (4, "33.3 %")):
        expect(figures.nth(place).locator("dd")).to_have_text(number)
    expect(page.locator("svg rect")).not_to_have_count(0)
    for table, sum_ in ((0, 3), (1, 3)):
        page.locator(".chart summary").nth(table).click()
        numbers = page.locator(".chart table").nth(table).locator("td").all_inner_texts()
        assert sum(map(int, numbers)) == sum_
    times = sorted(one["processing_time"] for one in service.results())
    shown = [f"{1000 * one:.0f} ms" if one < 1 else f"{one:.1f} s" for one in times]
    expect(figures.nth(6).locator("dd")).to_have_text(shown[1])
    expect(figures.nth(7).locator("dd")).to_have_text(shown[2])
    assert page.get_by_text("Failed requests per").count() == 0
    service.http.post("/api/inference/predict", files={"file": ("a.jpg", b"Dear reader")})
    wait_until(lambda: "Failed requests per day" in reported(service), 10)
    page.reload()
    page.locator(".chart summary").nth(2).click()
    numbers = page.locator(".chart table").nth(2).locator("td").all_inner_texts()
    assert numbers == ["0", "1"]
    page.get_by_role("link", name="All", exact=True).click()
    expect(figures.nth(0).locator("dd")).to_have_text("3")
    page.get_by_label("To", exact=True).fill("2020-01-01")
    page.get_by_role("button", name="Show").click()
    expect(page.locator(".nothing")).to_be_visible()


def test_models_are_loaded_unloaded_verified_chosen_and_uploaded(
    browser: Browser, start: Callable[..., Console], home: Home
) -> None:
    service = start(model=None)
    context = browser.new_context()
    context.set_default_timeout(15_000)
    page = context.new_page()
    page.goto(f"{service.url}models")
    message = page.locator("#models [role=status], #models [role=alert]")
    expect(page.locator("#loaded")).to_have_text("In use: mine")
    page.get_by_role("button", name="Load starter").click()
    expect(page.locator("#loaded")).to_have_text("In use: starter demo")
    expect(message).to_have_text("The model is loaded and in use.")
    weights = page.locator("#models .figures div").filter(has_text="Memory of the weights")
    expect(weights.locator("dd")).to_have_text(re.compile(r"^[1-9]\d* (MB|KB)$"))
    page.get_by_role("button", name="Set starter as default").click()
    expect(message).to_contain_text("The default model was set.")
    expect(page.get_by_role("button", name="Set mine as default")).to_be_visible()
    page.get_by_role("button", name="Verify the files of mine").click()
    expect(message).to_contain_text("The files match their recorded SHA-256.")
    home.damage_encoder()
    page.get_by_role("button", name="Verify the files of mine").click()
    expect(page.locator("#models [role=alert]")).to_be_visible()
    page.once("dialog", lambda dialog: dialog.dismiss())
    page.get_by_role("button", name="Unload").click()
    assert service.http.get("/health").json()["model_loaded"] is True
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Unload").click()
    expect(page.locator("#models .problem")).to_contain_text("No model is loaded")
    assert service.http.get("/health").json()["model_loaded"] is False
    head = file("up.safetensors", home.head(), "application/octet-stream")
    page.get_by_label("File", exact=True).set_input_files(head)
    page.get_by_label("Name").fill("not a name")
    page.get_by_role("button", name="Upload").click()
    expect(page.locator("#upload-problem")).to_contain_text("cannot be a model's name")
    page.get_by_label("File", exact=True).set_input_files(file("no.pth", b"no head", "text/plain"))
    page.get_by_label("Name").fill("fine")
    page.get_by_role("button", name="Upload").click()
    expect(page.locator("#upload-problem")).to_be_visible()
    context.close()


def test_a_head_is_uploaded(page: Page, service: Console, home: Home) -> None:
    visit(page, "Models")
    head = file("up.safetensors", home.head(), "application/octet-stream")
    page.get_by_label("File", exact=True).set_input_files(head)
    page.get_by_role("button", name="Upload").click()
    expect(page.locator(".done")).to_have_text("The model was stored. Load it to use it.")
    page.get_by_role("button", name="Load up.safetensors").click()
    expect(page.locator("#loaded")).to_have_text("In use: up.safetensors")


def test_models_of_other_architectures_are_uploaded_and_what_is_missing_is_told(
    page: Page, service: Console, home: Home, tmp_path: Path
) -> None:
    witness = tiny_ferretnet(tmp_path, "theirs")
    foreign = replace(witness.manifest, architecture="theirs", package="d3-theirs")
    Container(settings=home.settings()).registry().put(replace(witness, manifest=foreign))
    visit(page, "Models")
    expect(page.locator("#models li", has_text="theirs").locator(".notice")).to_contain_text(
        "The package 'd3-theirs' provides it: install or update it from a source that you trust."
    )
    content = witness.paths["network"].read_bytes()
    network = file("net.safetensors", content, "application/octet-stream")
    page.get_by_label("File", exact=True).set_input_files(network)
    page.get_by_label("Architecture").fill("ferretnet")
    page.get_by_role("button", name="Upload").click()
    expect(page.locator(".done")).to_have_text("The model was stored. Load it to use it.")
    card = page.locator("#models li", has_text="net.safetensors")
    card.locator("summary").click()
    expect(card.locator(".facts")).to_contain_text("ferretnet")


def test_health_is_seen_at_a_glance(page: Page, service: Console) -> None:
    visit(page, "Service")
    expect(page.locator(".done")).to_have_text("Ready: images can be judged.")
    for link in page.get_by_role("main").get_by_role("link").all():
        place = link.evaluate("(node) => node.href")
        status = 403 if place.endswith(("/keys", "/scans")) else 200  # a page that says what to do
        assert service.http.get(place).status_code == status
    service.http.post("/api/model/unload")
    page.reload()
    expect(page.locator(".problem")).to_contain_text("Not ready")
    expect(page.get_by_role("main")).to_contain_text("none is loaded")
