"""Draws the figures of these pages from an example image and the packaged model.

``python docs/explanation/figures.py`` writes ``method.svg`` and ``calibration.svg`` beside it.
"""

from __future__ import annotations

import base64
import io
import json
import math
from pathlib import Path

import numpy as np
from PIL import Image

import d3

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
IMAGE = ROOT / "examples" / "images" / "generated-01-transposed.jpg"
STYLE = """<style>
  text { font: 13px sans-serif; fill: #1b1b1f }
  .small { font-size: 11px; fill: #55555f }
  .bold { font-weight: bold }
  .middle { text-anchor: middle }
  .back { fill: #ffffff }
  .box { fill: #eef3fb; stroke: #4a6fa5 }
  .other { fill: #f6eefb; stroke: #7b52a5 }
  .plain { fill: none; stroke: #9a9aa5 }
  .arrow { stroke: #55555f; fill: none; marker-end: url(#head) }
  .tip { fill: #55555f }
  .real { fill: #3f7fbf }
  .fake { fill: #d9772b }
  .band { fill: #8a8a94; opacity: .18 }
  .line { stroke: #1b1b1f; stroke-dasharray: 4 3 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6e6ea }
    .small { fill: #a9a9b3 }
    .back { fill: #17181c }
    .box { fill: #1f2b3d; stroke: #7fa3d8 }
    .other { fill: #2d2138; stroke: #b48fdb }
    .arrow { stroke: #a9a9b3 }
    .tip { fill: #a9a9b3 }
    .real { fill: #6aa7e0 }
    .fake { fill: #f09a55 }
    .line { stroke: #e6e6ea }
  }
</style>
<defs><marker id="head" markerWidth="8" markerHeight="8" refX="7" refY="4" orient="auto">
<path class="tip" d="M0 0L8 4L0 8z"/></marker></defs>
"""


def drawing(width: int, height: int, label: str, body: str) -> str:
    """A whole SVG that is readable on a light and on a dark page."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{label}">\n{STYLE}<rect class="back" width="{width}" height="{height}" '
        f'rx="8"/>\n{body}</svg>\n'
    )


def text(x: float, y: float, words: str, kind: str = "") -> str:
    """One line of text."""
    return f'<text x="{x:g}" y="{y:g}" class="{kind}">{words}</text>\n'


def box(at: tuple[float, float], width: float, height: float, lines: list[str], kind: str) -> str:
    """A box with its title in bold and smaller lines below."""
    x, y = at
    top = y + height / 2 - 8 * (len(lines) - 1) + 4
    body = (
        f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="6"/>\n'
    )
    for row, words in enumerate(lines):
        body += text(
            x + width / 2, top + 17 * row, words, "middle bold" if not row else "middle small"
        )
    return body


def bar(kind: str, x: float, y: float, width: float, height: float) -> str:
    """A rectangle without words."""
    size = f'width="{width:.1f}" height="{height:.1f}"'
    return f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" {size}/>\n'


def arrow(*points: tuple[float, float]) -> str:
    """A line through these points with a tip at its end."""
    return f'<path class="arrow" d="M{"L".join(f"{x:g} {y:g}" for x, y in points)}"/>\n'


def picture(pixels: np.ndarray, x: float, y: float, side: float) -> str:
    """Pixels as a square of this side."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=80)
    data = base64.b64encode(file.getvalue()).decode()
    return (
        f'<image x="{x:g}" y="{y:g}" width="{side:g}" height="{side:g}" '
        f'href="data:image/jpeg;base64,{data}"/>\n'
    )


