"""Text out of files, made short and safe; programs by name: which generate and which edit."""

from __future__ import annotations

import re
import unicodedata

MAX_TEXT_BYTES = 2 * 2**20
"""Of one text in a file, unpacked; a large workflow of ComfyUI has some hundred thousand."""

MAX_LINE = 120
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}

_GENERATORS = re.compile(
    r"ai[ -]generated|automatic1111|bing image creator|black forest labs|chatgpt|comfyui|craiyon|"
    r"dall[\W_]?e\b|diffusers|draw things|dreamstudio|adobe firefly|flux\.\d|fooocus|gemini [\d.]|"
    r"google (?:c2pa )?generative|gpt-?(?:4o|5|image)|grok|ideogram|imagen\b|imagefx|invoke ?ai|"
    r"leonardo\.ai|made with google ai|meta ai|midjourney|nano banana|novelai|openai|recraft|"
    r"runwayml|sdxl|seedream|stability ai|stable[ -]?diffusion|swarmui",
    re.IGNORECASE,
)
_EDITORS = re.compile(
    r"acdsee|adobe|affinity|aperture|apple photos|aurora hdr|camera raw|canva|capcut|capture one|"
    r"corel|darktable|digikam|dxo|exposure x|facetune|faststone|fotor|gimp|imagemagick|inkscape|"
    r"instagram|iphoto|irfanview|krita|lensa|lightroom|luminar|meitu|nero |nik collection|on1 |"
    r"paint\.net|paint shop|paintshop|photofiltre|photolab|photopea|photoscape|photoshop|picasa|"
    r"picsart|pixelmator|pixlr|polarr|rawtherapee|remini|silkypix|skylum|snapseed|topaz|"
    r"ulead|vsco|xnview|zoner",
    re.IGNORECASE,
)


def line(text: str, length: int = MAX_LINE) -> str | None:
    """The text as one visible line of at most so many characters; None where nothing is left."""
    start = text[: 4 * length]
    shown = "".join(
        " " if one.isspace() else one
        for one in start
        if one.isspace() or unicodedata.category(one) not in _HIDDEN
    )
    return " ".join(shown.split())[:length].strip() or None


def is_generator(name: str | None) -> bool:
    """Whether a program's name is one of a generator's."""
    return name is not None and _GENERATORS.search(name) is not None


def is_editor(name: str | None) -> bool:
    """Whether a program's name is one of an editor's."""
    return name is not None and _EDITORS.search(name) is not None
