"""Several services on one store follow the model that somebody chooses on any machine."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.homes import Home
from tests.service.conftest import Service, painted, running
from tests.serving import clean_environment, wait_until


@pytest.fixture
def replicas(home: Home, tmp_path: Path) -> Iterator[list[Service]]:
    with ExitStack() as stack:
        yield [
            stack.enter_context(running(one, follow_seconds=1))
            for one in (home, home.replica(tmp_path / "another machine"))
        ]


def serving_model(service: Service) -> str:
    name: str = service.http.get("/api/model/info").json()["info"]["model_name"]
    return name


def upload(service: Service, head: bytes, name: str) -> None:
    files = {"file": ("head.safetensors", head)}
    answer = service.http.post("/api/model/upload", files=files, data={"name": name})
    assert answer.status_code == 200, answer.text


@pytest.mark.on_servers
def test_a_choice_on_one_machine_moves_the_others_and_a_bad_one_moves_nobody(
    replicas: list[Service], home: Home
) -> None:
    upload(replicas[0], other_head(home, 1), "next")
    assert [serving_model(one) for one in replicas] == ["mine", "mine"]
    subprocess.run(
        [sys.executable, "-m", "d3", "models", "use", "next"],
        env=clean_environment(**home.environ),
        check=True,
        capture_output=True,
    )
    wait_until(lambda: {serving_model(one) for one in replicas} == {"next"}, 30)

    before = home.store.names()
    upload(replicas[1], other_head(home, 2), "damaged")
    (blob,) = (name for name in home.store.names() - before if name.startswith("blobs/"))
    content = home.store.read(blob)
    home.store.write(blob, content[:-1] + bytes([content[-1] ^ 8]))
    home.store.write("active", b"damaged\n")
    for one in replicas:
        wait_until(lambda one=one: missing(one) != [], 30)  # type: ignore[misc]
        (said,) = missing(one)
        assert said.startswith("default model: damaged version 1 is the new default")
        assert serving_model(one) == "next"
        assert one.predict(painted(9)).json()["result"]["model"]["name"] == "next"

    home.store.write(blob, content)
    wait_until(lambda: {serving_model(one) for one in replicas} == {"damaged"}, 30)
    wait_until(lambda: [missing(one) for one in replicas] == [[], []])


def missing(service: Service) -> list[str]:
    """What ready names; it is ready all the same."""
    answer = service.http.get("/health/ready")
    assert answer.status_code == 200
    assert answer.json()["ready"] is True
    named: list[str] = answer.json()["missing"]
    return named


def other_head(home: Home, change: int) -> bytes:
    """The home's head with another last weight, which is another model."""
    head = home.head()
    return head[:-4] + bytes([head[-4] ^ change]) + head[-3:]