def method() -> str:
    """The network, with the image, its first permutation and the numbers that it really gives."""
    with d3.D3() as detector:
        detection = detector.detect(IMAGE)
    manifest = json.loads((Path(d3.__file__).parent / "starter" / "manifest.json").read_text())
    patch, side = manifest["spec"]["patch_size"], manifest["spec"]["image_size"]
    grid = side // patch
    pixels = np.asarray(
        Image.open(IMAGE).convert("RGB").resize((side, side), Image.Resampling.BILINEAR)
    )
    patches = (
        pixels.reshape(grid, patch, grid, patch, 3).swapaxes(1, 2).reshape(-1, patch, patch, 3)
    )
    shuffled = patches[manifest["permutations"][0]]
    shuffled = shuffled.reshape(grid, grid, patch, patch, 3).swapaxes(1, 2).reshape(side, side, 3)
    calibration = manifest["calibration"]
    body = picture(pixels, 16, 40, 130) + picture(shuffled, 16, 216, 130)
    body += text(81, 30, "the image, 224 x 224", "middle") + text(
        81, 362, "its patches, shuffled", "middle"
    )
    body += arrow((81, 174), (81, 212)) + text(90, 196, "permutation", "small")
    body += box((190, 60), 130, 90, ["encoder", "vision transformer", "frozen"], "box")
    body += box((190, 236), 130, 90, ["same encoder", "vision transformer", "frozen"], "box")
    body += arrow((150, 105), (186, 105)) + arrow((150, 281), (186, 281))
    body += arrow((320, 105), (350, 105), (350, 165), (386, 165))
    body += arrow((320, 281), (350, 281), (350, 221), (386, 221))
    body += text(328, 96, "one feature", "small") + text(328, 300, "one feature", "small")
    body += box(
        (390, 140),
        130,
        106,
        ["head", "attention over", "the two features,", "one linear layer"],
        "other",
    )
    body += arrow((520, 193), (556, 193))
    body += box((560, 165), 84, 56, ["logit", f"{detection.logit:.2f}"], "plain")
    body += arrow((644, 193), (680, 193))
    body += box((684, 165), 104, 56, ["calibration", "and sigmoid"], "other")
    body += arrow((736, 221), (736, 262))
    body += box((684, 266), 104, 56, [f"{detection.prediction:.3f}", "prediction"], "plain")
    body += arrow((684, 294), (648, 294))
    body += box((560, 266), 84, 56, [str(detection.verdict), "verdict"], "plain")
    body += text(602, 341, f"threshold {detection.threshold:g}", "middle small")
    body += text(
        736,
        150,
        f"{calibration['scale']:.2f} x logit {calibration['bias']:+.2f}",
        "middle small",
    )
    label = (
        "An image and its patch-shuffled self pass the same frozen encoder; "
        "a head makes one logit of both."
    )
    return drawing(806, 376, label, body)


def calibration() -> str:
    """The probabilities of the images that the starter was calibrated on, and where it doubts."""
    manifest = json.loads((Path(d3.__file__).parent / "starter" / "manifest.json").read_text())
    counts, threshold = manifest["calibration"]["reference"], manifest["threshold"]
    low = threshold - manifest["abstain_band"]["below"]
    left, width, top, height = 56, 690, 66, 200

    def across(share: float) -> float:
        return left + width * share

    body = bar("band", across(low), top - 8, across(threshold) - across(low), height + 8)
    for at in range(20):
        for kind, shift in (("real", 3), ("fake", 17.5)):
            share = counts[kind][at] / sum(counts[kind])
            tall = height * math.sqrt(share)
            body += bar(kind, across(at / 20) + shift, top + height - tall, 14, tall)
            if counts[kind][at]:
                body += text(
                    across(at / 20) + shift + 7,
                    top + height - tall - 3,
                    str(counts[kind][at]),
                    "middle small",
                )
    body += f'<path class="line" d="M{across(threshold):.1f} {top - 8}V{top + height}"/>\n'
    body += f'<path class="plain" d="M{left} {top + height}H{left + width}"/>\n'
    for mark in (0, 0.25, 0.5, 0.75, 1):
        body += text(across(mark), top + height + 18, f"{mark:g}", "middle small")
    body += text(left + width / 2, top + height + 38, "prediction", "middle")
    body += text(across((low + threshold) / 2), top + 8, "abstain band: uncertain", "middle")
    body += text(across(low / 2), top - 14, "real", "middle bold") + text(
        across(0.75), top - 14, "fake", "middle bold"
    )
    body += text(across(threshold) + 6, top + 26, f"threshold {threshold:g}", "small")
    body += f'<rect class="real" x="{left}" y="16" width="12" height="12"/>' + text(
        left + 18, 27, f"{sum(counts['real'])} real images"
    )
    body += f'<rect class="fake" x="{left + 160}" y="16" width="12" height="12"/>' + text(
        left + 178, 27, f"{sum(counts['fake'])} generated images"
    )
    body += text(left + 340, 27, "heights: square root of the share; labels: images", "small")
    label = (
        "Predictions of the calibration images of the starter, its threshold and its abstain band"
    )
    return drawing(790, 320, label, body)


