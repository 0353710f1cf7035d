"""The report of a case as a page, and the pictures that stand in it."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from d3.adapters.evidence.course import course_svg, strip_of
from d3.adapters.evidence.pdf import Drawings, pdf_of
from d3.adapters.evidence.scale import scale_svg
from d3.domain.evidence import Case
from d3.domain.heatmaps import Heatmap
from d3.domain.images import Pixels
from d3.domain.services.reporting import Report, report_of

_SIDE = 512
"""The longer side of the heat map that is shown, in pixels."""


@dataclass(frozen=True, slots=True)
class Reports:
    """A case for people.

    Attributes:
        heatmap: a PNG file; None where there is none.
    """

    html: bytes
    pdf: bytes
    heatmap: bytes | None


def reports(
    case: Case, heatmap: Heatmap | None, key_id: str | None, pictures: Sequence[Pixels] = ()
) -> Reports:
    """The report of a case as HTML and PDF.

    Args:
        case: what it is about.
        heatmap: of the image.
        key_id: of the key that signs; None for a bundle that is not signed.
        pictures: of a clip's frames, see :func:`d3.adapters.evidence.course.shown_times`.
    """
    report = report_of(case, key_id=key_id, heatmap=heatmap is not None)
    picture = None if heatmap is None else _small(heatmap.png())
    scale = scale_svg(report.scale, report.tone)
    clip = case.result.clip_verdict
    course = None if clip is None else course_svg(clip, case.result.threshold)
    drawings = Drawings(scale, picture, course, strip_of(pictures))
    return Reports(_html(report, drawings), pdf_of(report, drawings, case.made_at), picture)


def _html(report: Report, drawings: Drawings) -> bytes:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    folder = resources.files("d3.adapters.evidence")
    page = environment.from_string((folder / "report.html.j2").read_text(encoding="utf-8"))
    style = (folder / "report.css").read_text(encoding="utf-8")
    text = page.render(
        r=report,
        style=Markup(style),  # noqa: S704  our own
        scale=Markup(drawings.scale),  # noqa: S704  numbers and our own words
        heatmap=base64.b64encode(drawings.heatmap or b"").decode(),
        course=Markup(drawings.course or ""),  # noqa: S704  likewise
        strip=base64.b64encode(drawings.strip or b"").decode(),
    )
    return text.encode()


def _small(png: bytes) -> bytes:
    """A PNG file with the same texts, no larger than is needed: it stands in the bundle thrice."""
    with Image.open(io.BytesIO(png)) as image:
        info = PngInfo()
        for keyword, words in image.info.items():
            if isinstance(keyword, str) and isinstance(words, str):
                info.add_text(keyword, words)
        image.thumbnail((_SIDE, _SIDE))
        file = io.BytesIO()
        image.quantize(128).save(file, "PNG", pnginfo=info)
    return file.getvalue()
