"""The documentation site: built without a warning, complete, and loading nothing from elsewhere."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import click
import msgspec
import pytest
from prometheus_client import generate_latest

import d3
from d3.domain.webhooks import CHOICES
from d3.entrypoints.cli.app import cli
from d3.entrypoints.http import create_app
from d3.entrypoints.http.problem_types import problem_types

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
LOADED = {
    *(("img", "src"), ("script", "src"), ("source", "src"), ("iframe", "src"), ("object", "data")),
    *(("link", "href"), ("video", "src"), ("audio", "src"), ("embed", "src"), ("use", "href")),
}
"""What a browser fetches by itself."""


class Page(HTMLParser):
    """One page as a browser sees it: its title, anchors, links, and what it loads."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.title = ""
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.text = file.read_text(encoding="utf-8")
        self._in_title = False
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self._in_title = tag == "title"
        if named.get("id"):
            self.anchors.add(named["id"] or "")
        if tag == "a" and named.get("href"):
            self.links.append(named["href"] or "")
        for name, value in attrs:
            unfetched = tag == "link" and named.get("rel") in {"canonical", "next", "prev"}
            if (tag, name) in LOADED and value and not unfetched:
                self.loads.append(value)

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title += data

    def handle_endtag(self, tag: str) -> None:
        self._in_title = False


def build(docs: Path, out: Path, builder: str = "html") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *(sys.executable, "-m", "sphinx", "--fail-on-warning", "--keep-going", "--quiet"),
            *(f"--builder={builder}", f"--doctree-dir={out}-trees", str(docs), str(out)),
        ],
        capture_output=True,
        text=True,
        env=os.environ | {"LC_ALL": "C.UTF-8"},
        check=False,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site") / "html"
    done = build(DOCS, out)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[str, Page]:
    return {str(file.relative_to(site)): Page(file) for file in sorted(site.rglob("*.html"))}


def sources() -> Iterator[str]:
    for page in DOCS.rglob("*.md"):
        if "_build" not in page.parts:
            yield str(page.relative_to(DOCS))


def test_every_page_has_a_title_and_is_found_from_the_first_one(pages: dict[str, Page]) -> None:
    # An untitled page or one in no list of contents is a warning, and so fails the build.
    for source in sources():
        page = pages[source.removesuffix(".md") + ".html"]
        assert page.title.strip().removesuffix(" - ").strip(), source
    listed = {unquote(urlsplit(link).path) for link in pages["index.html"].links}
    missing = {one.removesuffix(".md") + ".html" for one in sources()} - listed - {"index.html"}
    assert not missing


def test_nothing_is_loaded_from_elsewhere(site: Path, pages: dict[str, Page]) -> None:
    for name, page in pages.items():
        for address in page.loads:
            if address.startswith("data:"):
                continue
            assert not urlsplit(address).netloc, (name, address)
            file = site / unquote(urlsplit(urljoin(name, address)).path)
            assert file.is_file(), (name, address)
    for style in site.rglob("*.css"):
        found = re.findall(r"(?:url\(|@import)\s*['\"]?([^'\")\s;]+)", style.read_text("utf-8"))
        assert not [one for one in found if "//" in one.partition("data:")[0]], style


def test_every_link_between_pages_leads_to_an_anchor_that_is_there(
    site: Path, pages: dict[str, Page]
) -> None:
    checked = 0
    for name, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = unquote(urlsplit(urljoin(name, link)).path) or name
            assert (site / target).is_file(), (name, link)
            if parts.fragment and target in pages:
                checked += 1
                assert unquote(parts.fragment) in pages[target].anchors | {""}, (name, link)
    assert checked > 500


def test_a_broken_link_fails_the_build(tmp_path: Path) -> None:
    broken = {
        "[x](deploy.md#no-such-heading)": "no-such-heading",
        "[x](no-such-page.md)": "no-such-page",
        "[x](#nowhere)": "nowhere",
        "[x](../src/d3/no_such_file.py)": "no_such_file",
        "{py:class}`d3.NoSuchName`": "d3.NoSuchName",
    }
    docs = tmp_path / "docs"
    docs.mkdir()
    for name in ("conf.py", "_ext", "_static"):
        copy = shutil.copytree if (DOCS / name).is_dir() else shutil.copy
        copy(DOCS / name, docs / name)
    (docs / "deploy.md").write_text("# Deploy\n\n## Under load\n")
    right = "# Home\n\n```{toctree}\ndeploy\n```\n\n[x](deploy.md#under-load)\n"
    (docs / "index.md").write_text(right + "".join(f"\n{link}\n" for link in broken))
    done = build(docs, tmp_path / "out", "dummy")
    assert done.returncode == 1
    complaints = done.stderr.strip().splitlines()
    assert len(complaints) == len(broken), done.stderr
    for complaint in broken.values():
        assert sum(complaint in line for line in complaints) == 1, complaint


