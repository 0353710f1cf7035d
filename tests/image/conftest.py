"""The image, built by Docker, and containers of it as an installation starts them."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import docker
import pytest

import d3

ROOT = Path(__file__).parents[2]
TORCH = os.environ.get("D3TEST_TORCH", "cpu")
NARROW: dict[str, Any] = {
    "read_only": True,
    "tmpfs": {"/tmp": ""},
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges:true"],
}
"""What a container may not do, as in compose.yaml."""

Start = Callable[..., Any]


@pytest.fixture(scope="session")
def client() -> Iterator[Any]:
    """Docker's daemon. Without one these tests fail: nobody asks for them by accident."""
    connected = docker.from_env(timeout=120)
    try:
        connected.ping()
        yield connected
    finally:
        connected.close()


@pytest.fixture(scope="session")
def revision() -> str:
    command = ["git", "rev-parse", "HEAD"]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()


@pytest.fixture(scope="session")
def image(client: Any, revision: str) -> Any:
    """The image, built from this checkout; ``D3TEST_IMAGE_BUILD`` has more options of the build."""
    name = f"d3:{d3.__version__}-{TORCH}"
    said = {"TORCH": TORCH, "VERSION": d3.__version__, "REVISION": revision}
    options = [f"--build-arg={key}={value}" for key, value in said.items()]
    options += shlex.split(os.environ.get("D3TEST_IMAGE_BUILD", ""))
    command = ["docker", "build", "--progress=plain", *options, f"--tag={name}", "."]
    environment = os.environ | {"DOCKER_BUILDKIT": "1"}
    subprocess.run(
        command, cwd=ROOT, env=environment, check=True, stdout=sys.stderr, stderr=sys.stderr
    )
    return client.images.get(name)


@pytest.fixture
def volume(client: Any) -> Iterator[str]:
    made = client.volumes.create()
    yield made.name
    made.remove(force=True)


@pytest.fixture
def start(client: Any, image: Any) -> Iterator[Start]:
    """Start a container of the image with as few rights as compose.yaml gives it."""
    with ExitStack() as started:

        def start(*command: str, **options: Any) -> Any:
            made = client.containers.run(image.id, list(command), detach=True, **(NARROW | options))
            started.callback(made.remove, v=True, force=True)
            return made

        yield start


@pytest.fixture
def run(start: Start) -> Callable[..., tuple[int, str]]:
    """Run a command in a container of its own; its exit code and what it printed."""

    def run(*command: str, **options: Any) -> tuple[int, str]:
        container = start(*command, **options)
        code = container.wait(timeout=300)["StatusCode"]
        return code, container.logs().decode()

    return run
