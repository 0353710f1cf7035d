"""The TypeScript client: its types, its own tests against a real service, and its package."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving import clean_environment, d3_serve
from tests.support.node import node, npm

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "clients/typescript"
IMAGES = ROOT / "examples/images"


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with what it is built with, so that tests leave nothing behind."""
    folder = tmp_path_factory.mktemp("typescript") / "package"
    unmade = shutil.ignore_patterns("node_modules", "dist", "build")
    shutil.copytree(SOURCE, folder, ignore=unmade)
    npm("ci", folder=folder)
    return folder


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Where a service listens, and the key that may do everything there."""
    folder = tmp_path_factory.mktemp("serving")
    home = folder / "home"
    settings = {"D3_HOME": str(home), "D3_SCAN_FOLDER": str(IMAGES), "D3_CORS_ORIGINS": "*"}
    signing = [sys.executable, "-m", "d3", "keys", "sign-init"]
    subprocess.run(signing, env=clean_environment(**settings), check=True, capture_output=True)
    with d3_serve(folder, **settings) as served:
        url = served.url()
        key = (home / "api.key").read_text().strip()
        yield {"D3_URL": url, "D3_API_KEY": key, "D3_TEST_IMAGES": str(IMAGES)}


def test_the_types_are_those_of_the_document(package: Path, tmp_path: Path) -> None:
    document, written = ROOT / "docs/openapi.json", tmp_path / "openapi.ts"
    subprocess.run([node(), "scripts/generate.js", document, written], cwd=package, check=True)
    hint = "They drifted: `nox -s openapi` writes the document and its types anew."
    assert written.read_text() == (SOURCE / "src/openapi.ts").read_text(), hint


def test_its_own_tests_pass(package: Path, environment: dict[str, str]) -> None:
    npm("test", folder=package, **environment)
