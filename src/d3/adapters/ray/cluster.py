"""Workers of a bulk scan on every node of a Ray cluster, as many as its GPUs or cores feed.

Ray decides where they run and restarts them when a process or a node dies. The ledger decides
which of them judges what, and that every image has one row, as it does without Ray.
"""

from __future__ import annotations

import logging
import signal
import socket
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any, NamedTuple, TypeAlias

import ray
from ray.exceptions import RayActorError, RayTaskError

from d3.domain.errors import D3Error, ScanFailed, SettingsInvalid

_LOG = logging.getLogger(__name__)
_LOOK_SECONDS = 0.5
_LAST_SECONDS = 10.0
_CONNECT_SECONDS = 5.0
_CLIENT = "ray://"


class Share(NamedTuple):
    """What a worker gets of a node.

    Attributes:
        cores: for decoding.
        gpus: 1, or 0 where the CPU runs the model too.
    """

    cores: int
    gpus: int


Work: TypeAlias = Callable[[str, int, bool], None]
"""Works on the scan of that name, with so many cores, and a GPU or none, until it is over."""


class RayCluster:
    """Implements ``ScanCluster``.

    Args:
        address: ``auto`` for the cluster that runs on this machine, or ``HOST:PORT``.
        work: what a worker does; it travels to the nodes, so D3 is installed on each.
        cores: of a worker on a node without GPUs.
        shared: whether the ledger can be reached from other machines.
    """

    def __init__(
        self, address: str, work: Work, *, cores: int, gpus: bool = True, shared: bool = True
    ) -> None:
        self._address = address
        self._work = work
        self._cores = cores
        self._gpus = gpus
        self._shared = shared

    def run(self, name: str, is_over: Callable[[], bool], idle: Callable[[], None]) -> None:
        """Run workers on all nodes, also new ones, until the scan is over.

        Raises:
            SettingsInvalid: there is no such cluster, or its nodes share no database.
            ScanFailed: no worker is left that could go on.
            D3Error: what the last worker met.
        """
        with self._connected():
            self._check_nodes()
            self._run(name, is_over, idle)

    def _run(self, name: str, is_over: Callable[[], bool], idle: Callable[[], None]) -> None:
        running: dict[Any, tuple[Share, Any]] = {}
        given_up: Counter[Share] = Counter()
        failure: D3Error | None = None
        while not is_over():
            have = Counter(share for share, _ in running.values()) + given_up
            for share in (Counter(self._shares()) - have).elements():
                worker = _worker(share)
                running[worker.run.remote(self._work, name, *share)] = (share, worker)
            if not running:
                raise failure or ScanFailed(
                    "The Ray cluster has no node with a free core for D3.",
                    "`ray status` shows its resources.",
                )
            for ended in ray.wait([*running], timeout=_LOOK_SECONDS)[0]:
                share, worker = running.pop(ended)
                try:
                    ray.get(ended)
                except RayTaskError as error:
                    failure = _as_d3_error(error)
                    given_up[share] += 1
                    _LOG.warning("a worker failed, %d are left: %s", len(running), failure)
                    ray.kill(worker)
                except RayActorError as error:
                    _LOG.warning("a worker was lost; starting another one: %s", error)
            idle()
        # Those that still judge an image end by themselves; one whose node is gone never does.
        if running:
            ray.wait([*running], num_returns=len(running), timeout=_LAST_SECONDS)

    def _shares(self) -> Iterator[Share]:
        """One for each worker that the live nodes can feed."""
        for node in ray.nodes():
            resources = node["Resources"] if node["Alive"] else {}
            cores, gpus = int(resources.get("CPU", 0)), int(resources.get("GPU", 0))
            if self._gpus and gpus and cores:
                workers = min(gpus, cores)
                yield from [Share(cores // workers, 1)] * workers
            elif cores:
                each = min(cores, self._cores)
                yield from [Share(each, 0)] * (cores // each)

    def _check_nodes(self) -> None:
        machines = {node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}
        if not self._shared and (len(machines) > 1 or self._address.startswith(_CLIENT)):
            raise SettingsInvalid(
                "The embedded SQLite database works on one machine only, but the Ray cluster has "
                f"{len(machines)}.",
                "Set D3_DATABASE_URL or POSTGRES_HOST to a PostgreSQL server that every node can "
                "reach.",
            )

    @contextmanager
    def _connected(self) -> Iterator[None]:
        # Ray tells of nodes that died on stdout, where the result is to stand alone.
        with _keep_signal_handler(), redirect_stdout(sys.stderr):
            try:
                _check_port(self._address)
                ray.init(
                    self._address, namespace="d3", log_to_driver=False, logging_level="warning"
                )
            except (OSError, RuntimeError, ValueError) as error:
                raise SettingsInvalid(
                    f"No Ray cluster answers at {self._address!r}.",
                    "Start one on this machine with `ray start --head`. Without a cluster, D3 "
                    "does not need Ray.",
                ) from error
            try:
                yield
            finally:
                ray.shutdown()


class _Worker:
    """A process on a node; if it dies, Ray starts another one and calls it again."""

    def run(self, work: Work, name: str, cores: int, gpus: int) -> None:
        work(name, cores, bool(gpus))


def _worker(share: Share) -> Any:
    actor = ray.remote(_Worker).options(
        num_cpus=share.cores,
        num_gpus=share.gpus,
        max_restarts=-1,
        max_task_retries=-1,
        scheduling_strategy="SPREAD",
    )
    return actor.remote()


def _as_d3_error(error: RayTaskError) -> D3Error:
    if isinstance(error.cause, D3Error):
        return error.cause
    failed = ScanFailed(
        f"A worker failed ({type(error.cause).__name__}).", "Ray's logs have the details."
    )
    failed.__cause__ = error
    return failed


def _check_port(address: str) -> None:
    """Check that somebody listens there; Ray itself tries for minutes."""
    host, _, port = address.removeprefix(_CLIENT).rpartition(":")
    if host:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS).close()


@contextmanager
def _keep_signal_handler() -> Iterator[None]:
    """Restore our signal handler, which Ray replaces."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
