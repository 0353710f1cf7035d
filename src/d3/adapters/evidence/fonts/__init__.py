"""The fonts of PDF reports, cut down to the characters in use; LICENCES.md says whose they are.

HarfBuzz cuts in a few milliseconds what the PDF library needs half a second to read whole.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from pathlib import Path

import uharfbuzz

BODY, MONO, ASIAN = "DejaVu", "Mono", "Asian"
_FILES = {
    (BODY, ""): "DejaVuSans.ttf",
    (BODY, "B"): "DejaVuSans-Bold.ttf",
    (MONO, ""): "DejaVuSansMono.ttf",
    (ASIAN, ""): "WenQuanYiMicroHei.ttc",
}


@cache
def covered() -> frozenset[int]:
    """The code points that there is a glyph for, regular and bold."""
    regular, bold, asian = (
        set(_face(_FILES[one]).unicodes) for one in ((BODY, ""), (BODY, "B"), (ASIAN, ""))
    )
    return frozenset((regular & bold) | asian)


def cut(characters: set[int], folder: Path) -> dict[tuple[str, str], Path]:
    """Write fonts with these code points into a folder: their files by family and style.

    The one for Chinese, Japanese and Korean is left out where nothing needs it.
    """
    files = {}
    for (family, style), name in _FILES.items():
        face = _face(name)
        if family == ASIAN and characters <= set(_face(_FILES[BODY, ""]).unicodes):
            continue
        wanted = uharfbuzz.SubsetInput()
        wanted.unicode_set.update(characters)
        subset = uharfbuzz.subset(face, wanted)
        assert subset is not None
        files[family, style] = folder / f"{family}{style}.ttf"
        files[family, style].write_bytes(subset.blob.data)
    return files


@cache
def _face(name: str) -> uharfbuzz.Face:
    with resources.as_file(resources.files("d3.adapters.evidence.fonts") / name) as path:
        return uharfbuzz.Face(uharfbuzz.Blob.from_file_path(str(path)), 0)
