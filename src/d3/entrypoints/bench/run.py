"""The parts of ``d3 bench``: machine, engine, preprocessing, HTTP, end to end."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from d3.container import Container
from d3.domain.machine import available_cores
from d3.domain.models import D3, StoredModel
from d3.domain.ports.detector import Detector
from d3.domain.services.engines import MeasuredEngine, compared
from d3.entrypoints.bench import service
from d3.entrypoints.bench.measure import (
    SHAPES,
    Say,
    in_turns,
    matmul_rates,
    operations,
    peak_gib,
    processor,
    published_procedure,
    random_model,
    random_pixels,
)
from d3.settings import Settings

CONNECTIONS = 8
_PUBLISHED = "published procedure"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is measured.

    Attributes:
        batches: images of a forward pass.
        rounds: of which the median counts.
        seconds: of each load on the service.
        workers: of the service in a row of its own; 1 for no such row.
    """

    batches: tuple[int, ...] = (1, 8)
    rounds: int = 5
    seconds: float = 10.0
    workers: int = min(available_cores(), 8)


QUICK = Plan(batches=(1,), rounds=1, seconds=2.0, workers=1)


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured line.

    Attributes:
        part: ``machine``, ``choice``, ``engine``, ``preprocessing``, ``http`` or ``end to end``.
        note: what to compare it with; may be empty.
    """

    part: str
    what: str
    value: float
    unit: str
    note: str = ""


@contextmanager
def measured_model(settings: Settings, shape: str | None, say: Say) -> Iterator[Settings]:
    """Settings under which the model to be measured answers: the user's or random weights."""
    if shape is None:
        yield settings
        return
    say(f"making random weights of the shape {shape}")
    with TemporaryDirectory(prefix="d3-bench-") as home, TemporaryDirectory(dir=home) as source:
        name = f"random-{shape}"
        chosen = replace(settings, home=Path(home), minio_endpoint=None, model=name, panel=())
        model = random_model(Path(source), name, SHAPES[shape])
        Container(settings=chosen).registry().put(model)
        for file in (model.encoder, model.head):
            file.unlink()
        yield chosen


def run(settings: Settings, plan: Plan, say: Say = lambda _: None) -> Iterator[Figure]:
    """Every figure as soon as it is measured."""
    container = Container(settings=settings)
    say("measuring the machine")
    stored = container.registry().open(container.host().chosen())
    say("loading the model")
    engine = container.engine()
    if isinstance(engine, MeasuredEngine) and plan is not QUICK:
        container.timings().keep(stored, [])  # measured once more, on a machine with nothing to do
    detector: Detector = engine.load(stored)
    cuda = detector.device != "cpu"
    rates = matmul_rates(detector.device, plan.rounds)
    for precision, rate in rates.items():
        yield Figure(
            "machine", f"matrix product, {precision}", rate / 1e9, "GFLOP/s", _machine(detector)
        )
    for row in compared(container.timings(), stored, detector):
        yield Figure("choice", row.timing.name, 1000 * row.timing.seconds, "ms/image", row.note)
    detectors = [detector]
    if stored.int8 is not None:
        detectors.append(container.model_engine().load(stored))
    yield from _engine(stored, detectors, plan, rates, say)
    if (peak := peak_gib()) is not None:
        yield Figure("engine", "peak memory, baseline included", peak, "GiB")
    for one in detectors:
        one.close()
    image = service.jpeg()
    yield from _preprocessing(
        container, stored, image, plan=plan, threads=settings.decode_threads, say=say
    )
    if cuda:
        torch.cuda.empty_cache()
    yield from _service(settings, stored.manifest.name, image, plan, say)


def _machine(detector: Detector) -> str:
    if detector.device == "cpu":
        return processor()
    return torch.cuda.get_device_name(detector.device)


