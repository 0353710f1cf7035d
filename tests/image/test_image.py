"""The image is small, says what it is made of, and serves without rights: `nox -s image`.

It needs a Docker daemon. Nothing here is skipped without one.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import d3
from d3.client import Client
from tests.image.conftest import ROOT, TORCH, Start

IMAGES = ROOT / "examples" / "images"
MOST_BYTES = {"cpu": 1_500_000_000, "cuda": 6_500_000_000}

Run = Callable[..., tuple[int, str]]


def healthy(container: Any, seconds: float = 120) -> None:
    """Wait until Docker calls it healthy."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        container.reload()
        state = container.attrs["State"]
        if state["Health"]["Status"] == "healthy":
            return
        assert state["Status"] == "running", container.logs().decode()
        time.sleep(0.5)
    pytest.fail(container.logs().decode())


def test_it_is_small(image: Any) -> None:
    assert image.attrs["Size"] <= MOST_BYTES[TORCH]


def test_its_labels_tell_which_d3_it_is(image: Any, revision: str) -> None:
    labels = image.labels
    said = {name.rpartition(".")[2]: value for name, value in labels.items()}
    assert said["version"] == d3.__version__
    assert said["revision"] == revision
    assert said["licenses"] == "Apache-2.0"
    assert said["torch"] == TORCH


def test_it_judges_without_a_network_a_writable_disk_or_root(run: Run) -> None:
    folder = {str(IMAGES): {"bind": "/images", "mode": "ro"}}
    names = ("camera-01.jpg", "generated-01-transposed.jpg")
    paths = [f"/images/{name}" for name in names]
    code, said = run("detect", "--json", *paths, network_mode="none", volumes=folder)
    assert code == 0, said
    judged = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    assert [one["verdict"] for one in judged] == ["real", "fake"]


def test_its_torch_is_the_one_it_says(run: Run) -> None:
    program = "import torch; print(torch.version.cuda)"
    code, said = run("-c", program, entrypoint=["python3"], network_mode="none")
    assert code == 0, said
    assert (said.strip() == "None") == (TORCH == "cpu")


def test_it_starts_is_healthy_judges_and_ends_cleanly(volume: str, start: Start, run: Run) -> None:
    home = {volume: {"bind": "/data", "mode": "rw"}}
    code, said = run("serve", volumes=home)
    assert code != 0
    assert "d3 keys init" in said  # nobody serves others without a key by mistake
    code, said = run("keys", "init", volumes=home)
    assert code == 0, said
    code, said = run("-c", "cat /data/api.key", entrypoint=["sh"], volumes=home)
    key = said.strip()

    service = start(volumes=home, ports={"5000/tcp": ("127.0.0.1", None)})
    healthy(service)
    _, user = service.exec_run(["id", "--user"])
    assert user.decode().strip() == "10001"
    code, said = service.exec_run(["touch", "/opt/d3/here"])
    assert code != 0
    assert b"Read-only file system" in said

    (published,) = service.attrs["NetworkSettings"]["Ports"]["5000/tcp"]
    address = f"http://127.0.0.1:{published['HostPort']}"
    with Client(address, api_key=key) as caller:
        judged = caller.predict(IMAGES / "generated-01-transposed.jpg")
        assert judged.result.verdict == "fake"

    begun = time.monotonic()
    service.stop(timeout=40)
    assert service.wait()["StatusCode"] == 0
    assert time.monotonic() - begun < 30
    lines = [one for one in service.logs().decode().splitlines() if one.startswith("{")]
    assert {json.loads(line)["level"] for line in lines} <= {"info", "warning"}, lines

    service.start()
    healthy(service)  # what a stopped one left is what the next one begins with


def test_it_says_how_it_is_built_with_what_it_lacks(run: Run) -> None:
    command = "printf '\\0\\0\\0\\30ftypisom\\0\\0\\0\\0isommp42' >/tmp/a.mp4; d3 detect /tmp/a.mp4"
    code, said = run("-c", command, entrypoint=["sh"], network_mode="none")
    assert code != 0
    assert "docker build --build-arg EXTRAS=video ." in said


def test_its_bill_of_materials_names_all_that_is_in_it(run: Run) -> None:
    inside = """
import importlib.metadata as m, json, subprocess
print(open("/usr/share/doc/d3/sbom.json").read())
print(json.dumps({one.name: one.version for one in m.distributions(path=[
    next(p for p in __import__("sys").path if p.endswith("site-packages"))])}))
print(json.dumps(subprocess.run(["dpkg-query", "--show", "--showformat=${Package}\\n"],
    capture_output=True, text=True, check=True).stdout.split()))
"""
    code, said = run("-c", inside, entrypoint=["/opt/d3/bin/python3"], network_mode="none")
    assert code == 0, said
    document, installed, system = _three(said)
    assert document["bomFormat"] == "CycloneDX"
    named = {one["name"]: one["version"] for one in document["components"]}
    assert installed.items() <= named.items()
    assert {"d3-deepfake", "torch", "numpy"} <= set(installed)
    debian = {one["name"] for one in document["components"] if "pkg:deb" in one.get("purl", "")}
    assert debian == set(system)
    assert "libc6" in debian


def _three(said: str) -> tuple[dict[str, Any], dict[str, str], list[str]]:
    *bill, installed, system = said.strip().splitlines()
    return json.loads("\n".join(bill)), json.loads(installed), json.loads(system)


def test_what_is_in_it_is_what_the_lock_says(run: Run) -> None:
    program = """
import importlib.metadata as m
print(*(f"{one.name.lower().replace('_', '-')}=={one.version}" for one in m.distributions()))
"""
    code, said = run("-c", program, entrypoint=["/opt/d3/bin/python3"], network_mode="none")
    assert code == 0, said
    lock = Path(ROOT / "requirements.lock").read_text(encoding="utf-8")
    locked = {line.split()[0] for line in lock.splitlines() if "==" in line}
    apart = {"d3-deepfake"} | ({"torch"} if TORCH == "cpu" else set())
    own = {one for one in said.split() if one.partition("==")[0] not in apart}
    assert len(own) > 50
    assert {one.replace(".", "-") for one in own} <= {one.replace(".", "-") for one in locked}
