"""Times the console in Chromium, and its pages over a million results.

    PYTHONPATH=.:benchmarks/storage python benchmarks/console.py [browser] [rows] [--rows 1000000]

`browser`: the first page's bytes and time to usable, from the service's answer to the painted
verdict, and 200 files dropped at once. `rows`: history and statistics pages, as the service answers
them, on SQLite and PostgreSQL. Runs from the repository's root, with the test group installed.
"""

from __future__ import annotations

import argparse
import base64
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import history as storage
import httpx
import numpy as np
from PIL import Image
from playwright.sync_api import Browser

from d3.adapters.sql import Database, upgrade
from d3.entrypoints.http import create_app
from d3.settings import Settings

sys.path.append(str(Path(__file__).resolve().parents[1]))  # for tests.support
from tests.console.browsing import chromium
from tests.serving import serving
from tests.support.servers import local_postgresql

_DROPPED = 200
_HTML = {"Accept": "text/html"}
_WATCH = """() => {
    const found = { tasks: [], frames: [] };
    new PerformanceObserver((list) => {
        for (const one of list.getEntries()) found.tasks.push(one.duration);
    }).observe({ type: "longtask" });
    let last = performance.now();
    const frame = (now) => {
        found.frames.push(now - last);
        last = now;
        requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
    window.found = found;
}"""
_PAINTED = """() => {
    window.painted = [];
    new MutationObserver((changes) => {
        for (const { target } of changes) {
            if (target.dataset.state !== "done") continue;
            requestAnimationFrame(() => {
                const { port1, port2 } = new MessageChannel();  // behind the frame's painting
                port1.onmessage = () => window.painted.push(performance.now());
                port2.postMessage(null);
            });
        }
    }).observe(document.querySelector("#cards"),
               { attributes: true, attributeFilter: ["data-state"], subtree: true });
}"""
_PICK_UP = """(files) => {
    window.transfer = new DataTransfer();
    for (const [n, text] of files.entries()) {
        const bytes = Uint8Array.from(atob(text), (one) => one.charCodeAt(0));
        transfer.items.add(new File([bytes], `drop-${n}.jpg`, { type: "image/jpeg" }));
    }
}"""
_DROP = """() => document.body.dispatchEvent(
    new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true }))"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=["browser", "rows", []], metavar="PART")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeat", type=int, default=9)
    asked = parser.parse_args()
    parts = asked.parts or ["browser", "rows"]
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    print(f"{platform.platform()}, {os.cpu_count()} cores, load {load}")
    if "browser" in parts:
        with (
            tempfile.TemporaryDirectory() as home,
            serving(_app(Path(home))) as url,
            chromium() as browser,
        ):
            print(f"Chromium {browser.version}")
            _first_page(browser, url, asked.repeat)
            _verdict(browser, url, asked.repeat)
            _many(browser, url)
    if "rows" in parts:
        for kind in ("SQLite", "PostgreSQL"):
            _rows(kind, asked.rows, asked.repeat)


def _app(home: Path, **settings: Any) -> Any:
    return create_app(replace(Settings(home=home, model="starter", warm_up=False), **settings))


def _first_page(browser: Browser, url: str, repeat: int) -> None:
    """With nothing in the browser's cache; usable: its script has run, and the page is laid out."""
    sizes: list[int] = []
    usable, painted = [], []
    for _ in range(repeat):
        context = browser.new_context()
        page = context.new_page()
        sizes.clear()
        page.on("requestfinished", lambda request: sizes.append(_bytes_of(request)))
        page.goto(url, wait_until="networkidle")
        assert page.evaluate("document.documentElement.classList.contains('scripted')")
        usable.append(
            page.evaluate("performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd")
        )
        painted.append(
            page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
        )
        context.close()
    print(f"first page: {len(sizes)} answers, {sum(sizes):,} bytes with their heads")
    print(f"first page: first paint {_ms(painted)}, usable {_ms(usable)}")


def _bytes_of(request: Any) -> int:
    sizes = request.sizes()
    return int(sizes["responseBodySize"] + sizes["responseHeadersSize"])


def _verdict(browser: Browser, url: str, repeat: int) -> None:
    page = browser.new_page()
    page.goto(url)
    page.evaluate(_PAINTED)
    delays = []
    for n in range(repeat):
        page.locator("#file").set_input_files(
            {"name": f"{n}.jpg", "mimeType": "image/jpeg", "buffer": _photo(n)}
        )
        page.wait_for_function("(n) => window.painted.length > n", arg=n)
        delays.append(
            page.evaluate(
                """() => window.painted.at(-1) - Math.max(
                    ...performance.getEntriesByType("resource")
                        .filter((one) => one.name.endsWith("/predict"))
                        .map((one) => one.responseEnd))"""
            )
        )
    print(f"from the answer's last byte to the painted verdict: {_ms(delays)}")
    page.close()


