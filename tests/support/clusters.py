"""A real Ray cluster of two nodes with a core each, on this machine; a node may be killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from tests.support.servers import ServerMissing
from tests.support.stores import free_port

RAY = Path(sys.executable).parent / "ray"
_START_SECONDS = 120
_ATTEMPTS = 2
_OPTIONS = ("--num-cpus=1", "--disable-usage-stats", "--block")
_STORE_MB = 80


class Cluster:
    """A head with a core and one more node; both end with the test."""

    def __init__(self, folder: Path, store_mb: int, environ: Mapping[str, str]) -> None:
        self._store = f"--object-store-memory={store_mb * 10**6}"
        self.address = f"127.0.0.1:{free_port()}"
        self._folder = folder
        # Ray's workers yield to everything else of the machine unless told not to, and a node that
        # is not up within 30 seconds ends.
        patient = {"RAY_worker_niceness": "0", "RAY_raylet_start_wait_time_s": str(_START_SECONDS)}
        self._environ = {**os.environ, **patient, **environ}
        port = self.address.rpartition(":")[2]
        options = (f"--port={port}", "--node-ip-address=127.0.0.1", "--include-dashboard=false")
        self._head = self._start("head", "--head", *options, f"--temp-dir={folder}")
        self.node = self.add_node()

    def add_node(self) -> subprocess.Popen[bytes]:
        """One more node with a core."""
        # By an address of its own it is another machine to Ray.
        options = (f"--address={self.address}", "--node-ip-address=127.0.0.2")
        self.node = self._start("node", *options)
        return self.node

    def kill_node(self) -> None:
        """The end of the second node: every process of it at once."""
        kill_group(self.node)

    def workers(self) -> list[int]:
        """The processes of this cluster that work on a scan."""
        own = {*descendants(self._head.pid), *descendants(self.node.pid)}
        return [one for one in processes("ray::_Worker") if one in own]

    def stop(self) -> None:
        """End every process."""
        for process in (self.node, self._head):
            kill_group(process)

    def _start(self, name: str, *options: str) -> subprocess.Popen[bytes]:
        """Start a node and wait for it; once more if it does not come, as on a busy machine."""
        file = self._folder / f"{name}.log"
        for _ in range(_ATTEMPTS):
            with file.open("wb") as log:
                process = subprocess.Popen(
                    [RAY, "start", *options, *_OPTIONS, self._store],
                    stdout=log,
                    stderr=log,
                    env=self._environ,
                    start_new_session=True,
                )
            until = time.monotonic() + _START_SECONDS
            while process.poll() is None and time.monotonic() < until:
                if "Ray runtime started" in file.read_text():
                    return process
                time.sleep(0.1)
            kill_group(process)
        raise ServerMissing(f"Ray's {name} does not start:\n{file.read_text()[-2000:]}")


@contextmanager
def two_nodes(
    folder: Path, store_mb: int = _STORE_MB, environ: Mapping[str, str] = MappingProxyType({})
) -> Iterator[Cluster]:
    """A cluster of two nodes, a core each.

    Args:
        folder: for what Ray writes.
        store_mb: of each node's object store, of which scans need next to nothing.
        environ: variables of both nodes and their workers, beside those of this process.
    """
    cluster = Cluster(folder, store_mb, environ)
    try:
        yield cluster
    finally:
        cluster.stop()


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill -9 of a process and all that descend from it."""
    for one in [*descendants(process.pid), process.pid]:
        try:
            os.kill(one, signal.SIGKILL)
        except ProcessLookupError:
            continue
    process.wait(30)


def descendants(root: int) -> list[int]:
    """The processes below one."""
    parents: dict[int, int] = {}
    for one in Path("/proc").iterdir():
        if one.name.isdigit():
            try:
                parents[int(one.name)] = int(_stat(one)[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
    found, new = list[int](), [root]
    while new:
        new = [one for one, parent in parents.items() if parent in new]
        found += new
    return found


def processes(title: str) -> list[int]:
    """Those whose title begins so."""
    found = []
    for one in Path("/proc").iterdir():
        if one.name.isdigit():
            try:
                if (one / "cmdline").read_bytes().decode(errors="replace").startswith(title):
                    found.append(int(one.name))
            except (FileNotFoundError, ProcessLookupError):
                continue
    return sorted(found)


def _stat(process: Path) -> list[str]:
    return (process / "stat").read_text().rpartition(")")[2].split()
