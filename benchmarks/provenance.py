"""What reading provenance costs: beside decoding in a child, by the kind of metadata.

    PYTHONPATH=.:tests python benchmarks/provenance.py cost
    python benchmarks/provenance.py decode      (any version of D3)
    python benchmarks/provenance.py said FOLDER...

Times are a processor's, medians of five rounds. ``cost`` decodes each file and looks at what it
says, in turns. ``decode`` prints what files without metadata take in this process and a child, to
run in turns with another version. ``said`` counts what the images in folders say of themselves, and how near the
unmarked ones come to a watermark.
"""

from __future__ import annotations

import io
import json
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

from d3.adapters.pillow import PillowDecoder
from d3.adapters.pillow.isolated import IsolatedDecoder

ROUNDS, SECONDS = 5, 0.7
SIZES = {"640 x 480": (640, 480), "4000 x 3000": (4000, 3000)}


def main() -> None:
    part, *rest = sys.argv[1:] or ["cost"]
    if part == "decode":
        decode()
    elif part == "said":
        said([Path(one) for one in rest])
    else:
        cost()


def milliseconds(work: Callable[[], object], clock: Callable[[], float]) -> float:
    """Of a processor for one call, over :data:`SECONDS`."""
    done, began, until = 0, clock(), time.perf_counter() + SECONDS
    while time.perf_counter() < until:
        work()
        done += 1
    return 1000 * (clock() - began) / done


def decode() -> None:
    decoder = IsolatedDecoder()
    decoder.decode(saved(picture(8, 8), "PNG"), 224)
    (child,) = decoder._idle  # noqa: SLF001
    scheduled = Path(f"/proc/{child._process.pid}/schedstat")  # noqa: SLF001

    def both() -> float:
        return time.process_time() + int(scheduled.read_text().split()[0]) / 1e9

    for name, size in SIZES.items():
        for kind in ("JPEG", "PNG", "WEBP") if size[0] < 1000 else ("JPEG",):
            work = partial(decoder.decode, saved(picture(*size), kind), 224)
            taken = statistics.median(milliseconds(work, both) for _ in range(ROUNDS))
            print(f"{kind} {name}: {taken:.3f}")
    decoder.close()


def cost() -> None:
    from d3.adapters.provenance import ProvenanceReader

    for size_name, size in SIZES.items():
        for name, data in files(picture(*size)).items():
            reader = ProvenanceReader(watermarks=name == "watermark looked for")
            work = partial(PillowDecoder(provenance=reader).decode_apart, data, 224)
            _, look = work()
            look()
            decoding, looking = [], []
            for _ in range(ROUNDS):
                decoding.append(milliseconds(work, time.process_time))
                looking.append(milliseconds(look, time.process_time))
            low, more = statistics.median(decoding), statistics.median(looking)
            print(f"| {name} | {size_name} | {low:.2f} | {more:.3f} |", flush=True)


def files(image: Image.Image) -> dict[str, bytes]:
    """Files with metadata of each kind."""
    from tests.support.credentials import Authority, manifest
    from tests.support.metadata import exif, generated_xmp

    plain = saved(image, "JPEG")
    camera = b"Exif\0\0" + exif(
        make="Canon", model="EOS 7D", software="Adobe Photoshop", created_at="x"
    )
    graph = {
        n: {"class_type": "CLIPTextEncode", "inputs": {"text": "a " * 100}} for n in range(300)
    }
    texts = PngImagePlugin.PngInfo()
    texts.add_text("prompt", json.dumps(graph))
    return {
        "none": plain,
        "Exif and XMP": saved(image, "JPEG", exif=camera, xmp=generated_xmp() + b" " * 5_000),
        "a manifest": Authority().sign(plain, "image/jpeg", manifest()),
        "ComfyUI's graph of 100 KB": saved(image, "PNG", pnginfo=texts, compress_level=1),
        "watermark looked for": plain,
    }


def said(folders: list[Path]) -> None:
    from d3.adapters.provenance.watermark import MARKS, _phases, correlation
    from d3.domain.errors import ImageError

    decoder = PillowDecoder()
    counted: Counter[str] = Counter()
    nearest = dict.fromkeys((mark.generator for mark in MARKS), 0.0)
    for path in sorted(one for folder in folders for one in folder.rglob("*") if one.is_file()):
        try:
            found = decoder.decode(path, 224).facts.provenance
        except ImageError:
            continue
        assert found is not None
        counted[f"all: {found.says}"] += 1
        for source in found.sources:
            counted[f"{source.kind}: {source.says}"] += 1
        with Image.open(path) as image:
            # What is too large for a pipeline is cut: as many pictures as there are count.
            rgb = image.convert("RGB").crop((0, 0, min(image.width, 2000), min(image.height, 2000)))
        if rgb.width * rgb.height >= 256**2:
            counted["looked at for watermarks"] += 1
            phases = _phases(rgb)
            for mark in MARKS:
                found_here = correlation(phases, mark)
                nearest[mark.generator] = max(nearest[mark.generator], found_here)
                counted[f"watermark: {mark.generator}"] += found_here >= mark.needed
    for name, number in sorted(counted.items()):
        print(name, number)
    print({name: round(value, 2) for name, value in nearest.items()})


def picture(width: int, height: int) -> Image.Image:
    rows, columns = np.mgrid[0:height, 0:width]
    waves = [np.sin(rows / (9 + n)) + np.cos(columns / (7 + n)) for n in range(3)]
    return Image.fromarray((128 + 60 * np.stack(waves, -1)).astype(np.uint8))


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


if __name__ == "__main__":
    main()
