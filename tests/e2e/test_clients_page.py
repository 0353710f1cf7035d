"""What docs/clients.md shows, run as it stands against a real service."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from d3.client import AsyncClient, Client
from tests.serving import clean_environment, d3_serve

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/clients.md").read_text(encoding="utf-8")
FOLDER = ROOT / "examples/images"
NAMES = {
    "photo.jpg": "generated-01-transposed.jpg",
    "a.jpg": "camera-01.jpg",
    "b.png": "camera-02.png",
}


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Desk:
    """A folder with images, and a service that the page's address leads to."""

    folder: Path
    url: str

    def run(self, *command: str) -> str:
        here = [one.replace("http://localhost:5000", self.url) for one in command]
        environment = clean_environment(PYTHONPATH=":".join(filter(None, sys.path)))
        done = subprocess.run(
            here, cwd=self.folder, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("desk")
    for name, source in NAMES.items():
        shutil.copy(FOLDER / source, folder / name)
    shutil.copytree(FOLDER, folder / "images")
    with d3_serve(folder, D3_HOME=str(folder / "home")) as served:
        yield Desk(folder, served.url())


def test_the_clients_do_what_the_page_shows(desk: Desk) -> None:
    blocking, asynchronous, job = blocks("python")
    first = desk.run(sys.executable, "-c", blocking)
    assert first.splitlines()[0].split() == ["fake", "1"]
    assert first.splitlines()[1].split()[0] == "photo.jpg"
    verdicts, *items = desk.run(sys.executable, "-c", asynchronous).splitlines()
    assert len(json.loads(verdicts.replace("'", '"'))) == 2
    assert {one.split()[0] for one in items} == set(NAMES)
    over, *judged = desk.run(sys.executable, "-c", job).splitlines()
    assert over.split()[0] == "done"
    assert [one.split()[1] for one in judged] == sorted(one.name for one in FOLDER.iterdir())


def test_every_way_with_curl_is_judged_alike(desk: Desk) -> None:
    commands = [one for one in blocks("bash") if "curl" in one]
    assert len(commands) == 3
    answers = [json.loads(desk.run("bash", "-c", one)) for one in commands]
    assert {one["result"]["views"] for one in answers} == {4}
    assert len({one["result"]["logit"] for one in answers}) == 1
    client = Client(desk.url)
    with client:
        names = {client.result(one["inference_id"]).image_name for one in answers}
    assert names == {"photo.jpg"}


def test_the_generators_command_makes_a_client(desk: Desk) -> None:
    (command,) = (one for one in blocks("bash") if "openapi-python-client" in one)
    tools = Path(sys.executable).parent
    said = desk.run("bash", "-c", f"PATH={tools}:$PATH {command}")
    assert (desk.folder / "d3_client").is_dir() or list(desk.folder.glob("d3*/d3*client")), said


def test_the_page_names_every_call() -> None:
    table = PAGE[PAGE.index("| to | calls |") : PAGE.index("A file is a path")]
    named = set(re.findall(r"`(\w+)`", table))
    assert named == {name for name in vars(Client) if not name.startswith("_")} - {"close"}
    assert named == {name for name in vars(AsyncClient) if not name.startswith("_")} - {"aclose"}
