"""What the console's pages answer to forms and addresses, seen without a browser's scripts."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from html import unescape
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from playwright.sync_api import Browser

from d3.domain.accounts import Scope
from d3.domain.scans import NewScan, ScanRow, ScanState
from d3.domain.scoring import Verdict
from tests.console.browsing import FAKE, Console
from tests.console.test_desk import add, entry, kept

PAGE = {"Accept": "text/html"}
TURNED = "bidi\u202egpj.png"


def words(answer: httpx.Response) -> str:
    """The text of a page, without its tags."""
    return unescape(re.sub(r"\s+", " ", re.sub("<[^>]+>", "", answer.text)))


def scan_of(service: Console, name: str, source: str, *uris: str) -> int:
    """A running scan with rows for these images; its id in the ledger."""
    ledger, now = service.application.d3.scan_ledger, datetime.now(UTC)
    new = NewScan(
        name=name,
        source=source,
        model=service.application.d3.host.loaded().manifest.reference,
        threshold=0.5,
        views=1,
        created_at=now,
    )
    scan = ledger.open(new)
    ledger.begin_listing(scan.id, "here:1:a", now, now)
    ledger.add_shard(scan.id, "here:1:a", 0, list(uris), None)
    rows = [
        ScanRow(uri=uri, verdict=Verdict.FAKE, error=None, created_at=now, prediction=0.9)
        for uri in uris
    ]
    if rows:
        ledger.add(scan.id, 0, rows)
    return scan.id


@pytest.fixture
def admin(service: Console) -> dict[str, str]:
    return PAGE | {"X-API-Key": service.key("root", "admin").key}


def test_a_note_that_is_refused_stays_in_its_form_without_what_nobody_sees(
    service: Console,
) -> None:
    add(service, "a.jpg")
    sent = {"label": "real", "source": "the agency", "note": "seen \u202eon Monday"}
    answer = service.http.post("/history/1/label", data=sent, headers=PAGE)
    assert answer.status_code == 400
    assert "an invisible character that turns the direction of text (U+202E)" in words(answer)
    assert "It is removed from the form below." in words(answer)
    assert 'name="source" value="the agency"' in answer.text
    assert 'name="note" value="seen on Monday"' in answer.text
    assert service.results()[0]["label"] is None
    again = sent | {"note": "seen on Monday"}
    assert service.http.post("/history/1/label", data=again, headers=PAGE).status_code == 303


def test_a_note_of_nothing_visible_is_none(service: Console) -> None:
    add(service, "a.jpg")
    for note in ("\u200b\u2060 \ufeff", "\u3164\u2800", "\u200d\ufe0f"):
        body = {"label": "real", "note": note}
        answer = service.http.post("/api/inference/result/1/label", json=body)
        assert answer.json()["label"]["note"] == ""


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("history/7/label", "history/7"),
        ("history/selected", "history"),
        ("history/delete", "history"),
        ("scans/mine/cancel", "scans/mine"),
        ("keys/abc/revoke", "keys"),
        ("models/load", "models"),
    ],
)
def test_an_ended_session_leads_back_to_the_page_of_the_form(
    start: Callable[..., Console], path: str, place: str
) -> None:
    answer = start(auth="required").http.post(f"/{path}", headers=PAGE)
    assert answer.status_code == 303
    assert parse_qs(urlsplit(answer.headers["location"]).query)["to"] == [place]


def test_a_deletion_is_asked_for_by_get_and_says_what_it_did(service: Console) -> None:
    add(service, "a.jpg", "b.jpg", "c.jpg")
    sent = {"do": "delete", "id": ["1", "2", "99"], "back": "contains=jpg"}
    answer = service.http.post("/history/selected", data=sent, headers=PAGE)
    assert answer.status_code == 303
    question = service.http.get(f"/history/{answer.headers['location']}", headers=PAGE)
    assert "Permanently delete 2 results?" in words(question)
    assert len(kept(service)) == 3
    for ids, reported in (
        (["1", "2", "99"], "2 of 3 results were deleted. The others were no longer there."),
        (["1"], "Nothing was deleted."),
        ([], "Nothing was deleted."),
        (["3"], "The result was deleted."),
    ):
        deed = {"id": ids, "back": "contains=jpg"}
        answer = service.http.post("/history/delete", data=deed, headers=PAGE)
        assert "contains=jpg" in answer.headers["location"]
        assert reported in words(
            service.http.get(f"/history/{answer.headers['location']}", headers=PAGE)
        )
    assert kept(service) == []
    for asked in ("id=1", "id=x", ""):
        assert service.http.get(f"/history/delete?{asked}", headers=PAGE).status_code == 404


def test_the_results_of_others_are_not_deleted_and_nobody_says_they_were(
    start: Callable[..., Console],
) -> None:
    service = start(auth="required")
    owner = service.accounts.authenticate(service.key("ada").key)
    history = service.application.d3.history
    history.add_many([entry("a.jpg", datetime.now(UTC))])
    assert owner.user_id is not None
    other = PAGE | {"X-API-Key": service.key("grace").key}
    answer = service.http.post("/history/delete", data={"id": "1"}, headers=other)
    there = service.http.get(f"/history/{answer.headers['location']}", headers=other)
    assert "Nothing was deleted" in words(there)
    assert history.get(1).image_name == "a.jpg"


@pytest.mark.parametrize("action", ["real", "csv", "delete"])
def test_whoever_selects_nothing_hears_of_it(service: Console, action: str) -> None:
    add(service, "a.jpg")
    answer = service.http.post("/history/selected", data={"do": action}, headers=PAGE)
    there = service.http.get(f"/history/{answer.headers['location']}", headers=PAGE)
    assert "No result is selected" in words(there)
    assert service.results()[0]["label"] is None


def test_no_page_holds_a_nul_or_turns_the_direction_of_text(
    service: Console, admin: dict[str, str]
) -> None:
    scan_of(service, "turned", f"s3://photos/{TURNED}/", f"s3://photos/{TURNED}/{TURNED}")
    service.application.d3.scan_ledger.note(1, f"{TURNED} is away.")
    for address in (
        "history?contains=%00%E2%80%AE&model=%00",
        "history?done=%00&sort=%00",
        "statistics?model=%00&since=%00",
        "sign-in?to=%00&why=%00",
        "scans",
        "scans/turned",
    ):
        text = service.http.get(f"/{address}", headers=admin).text
        assert not {"\0", "\u202e"} & set(text), address
    form = {"source": f"/nowhere/{TURNED}\0", "id": "\0"}
    refused = service.http.post("/scans", data=form, headers=admin)
    assert not {"\0", "\u202e"} & set(refused.text)
    scan = service.http.get("/scans/turned", headers=admin)
    assert "bidi\ufffdgpj.png" in scan.text
    exported = service.http.get("/scans/turned/rows.csv", headers=admin)
    assert TURNED in exported.text  # what a program reads stays as it is


def test_the_page_of_a_scan_follows_it_and_is_reloaded_once_it_is_over(
    service: Console, admin: dict[str, str]
) -> None:
    number = scan_of(service, "mine", "s3://photos/", "s3://photos/a.jpg")
    by_htmx = admin | {"HX-Request": "true"}
    ledger = service.application.d3.scan_ledger
    running = service.http.get("/scans/mine?kind=fake", headers=by_htmx)
    assert "hx-refresh" not in running.headers
    assert 'hx-get="../scans/mine?kind=fake"' in running.text
    assert 'hx-select-oob="#kinds,#rows"' in running.text
    assert "when they have been judged" in words(
        service.http.get("/scans/mine?kind=real", headers=admin)
    )
    ledger.set_state(number, ScanState.CANCELLED, datetime.now(UTC))
    assert service.http.get("/scans/mine", headers=by_htmx).headers["hx-refresh"] == "true"
    over = service.http.get("/scans/mine?done=scan_running", headers=admin)
    assert "The scan continues" not in over.text
    assert "hx-refresh" not in over.headers
    assert "hx-get" not in over.text


def test_a_cancelled_scan_is_continued_where_the_service_can(
    start: Callable[..., Console], tmp_path: Path
) -> None:
    folder = tmp_path / "opened"
    folder.mkdir()
    service = start(scan_folder=folder)
    admin = PAGE | {"X-API-Key": service.key("root", Scope.ADMIN).key}
    ledger = service.application.d3.scan_ledger
    for name, source in (("mine", str(folder)), ("elsewhere", str(tmp_path))):
        number = scan_of(service, name, source)
        ledger.set_state(number, ScanState.CANCELLED, datetime.now(UTC))
    there = service.http.get("/scans/elsewhere", headers=admin)
    assert "/continue" not in there.text
    assert "<code>d3 scan SOURCE --scan-id NAME</code>" in there.text
    refused = service.http.post("/scans/elsewhere/continue", headers=admin)
    assert "may not scan this source" in words(refused)
    assert "hx-get" not in refused.text  # it would be reloaded, and with it the form be sent again
    assert "/scans/mine/continue" in service.http.get("/scans/mine", headers=admin).text
    answer = service.http.post("/scans/mine/continue", headers=admin)
    assert answer.headers["location"].endswith("scans/mine?done=scan_running")
    assert ledger.get("mine").state is not ScanState.CANCELLED
    for path in ("cancel", "delete"):
        assert service.http.get(f"/scans/none/{path}", headers=admin).status_code == 404


def test_a_scan_of_a_taken_name_is_told_so_in_the_words_of_the_page(
    start: Callable[..., Console], tmp_path: Path
) -> None:
    service = start(scan_folder=tmp_path)
    scan_of(service, "mine", "s3://photos/")
    admin = PAGE | {"X-API-Key": service.key("root", "admin").key}
    form = {"source": str(tmp_path), "id": "mine"}
    answer = service.http.post("/scans", data=form, headers=admin)
    assert "or another name for the scan" in words(answer)


def test_commands_in_sentences_are_code_and_what_is_in_them_is_text(service: Console) -> None:
    text = service.http.get("/keys", headers=PAGE).text
    assert "<code>d3 keys</code>" in text
    assert "`" not in re.sub("<[^>]+>", "", text)


@pytest.mark.parametrize("width", [320, 360, 375, 414])
def test_on_a_phone_nothing_of_a_row_covers_another(
    browser: Browser, service: Console, width: int
) -> None:
    service.judge(FAKE)
    page = browser.new_page(viewport={"width": width, "height": 740})
    page.goto(f"{service.url}history")
    boxes = page.locator(
        "tbody td .verdict, tbody td .tag, tbody .number, tbody time"
    ).evaluate_all(
        "(nodes) => nodes.map((node) => { const range = document.createRange();"
        " range.selectNodeContents(node); const box = range.getBoundingClientRect();"
        " return [box.left, box.top, box.right, box.bottom]; })"
    )
    assert len(boxes) == 4
    for n, one in enumerate(boxes):
        for two in boxes[n + 1 :]:
            apart = one[2] <= two[0] or two[2] <= one[0] or one[3] <= two[1] or two[3] <= one[1]
            assert apart, (one, two)
    page.close()
