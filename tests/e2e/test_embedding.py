"""The examples of ``examples/embedding``, each in what it is for: a host, a broker, a kernel."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
import redis

import d3
from tests.serving import assert_problem, clean_environment, serving

ROOT = Path(__file__).parents[2]
EMBEDDING, IMAGES = ROOT / "examples/embedding", ROOT / "examples/images"
PREDICT, HISTORY = "/detector/api/inference/predict", "/detector/api/inference/history"
PATIENCE = 300


@pytest.fixture
def environ(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What D3 is set to, here and in other processes: a small model in a home of its own."""
    shutil.copytree(home / "models", tmp_path / "home/models")
    ours = {"D3_HOME": str(tmp_path / "home"), "D3_MODEL": "mine", "OMP_NUM_THREADS": "1"}
    monkeypatch.chdir(tmp_path)
    for name, value in ours.items():
        monkeypatch.setenv(name, value)
    return clean_environment(**ours)


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Imports an example."""

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, EMBEDDING / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    return load


@contextmanager
def running(*command: str, environ: dict[str, str], folder: Path = EMBEDDING) -> Iterator[None]:
    """A program that runs until it is told to end."""
    process = subprocess.Popen([sys.executable, *command], cwd=folder, env=environ)
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            raise


@pytest.mark.parametrize("name", ["fastapi_app", "litestar_app"])
def test_users_of_the_host_use_d3_beneath_it(
    name: str, environ: dict[str, str], load: Callable[[str], ModuleType]
) -> None:
    host = load(name)
    with serving(host.app) as url:

        def ask(user: str, method: str, path: str, **rest: Any) -> httpx.Response:
            headers = {"Authorization": f"Bearer token-of-{user}", **rest.pop("headers", {})}
            return httpx.request(method, f"{url}{path}", headers=headers, timeout=30, **rest)

        assert host.detector.d3.host.loaded() is not None, "before the first request"
        assert ask("ada", "GET", "/me").json() == {"user": "ada"}
        ids = {}
        for user, image in (("ada", "camera-01.jpg"), ("grace", "camera-02.png")):
            answer = ask(user, "POST", PREDICT, files={"file": (IMAGES / image).read_bytes()})
            ids[user] = answer.json()["inference_id"]
        assert [one["id"] for one in ask("ada", "GET", HISTORY).json()["results"]] == [ids["ada"]]
        assert ask("root", "GET", HISTORY).json()["total"] == 2
        assert_problem(ask("nobody", "GET", HISTORY), 401, "not_signed_in")
        for path in ("/health", "/health/ready", "/openapi.json", "/schema"):
            assert ask("nobody", "GET", f"/detector{path}").status_code == 200
        assert_problem(ask("ada", "POST", "/detector/api/model/unload"), 403, "forbidden")
        page = ask("ada", "GET", "/detector/", headers={"Accept": "text/html"})
        assert "Signed in as ada" in page.text
        with d3.Client(f"{url}/detector", api_key="token-of-grace") as client:
            assert [one.id for one in client.history()] == [ids["grace"]]


@contextmanager
def celery_worker(
    app: str, environ: dict[str, str], load: Callable[[str], ModuleType]
) -> Iterator[ModuleType]:
    """A worker with two processes, forked by Celery; and the tasks, to be sent to it."""
    tasks = load("celery_tasks")
    options = ("worker", "--concurrency", "2", "--loglevel", "ERROR")
    with running("-m", "celery", "--app", app, *options, environ=environ):
        yield tasks
        tasks.app.close()


@pytest.fixture
def broker(
    environ: dict[str, str], redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    monkeypatch.setenv("REDIS_URL", redis_url)
    with redis.Redis.from_url(redis_url) as server:
        server.flushdb()
    return {**environ, "REDIS_URL": redis_url}


def test_celerys_processes_judge(broker: dict[str, str], load: Callable[[str], ModuleType]) -> None:
    images = sorted(map(str, IMAGES.iterdir()))[:4]
    with celery_worker("celery_tasks", broker, load) as tasks:
        waiting = [tasks.judge.delay(one) for one in [*images, __file__]]
        *answers, bad = [one.get(timeout=PATIENCE) for one in waiting]
        (stats,) = tasks.app.control.inspect().stats().values()
    assert stats["pool"]["implementation"].endswith("prefork:TaskPool")
    assert len(stats["pool"]["processes"]) == 2
    assert bad["code"] == "not_an_image"
    with d3.D3() as detector:
        here = [detector.detect(one) for one in images]
    assert [one["name"] for one in answers] == images
    assert [one["prediction"] for one in answers] == pytest.approx(
        [one.prediction for one in here], abs=1e-6
    )


@pytest.mark.full
def test_celery_is_told_at_once_where_d3_was_used_before_the_fork(
    broker: dict[str, str], load: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    image = str(IMAGES / "camera-01.jpg")
    spoiled = f"import d3\nd3.detect({image!r})\nfrom celery_tasks import app\n"
    (tmp_path / "spoiled.py").write_text(spoiled)
    paths = {**broker, "PYTHONPATH": str(tmp_path)}
    with (
        celery_worker("spoiled", paths, load) as tasks,
        pytest.raises(d3.errors.ForkUnsupported, match="child processes only"),
    ):
        tasks.judge.delay(image).get(timeout=PATIENCE)


def test_an_asyncio_application_judges_a_folder(
    environ: dict[str, str],
    load: Callable[[str], ModuleType],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("none")
    images = [*sorted(IMAGES.iterdir())[:3], notes]
    asyncio.run(load("asyncio_app").main(images))
    found = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines())
    assert sorted(found) == sorted(one.name for one in images)
    assert found.pop("notes.txt").startswith("The file is not an image")
    assert all(re.fullmatch(r"(real|fake|uncertain) \(0\.\d{3}\)", one) for one in found.values())


def test_the_notebook_runs_from_top_to_bottom(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("D3_MODEL", "starter")
    notebook = nbformat.read(EMBEDDING / "notebook.ipynb", 4)
    nbformat.validate(notebook)
    client = NotebookClient(notebook, timeout=PATIENCE, resources={"metadata": {"path": EMBEDDING}})
    client.execute()
    _, table, notice, heat_map, _ = [one for one in notebook.cells if one.cell_type == "code"]
    assert len(table.outputs[-1].text.splitlines()) == len(list(IMAGES.iterdir()))
    assert "Do not act on it" in notice.outputs[0].text
    assert "image/png" in heat_map.outputs[-1].data


SETTINGS = """
SECRET_KEY = "of a test"
USE_TZ = True
INSTALLED_APPS = ["photos"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "site.sqlite"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
MEDIA_ROOT = "media"
"""
MANAGE = """
import json, sys
import django
from django.core.management import call_command
django.setup()
from photos.models import Photo
call_command("migrate", run_syncdb=True, verbosity=0)
Photo.objects.bulk_create(Photo(image=name) for name in sys.argv[1:])
call_command("judge")
print(json.dumps(list(Photo.objects.order_by("pk").values_list("verdict", "prediction"))))
call_command("judge")
"""


def test_djangos_command_fills_in_the_verdicts(environ: dict[str, str], tmp_path: Path) -> None:
    project, commands = tmp_path / "project", tmp_path / "project/photos/management/commands"
    commands.mkdir(parents=True)
    source = (EMBEDDING / "django_command.py").read_text()
    (commands / "judge.py").write_text(source)
    model = re.search(r"^    class Photo.*?\n\n", source, re.DOTALL | re.MULTILINE)
    assert model is not None
    text = "\n".join(line[4:] for line in model[0].splitlines())
    (project / "photos/models.py").write_text(f"from django.db import models\n\n\n{text}\n")
    (project / "photos/__init__.py").touch()
    (project / "settings.py").write_text(SETTINGS)
    (project / "media").mkdir()
    names = ["camera-01.jpg", "gone.jpg", "broken.jpg", "generated-01-transposed.jpg"]
    for name in set(names) - {"gone.jpg"}:
        content = b"none" if name == "broken.jpg" else (IMAGES / name).read_bytes()
        (project / "media" / name).write_bytes(content)
    done = subprocess.run(
        [sys.executable, "-c", MANAGE, *names],
        cwd=project,
        env={**environ, "DJANGO_SETTINGS_MODULE": "settings", "PYTHONPATH": str(project)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    first, found, second = done.stdout.splitlines()
    assert (first, second) == ("2 judged, 2 not", "0 judged, 2 not")
    assert "gone.jpg: " in done.stderr
    with d3.D3() as detector:
        here = [detector.detect(IMAGES / name) for name in (names[0], names[3])]
    expected = [[one.verdict, pytest.approx(one.prediction, abs=1e-6)] for one in here]
    assert json.loads(found) == [expected[0], ["", None], ["", None], expected[1]]


def test_a_queues_consumer_answers_each_message_once(
    environ: dict[str, str], redis_url: str
) -> None:
    paths = [*map(str, sorted(IMAGES.iterdir())[:3]), __file__]
    with redis.Redis.from_url(redis_url, decode_responses=True) as server:
        server.flushdb()
        sent = [server.xadd("images", {"path": path}) for path in paths]
        sent.append(server.xadd("images", {"file": paths[0]}))
        with running("queue_consumer.py", redis_url, environ=environ):
            until = time.monotonic() + PATIENCE
            while server.xlen("verdicts") < len(sent):
                assert time.monotonic() < until
                time.sleep(0.05)
        answered = [fields for _, fields in server.xrange("verdicts")]
        assert server.xpending("images", "d3")["pending"] == 0
    assert [one["image"] for one in answered] == sent
    *good, bad, pathless = [json.loads(one["answer"]) for one in answered]
    assert [one["name"] for one in good] == paths[:3]
    assert "not an image" in bad["error"]
    assert (pathless["name"], pathless["code"]) == ("a message without a path", "image_not_found")


def test_each_example_is_short_and_the_page_shows_the_very_files() -> None:
    page = (ROOT / "docs/embedding.md").read_text(encoding="utf-8")
    shown = re.findall(r"<!-- file: (\S+) -->\n```\w+\n(.*?)```$", page, re.DOTALL | re.MULTILINE)
    programs = {f"examples/embedding/{one.name}" for one in EMBEDDING.glob("*.py")}
    assert {name for name, _ in shown} == programs
    for name, text in shown:
        assert text == (ROOT / name).read_text(encoding="utf-8"), name
        assert len(text.splitlines()) < 60, name
    notebook = json.loads((EMBEDDING / "notebook.ipynb").read_text(encoding="utf-8"))
    assert sum(len(one["source"]) for one in notebook["cells"]) < 60
    assert not any(one.get("outputs") for one in notebook["cells"])
    assert "examples/embedding/notebook.ipynb" in page
