"""The TypeScript client: its types, its own tests against a real service, and its package."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from d3.entrypoints.cli.serve import see_to_keys
from d3.entrypoints.http import create_app
from d3.settings import Settings
from tests.console.browsing import chromium
from tests.e2e.conftest import run_here
from tests.movies import movie
from tests.serving import clean_environment, serving
from tests.sites import Answering, web_server
from tests.support.node import node, npm

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "clients/typescript"
IMAGES = ROOT / "examples/images"
FAKE = IMAGES / "generated-02-nearest.png"
README = (SOURCE / "README.md").read_text(encoding="utf-8")
PAGE = (ROOT / "docs/clients.md").read_text(encoding="utf-8")
DOCUMENTED_URL = "http://localhost:5000"


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with what it is built with, so that tests leave nothing behind."""
    folder = tmp_path_factory.mktemp("typescript") / "package"
    unmade = shutil.ignore_patterns("node_modules", "dist", "build")
    shutil.copytree(SOURCE, folder, ignore=unmade)
    npm("ci", folder=folder)
    return folder


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Where a service listens, and the key that may do everything there."""
    folder = tmp_path_factory.mktemp("serving")
    home = folder / "home"
    settings = {"D3_HOME": str(home), "D3_SCAN_FOLDER": str(IMAGES), "D3_CORS_ORIGINS": "*"}
    settings |= {"D3_WEBHOOK_ALLOW": "127.0.0.1"}
    assert run_here(home, folder, "keys", "sign-init").code == 0
    clip = folder / "clip.mp4"
    clip.write_bytes(movie(2.0))
    application = create_app(Settings.from_environment(settings, dotenv=None))
    application.d3.start(lambda container: see_to_keys(container, local=True))
    with serving(application) as url:
        key = (home / "api.key").read_text().strip()
        known = {"D3_URL": url, "D3_API_KEY": key}
        yield known | {"D3_TEST_IMAGES": str(IMAGES), "D3_TEST_CLIP": str(clip)}


@pytest.fixture(scope="module")
def project(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new project in which the packed package is installed, and nothing else."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "package.json").write_text('{"private": true, "type": "module"}')
    (packed,) = json.loads(npm("pack", "--json", f"--pack-destination={folder}", folder=package))
    (folder / "packed.json").write_text(json.dumps(packed))
    npm("install", f"./{packed['filename']}", folder=folder)
    shutil.copy(FAKE, folder / "photo.jpg")
    return folder


def test_the_types_are_those_of_the_document(package: Path, tmp_path: Path) -> None:
    document, written = ROOT / "docs/openapi.json", tmp_path / "openapi.ts"
    subprocess.run([node(), "scripts/generate.js", document, written], cwd=package, check=True)
    hint = "They drifted: `nox -s openapi` writes the document and its types anew."
    assert written.read_text() == (SOURCE / "src/openapi.ts").read_text(), hint


def test_its_own_tests_pass(package: Path, environment: dict[str, str]) -> None:
    npm("test", folder=package, **environment)


def test_the_lock_names_no_registry() -> None:
    locked = json.loads((SOURCE / "package-lock.json").read_text())["packages"]
    dependencies = {name: one for name, one in locked.items() if name}
    assert len(dependencies) > 5
    for name, one in dependencies.items():
        assert "resolved" not in one, name
        assert one["integrity"].startswith("sha512-"), name


def test_its_version_and_licence_are_d3s() -> None:
    described = json.loads((SOURCE / "package.json").read_text())
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    assert (described["version"], described["license"]) == (version[1], "Apache-2.0")
    assert (SOURCE / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


def test_the_package_holds_what_its_users_need(project: Path) -> None:
    packed = json.loads((project / "packed.json").read_text())
    files = {one["path"] for one in packed["files"]}
    sources = {path.stem for path in (SOURCE / "src").iterdir()}
    built = {f"dist/{name}.{kind}" for name in sources for kind in ("js", "d.ts")}
    assert files == {"LICENSE", "README.md", "package.json"} | built


def test_the_readmes_examples_run_and_are_typed(
    project: Path, package: Path, environment: dict[str, str]
) -> None:
    examples = re.findall(r"^```ts\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    assert len(examples) == 5
    shutil.copy(IMAGES / "camera-01.jpg", project / "other.jpg")
    for number, example in enumerate(examples):
        assert DOCUMENTED_URL in example
        text = example.replace(DOCUMENTED_URL, environment["D3_URL"])
        (project / f"example-{number}.ts").write_text(text)
    of_node = ["--types", "node", "--typeRoots", str(package / "node_modules/@types")]
    compile_strictly(project, package, "--lib", "es2022", *of_node)
    (project / "example-3.ts").unlink()  # the one that is Node's alone
    compile_strictly(project, package, "--lib", "es2022,dom", "--noEmit")
    said = [
        subprocess.run(
            [node(), f"example-{number}.js"],
            cwd=project,
            env=clean_environment(**environment),
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for number in range(len(examples))
    ]
    assert re.match(r"fake 0\.\d+\n(.+ 0\.\d+\n)*photo\.jpg 0\.\d+\n", said[0])
    assert said[1].endswith("done\na fake\nb real\n")
    assert re.match(r"415 not_an_image .+\.\n$", said[3])
    assert said[4] == "starter\n"


def test_the_page_about_clients_shows_this_one_as_it_is(project: Path) -> None:
    (example,) = re.findall(r"^```ts\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert example in README
    table = re.findall(r"^\| .+ \| (`.+`) \|$", PAGE, re.MULTILINE)
    named = {name for row in table for name in re.findall(r"`(\w+)`", row)}
    assert len(named) > 30
    here = {re.sub(r"_(\w)", lambda found: found[1].upper(), name) for name in named}
    show = "Object.getOwnPropertyNames"
    source = f"""import {{ D3Client }} from "d3-deepfake-client";
