"""``python -m tests.console.screenshots FOLDER``: every page, light, dark and on a phone.

The README shows ``history-light.png`` and ``result-light.png`` as ``docs/console-*.png``.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
import tempfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

from PIL import Image
from playwright.sync_api import Page, expect

import d3
from d3.domain.history import NewEntry
from d3.domain.labels import Label, NewLabel
from d3.domain.models import ModelReference
from d3.domain.provenance import Provenance, Says, Source, SourceKind, State
from d3.domain.scans import NewScan, ScanRow
from d3.domain.scoring import Verdict
from tests.console.browsing import EXAMPLES, Console, chromium, console
from tests.homes import Folder, Home

PAGES = {
    "history": "history",
    "result": "history/12",
    "statistics": "statistics",
    "models": "models",
    "service": "service",
    "scans": "scans",
    "scan": "scans/archive-2026",
    "webhooks": "webhooks",
    "keys": "keys",
    "check": "",
    "sign-in": "sign-in?to=history&why=expired",
}
MODEL = ModelReference("d3-vit-l14", 1, "5e" * 32)
THRESHOLD = 0.5
LOOKS = {
    "light": {"color_scheme": "light", "viewport": {"width": 1180, "height": 900}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1180, "height": 900}},
    "phone": {"color_scheme": "light", "viewport": {"width": 390, "height": 844}},
}


def main(folder: Path) -> None:
    """Take them all."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        path = Path(place)
        home = Home(path, Folder(path / "models"), {"D3_HOME": place})
        with chromium() as browser, console(home) as service:
            key = _some_keys(service)
            _a_day(service)
            _a_month(service)
            _a_scan(service)
            for look, options in LOOKS.items():
                context = browser.new_context(extra_http_headers={"X-API-Key": key}, **options)
                page = context.new_page()
                page.goto(service.url)
                _keep_pictures(page)
                for name, address in PAGES.items():
                    page.goto(f"{service.url}{address}", wait_until="load")
                    if name == "check":
                        _judge(page)
                    if name == "history":
                        page.get_by_role("checkbox").nth(3).check()
                        page.get_by_role("checkbox").nth(5).check()
                    page.wait_for_timeout(400)
                    page.screenshot(path=folder / f"{name}-{look}.png", full_page=look == "phone")
                context.close()
    for path in folder.glob("*.png"):
        _smaller(path)


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


def _keep_pictures(page: Page) -> None:
    """Put the examples among the pictures that this browser keeps, as dropping them would."""
    for path in EXAMPLES.iterdir():
        content = path.read_bytes()
        page.evaluate(
            """async ([sha256, bytes]) => {
                const { keep } = await import(
                    new URL("console/thumbnails.js", document.baseURI).href);
                const picture = await createImageBitmap(new Blob([new Uint8Array(bytes)]));
                const canvas = Object.assign(document.createElement("canvas"),
                    { width: 192, height: 192 });
                const side = Math.min(picture.width, picture.height);
                canvas.getContext("2d").drawImage(picture, (picture.width - side) / 2,
                    (picture.height - side) / 2, side, side, 0, 0, 192, 192);
                await keep(sha256, canvas);
            }""",
            [hashlib.sha256(content).hexdigest(), list(content)],
        )


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