def _engine(
    stored: StoredModel, detectors: list[Detector], plan: Plan, rates: dict[str, float], say: Say
) -> Iterator[Figure]:
    """What an image takes; a D3 in turns with the published procedure on the same weights."""
    manifest = stored.manifest
    ours = {f"d3 ({one.engine}, {one.precision}, {one.device})": one for one in detectors}
    published, work = None, 0
    if manifest.architecture == D3:
        published = published_procedure(stored, detectors[0].device)
        work = operations(manifest.encoder_spec)
    for batch in plan.batches:
        pixels = random_pixels(manifest.input_spec.size, batch)
        contestants: dict[str, Callable[[], object]] = {
            name: partial(detector.score, pixels, 1) for name, detector in ours.items()
        }
        if published is not None:
            contestants = {
                _PUBLISHED: lambda pixels=pixels: published(pixels).cpu(),  # type: ignore[misc]
                **contestants,
            }
        taken = in_turns(contestants, plan.rounds, say)
        theirs = taken.get(_PUBLISHED, math.nan) / batch
        if published is not None:
            yield Figure("engine", f"{_PUBLISHED}, batch {batch}", 1000 * theirs, "ms/image")
        for name, detector in ours.items():
            mine = taken[name] / batch
            peak = rates.get(detector.precision)  # torch has no int8 product to compare it with
            share = f", {work / mine / peak:.0%} of the machine's" if peak else ""
            yield Figure(
                "engine",
                f"{name}, batch {batch}",
                1000 * mine,
                "ms/image",
                f"{theirs / mine:.2f} times as fast; {work / mine / 1e9:,.0f} GFLOP/s{share}"
                if published is not None
                else "",
            )


def _preprocessing(
    container: Container,
    stored: StoredModel,
    image: bytes,
    *,
    plan: Plan,
    threads: int,
    say: Say,
) -> Iterator[Figure]:
    decoder, wanted = container.decoder(), stored.manifest.input_spec.pixels
    say("decoding")
    for workers in sorted({1, threads}):
        with ThreadPoolExecutor(workers) as pool:
            begun, done = time.perf_counter(), 0
            while time.perf_counter() - begun < plan.seconds / 4:
                done += len(list(pool.map(lambda _: decoder.decode(image, wanted), range(16))))
            rate = done / (time.perf_counter() - begun)
        what = f"JPEG of {len(image) // 1024} KB, 1024 x 768, {workers} thread{'s' * (workers > 1)}"
        yield Figure("preprocessing", what, rate, "images/s")


def _service(
    settings: Settings, model: str, image: bytes, plan: Plan, say: Say
) -> Iterator[Figure]:
    with TemporaryDirectory(prefix="d3-bench-") as folder:
        home = Path(folder)
        _borrow(settings.models_folder, home)
        _borrow(settings.cache_folder, home)
        own = replace(
            settings,
            home=home,
            model=model,
            database_url=f"sqlite:///{folder}/d3.db",
            redis_url=None,
            auth="auto",
            tls_cert=None,
            tls_key=None,
        )
        for workers in sorted({1, plan.workers}):
            beside = f", {workers} workers" if workers > 1 else ""
            connections = CONNECTIONS * workers
            say(f"starting the service{beside}")
            with service.serving(replace(own, workers=workers)) as port:
                if own.cache_entries:
                    service.ask_until_known(port, image)
                    say(f"asking the service for one image again and again{beside}")
                    rate = service.load(port, lambda _: image, connections, plan.seconds)
                    what = f"predict, result known, {connections} connections{beside}"
                    yield Figure("http", what, rate, "requests/s")
                say(f"asking the service for images it has not seen{beside}")
                # Bytes behind the end of a JPEG make it another file with the same pixels.
                rate = service.load(
                    port,
                    lambda number: image + number.to_bytes(8),
                    connections,
                    plan.seconds,
                )
                what = f"predict, new images, {connections} connections{beside}"
                yield Figure("end to end", what, rate, "images/s")


def _borrow(source: Path, home: Path) -> None:
    """Have a folder of the user's home in the service's own, where nothing else of it is."""
    source.mkdir(parents=True, exist_ok=True)
    try:
        (home / source.name).symlink_to(source.resolve(), target_is_directory=True)
    except OSError:  # Windows lets not everybody make links
        shutil.copytree(source, home / source.name)
