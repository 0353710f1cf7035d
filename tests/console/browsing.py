"""A browser, a service to look at with it, and images to give it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, FilePayload, Page, sync_playwright

from d3.domain.accounts import IssuedKey
from d3.domain.models import STARTER
from d3.domain.services.accounts import AccountService
from d3.entrypoints.http import create_app
from d3.entrypoints.http.app import Application
from tests.homes import Home
from tests.images import encoded, picture
from tests.serving import client, serving

SCOPES = ("predict", "read")
EXAMPLES = Path(__file__).parents[2] / "examples" / "images"
FAKE = EXAMPLES / "generated-02-nearest.png"
REAL = EXAMPLES / "camera-03.webp"


@dataclass(frozen=True)
class Console:
    """The service, behind a socket.

    Attributes:
        url: of its first page, with a slash at the end.
        http: a client for it.
        application: what answers.
    """

    url: str
    http: httpx.Client
    application: Application

    def judge(self, *paths: Path, **fields: Any) -> list[int]:
        """Put results into the history by the API; their ids."""
        ids = []
        for path in paths:
            answer = self.http.post(
                "/api/inference/predict",
                files={"file": (path.name, path.read_bytes())},
                data=fields,
            )
            ids.append(answer.json()["inference_id"])
        return ids

    def fill(self, number: int) -> None:
        """Put so many results into the history, oldest first: shot-000.png and so on."""
        for n in range(number):
            files = {"file": (f"shot-{n:03}.png", small(n))}
            assert self.http.post("/api/inference/predict", files=files).status_code == 200

    def key(self, username: str, *scopes: str, lifetime: timedelta | None = None) -> IssuedKey:
        """A key of somebody, who is given an account if they have none."""
        accounts = self.accounts
        if username not in {user.username for user in accounts.users()}:
            accounts.add_user(username)
        return accounts.create_key(username, scopes=scopes or SCOPES, lifetime=lifetime)

    @property
    def accounts(self) -> AccountService:
        """Users and keys, as the command line sees them."""
        service: AccountService = self.application.d3.accounts
        return service

    def results(self) -> list[dict[str, Any]]:
        """The newest results, as the API has them."""
        results: list[dict[str, Any]] = self.http.get("/api/inference/history").json()["results"]
        return results

    def total(self) -> int:
        """How many results the history holds."""
        total: int = self.http.get("/api/inference/history").json()["total"]
        return total


@contextmanager
def console(home: Home, **settings: Any) -> Iterator[Console]:
    """A service on a home in which the starter answers."""
    settings = {"warm_up": False, "model": STARTER} | settings
    application = create_app(home.settings(**settings))
    with serving(application) as url, client(url) as http:
        yield Console(f"{url}/", http, application)


@contextmanager
def chromium() -> Iterator[Browser]:
    """The system's Chromium, or the browser that D3_TEST_BROWSER names."""
    program = os.environ.get("D3_TEST_BROWSER") or shutil.which("chromium")
    assert program, "install chromium (apt-get install chromium), or name one in D3_TEST_BROWSER"
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        yield browser
        browser.close()


def sign_in(page: Page, key: str) -> None:
    """Fill in the form of the sign-in page."""
    page.get_by_label("API key").fill(key)
    with page.expect_navigation():
        page.get_by_role("button", name="Sign in").click()


def small(seed: int) -> bytes:
    """A small image; each number is another."""
    return encoded(picture(32, 24, seed), "PNG")


def file(name: str, content: bytes, kind: str = "image/png") -> FilePayload:
    """A file to choose in the browser."""
    return {"name": name, "mimeType": kind, "buffer": content}


def drop(page: Page, number: int) -> None:
    """Drop so many images, made in the page, onto it."""
    page.evaluate(
        """async (number) => {
            const transfer = new DataTransfer();
            for (let n = 0; n < number; n += 1) {
                const canvas = new OffscreenCanvas(64, 48);
                const pen = canvas.getContext("2d");
                pen.fillStyle = `rgb(${n}, ${(7 * n) % 256}, 90)`;
                pen.fillRect(0, 0, 64, 48);
                const blob = await canvas.convertToBlob();
                transfer.items.add(new File([blob], `drop-${n}.png`, { type: "image/png" }));
            }
            document.body.dispatchEvent(
                new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true }));
        }""",
        number,
    )


def axe(page: Page) -> list[str]:
    """What axe finds, in words; empty is good."""
    found = Axe().run(page)
    return [
        f"{one['id']}: {one['help']} {[node['html'] for node in one['nodes']][:3]}"
        for one in found.response["violations"]
    ]
