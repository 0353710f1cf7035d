"""More requests than the device can do: refused at once, spared where nobody waits, fair."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from urllib.parse import urlsplit

import httpx
import pytest

from d3.domain.images import Pixels
from d3.domain.models import StoredModel
from d3.domain.ports.detector import Logits
from d3.domain.ports.queue import Lane
from tests.service.conftest import Service, painted
from tests.serving import assert_problem, wait_until
from tests.support.engines import FakeDetector, FakeEngine

PREDICT, BATCH = "/api/inference/predict", "/api/inference/predict-batch"


def waiting(service: Service, lane: Lane = Lane.INTERACTIVE) -> int:
    """How many images wait, as far as every front has been told: the next request may go to any."""
    models = [front.d3.host.loaded() for front in service.machine.fronts]
    return min(one.queue.waiting(lane).images for one in models if one is not None)


def is_decoded(service: Service) -> bool:
    """Whether an interactive image waits for the device itself."""
    model = service.host.loaded()
    assert model is not None
    return bool(model.queue.waiting(Lane.INTERACTIVE).oldest_seconds > 0)


@contextmanager
def held(service: Service) -> Iterator[None]:
    """Keep the device busy with one image."""
    service.engine.may_score.clear()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(service.predict, painted(0))
        assert service.engine.scoring.acquire(timeout=20)
        try:
            yield
        finally:
            service.engine.may_score.set()
            assert first.result().status_code == 200


def batch(service: Service, shades: range) -> httpx.Response:
    files = [("files", (f"{shade}.png", painted(shade))) for shade in shades]
    return service.http.post(BATCH, files=files)


def send_and_leave(service: Service, shade: int, **headers: str) -> socket.socket:
    """Send a whole request, and keep the connection to leave by."""
    request = httpx.Request(
        "POST",
        service.url + PREDICT,
        files={"file": ("a.png", painted(shade))},
        headers={"Connection": "close"} | headers,
    )
    address = urlsplit(service.url)
    assert address.hostname is not None
    assert address.port is not None
    connection = socket.create_connection((address.hostname, address.port))
    lines = [
        f"POST {PREDICT} HTTP/1.1",
        *(f"{name}: {value}" for name, value in request.headers.items()),
    ]
    connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + request.read())
    return connection


def test_a_full_queue_answers_503_at_once_and_says_when_to_come_back(
    start: Callable[..., Service],
) -> None:
    service = start(queue_images=3)
    with held(service), ThreadPoolExecutor(3) as pool:
        others = [pool.submit(service.predict, painted(shade)) for shade in (1, 2, 3)]
        wait_until(lambda: waiting(service) == 3)
        began = time.monotonic()
        refused = service.predict(painted(4))
        assert time.monotonic() - began < 5, "at once, not when the device is free"
        assert_problem(refused, 503, "overloaded")
        assert int(refused.headers["retry-after"]) >= 1
        service.engine.may_score.set()
        assert [one.result().status_code for one in others] == [200] * 3
    assert service.predict(painted(4)).status_code == 200
    assert 'd3_queue_dropped_total{lane="interactive",reason="rejected"} 1.0' in service.metrics()


def test_batches_fill_their_own_lane_only(start: Callable[..., Service]) -> None:
    service = start(queue_images=4)
    with held(service), ThreadPoolExecutor(2) as pool:
        bulk = pool.submit(batch, service, range(1, 5))
        wait_until(lambda: waiting(service, Lane.BULK) == 4)
        assert_problem(batch(service, range(5, 7)), 503, "overloaded")
        mine = pool.submit(service.predict, painted(9))
        wait_until(lambda: is_decoded(service))
        service.engine.may_score.set()
        assert mine.result().status_code == 200
        assert bulk.result().json()["count"] == 4
    assert service.engine.detectors[0].batches[:3] == [1, 1, 4]


def test_a_batch_larger_than_the_queue_is_judged_where_nothing_else_waits(
    start: Callable[..., Service],
) -> None:
    service = start(queue_images=2, batch_size=4)
    answer = batch(service, range(10))
    assert answer.status_code == 200
    assert ["result" in one for one in answer.json()["results"]] == [True] * 10
    assert max(service.engine.detectors[0].batches) <= 4


def test_a_request_nobody_waits_for_costs_no_forward_pass(service: Service) -> None:
    with held(service):
        leaving = send_and_leave(service, 1)
        wait_until(lambda: waiting(service) == 1)
        leaving.close()
        wait_until(lambda: waiting(service) == 0)
    assert service.predict(painted(2)).status_code == 200
    assert service.engine.detectors[0].batches == [1, 1]
    assert service.rows() == 2
    text = service.metrics()
    assert 'd3_queue_dropped_total{lane="interactive",reason="cancelled"} 1.0' in text
    assert 'route="/api/inference/predict",status="499"} 1.0' in text


def test_a_batch_nobody_waits_for_is_spared_whole(service: Service) -> None:
    with held(service), ThreadPoolExecutor(1) as pool:
        with httpx.Client(base_url=service.url, timeout=0.5) as impatient:
            files = [("files", (f"{shade}.png", painted(shade))) for shade in range(1, 9)]
            with pytest.raises(httpx.TimeoutException):
                pool.submit(impatient.post, BATCH, files=files).result()
        wait_until(lambda: waiting(service, Lane.BULK) == 0)
    wait_until(lambda: service.rows() == 1)
    assert service.engine.detectors[0].batches == [1]


def test_who_left_may_send_the_same_request_again(service: Service) -> None:
    with held(service):
        leaving = send_and_leave(service, 1, **{"Idempotency-Key": "k-1"})
        wait_until(lambda: waiting(service) == 1)
        leaving.close()
        wait_until(lambda: waiting(service) == 0)
    files = {"file": ("a.png", painted(1))}

    def again() -> bool:
        answer = service.http.post(PREDICT, files=files, headers={"Idempotency-Key": "k-1"})
        return answer.status_code == 200

    wait_until(again)
    assert service.rows() == 2


def test_what_takes_too_long_is_answered_when_its_time_is_over(
    start: Callable[..., Service],
) -> None:
    service = start(request_seconds=1)
    service.engine.may_score.clear()
    assert_problem(service.predict(painted(1)), 503, "deadline_exceeded")
    with ThreadPoolExecutor(1) as pool:
        late = pool.submit(service.predict, painted(2))
        assert_problem(late.result(), 503, "deadline_exceeded")
    service.engine.may_score.set()
    assert service.predict(painted(3)).status_code == 200
    assert service.engine.detectors[0].batches == [1, 1]


class Dying(FakeEngine):
    """Its detectors end their thread at a white image, and at every one while they are out."""

    def __init__(self) -> None:
        super().__init__()
        self.out = False

    def load(self, model: StoredModel) -> FakeDetector:
        detector = super().load(model)
        score = detector.score

        def dying(pixels: Pixels, views: int) -> Logits:
            if (pixels.min(axis=(1, 2, 3)) == 255).any():
                self.out = True
                raise SystemExit("killed")
            if self.out:
                raise RuntimeError("still out")
            return score(pixels, views)

        detector.score = dying  # type: ignore[method-assign]
        return detector


def test_a_detector_whose_thread_died_is_not_ready_until_it_answers_again(
    start: Callable[..., Service],
) -> None:
    engine = Dying()
    service = start(engine)
    assert service.http.get("/health/ready").status_code == 200
    assert_problem(service.predict(painted(255)), 500, "detector_failed")
    wait_until(lambda: service.http.get("/health/ready").status_code == 503)
    ready = service.http.get("/health/ready")
    assert ready.json()["missing"][0].startswith("detector: its thread died")
    engine.out = False
    assert service.predict(painted(3)).status_code == 200
    wait_until(lambda: service.http.get("/health/ready").status_code == 200)
    assert "d3_detector_restarts_total 1.0" in service.metrics()


def test_metrics_tell_of_queue_batches_and_device(service: Service) -> None:
    with held(service), ThreadPoolExecutor(1) as pool:
        bulk = pool.submit(batch, service, range(1, 4))
        wait_until(lambda: waiting(service, Lane.BULK) == 3)
        wait_until(lambda: value(service.metrics(), 'd3_queue_oldest_seconds{lane="bulk"}') > 0)
        text = service.metrics()
        assert 'd3_queue_images{lane="bulk"} 3.0' in text
        assert value(text, 'd3_queue_bytes{lane="bulk"}') >= 3 * 224 * 224 * 3
        service.engine.may_score.set()
        assert bulk.result().status_code == 200
    decoded = 'd3_stage_seconds_count{stage="decode"}'
    wait_until(lambda: value(service.metrics(), decoded) == 4)
    text = service.metrics()
    assert value(text, "d3_batch_images_sum") == 4
    assert value(text, "d3_batch_seconds_count") == 2
    assert value(text, "d3_batch_fill_sum") == pytest.approx(4 / 32)


def value(text: str, name: str) -> float:
    found = [line for line in text.splitlines() if line.startswith(f"{name} ")]
    assert len(found) == 1, name
    return float(found[0].rpartition(" ")[2])


def test_a_burst_on_an_idle_slow_device_is_told_at_once_or_judged(
    start: Callable[..., Service],
) -> None:
    """Nobody is let in and given up later; what fits is let in."""
    service = start(request_seconds=400)
    model = service.host.loaded()
    assert model is not None
    for encodings in (2, 2, 2, 4, 4):  # as a warm-up finds out: a minute an image
        model.queue._policy.costs.observe(encodings, 30 * encodings)
    service.engine.may_score.clear()
    answers: list[httpx.Response] = []

    def ask(shade: int) -> None:
        answers.append(service.predict(painted(shade)))

    with ThreadPoolExecutor(10) as pool:
        for shade in range(10):
            pool.submit(ask, shade)
        wait_until(
            lambda: len(answers) + waiting(service) + bool(model.queue._policy.running) == 10
        )
        assert [one.status_code for one in answers] == [503] * 4, "six minutes fit into 400 seconds"
        assert all("retry-after" in one.headers for one in answers)
        service.engine.may_score.set()
    assert sorted(one.status_code for one in answers) == [200] * 6 + [503] * 4
    assert set(service.engine.detectors[0].batches) == {1}, "nobody waits for somebody's pass"