const own = D3Client.prototype, inherited = Object.getPrototypeOf(own);
console.log(JSON.stringify([...{show}(own), ...{show}(inherited)]));"""
    command = [node(), "--input-type=module", "--eval", source]
    said = subprocess.run(command, cwd=project, capture_output=True, text=True, check=True).stdout
    assert set(json.loads(said)) - {"constructor"} == here


def compile_strictly(project: Path, package: Path, *options: str) -> None:
    """Compile a project's files, and check the declarations that they import."""
    compiler = [node(), package / "node_modules/typescript/bin/tsc"]
    strict = ["--strict", "--module", "nodenext", "--target", "es2022", *options]
    files = sorted(project.glob("*.ts"))
    done = subprocess.run(
        [*compiler, *strict, *files], cwd=project, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_the_readmes_page_judges_an_image_in_a_browser(
    project: Path, environment: dict[str, str]
) -> None:
    (page_text,) = re.findall(r"^```html\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    modules = {
        "d3-deepfake-client": "/node_modules/d3-deepfake-client/dist/index.js",
        "openapi-fetch": "/node_modules/openapi-fetch/dist/index.mjs",
    }
    names = f'<script type="importmap">{json.dumps({"imports": modules})}</script>'

    class Site(Answering):
        def answer(self) -> None:
            text = names + page_text.replace(DOCUMENTED_URL, environment["D3_URL"])
            kind = "text/html"
            if self.path != "/":
                file = project / self.path.removeprefix("/")
                text, kind = (file.read_text() if file.is_file() else ""), "text/javascript"
            self.send_response(200)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.end_headers()
            self.wfile.write(text.encode())

    with web_server(Site) as port, chromium() as browser:
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{port}/")
        page.set_input_files("input", FAKE)
        page.wait_for_function("document.querySelector('output').textContent", timeout=15_000)
        assert page.text_content("output") == "fake"
