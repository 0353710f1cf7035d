"""Many small pictures, and a container that judges them without weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import d3
from d3.container import Container
from d3.domain.ports.scans import ImageCollection
from d3.domain.scans import Scan
from d3.domain.services.scans.watcher import Watcher
from tests.support.engines import FakeEngine


def paint(folder: Path, images: int, side: int = 48) -> list[Path]:
    """So many pictures in three folders below, all different, from dark to bright."""
    draw = np.random.default_rng(3)
    files = []
    for number in range(images):
        file = folder / f"{'abc'[number % 3]}/{number:05}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        shade = 255 * number // images
        pixels = np.clip(draw.normal(shade, 9, (side, side, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(file)
        files.append(file)
    return files


CRASHING_DECODER = {"PYTHONPATH": str(Path(__file__).parent / "faults/crashing")}
"""The environment of a process whose decoder dies of what :func:`paint_crashing` paints."""


def paint_crashing(file: Path) -> None:
    """A sound picture that ends a process with :data:`CRASHING_DECODER`."""
    Image.new("RGB", (53, 59)).save(file)


def container_for(home: Path, engine: FakeEngine | None = None, **settings: Any) -> Container:
    """D3 with a database made ready and an engine without weights."""
    container = Container(settings=d3.Settings(home=home, **settings))
    container.engine.override(engine or FakeEngine())
    container.schema().upgrade(backup=False)
    return container


def scan_all(
    container: Container,
    source: str | ImageCollection,
    name: str = "s",
    watcher: Watcher | None = None,
) -> Scan:
    """Begin a scan, or go on with it, and work until it is over."""
    service = container.scans()
    collection = service.collection(source) if isinstance(source, str) else source
    manifest = container.host().load().manifest
    try:
        scan = service.begin(name, collection, manifest, threshold=None, views=None)
        return service.run(scan, collection, watcher)
    finally:
        container.host().close()
        container.database().close()