def architecture() -> str:
    """The rooms of the code above, the processes of a service with workers below."""
    body = text(16, 28, "Rooms of the code: arrows say who imports whom", "bold")
    body += box(
        (230, 44), 346, 44, ["container.py", "wires everything; alone names adapters"], "other"
    )
    driving = [
        "entrypoints/library.py",
        "entrypoints/cli/",
        "entrypoints/http/",
        "entrypoints/serving/",
    ]
    for at, name in enumerate(driving):
        body += box((16, 112 + 48 * at), 170, 38, [name], "box")
    body += bar("plain", 230, 112, 346, 182)
    body += text(403, 132, "domain/: pure Python", "middle bold")
    body += box(
        (246, 144), 314, 40, ["domain/services/", "use cases: judge, scan, job, drift"], "box"
    )
    body += box((246, 194), 314, 40, ["domain/ports/", "what they need from outside"], "box")
    body += box((246, 244), 314, 40, ["domain/", "entities, scoring, errors"], "box")
    body += arrow((403, 184), (403, 192)) + arrow((403, 234), (403, 242))
    body += arrow((186, 203), (226, 203)) + arrow((620, 203), (580, 203))
    body += arrow((101, 110), (101, 66), (226, 66)) + arrow((580, 66), (705, 66), (705, 108))
    driven = (
        ("pillow", "video"),
        ("batching", "remote"),
        ("torch", "openvino"),
        ("sql", "filesystem"),
        ("minio", "ray"),
        ("provenance", "evidence"),
        ("web", "redis.py"),
    )
    body += text(705, 124, "adapters/", "middle bold")
    for row, names in enumerate(driven):
        for column, name in enumerate(names):
            x, y = 624 + 84 * column, 132 + 24 * row
            body += bar("box", x, y, 80, 20) + text(x + 40, y + 14, name, "middle small")
    body += box((624, 306), 164, 34, ["network/: torch"], "other") + arrow((705, 298), (705, 304))
    body += box((16, 310), 170, 34, ["training/, evaluation/"], "other")
    body += arrow((101, 296), (101, 306))

    body += text(16, 386, "Processes of d3 serve --workers 2", "bold")
    body += box((16, 470), 96, 60, ["callers", "a proxy"], "plain")
    body += box((150, 402), 150, 44, ["supervisor", "starts, replaces, ends"], "other")
    for at in (0, 1):
        body += box((150, 462 + 62 * at), 150, 50, [f"front-{at + 1}", "HTTP, access, rows"], "box")
        body += arrow((112, 500), (146, 487 + 62 * at))
    body += box((346, 462), 130, 50, ["decoders", "children of fronts"], "plain")
    body += box((346, 524), 130, 50, ["engine-0", "batches, passes"], "box")
    body += arrow((300, 480), (342, 480)) + arrow((300, 552), (342, 552))
    body += text(321, 596, "Unix socket", "middle small")
    body += box((522, 462), 110, 50, ["scan worker", "its own model"], "box")
    body += arrow((476, 536), (500, 536), (500, 500), (518, 500))
    body += box((522, 524), 110, 50, ["background", "jobs, events, drift"], "plain")
    body += arrow((476, 560), (518, 560))
    body += box((678, 402), 112, 44, ["database", "results, ledgers"], "other")
    body += box((678, 462), 112, 50, ["files", "models, spool; S3"], "other")
    body += box((678, 524), 112, 50, ["Redis", "optional"], "other")
    body += arrow((632, 487), (674, 487)) + arrow((300, 466), (322, 466), (322, 424), (674, 424))
    label = "Entrypoints, domain and adapters, and the processes of a service with two workers"
    return drawing(806, 612, label, body)


if __name__ == "__main__":
    for draw in (method, calibration, architecture):
        (HERE / f"{draw.__name__}.svg").write_text(draw(), encoding="utf-8")
