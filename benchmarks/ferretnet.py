"""FerretNet-S on photographs, on what generators made of them, and on both saved lossily.

``python benchmarks/ferretnet.py DATA [WEIGHTS]``: DATA is what ``tests.real.fetch`` made, with the
part ``generators``; WEIGHTS a folder with the published file, which is pulled otherwise. Prints the
rows of the card in docs/detectors.md.
"""

from __future__ import annotations

import io
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from PIL import Image, ImageOps
from real_images import generators
from tests.real.fetch import listed
from tests.real.matched import SIDE, packages_in_turn

import d3
from d3.container import Container
from d3.domain.intervals import wilson
from d3.domain.services.pulling import PullService

PHOTOGRAPHS = 30
LARGEST_SQUARE = 512
WAYS = {"PNG": 0, "JPEG 90": 90, "JPEG 75": 75, "WebP 80": 80}
"""How each image is saved: the format, and its quality."""


def squares(data: Path) -> Iterator[tuple[str, Image.Image]]:
    """Squares of photographs, and what each family of generators makes of them."""
    families = generators(data / "generators")
    chosen = list(packages_in_turn(listed("photos")))[:PHOTOGRAPHS]
    for number, one in enumerate(chosen):
        with Image.open(data / one.path) as opened:
            picture = ImageOps.exif_transpose(opened).convert("RGB")
        side = min(*picture.size, LARGEST_SQUARE)
        left, top = ((length - side) // 2 for length in picture.size)
        part = picture.crop((left, top, left + side, top + side))
        original = part.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
        yield "photograph", original
        for family, redo in families.items():
            yield family, redo(original, number)


def saved(picture: Image.Image, way: str) -> bytes:
    """The bytes of a file."""
    stream = io.BytesIO()
    picture.save(stream, way.split(maxsplit=1)[0], quality=WAYS[way])
    return stream.getvalue()


def main() -> None:
    """Judge and count."""
    data, *weights = map(Path, sys.argv[1:] or sys.exit(__doc__))
    with tempfile.TemporaryDirectory() as home:
        settings = d3.Settings(home=Path(home), model="ferretnet-s", cuda_device="cpu")
        pulling: PullService = Container(settings=settings).pulling()
        pulling.pull("ferretnet-s", str(weights[0]) if weights else None)
        with d3.D3(settings) as detector:
            made = list(squares(data))
            for way in WAYS:
                found = detector.detect_many([saved(picture, way) for _, picture in made])
                calls: dict[str, list[bool]] = {}
                for (family, _), detection in zip(made, found, strict=True):
                    calls.setdefault(family, []).append(detection.is_fake)
                generated = [one for family, all_ in calls.items() for one in all_]
                calls["all generated"] = generated[len(calls["photograph"]) :]
                for family, said in calls.items():
                    low, high = wilson(sum(said), len(said))
                    share = f"{sum(said) / len(said):6.1%} [{low:.1%} to {high:.1%}]"
                    print(f"{way:8} {family:14} {sum(said):3} of {len(said):3} {share}")


if __name__ == "__main__":
    main()
