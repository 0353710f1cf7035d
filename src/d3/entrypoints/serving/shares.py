"""What N processes must not multiply: each gets its share of the settings' bounds."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

from d3.domain.machine import available_cores
from d3.settings import Settings

MOST_AUTOMATIC = 16
"""Fronts answer 500 requests a second each or more: so many feed several devices."""
GPU_FILES = ("/dev/nvidiactl", "/dev/dxg")
"""One of them is there if there is a GPU."""
_FEWEST_CONNECTIONS = 3
"""One for rows that are being written, one for an export, one for everything else."""
_ENGINES_CONNECTIONS = 2
_FEWEST_DECODERS = 2
"""One image that takes all its time must not hold up the others."""
_DEVIATIONS = 4


def workers_for(settings: Settings, cores: int | None = None, *, gpu: bool | None = None) -> int:
    """How many processes answer HTTP.

    ``auto`` is half the cores beside a GPU: the engine needs one, and decoding runs in processes of
    its own (on 16 cores 8 were quicker than 14, see benchmarks/RESULTS.md). An engine on the
    processor needs all cores, so there ``auto`` is 1.

    Args:
        settings: hold the wish.
        cores: that this process may use; found out unless given.
        gpu: whether there is a GPU; found out unless given.
    """
    if settings.workers != "auto":
        return settings.workers
    if settings.cuda_device == "cpu" or settings.engine == "openvino":
        return 1
    if gpu is None:
        gpu = any(Path(one).exists() for one in GPU_FILES)
    if not gpu:
        return 1
    return min(max(1, (cores or available_cores()) // 2), MOST_AUTOMATIC)


def for_front(settings: Settings, workers: int) -> Settings:
    """The settings of one of so many processes that answer HTTP.

    Bounds on memory, database connections and decoders are divided. The system spreads connections
    over the processes by a hash, never evenly, so bounds on connections and requests leave room for
    chance: four standard deviations.
    """
    if workers == 1:
        return settings
    decoders = math.ceil(settings.decode_threads / workers)
    connections = settings.database_pool_size
    if not settings.uses_sqlite:  # whose connections cost no server anything
        fewest = min(_FEWEST_CONNECTIONS, connections)
        connections = max(fewest, (connections - _ENGINES_CONNECTIONS) // workers)
    return replace(
        settings,
        workers=workers,
        database_pool_size=connections,
        decode_threads=max(min(_FEWEST_DECODERS, settings.decode_threads), decoders),
        body_bytes=math.ceil(settings.body_bytes / workers),
        max_requests=_by_chance(settings.max_requests, workers),
        max_connections=_by_chance(settings.max_connections, workers),
        max_connections_per_address=_by_chance(settings.max_connections_per_address, workers),
    )


def for_engine(settings: Settings) -> Settings:
    """The settings of a process that runs a model: its jobs need few database connections."""
    return replace(
        settings, database_pool_size=min(_ENGINES_CONNECTIONS, settings.database_pool_size)
    )


def _by_chance(most: int, workers: int) -> int:
    share = most / workers
    return min(most, math.ceil(share + _DEVIATIONS * math.sqrt(share)))
