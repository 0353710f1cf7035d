"""A real person's path: judge, label, calibrate from the labels, compare, use, watch for drift."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from d3.client import Client
from d3.domain.drift import Level
from tests.e2e.conftest import Finished, run_here
from tests.homes import Home, Homes
from tests.service.conftest import Service, running
from tests.serving import wait_until

DRIFT = "/api/inference/drift"


@pytest.fixture
def own(homes: Homes, tmp_path: Path) -> Iterator[Home]:
    """Databases and models of this test's own."""
    with homes(tmp_path / "own") as home:
        yield home


@pytest.fixture
def service(own: Home) -> Iterator[Service]:
    with ExitStack() as stack:
        yield stack.enter_context(running(own, follow_seconds=1))


@pytest.fixture
def d3(own: Home, tmp_path: Path) -> Callable[..., Finished]:
    """Run ``d3`` there."""
    return partial(run_here, own.path, tmp_path, **own.environ)


def noise(seed: int, brightness: float) -> bytes:
    """An image with something in it; the engine without weights takes bright ones for generated."""
    values = np.random.default_rng(seed).normal(255 * brightness, 20, (48, 48, 3))
    stream = io.BytesIO()
    Image.fromarray(np.clip(values, 0, 255).astype(np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def judge(service: Service, kind: str, brightness: float, count: int, seed: int) -> list[int]:
    """Images of one kind, judged; their ids."""
    levels = np.random.default_rng(seed).normal(brightness, 0.08, count).clip(0.1, 0.9)
    ids: list[int] = []
    for start in range(0, count, 10):
        part = enumerate(levels[start : start + 10], start)
        files = [("files", (f"{kind}-{n}.png", noise(seed + n, level))) for n, level in part]
        answer = service.http.post("/api/inference/predict-batch", files=files).json()
        ids += [one["inference_id"] for one in answer["results"]]
    return ids


def label(service: Service, ids: list[int], label: str) -> None:
    answer = service.http.post("/api/inference/labels", json={"ids": ids, "label": label})
    assert answer.status_code == 200, answer.text


def drift(service: Service, **asked: Any) -> dict[str, Any]:
    found: dict[str, Any] = service.http.get(DRIFT, params=asked).json()["drift"]
    return found


@pytest.fixture
def labelled(service: Service, d3: Callable[..., Finished], tmp_path: Path) -> Service:
    """40 real images are labelled over HTTP, and 30 generated ones by a table."""
    label(service, judge(service, "real", 0.55, 40, 1000), "real")
    table = tmp_path / "corrections.csv"
    lines = (f"{one},generated" for one in judge(service, "generated", 0.75, 30, 2000))
    table.write_text("\n".join(("id,label", *lines)), encoding="utf-8")
    assert d3("labels", "import", table).code == 0
    return service


@pytest.mark.on_servers
def test_labels_make_a_new_version_that_is_compared_used_and_watched(
    labelled: Service, d3: Callable[..., Finished]
) -> None:
    service = labelled
    # Nobody calibrated the model, so it calls most of the real images fake.
    before = drift(service)
    assert (before["model_name"], before["model_version"]) == ("mine", 1)
    assert "`d3 calibrate`" in before["note"]
    assert (before["total"]["psi"], before["total"]["level"]) == (None, "unclear")
    assert before["total"]["fpr"]["low"] > 0.5

    done = d3("calibrate", "--from-history", "--max-fpr", "0.1", "--since", "1d")
    assert done.code == 0, done.err
    assert "Stored as mine version 2" in done.err
    assert "People label what they look at" in done.err

    compared = d3("models", "diff", "mine@1", "mine@2", "--from-history", "--json")
    assert compared.code == 0, compared.err
    change = json.loads(compared.out)
    assert change["images"] == 70
    assert change["newly_right"] > 20
    assert change["changes"]["accuracy_real"]["difference"]["low"] > 0

    assert d3("models", "use", "mine").code == 0
    wait_until(lambda: service.host.loaded().manifest.version == 2)
    label(service, judge(service, "real", 0.55, 90, 5000), "real")
    judge(service, "generated", 0.75, 40, 6000)
    after = drift(service)
    assert (after["model_version"], after["total"]["images"], after["note"]) == (2, 130, "")
    assert sum(after["reference"]["real"]) == 40
    assert after["total"]["psi"]["low"] == 0
    assert after["total"]["level"] in {"stable", "unclear"}
    assert after["total"]["generated_share"] == pytest.approx(4 / 13, abs=0.15)
    assert after["total"]["fpr"]["low"] <= 0.1
    assert drift(service, version=1)["total"]["images"] == 70
    assert drift(service, until="2020-01-01T00:00:00Z")["days"] == []

    told = json.loads(d3("drift", "--json").out)
    assert told["total"] == after["total"]
    shown = d3("drift").out
    assert "GENERATED" in shown
    assert "at the calibration" in shown
    assert f"All days together: {Level(after['total']['level']).sentence}" in shown
    seen = d3("drift", "--model", "mine@1", "--since", "1d")
    assert "mine version 1, calibration: none" in seen.out
    assert "`d3 calibrate`" in seen.err
    with Client(service.url) as client:
        assert client.drift("mine", version=2).total.images == 130


def test_too_few_labels_are_refused_and_contradictory_ones_left_out(
    labelled: Service, d3: Callable[..., Finished]
) -> None:
    few = d3("calibrate", "--from-history", "--max-fpr", "0.01")
    assert few.code == 2
    assert "40 real and 30 generated labelled images are too few" in few.err
    assert "at least 99 real and 10 generated are needed" in few.err

    # One image twice, with a label each: nobody knows what it is.
    (twice,) = judge(labelled, "real", 0.55, 1, 1000)
    label(labelled, [twice], "generated")
    dry = d3("calibrate", "--from-history", "--max-fpr", "0.1", "--dry-run", "--json")
    assert dry.code == 0, dry.err
    assert (json.loads(dry.out)["real"], json.loads(dry.out)["fake"]) == (39, 30)
    assert f"contradictory labels were left out: real-0.png (result {twice})" in dry.err
    assert d3("drift", "--model", "mine@2").code == 2


def test_what_cannot_be_asked_is_said(service: Service, d3: Callable[..., Finished]) -> None:
    assert service.http.get(DRIFT, params={"model": "nobody"}).status_code == 404
    assert service.http.get(DRIFT, params={"model": "../x"}).status_code == 400
    assert service.http.get(DRIFT, params={"version": "0"}).status_code == 400
    assert service.http.get(DRIFT, params={"since": "2026-01-01T00:00:00"}).status_code == 400
    for arguments, says in (
        (("calibrate",), "Or use --from-history"),
        (("calibrate", "photos", "--from-history"), "either DATASET or --from-history"),
        (("calibrate", "photos", "--since", "1d"), "--since needs --from-history"),
        (("models", "diff", "mine", "mine", "--from-history", "--views", "2"), "needs a DATASET"),
        (("models", "diff", "mine", "starter", "--from-history"), "different weights"),
        (("models", "diff", "mine", "mine", "--from-history"), "0 real and 0 generated"),
        (("calibrate", "--from-history", "--model", "starter"), "--as starter-calibrated"),
        (("drift", "--model", "mine@9"), "no version 9"),
        (("drift", "--since", "soon"), "is not a duration"),
    ):
        done = d3(*arguments)
        assert done.code == 2
        assert says in done.err
