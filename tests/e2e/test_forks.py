"""D3 and ``fork``: before its first use it works in every child, afterwards it says that it cannot.

Each program forks for real, on an engine with threads of its own. Whatever would wait for threads
of the parent would wait for ever, so a child that does not end in time has hung.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.serving import clean_environment

CHILDREN = """
import json, os, pathlib, sys, threading, time
import d3

HOME, PACK, ENGINE = sys.argv[1:]
IMAGES = [os.path.join(PACK, "images", name) for name in sorted(os.listdir(PACK + "/images"))][:3]
settings = d3.Settings(home=HOME, model="mine", engine=ENGINE)


def child(work, leave=os._exit):
    reading, writing = os.pipe()
    if (pid := os.fork()) == 0:
        try:
            answer = work()
        except d3.D3Error as error:
            answer = error.code
        os.write(writing, json.dumps(answer).encode())
        leave(0)
    os.close(writing)
    until = time.monotonic() + 240
    while os.waitpid(pid, os.WNOHANG) == (0, 0):
        if time.monotonic() > until:
            os.kill(pid, 9)
            return "hung"
        time.sleep(0.01)
    with open(reading, "rb") as pipe:
        return json.loads(pipe.read())


def verdict(detector=d3):
    return detector.detect(IMAGES[0]).verdict


def imported(detector):
    files = (pathlib.Path(PACK, name) for name in ("visual.safetensors", "classifier.pth"))
    return detector.models.import_files("again", *files).name
"""

UNUSED = """
import asyncio, multiprocessing
import httpx
import d3.adapters.torch  # and with it torch: imported before the fork, and not used
from d3.entrypoints.http import create_app

detector = d3.D3(settings)
names = [one.manifest.name for one in detector.models.list()]
app = create_app(settings)


def served():
    async def ask():
        transport = httpx.ASGITransport(app)
        http = httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", timeout=60)
        with open(IMAGES[0], "rb") as file:
            answer = await http.post("/api/inference/predict", files={"file": file})
        return answer.json()["result"]["verdict"]
    return asyncio.run(ask())


def pooled():
    with multiprocessing.get_context("fork").Pool(2) as pool:
        return len(pool.map(d3.detect, IMAGES))


print(json.dumps({
    "object": child(lambda: verdict(detector)),
    "object again": child(lambda: len(list(detector.detect_many(IMAGES))), sys.exit),
    "function": child(verdict),
    "pool": pooled(),
    "service": child(served),
    "parent": verdict(detector),
}))
"""

USED = """
import asyncio
import httpx
from d3.entrypoints.http import create_app


def asked(app):
    async def ask():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
            return (await http.get("/health")).json()["code"]
    return asyncio.run(ask())


detector, unused = d3.D3(settings), d3.D3(settings)
stream = detector.detect_many(IMAGES * 9, batch_size=1)
next(stream)
app = create_app(settings)
app.d3.start()
answers = {
    "object": child(lambda: verdict(detector)),
    "other object": child(lambda: verdict(unused)),
    "new object": child(lambda: verdict(d3.D3(settings))),
    "function": child(verdict),
    "many": child(lambda: list(detector.detect_many(IMAGES))),
    "an iterator of the parent's": child(lambda: next(stream)),
    "heat map": child(lambda: detector.explain(IMAGES[0])),
    "import": child(lambda: imported(detector)),
    "service": child(app.d3.start),
    "new service": child(create_app(settings).d3.start),
    "new service's first request": child(lambda: asked(create_app(settings))),
}
fine = {
    "list": child(lambda: [one.manifest.name for one in detector.models.list()]),
    "close": child(detector.close, sys.exit),
    "end": child(lambda: None, sys.exit),
}
fine["parent"] = verdict(detector)
app.d3.stop()
print(json.dumps([answers, fine]))
"""

LOADING = """
detector = d3.D3(settings)
loading = threading.Thread(target=verdict, args=[detector])
loading.start()
answers = [child(lambda: verdict(detector))]
while loading.is_alive():
    answers.append(child(lambda: verdict(d3.D3(settings))))
print(json.dumps(sorted(set(answers))))
"""

ONLY_IMPORTED = """
print(imported(d3.D3(settings)), child(verdict))
"""


@pytest.fixture
def run(home: Path, pack: Path, tmp_path: Path) -> Any:
    own = shutil.copytree(home, tmp_path / "home")

    def run(program: str, engine: str = "torch") -> str:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", CHILDREN + program, own, pack, engine],
            # Of two threads, one stays behind.
            env=clean_environment(
                D3_HOME=str(own), D3_MODEL="mine", OMP_NUM_THREADS="2", D3_ENGINE=engine
            ),
            capture_output=True,
            text=True,
            timeout=1500,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_a_d3_that_was_not_used_yet_works_in_every_child(run: Any) -> None:
    found = json.loads(run(UNUSED))
    verdict = found["parent"]
    assert verdict in ("real", "fake", "uncertain")
    assert found == {
        **dict.fromkeys(("object", "function", "service", "parent"), verdict),
        **dict.fromkeys(("object again", "pool"), 3),
    }


@pytest.mark.parametrize("engine", ["torch", pytest.param("openvino", marks=pytest.mark.full)])
def test_after_its_first_use_every_child_is_told_at_once(engine: str, run: Any) -> None:
    answers, fine = json.loads(run(USED, engine))
    assert set(answers.values()) == {"fork_unsupported"}, answers
    assert fine.pop("parent") in ("real", "fake", "uncertain")
    assert fine == {"list": ["mine", "starter"], "close": None, "end": None}


@pytest.mark.full
def test_a_fork_in_the_middle_of_a_load_is_told_at_once(run: Any) -> None:
    assert json.loads(run(LOADING)) == ["fork_unsupported"]


@pytest.mark.full
def test_a_fork_after_an_import_is_told_at_once(run: Any) -> None:
    assert run(ONLY_IMPORTED).split() == ["again", "fork_unsupported"]
