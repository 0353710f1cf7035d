r"""The data sets that the starter's card has figures of, beside those of its own recipe.

::

    python -m tests.real.fetch DATA
    PYTHONPATH=. python benchmarks/starter_sets.py DATA OUT
    d3 train --recipe starter --photos DATA/photos --out starter/ \
        --test OUT/generators-of-others --test OUT/hand-made-art

``generators-of-others`` is the matched set of ``real_images.py``: of its photographs those of the
packages that the starter is tested on, what upscalers and style transfer made of them, and images
of text-to-image generators, all PNG of 256 x 256 pixels. ``hand-made-art`` is wallpapers and
drawings of Debian's packages as they are; people made them, so they count as real.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from real_images import REAL, TEXT_TO_IMAGE, write_images
from tests.real.packages import Package, fetch

from d3.training.starter.photographs import Part, table

_DRAWN = (
    *("Altai", "Autumn", "Canopee", "Cascade", "Cluster", "Elarun", "Flow", "FlyingKonqui"),
    *("Honeywave", "IceCold", "Kay", "Kokkini", "MilkyWay", "Opal", "PastelHills", "Patak"),
    *("SafeLanding", "Shell", "Volna"),
)
_ART = {
    "plasma-workspace-wallpapers": [f"**/wallpapers/{one}/contents/images/*.*" for one in _DRAWN],
    "gnome-backgrounds": ["**/backgrounds/gnome/*.webp"],
    "gcompris-qt-data": ["**/lang/**/*.webp"],
}
_EVERY = {"gcompris-qt-data": 4}


def copy_generated(data: Path, out: Path) -> None:
    """Copy what the set of ``real_images.py`` has of test packages, and all text-to-image."""
    tested = {one.package for one in table() if one.part is Part.TEST}
    for square in write_images(data, Path(__file__).parent / ".real/images"):
        if square.package in tested or square.family == TEXT_TO_IMAGE:
            kind = "real" if square.family == REAL else f"fake/{square.family}"
            (out / kind).mkdir(parents=True, exist_ok=True)
            shutil.copy(square.path, out / kind)


def copy_art(out: Path) -> None:
    """Copy drawings and drawn wallpapers, of each wallpaper its largest file."""
    (out / "real").mkdir(parents=True)
    for package, patterns in _ART.items():
        with tempfile.TemporaryDirectory() as folder:
            content = fetch(Package("apt", package, package), Path(folder))
            for pattern in patterns:
                files = sorted(content.glob(pattern), key=lambda one: (-one.stat().st_size, one))
                chosen = files[:1] if "wallpapers" in package else sorted(files)
                for number, file in enumerate(chosen[:: _EVERY.get(package, 1)]):
                    name = f"{package}-{patterns.index(pattern):02}-{number:02}{file.suffix}"
                    shutil.copy(file, out / "real" / name)


def main() -> None:
    """Write both."""
    data, out = map(Path, sys.argv[1:])
    copy_generated(data, out / "generators-of-others")
    copy_art(out / "hand-made-art")


if __name__ == "__main__":
    main()
