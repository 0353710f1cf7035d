"""The wheel and the sdist in fresh environments of each Python: the smoke test."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.serving import clean_environment, wait_until
from tests.support.stores import free_port

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PHOTO = ROOT / "examples/images/camera-01.jpg"
GENERATED = ROOT / "examples/images/generated-01-transposed.jpg"
MARK = "Programming Language :: Python :: 3."
PYTHONS = sorted(
    (one.removeprefix(MARK) for one in PROJECT["classifiers"] if one.startswith(MARK)), key=int
)
MODULES = {
    "jxl": "pillow_jxl",
    "openvino": "openvino, nncf",
    "otel": "opentelemetry.sdk, opentelemetry.exporter.otlp.proto.http",
    "parquet": "pyarrow.parquet",
    "ray": "ray",
    "train": "cv2",
    "video": "av",
}


@dataclass(frozen=True)
class Installed:
    """D3 in an environment of its own, with a home of its own."""

    environment: Path
    folder: Path

    @property
    def python(self) -> Path:
        return self.environment / "bin/python"

    def run(self, *command: str | Path) -> str:
        """Run a program of the environment and return what it prints."""
        done = subprocess.run(
            [self.environment / "bin" / command[0], *command[1:]],
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
            env=self.environ(),
            cwd=self.folder,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def environ(self) -> dict[str, str]:
        kept = clean_environment()
        for name in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"):
            kept.pop(name, None)
        return kept | {"D3_HOME": str(self.folder / "home"), "OMP_NUM_THREADS": "1"}


def uv(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["uv", *command], capture_output=True, text=True, timeout=1800, check=False
    )


@contextmanager
def installed(folder: Path, python: str, what: str) -> Iterator[Installed]:
    found = uv("python", "find", "--no-project", f"3.{python}")
    if found.returncode:
        pytest.skip(f"there is no Python 3.{python} here, and none could be fetched")
    made = Installed(folder / "environment", folder)
    for command in (
        ("venv", "--quiet", "--python", found.stdout.strip(), made.environment),
        ("pip", "install", "--quiet", "--python", made.python, what),
    ):
        done = uv(*command)
        assert done.returncode == 0, done.stderr
    try:
        yield made
    finally:
        shutil.rmtree(made.environment)


def smoke(d3: Installed) -> None:
    """What a user does first: ask for the version, import, judge, check, serve and stop."""
    assert d3.run("d3", "--version").split()[-1] == PROJECT["version"]
    names = "import d3, sys; [getattr(d3, name) for name in d3.__all__]; "
    assert d3.run("python", "-c", f"{names} print('torch' in sys.modules)").strip() == "False"
    judged = d3.run("d3", "detect", "--json", PHOTO, GENERATED).splitlines()
    assert [json.loads(one)["verdict"] for one in judged] == ["real", "fake"]
    script = f"import d3; print(d3.detect({str(GENERATED)!r}).verdict)"
    assert d3.run("python", "-W", "error", "-c", script).strip() == "fake"
    found = [json.loads(one) for one in d3.run("d3", "doctor", "--json").splitlines()]
    assert found
    assert not [one for one in found if one["state"] == "failed"]
    serve_and_stop(d3)


def serve_and_stop(d3: Installed) -> None:
    port = free_port()
    program = d3.environment / "bin/d3"
    with (d3.folder / "log").open("wb") as log:
        service = subprocess.Popen(
            [program, "serve", "--port", str(port)],
            stdout=log,
            stderr=log,
            env=d3.environ(),
            cwd=d3.folder,
        )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
            wait_until(lambda: answers(http) or service.poll() is not None, 120)
            assert service.poll() is None, (d3.folder / "log").read_text()
            files = {"file": (GENERATED.name, GENERATED.read_bytes())}
            answer = http.post("/api/inference/predict", files=files)
            assert answer.status_code == 200, answer.text
            assert answer.json()["result"]["verdict"] == "fake"
            assert "<html" in http.get("/", headers={"Accept": "text/html"}).text
        service.send_signal(signal.SIGTERM)
        assert service.wait(60) == 0, (d3.folder / "log").read_text()
    finally:
        service.kill()


def answers(http: httpx.Client) -> bool:
    try:
        return http.get("/health/ready").status_code == 200
    except httpx.TransportError:
        return False


def file_of(distributions: Path, pattern: str) -> str:
    (file,) = distributions.glob(pattern)
    return str(file.resolve())


@pytest.mark.parametrize("python", PYTHONS)
def test_the_wheel_works_and_each_extra_is_added_by_its_hint(
    distributions: Path, python: str, tmp_path: Path
) -> None:
    assert set(MODULES) == set(PROJECT["optional-dependencies"]) - {"heif"}
    with installed(tmp_path, python, file_of(distributions, "*.whl")) as d3:
        smoke(d3)
        for extra, modules in MODULES.items():
            ask = f"from d3.domain.installation import install_hint as h; print(h({extra!r}))"
            command = d3.run("python", "-c", ask).strip().removeprefix("Run ")
            done = subprocess.run(
                ["sh", "-c", command], capture_output=True, text=True, timeout=1800, check=False
            )
            assert done.returncode == 0, done.stderr
            d3.run("python", "-c", f"import {modules}")
        smoke(d3)


def test_the_wheel_works_with_every_extra_at_once(distributions: Path, tmp_path: Path) -> None:
    what = f"{file_of(distributions, '*.whl')}[{','.join(MODULES)}]"
    with installed(tmp_path, PYTHONS[0], what) as d3:
        d3.run("python", "-c", f"import {', '.join(MODULES.values())}")
        smoke(d3)


def test_the_sdist_works(distributions: Path, tmp_path: Path) -> None:
    with installed(tmp_path, PYTHONS[0], file_of(distributions, "*.tar.gz")) as d3:
        smoke(d3)


@pytest.mark.parametrize("python", PYTHONS)
def test_every_package_has_a_wheel(python: str) -> None:
    """Also for Pythons that are not on this machine."""
    options = ("--quiet", "--all-extras", "--only-binary=:all:", f"--python-version=3.{python}")
    done = uv("pip", "compile", *options, ROOT / "pyproject.toml")
    assert done.returncode == 0, done.stderr
