"""``python -m tests.console.screenshots FOLDER``: every page, light, dark and on a phone."""

from __future__ import annotations

import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

from PIL import Image
from playwright.sync_api import Browser, Page, expect

import d3
from d3.domain.history import NewEntry
from d3.domain.models import ModelReference
from d3.domain.scans import NewScan, ScanRow
from d3.domain.scoring import Verdict
from tests.console.browsing import EXAMPLES, Console, chromium, console
from tests.homes import Folder, Home

PAGES = {
    "check": "",
    "history": "history",
    "result": "history/1",
    "statistics": "statistics",
    "models": "models",
    "service": "service",
    "scans": "scans",
    "keys": "keys",
    "sign-in": "sign-in?to=history&why=expired",
}
FOR_ADMINISTRATORS = ("scans", "keys")
LOOKS = {
    "light": {"color_scheme": "light", "viewport": {"width": 1180, "height": 1000}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1180, "height": 1000}},
    "phone": {"color_scheme": "light", "viewport": {"width": 390, "height": 844}},
}


def main(folder: Path) -> None:
    """Take them all."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        path = Path(place)
        home = Home(path, Folder(path / "models"), {"D3_HOME": place})
        with chromium() as browser, console(home) as service:
            service.judge(*sorted(EXAMPLES.iterdir()), views=4)
            _a_month(service)
            _a_scan(service)
            keys = {"X-API-Key": _some_keys(service)}
            for look, options in LOOKS.items():
                for name, address in PAGES.items():
                    sent = {"extra_http_headers": keys} if name in FOR_ADMINISTRATORS else {}
                    page = _open(browser, f"{service.url}{address}", options | sent)
                    if name == "check":
                        _judge(page)
                    page.screenshot(path=folder / f"{name}-{look}.png", full_page=look == "phone")
                    page.context.close()
    for path in folder.glob("*.png"):
        _smaller(path)


def _open(browser: Browser, url: str, options: dict[str, object]) -> Page:
    page = browser.new_context(**options).new_page()
    page.goto(url, wait_until="networkidle")
    return page


def _smaller(path: Path) -> None:
    """Few colours are enough for a page."""
    with Image.open(path) as picture:
        few = picture.convert("RGB").quantize(192, dither=Image.Dither.NONE)
    few.save(path, optimize=True)


def _judge(page: Page) -> None:
    names = ("generated-02-nearest.png", "camera-02.png", "camera-05.webp")
    page.locator("#file").set_input_files([EXAMPLES / name for name in names])
    expect(page.locator("#cards .verdict:visible")).to_have_count(len(names))
    page.wait_for_timeout(400)


def _some_keys(service: Console) -> str:
    """Keys of an administrator and two others; the administrator's."""
    service.key("newsroom", lifetime=timedelta(days=90))
    revoked = service.key("newsroom", "read")
    service.accounts.revoke_key(revoked.key_id)
    service.key("archive", "predict", "read", "models")
    return service.key("admin", "admin").key


def _a_scan(service: Console) -> None:
    """One that is at work, and whose keys are all listed."""
    ledger = service.application.d3.scan_ledger
    model = service.application.d3.host.loaded().manifest.reference
    now = datetime.now(UTC)
    new = NewScan(
        name="archive-2026",
        source="s3://archive/2026/",
        model=model,
        threshold=0.5,
        views=1,
        created_at=now,
    )
    scan = ledger.open(new)
    ledger.begin_listing(scan.id, "here:1:a", now, now + timedelta(minutes=5))
    uris = [f"s3://archive/2026/{n:05}.jpg" for n in range(2000)]
    ledger.add_shard(scan.id, "here:1:a", 0, uris, None)
    verdicts = [Verdict.FAKE if n % 9 == 0 else Verdict.REAL for n in range(1300)]
    rows = [
        ScanRow(uri=uri, verdict=verdict, error=None, created_at=now, prediction=0.9)
        for uri, verdict in zip(uris, verdicts, strict=False)
    ]
    ledger.add(scan.id, 0, rows)


def _a_month(service: Console) -> None:
    """Results of a month, drawn from a fixed seed: pictures of a table, not of a measurement."""
    random = Random(7)
    now = datetime.now(UTC)
    model = service.application.d3.host.loaded().manifest.reference
    entries = [
        _entry(random, now - timedelta(days=random.random() * 29), n, model) for n in range(420)
    ]
    service.application.d3.history.add_many(entries)


def _entry(random: Random, when: datetime, number: int, model: ModelReference) -> NewEntry:
    prediction = random.betavariate(1.2, 6) if random.random() < 0.7 else random.betavariate(7, 1.1)
    is_fake = prediction > 0.5
    doubtful = abs(prediction - 0.5) < 0.1
    return NewEntry(
        image_name=f"press-{number:04}.jpg",
        prediction=prediction,
        is_fake=is_fake,
        confidence=2 * abs(prediction - 0.5),
        threshold=0.5,
        processing_time=random.lognormvariate(-4, 0.4),
        created_at=when,
        verdict=Verdict.UNCERTAIN if doubtful else Verdict.FAKE if is_fake else Verdict.REAL,
        logit=0.0,
        views=4,
        spread=0.1 * random.random(),
        image_sha256=f"{number:064x}",
        image_format="JPEG",
        image_width=1200,
        image_height=800,
        image_frames=1,
        image_bytes=180_000,
        model_name=model.name,
        model_version=model.version,
        model_sha256=model.sha256,
        engine="torch",
        precision="fp32",
        d3_version=d3.__version__,
    )


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "screenshots"))