def _many(browser: Browser, url: str) -> None:
    page = browser.new_page()
    page.goto(url)
    before = _total(url)
    files = [base64.b64encode(_photo(1000 + n)).decode() for n in range(_DROPPED)]
    page.evaluate(_PICK_UP, files)
    page.wait_for_timeout(1000)
    page.evaluate(_WATCH)
    began = time.perf_counter()
    page.evaluate(_DROP)
    page.wait_for_function(
        "(n) => document.querySelectorAll('#cards [data-state=done]').length === n",
        arg=_DROPPED,
        timeout=300_000,
        polling=250,
    )
    took = time.perf_counter() - began
    found = page.evaluate("window.found")
    frames = sorted(found["frames"])
    kept = _total(url) - before
    print(f"{_DROPPED} files of {len(files[0]) * 3 // 4000} KB dropped: {kept} in the history")
    print(f"  all judged in {took:.1f} s")
    longest = max(found["tasks"], default=0)
    print(f"  longest task {longest:.0f} ms, {len(found['tasks'])} above 50 ms")
    p99 = frames[int(0.99 * len(frames))]
    print(
        f"  between frames: median {statistics.median(frames):.0f}, p99 {p99:.0f}, "
        f"most {frames[-1]:.0f} ms"
    )
    page.close()


def _total(url: str) -> int:
    return int(httpx.get(f"{url}/api/inference/history").json()["total"])


def _photo(seed: int) -> bytes:
    """A JPEG of 1200 x 800 pixels; each number is another."""
    small = np.random.default_rng(seed).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    stream = BytesIO()
    Image.fromarray(small).resize((1200, 800), Image.Resampling.BICUBIC).save(stream, "JPEG")
    return stream.getvalue()


def _rows(kind: str, rows: int, repeat: int) -> None:
    with _database(kind) as (database, home, url):
        began = time.perf_counter()
        storage.fill(database, rows)
        print(f"{kind}: filled {rows:,} rows in {time.perf_counter() - began:.0f} s")
        app = _app(home, database_url=url)
        with serving(app) as service, httpx.Client(base_url=service, timeout=120) as http:
            for name, address in _pages(http):
                times = []
                for _ in range(repeat):
                    began = time.perf_counter()
                    answer = http.get(address, headers=_HTML)
                    times.append(1000 * (time.perf_counter() - began))
                    assert answer.status_code == 200, answer.text[:500]
                print(f"  {name:44} {_ms(times)}")


def _pages(http: httpx.Client) -> Iterator[tuple[str, str]]:
    for sort in ("created_at", "prediction", "image_name"):
        for order in ("desc", "asc"):
            yield f"history by {sort} {order}", f"/history?sort={sort}&order={order}"
    for sort in ("prediction", "image_name"):
        asked = {"sort": sort, "limit": "500", "cursor": ""}
        for _ in range(20):
            page = http.get("/api/inference/history", params=asked)
            asked["cursor"] = page.json()["next_cursor"]
        place = f"/history?sort={sort}&order=desc&cursor={asked['cursor']}"
        yield f"history by {sort}, behind 10,000", place
    by_score = "sort=prediction&order=desc"
    yield "generated alone by prediction", f"/history?verdict=fake&{by_score}"
    yield "one model's by name", "/history?model=starter&sort=image_name&order=asc"
    yield "a rare name by prediction", f"/history?q=IMG_0001&{by_score}"
    yield "a day by prediction", f"/history?since=2025-06-01&until=2025-06-01&{by_score}"
    yield "statistics of 30 days", "/statistics?since=2025-06-01&until=2025-06-30"
    yield "statistics of 90 days", "/statistics?since=2025-05-01&until=2025-07-30"
    yield "statistics since half a year", "/statistics?since=2025-07-01"
    yield "statistics of all", "/statistics?range=all"


@contextmanager
def _database(kind: str) -> Iterator[tuple[Database, Path, str]]:
    with tempfile.TemporaryDirectory(prefix="d3-bench-") as folder:
        home = Path(folder)
        if kind == "SQLite":
            url = f"sqlite:///{home}/d3.db"
            yield _upgraded(url), home, url
            return
        with local_postgresql() as server, server.database() as url:
            yield _upgraded(url), home, url


def _upgraded(url: str) -> Database:
    database = Database(url, statement_seconds=600)
    upgrade(database)
    return database


def _ms(times: list[float]) -> str:
    return f"{statistics.median(times):7.1f} ms (most {max(times):.1f})"


if __name__ == "__main__":
    main()