def test_what_the_readme_links_to_is_in_the_site(pages: dict[str, Page]) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for target, anchor in re.findall(r"\]\(([^)#:\s]+)(?:#([^)\s]+))?\)", text):
        file = (ROOT / target).resolve()
        assert file.exists(), target
        if anchor and file.is_relative_to(DOCS):
            page = pages[str(file.relative_to(DOCS)).removesuffix(".md") + ".html"]
            assert anchor in page.anchors, (target, anchor)


def test_every_public_name_is_described(pages: dict[str, Page]) -> None:
    described = pages["reference/library.html"].anchors
    assert not {f"d3.{name}" for name in d3.__all__} - described
    methods = {"detect", "detect_many", "detect_clip", "explain", "close"}
    assert {f"d3.D3.{name}" for name in methods} <= described
    calls = {name for name in vars(d3.Client) if not name.startswith("_")}
    assert len(calls) > 20
    assert {f"d3.Client.{one}" for one in calls} <= described
    assert {f"d3.AsyncClient.{one}" for one in calls - {"close"} | {"aclose"}} <= described


def commands(command: click.Command, context: click.Context) -> Iterator[click.Context]:
    yield context
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            if not found.hidden:
                yield from commands(found, click.Context(found, info_name=name, parent=context))


def test_every_command_and_option_is_described(pages: dict[str, Page]) -> None:
    page = pages["reference/command-line.html"]
    found = list(commands(cli, click.Context(cli, info_name="d3")))
    assert len(found) > 60
    for context in found:
        place = context.command_path.replace(" ", "-")
        assert place in page.anchors, context.command_path
        for option in context.command.params:
            if isinstance(option, click.Option) and not option.hidden:
                name = option.opts[0].lstrip("-")
                assert f"cmdoption-{place}-{name}" in page.anchors, (place, name)


def test_every_setting_and_error_is_described(pages: dict[str, Page]) -> None:
    variables = d3.Settings().environment()
    assert variables.keys() <= pages["reference/settings.html"].anchors
    assert {one.code for one in problem_types()} <= pages["reference/errors.html"].anchors


def test_values_in_the_text_of_a_setting_are_as_they_are_typed(pages: dict[str, Page]) -> None:
    text = re.sub(r"<[^>]+>", "", pages["reference/settings.html"].text)
    for value in ("sqlite:///FILE or ", "redis://USER:", "s3://BUCKET/PREFIX below"):
        assert value in text
    assert not re.search(r"\b(Sqlite|Redis|S3|Postgresql)://", text)


def test_the_search_leads_to_settings_metrics_and_calls(site: Path) -> None:
    text = (site / "searchindex.js").read_text(encoding="utf-8")
    found = msgspec.json.decode(text.removeprefix("Search.setIndex(").removesuffix(")"))
    anchors = {
        word: {anchor for _, anchor, _ in found["indexentries"][word]}
        for word in ("port", "queue", "batch", "rate_limited")
    }
    assert "D3_PORT" in anchors["port"]
    assert "d3_queue_bytes" in anchors["queue"]
    assert "call-predictbatch" in anchors["batch"]
    assert "rate_limited" in anchors["rate_limited"]


def test_every_metric_of_a_scrape_is_described(pages: dict[str, Page], tmp_path: Path) -> None:
    services = create_app(d3.Settings(home=tmp_path, redis_url="redis://localhost")).d3
    scraped = generate_latest(services.metrics.registry).decode()
    names = set(re.findall(r"^# TYPE (\S+) ", scraped, re.MULTILINE))
    names = {name for name in names if not name.endswith("_created")}
    assert len(names) > 30
    assert not names - pages["reference/metrics.html"].anchors


def test_every_call_and_schema_is_described(pages: dict[str, Page]) -> None:
    page = pages["reference/http.html"]
    document = msgspec.json.decode((DOCS / "openapi.json").read_bytes())
    text = re.sub(r"<[^>]+>", "", page.text)
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert f"call-{operation['operationId'].lower()}" in page.anchors
            assert f"{method.upper()} {path}" in text
    assert text.count("Needs a key, of any scope") == 1  # the model in use
    for name in document["components"]["schemas"]:
        assert f"schema-{name.lower()}" in page.anchors
    assert "Needs a key, of any scope" not in text.partition("Describe the model")[0]


def test_every_event_is_described_with_its_body(pages: dict[str, Page]) -> None:
    text = re.sub(r"<[^>]+>", "", pages["reference/events.html"].text)
    for event in CHOICES:
        assert f'"type": "{event}"' in text


def test_manual_pages_are_written_for_every_command(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, DOCS / "_ext" / "manual_pages.py", tmp_path / "man1"], check=True
    )
    found = {file.stem for file in (tmp_path / "man1").iterdir()}
    every = commands(cli, click.Context(cli, info_name="d3"))
    assert found == {one.command_path.replace(" ", "-") for one in every}
    page = (tmp_path / "man1" / "d3-detect.1").read_text(encoding="utf-8")
    assert "\n.SH OPTIONS\n" in page
    assert "..." not in page.partition(".SH SYNOPSIS")[0]
