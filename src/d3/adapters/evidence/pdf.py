"""The report of a case as PDF/A: what archives and courts take, with its fonts inside.

A character that no shipped font has is written as its code point, so that none vanishes.
"""

from __future__ import annotations

import io
import string
import tempfile
from dataclasses import dataclass
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any

from fpdf import FPDF, FontFace
from fpdf.enums import TableBordersLayout, XPos, YPos
from PIL import Image

from d3.adapters.evidence.course import HEIGHT as COURSE_HEIGHT
from d3.adapters.evidence.course import WIDTH as COURSE_WIDTH
from d3.adapters.evidence.fonts import ASIAN, BODY, MONO, covered, cut
from d3.adapters.evidence.scale import HEIGHT, INK, WIDTH
from d3.domain.services.reporting import Report, Section

_MARGIN, _LINE, _SIZE = 18, 4.7, 9.5
_GREY, _BLACK = (90, 99, 110), (29, 33, 38)
_MARKS = "•…\u00a0"
_LONGEST_NAME = 60
"""Characters of a name in the line below a page."""
_COMPLEX = range(0x590, 0x1E00)
"""Code points of scripts whose letters change shape or direction."""
_PICTURE = 84
"""The most millimetres of a heat map's side."""
_SMALLEST_PICTURE = 40
"""A page with less room for its height is left to the next one."""
_IN_A_ROW = 700
"""Characters in a row of a table: it must fit on a page in any script."""
_WORDS = 24
"""Millimetres that must follow a heading on its page."""


_XMP = """<x:xmpmeta xmlns:x="adobe:ns:meta/">
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"
 xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:xmp="http://ns.adobe.com/xap/1.0/"
 xmlns:pdfaid="http://www.aiim.org/pdfa/ns/id/">
<rdf:Description rdf:about="" xmp:CreateDate="{at}" pdfaid:part="2" pdfaid:conformance="B">
<dc:title><rdf:Alt><rdf:li xml:lang="x-default">{title}</rdf:li></rdf:Alt></dc:title>
</rdf:Description></rdf:RDF></x:xmpmeta>"""
"""The library's own names the time of writing; then the same report gave other bytes."""


@dataclass(frozen=True, slots=True)
class Drawings:
    """The pictures of a report.

    Attributes:
        scale: the drawing of the number, SVG.
        heatmap: a PNG file; None where there is none.
        course: the drawing of a clip, SVG; None for a still.
        strip: pictures of its frames in a row, a PNG file; None where the clip was not at hand.
    """

    scale: str
    heatmap: bytes | None = None
    course: str | None = None
    strip: bytes | None = None


def pdf_of(report: Report, drawings: Drawings, made_at: datetime) -> bytes:
    """The report as a PDF file; the same report gives the same bytes.

    Args:
        report: what it says.
        drawings: that stand in it.
        made_at: the file's date.
    """
    with tempfile.TemporaryDirectory(prefix="d3-fonts-") as folder:
        page = _Page(report, made_at, Path(folder))
        page.heading(report)
        page.verdict(report, drawings.scale)
        for section in report.sections:
            page.section(section, drawings)
        page.ln(3)
        page.paragraph(report.footer, _GREY)
        return bytes(page.output())