CREDENTIALS = Source(
    kind=SourceKind.C2PA,
    says=Says.GENERATED,
    state=State.UNTRUSTED,
    generator="Picture Studio 4",
    signer="Picture Studio",
    actions=("c2pa.created",),
)
MARK = Source(
    kind=SourceKind.IPTC, says=Says.GENERATED, digital_source_type="trainedAlgorithmicMedia"
)
CAMERA = Source(kind=SourceKind.EXIF, says=Says.CAMERA, camera="Leica Q3", created_at="2026-11-27")
DAY: tuple[tuple[str, str, tuple[float, ...], tuple[Source, ...], Label | None], ...] = (
    ("camera-01.jpg", "aquarium-3.jpg", (-4.1, -3.6, -4.4, -3.9), (CAMERA,), None),
    ("generated-04-adversarial.jpg", "crocodile-agency.jpg", (0.2, -0.9, 0.6, -0.3), (), None),
    ("camera-02.png", "beach-volleyball-2.png", (-2.6, -2.2, -3.0, -2.4), (), Label.REAL),
    ("generated-02-nearest.png", "beach-volleyball.png", (3.1, 2.6, 3.4, 2.9), (), None),
    ("camera-03.webp", "fountain-pen.webp", (-3.3, -3.1, -3.8, -3.2), (), None),
    ("generated-05-bilinear.webp", "moose-upload.webp", (1.9, 1.1, 2.4, 1.6), (), None),
    ("camera-04.jpg", "crocodile.jpg", (-4.8, -4.1, -4.6, -4.9), (CAMERA,), Label.REAL),
    ("generated-01-transposed.jpg", "aquarium-2.jpg", (2.2, 1.5, 2.7, 1.9), (), Label.GENERATED),
    ("camera-05.webp", "moose-reserve.webp", (-1.9, -1.2, -2.4, -1.6), (), None),
    ("generated-06-realesr.jpg", "crocodile-scan.jpg", (0.9, 0.1, 1.3, -0.4), (), None),
    ("generated-03-pixelshuffle.webp", "fountain-pen-ad.webp", (2.0, 1.4, 2.6, 1.8), (), None),
    ("generated-07-realcugan.jpg", "aquarium.jpg", (2.9, 1.0, 2.5, 1.7), (), None),
)
"""Files of the examples, and what a desk could have of them; drawn up, not measured."""


def _a_day(service: Console) -> None:
    """Results of today, with labels and with what the files say of themselves."""
    history = service.application.d3.history
    now = datetime.now(UTC)
    random = Random(3)
    entries = []
    for number, (file, name, logits, sources, _) in enumerate(DAY):
        content = (EXAMPLES / file).read_bytes()
        said = Provenance.of(sources or ((CREDENTIALS, MARK) if number == len(DAY) - 1 else ()))
        shares = [1 / (1 + math.exp(-one)) for one in logits]
        logit = sum(logits) / len(logits)
        entries.append(
            replace(
                _entry(random, now - timedelta(minutes=9 * (len(DAY) - number)), number, MODEL),
                image_name=name,
                prediction=1 / (1 + math.exp(-logit)),
                is_fake=logit > 0,
                verdict=Verdict.UNCERTAIN
                if min(shares) < THRESHOLD < max(shares)
                else Verdict.FAKE
                if logit > 0
                else Verdict.REAL,
                logit=logit,
                view_logits=json.dumps(logits),
                spread=max(shares) - min(shares),
                image_sha256=hashlib.sha256(content).hexdigest(),
                image_bytes=len(content),
                provenance_says=said.says,
                provenance_sources=said.to_json(),
                user_id=1,
            )
        )
    history.add_many(entries)
    said = [
        NewLabel(result_id=number, label=label, source="the photographer")
        for number, (*_, label) in enumerate(DAY, start=1)
        if label is not None
    ]
    history.label(said, now, by=1)
    history.label(
        [
            NewLabel(
                result_id=len(DAY),
                label=Label.GENERATED,
                source="reverse image search",
                note="Posted first by a satire account.",
            )
        ],
        now,
        by=1,
    )


def _a_month(service: Console) -> None:
    """Results of a month, drawn from a fixed seed: pictures of a table, not of a measurement."""
    random = Random(7)
    now = datetime.now(UTC)
    entries = [
        _entry(random, now - timedelta(days=0.2 + random.random() * 29), n, MODEL)
        for n in range(420)
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
        threshold=THRESHOLD,
        processing_time=random.lognormvariate(-4, 0.4),
        created_at=when,
        abstain_below=0.1,
        abstain_above=0.1,
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
