"""Faults of the machine itself: a full disk, a device without memory, a stop in a batch."""

from __future__ import annotations

import resource
import shutil
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx
import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from d3.container import Container
from d3.domain.errors import DeviceOutOfMemory, LoadInProgress, ModelNotLoaded
from d3.domain.images import Pixels
from d3.domain.models import StoredModel
from d3.domain.ports.detector import Logits
from d3.settings import Settings
from tests.homes import Folder, Home
from tests.service.conftest import Service, painted, running
from tests.serving import assert_problem, d3_serve, wait_until
from tests.support.engines import FakeDetector, FakeEngine

BATCH = "/api/inference/predict-batch"


@pytest.fixture
def embedded(model_home: Path, tmp_path: Path) -> Home:
    """A home in a folder, whatever the backend: it is this machine's disk that is full."""
    shutil.copytree(model_home / "models", tmp_path / "home" / "models")
    folder = tmp_path / "home"
    return Home(folder, Folder(folder / "models"), {"D3_HOME": str(folder)})


def test_a_full_disk_is_said_and_once_there_is_room_all_goes_on(
    embedded: Home, tmp_path: Path
) -> None:
    with d3_serve(tmp_path, **embedded.environ, D3_LOG_LEVEL="error") as served:
        url, pid = served.url(), served.process.pid

        def predict(shade: int) -> httpx.Response:
            files = {"file": ("a.png", painted(shade))}
            return httpx.post(f"{url}/api/inference/predict", files=files, timeout=60)

        first = predict(1).json()["inference_id"]
        unlimited = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        largest = max(one.stat().st_size for one in embedded.path.glob("d3.db*"))
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (largest, unlimited[1]))
        kept = [first]
        refused = None
        for shade in range(2, 200):
            answer = predict(shade)
            if answer.status_code != 200:
                refused = answer
                break
            kept.append(answer.json()["inference_id"])
        assert refused is not None
        body = assert_problem(refused, 503)
        assert body["code"].startswith("storage")
        before = embedded.store.names()
        upload = httpx.post(
            f"{url}/api/model/upload",
            files={"file": b"\0" * (largest + 70_000)},
            data={"name": "large"},
            timeout=60,
        )
        assert upload.status_code in (422, 503), upload.text
        assert embedded.store.names() == before
        assert httpx.get(f"{url}/health/live").status_code == 200
        resource.prlimit(pid, resource.RLIMIT_FSIZE, unlimited)
        kept.append(predict(250).json()["inference_id"])
    with embedded.database() as database, database.reading() as connection:
        assert connection.execute(sa.text("PRAGMA integrity_check")).all() == [("ok",)]
        rows = list(connection.scalars(sa.text("SELECT id FROM inference_results ORDER BY id")))
    assert rows == sorted(kept)


def test_a_stop_in_the_middle_of_a_batch_answers_it_first(home: Home, tmp_path: Path) -> None:
    with d3_serve(tmp_path, **home.environ, D3_CACHE_ENTRIES="0") as served:
        url = served.url()
        files = [("files", (f"{n}.png", painted(n))) for n in range(90)]
        with ThreadPoolExecutor(1) as pool:
            batch = pool.submit(httpx.post, url + BATCH, files=files, timeout=60)
            wait_until(lambda: "d3_http_requests_in_flight 2.0" in httpx.get(f"{url}/metrics").text)
            served.process.send_signal(signal.SIGTERM)
            answer = batch.result()
        assert served.process.wait(60) == 0
    assert answer.status_code == 200
    ids = {one["inference_id"] for one in answer.json()["results"]}
    with home.database() as database, database.reading() as connection:
        rows = set(connection.scalars(sa.text("SELECT id FROM inference_results")))
    assert ids == rows
    assert len(rows) == 90


class Small(FakeEngine):
    """Its device has room for so many images at once."""

    room = 4

    def load(self, model: StoredModel) -> FakeDetector:
        detector = super().load(model)
        score = detector.score

        def tight(pixels: Pixels, views: int) -> Logits:
            if len(pixels) > self.room:
                raise DeviceOutOfMemory("The device is full.", "Lower D3_BATCH_SIZE.")
            return score(pixels, views)

        detector.score = tight  # type: ignore[method-assign]
        return detector


@pytest.fixture
def tight(home: Home) -> Iterator[Service]:
    with running(home, Small(), cache_entries=0) as service:
        yield service


def test_a_device_without_memory_gets_half_and_then_says_503(tight: Service) -> None:
    service, engine = tight, tight.engine
    assert isinstance(engine, Small)
    files = [("files", (f"{n}.png", painted(n))) for n in range(12)]
    answer = service.http.post(BATCH, files=files).json()
    assert ["result" in one for one in answer["results"]] == [True] * 12
    assert max(engine.detectors[0].batches) <= 4
    engine.room = 0
    refused = service.predict(painted(1))
    assert_problem(refused, 503, "out_of_memory")
    assert int(refused.headers["retry-after"]) >= 1
    engine.room = 4
    assert service.predict(painted(2)).status_code == 200
    assert service.rows() == 13


def detector_threads() -> set[int | None]:
    return {one.ident for one in threading.enumerate() if one.name == "d3-detector"}


class Loads(RuleBasedStateMachine):
    """Loads and unloads while images are judged: each image is answered, by one model or none."""

    home: Path

    def __init__(self) -> None:
        super().__init__()
        self.engine = FakeEngine()
        self.threads_before = detector_threads()
        container = Container(settings=Settings(home=self.home, warm_up=False))
        container.serving.override(True)
        container.engine.override(self.engine)
        self.host = container.host()
        self.pool = ThreadPoolExecutor(8)
        self.judging: list = []
        self.loading: list = []

    @rule(name=st.sampled_from(["mine", "starter"]))
    def load(self, name: str) -> None:
        self.loading.append(self.pool.submit(self._load, name))

    def _load(self, name: str) -> None:
        with suppress(LoadInProgress):
            self.host.load(name)

    @rule()
    def unload(self) -> None:
        self.loading.append(self.pool.submit(self.host.unload))

    @rule(images=st.integers(1, 4))
    def judge(self, images: int) -> None:
        self.judging.append(self.pool.submit(self._judge, images))

    def _judge(self, images: int) -> int | None:
        try:
            with self.host.held() as model:
                size = model.manifest.spec.image_size
                pixels = np.zeros((images, size, size, 3), np.uint8)
                return len(model.queue.submit(pixels, 1).result(20).logits)
        except ModelNotLoaded:
            return None

    @rule()
    def settle(self) -> None:
        for one in [*self.loading, *self.judging]:
            one.result(30)
        self.loading.clear()
        model = self.host.load("mine")
        assert self.host.loaded() is model
        assert self._judge(3) == 3

    @invariant()
    def what_is_loaded_is_open(self) -> None:
        assert all(one.done() is False or one.exception() is None for one in self.judging)

    def teardown(self) -> None:
        for one in [*self.loading, *self.judging]:
            one.result(30)
        self.host.close()
        wait_until(lambda: all(one.closed for one in self.engine.detectors))
        self.pool.shutdown()
        wait_until(lambda: detector_threads() <= self.threads_before)


def test_loads_and_unloads_at_any_time_leave_no_image_without_an_answer(model_home: Path) -> None:
    Loads.home = model_home
    case = Loads.TestCase
    case.settings = settings(max_examples=12, stateful_step_count=15, deadline=None)
    case().runTest()
