"""What a bundle of evidence costs beside the model's time, and how large it is.

    python benchmarks/evidence.py [--rounds 15]

The cases are of the starter, which judged a photograph with sixteen views. The first bundle of a
process imports the PDF library, so it is shown apart. ``cpu`` is the process's own time, which
counts on a busy machine.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import d3
from d3.container import Container
from d3.domain.evidence import Case
from d3.domain.heatmaps import Heatmap

PHOTO = Path(__file__).parent.parent / "examples/images/camera-04.jpg"


def main() -> None:
    """Print a table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=15)
    rounds = options.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        settings = d3.Settings(home=Path(folder), model="starter", engine="torch")
        container = Container(settings=settings)
        bundles = container.evidence_bundles()
        bundles.keys.make()
        detection = container.detection().detect(PHOTO, name=PHOTO.name, views=16)
        case = container.evidence().of_detection(detection)
        heatmap = container.explaining().explain(PHOTO)
        asian = replace(case, result=replace(case.result, image_name="写真 사진 文件.jpg"))
        arabic = replace(case, result=replace(case.result, image_name="صورة.jpg"))
        cases: dict[str, tuple[Case, Heatmap | None]] = {
            "a stored result": (case, None),
            "a name in Arabic": (arabic, None),
            "a name in Chinese and Korean": (asian, None),
            "with a heat map": (case, heatmap),
        }
        begun = time.perf_counter()
        bundles.pack(case)
        print(f"the first of the process: {1000 * (time.perf_counter() - begun):.0f} ms\n")
        print("| | cpu ms | wall ms | bytes |\n|---|---|---|---|")
        for name, (one, picture) in cases.items():
            wall, cpu, size = list[float](), list[float](), 0
            for _ in range(rounds):
                begun, used = time.perf_counter(), time.process_time()
                size = len(bundles.pack(one, heatmap=picture))
                cpu.append(time.process_time() - used)
                wall.append(time.perf_counter() - begun)
            medians = (1000 * statistics.median(times) for times in (cpu, wall))
            print("| {} | {:.0f} | {:.0f} | {:,} |".format(name, *medians, size))
        file = Path(folder) / "case.zip"
        file.write_bytes(bundles.pack(case))
        begun = time.perf_counter()
        bundles.open(file)
        print(f"\nverify: {1000 * (time.perf_counter() - begun):.1f} ms")


if __name__ == "__main__":
    main()