class _Page(FPDF):
    """A4 pages with D3's fonts."""

    def __init__(self, report: Report, made_at: datetime, folder: Path) -> None:
        super().__init__(enforce_compliance="PDF/A-2B")
        characters = set(map(ord, _text_of(report) + string.printable + _MARKS))
        files = cut(characters & covered(), folder)
        for (family, style), path in files.items():
            self.add_font(family, style, path)
        if (ASIAN, "") in files:
            self.set_fallback_fonts([ASIAN], exact_match=False)
        if any(one in _COMPLEX for one in characters):
            self.set_text_shaping(use_shaping_engine=True)
        self.set_margins(_MARGIN, _MARGIN)
        self.set_auto_page_break(auto=True, margin=_MARGIN)
        self.c_margin = 0
        self._named = self._shown(report.image)
        title = f"D3 report on {self._named}"
        self.set_title(title)
        self.set_lang("en")
        self.set_creation_date(made_at)
        self.set_xmp_metadata(
            _XMP.format(title=escape(title), at=made_at.isoformat("T", "seconds"))
        )
        self.add_page()

    def header(self) -> None:
        """Nothing: the first page says what it is, the others say it below."""

    def footer(self) -> None:
        """The image and the page's number."""
        self.set_y(-12)
        self.set_font(BODY, size=7.5)
        self.set_text_color(*_GREY)
        name = self._named
        if len(name) > _LONGEST_NAME:
            name = f"{name[: _LONGEST_NAME - 1]}…"
        self.cell(0, 4, f"D3 report on {name}, page {self.page_no()} of {{nb}}", align="C")

    def heading(self, report: Report) -> None:
        self.paragraph(report.kind, _GREY)
        self.set_text_color(*_BLACK)
        self.set_font(BODY, "B", 15)
        self._write(report.image, 7)
        self.ln(0.5)
        self.set_text_color(*_GREY)
        self.set_font(BODY, size=8)
        self._write(report.subtitle, _LINE)
        self.ln(2)
        self.set_text_color(*_BLACK)
        for warning in report.warnings:
            self.set_fill_color(255, 244, 214)
            self.set_draw_color(226, 195, 114)
            self.set_font(BODY, size=_SIZE)
            self._write(warning, _LINE, fill=True, border=1, padding=2)
            self.ln(2)

    def verdict(self, report: Report, scale: str) -> None:
        ink = tuple(int(INK[report.tone][at : at + 2], 16) for at in (1, 3, 5))
        self.ln(2)
        self.set_text_color(*ink)
        self.set_font(BODY, "B", 16)
        self._write(report.headline + (" (demo)" if report.tone == "demo" else ""), 8)
        for paragraph in report.summary:
            self.paragraph(paragraph)
        self.ln(1)
        self.image(
            io.BytesIO(scale.encode()),
            x=_MARGIN,
            w=self.epw,
            h=self.epw * HEIGHT / WIDTH,
            alt_text=report.summary[1],
        )
        self.ln(1)

    def section(self, section: Section, drawings: Drawings) -> None:
        self.ln(3.5)
        heatmap = drawings.heatmap
        width, height = self._picture(heatmap) if section.heatmap and heatmap else (0.0, 0.0)
        if self.will_page_break(_WORDS + height):
            self.add_page()
        self.set_text_color(*_BLACK)
        self.set_font(BODY, "B", 11)
        self._write(section.title, 6)
        self.ln(0.5)
        if heatmap is not None and height:
            self.image(
                io.BytesIO(heatmap),
                w=width,
                h=height,
                alt_text="The image with the heat map laid over it",
            )
            self.ln(1.5)
        if section.course:
            self._course(drawings)
        for paragraph in section.paragraphs:
            self.paragraph(paragraph)
        for point in section.points:
            self.set_font(BODY, size=_SIZE)
            self.set_x(_MARGIN + 1)
            self.cell(4, _LINE, "•")
            self.set_left_margin(_MARGIN + 5)
            self.paragraph(point)
            self.set_left_margin(_MARGIN)
        if section.facts:
            self._table(section.facts)
        if section.commands:
            self.ln(1)
            self.set_fill_color(244, 245, 247)
            self.set_font(MONO, size=7.6)
            self._write("\n".join(section.commands), 4.2, fill=True, padding=2)

    def _course(self, drawings: Drawings) -> None:
        """The course of a clip, and its frames below it."""
        if drawings.course is not None:
            height = self.epw * COURSE_HEIGHT / COURSE_WIDTH
            svg = io.BytesIO(drawings.course.encode())
            self.image(svg, x=_MARGIN, w=self.epw, h=height, alt_text="Probabilities over time")
        if drawings.strip is not None:
            strip = io.BytesIO(drawings.strip)
            self.image(strip, x=_MARGIN, w=self.epw, alt_text="Frames of the clip, in order")
        self.ln(1.5)

    def _picture(self, heatmap: bytes) -> tuple[float, float]:
        """The size of the heat map, smaller where that keeps it on this page."""
        with Image.open(io.BytesIO(heatmap)) as image:
            width, height = image.size
        scale = _PICTURE / max(width, height)
        room = self.page_break_trigger - self.get_y() - _WORDS
        if room >= _SMALLEST_PICTURE:
            scale = min(scale, room / height)
        return scale * width, scale * height

    def paragraph(self, text: str, colour: tuple[int, int, int] = _BLACK) -> None:
        self.set_text_color(*colour)
        self.set_font(BODY, size=_SIZE)
        self._write(text, _LINE)
        self.ln(1)

    def _table(self, facts: tuple[tuple[str, str], ...]) -> None:
        self.ln(0.5)
        self.set_font(BODY, size=8.6)
        self.set_draw_color(223, 226, 230)
        self.set_fill_color(255, 255, 255)
        with self.table(
            col_widths=(29, 71),
            first_row_as_headings=False,
            align="L",
            text_align="L",
            line_height=4.4,
            padding=(0.7, 1, 0.7, 0),
            v_align="T",
            borders_layout=TableBordersLayout.HORIZONTAL_LINES,
        ) as table:
            for name, value in facts:
                shown = self._shown(value)
                for start in range(0, len(shown) or 1, _IN_A_ROW):
                    row = table.row()
                    row.cell("" if start else self._shown(name), style=FontFace(color=_GREY))
                    row.cell(shown[start : start + _IN_A_ROW], style=FontFace(color=_BLACK))

    def _write(self, text: str, height: float, **looks: Any) -> None:
        self.multi_cell(
            0, height, self._shown(text), align="L", new_x=XPos.LMARGIN, new_y=YPos.NEXT, **looks
        )

    def _shown(self, text: str) -> str:
        """The text with code points in place of what no font has."""
        return "".join(
            one if ord(one) in covered() or one == "\n" else f"[U+{ord(one):04X}]" for one in text
        )


def _text_of(report: Report) -> str:
    """All that a report says."""
    texts = [report.image, report.subtitle, report.headline, report.footer]
    texts += [*report.summary, *report.warnings]
    for section in report.sections:
        texts += [section.title, *section.paragraphs, *section.points, *section.commands]
        texts += [text for fact in section.facts for text in fact]
    return "".join(texts)
