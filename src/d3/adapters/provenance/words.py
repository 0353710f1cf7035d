"""Text out of files, made short and safe; programs by name: which generate and which edit."""

from __future__ import annotations

import re
import unicodedata

MAX_TEXT_BYTES = 2 * 2**20
"""Of one text in a file, unpacked; a large workflow of ComfyUI has some hundred thousand."""

MAX_LINE = 120
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}

_SURE = (
    r"ai[ -]generated|automatic1111|bing image creator|black forest labs|chatgpt|comfyui|craiyon|"
    r"dall[\W_]?e(?:[\W_]?\d)?|draw things|adobe firefly|firefly image|flux[.-]1(?:\.\d)?|"
    r"flux-(?:dev|pro|schnell)|fooocus|gemini[ -]\d(?:\.\d)?[ -](?:flash|pro)|"
    r"google generative ai|gpt-(?:4o|5(?:\.\d)?|image)|grok imagine|grok-\d-image|ideogram[ .]ai|"
    r"imagen-\d\.\d-generate|invoke ?ai|leonardo\.ai|made with google ai|meta ai|midjourney|"
    r"nano banana|novelai|openai|recraft[ .]ai|recraft v\d[\d.]*|runwayml|sdxl|seedream|"
    r"stability ai|stable[ -]?diffusion(?:xl)?|swarmui"
)
_WITH_MAKER = (
    r"google (?:gemini|imagen|imagefx)|x\.?ai grok|hugging ?face diffusers|"
    r"(?:azure|microsoft) (?:openai|dall[\W_]?e)"
)
"""Words that others use too: a telescope is called Gemini, and a program for the Amiga ImageFX."""

_MORE = (
    r"v?\d[\w.+]*|alpha|api|beta|dev|diffusion|fast|flash|flux|forge|image ?gen|image|img2img|"
    r"large|lite|medium|model|preview|pro|schnell|turbo|txt2img|ultra|version|v|web ?ui|xl"
)
_GENERATORS = re.compile(
    rf"(?:{_WITH_MAKER}|{_SURE})(?:[\s,;:/()\[\]_-]++(?:{_WITH_MAKER}|{_SURE}|{_MORE})?+)*+",
    re.IGNORECASE,
)
_EDITORS = re.compile(
    r"(?<![a-z])(?:acdsee|adobe|affinity|aperture\b|apple photos|aurora hdr|camera raw|canva\b|"
    r"capcut|capture one|corel|darktable|digikam|dxo|exposure x|facetune|faststone|fotor\b|gimp|"
    r"imagemagick|inkscape|instagram|iphoto|irfanview|krita|lensa\b|lightroom|luminar|meitu|"
    r"nero |nik collection|on1 |paint\.net|paint shop|paintshop|photofiltre|photolab|photopea|"
    r"photoscape|photoshop|picasa|picsart|pixelmator|pixlr|polarr|rawtherapee|remini\b|silkypix|"
    r"skylum|snapseed|topaz|ulead|vsco|xnview|zoner)",
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
    """Whether a program's name is a generator's, as a whole: alone, or with a version behind."""
    return name is not None and _GENERATORS.fullmatch(name) is not None


def is_editor(name: str | None) -> bool:
    """Whether a program's name is one of an editor's."""
    return name is not None and _EDITORS.search(name) is not None
