"""Chromium before the real service with the starter model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from tests.console.browsing import Console, chromium, console
from tests.homes import Home


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Ends with these tests: while it is there, no other event loop runs on this thread."""
    with chromium() as browser:
        yield browser


@pytest.fixture
def start(home: Home) -> Iterator[Callable[..., Console]]:
    """Starts services that stop with the test; takes settings by their field's name."""
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(console(home, **settings))


@pytest.fixture
def service(start: Callable[..., Console]) -> Console:
    """The service with its defaults and the starter."""
    return start()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(accept_downloads=True)
    context.set_default_timeout(15_000)
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext, service: Console) -> Iterator[Page]:
    """The first page; in the end nothing may have been complained of, nor fetched elsewhere."""
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "console",
        lambda line: (
            complaints.append(line.text)
            if line.type in ("error", "warning") and "Failed to load resource" not in line.text
            else None
        ),
    )
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(service.url)
    yield page
    assert complaints == []
    assert [url for url in asked if not url.startswith((service.url, "blob:"))] == []
