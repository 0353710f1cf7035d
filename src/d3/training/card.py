"""The model card, written from the measured figures alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from d3.training.evaluate import CONDITIONS

AUROC_AIMS = {"seen": 0.95, "unseen": 0.85}
BASELINE_CAP = 0.75
COMMAND = "d3 train --recipe starter --seed {seed} --out DIR"

_LEGEND = """\
On test scenes; AUROC, and in brackets the balanced accuracy at a probability of 0.5. The JPEG
columns compress the test pictures once more at that quality. Plain accuracy, average precision and
all else that was measured stand in `metrics.json`."""

_FAMILIES = {
    "transposed": "autoencoder, transposed convolution 4x4",
    "nearest": "autoencoder, nearest neighbour, then convolution",
    "pixelshuffle": "autoencoder, convolution, then pixel shuffle",
    "adversarial": "autoencoder trained against a critic, transposed convolution 3x3",
    "bilinear": "autoencoder, bilinear, then convolution",
    "diffusion": "noised a little and denoised in three steps (DDIM, image to image)",
}


def write_card(file: Path, metrics: Mapping[str, Any]) -> None:
    """Write `MODEL_CARD.md` from the contents of `metrics.json`."""
    file.write_text(model_card(metrics), encoding="utf-8")


def model_card(metrics: Mapping[str, Any]) -> str:
    """Return the card as Markdown."""
    sections = (
        _purpose(),
        _data(metrics),
        _figures(metrics),
        _baselines(metrics),
        _cost(metrics),
    )
    return "\n\n".join(sections) + "\n"


def _purpose() -> str:
    return """\
# The starter model

**For trying the software. Not for judging real photographs.** This small D3 was trained on rendered
scenes and six toy generators. It has never seen a photograph or the output of a real image
generator; what it says of one means nothing. For real images, bring the published weights or your
own (see the documentation).

It is there so that a fresh installation gives an answer at once, offline, that is right on the
pictures in `examples/images`, and so that training, evaluation and serving can be tried in full.

Licence: Apache-2.0, weights and rendered pictures alike. Nothing in it comes from elsewhere."""


def _data(metrics: Mapping[str, Any]) -> str:
    plan, encoder = metrics["plan"], metrics["plan"]["encoder"]
    rows = [
        (name, "seen" if name in metrics["families"]["seen"] else "held out", _FAMILIES[name])
        for group in ("seen", "unseen")
        for name in metrics["families"][group]
    ]
    return f"""\
## What it learned

A procedural scene is photographed by a rendered camera: lens blur, colour fringes, vignette, Bayer
mosaic, shot and read noise, demosaicing, tone, sharpening. Its counterpart is the same picture
redrawn by a small generator, which was itself trained on such pictures. The counterpart is then
brought to its partner's colour, contrast, noise level and sharpness (with a random difference), and
both are stored with the same format and quality. What remains is what a generator imprints.

{_table(("family", "in training", "generator"), rows)}

- Pictures: 224x224, {plan["training_scenes"]} training scenes, each with
  {plan["forgeries_per_scene"]} forgeries; {plan["validation_scenes"]} scenes for the calibration;
  {plan["test_scenes"]} test scenes, each redrawn by every family. No scene is in two splits.
- Network: CLIP's vision transformer with {encoder["layers"]} layers of width {encoder["width"]}
  (MLP {encoder["mlp_width"]}, patch {encoder["patch_size"]}), and the discrepancy head, trained
  together for {plan["fit"]["steps"]} steps of {plan["fit"]["pairs_per_batch"]} pairs, with a fresh
  permutation for each picture.
- Calibration: fitted on the seen families' validation scenes and folded into `fc`, so
  `sigmoid(logit)` is the probability for pictures like these, half of them generated.
- Storage: float16. The figures below were computed from the stored weights in float32, with the
  first of the manifest's permutations (`views=1`)."""


def _figures(metrics: Mapping[str, Any]) -> str:
    parts = [
        "## Measured figures",
        _LEGEND,
        _verdict(metrics),
        "### The starter model",
        _figure_table(metrics, "starter"),
        "### The same network without the shuffled branch",
        "Same shape, start, data and number of steps; both branches see the original picture.",
        _figure_table(metrics, "without_shuffle"),
    ]
    return "\n\n".join(parts)


def _verdict(metrics: Mapping[str, Any]) -> str:
    sentences = []
    for group, aim in AUROC_AIMS.items():
        area = metrics["starter"]["clean"][group]["auroc"]
        met = "met" if area >= aim else "not met"
        sentences.append(f"AUROC on {group} families {area:.3f} (aim {aim:.2f}: {met})")
    return "; ".join(sentences) + "."


def _figure_table(metrics: Mapping[str, Any], network: str) -> str:
    names = [*metrics["families"]["seen"], "seen", *metrics["families"]["unseen"], "unseen"]
    rows = []
    for name in names:
        label = f"**all {name}**" if name in AUROC_AIMS else name
        cells = [metrics[network][condition][name] for condition in CONDITIONS]
        rows.append((label, *(f"{c['auroc']:.3f} ({c['balanced_accuracy']:.3f})" for c in cells)))
    return _table(("family", "clean", "JPEG 90", "JPEG 75", "JPEG 50"), rows)


def _baselines(metrics: Mapping[str, Any]) -> str:
    baselines = metrics["baselines"]
    names = list(next(iter(baselines.values())))
    rows = [
        (family, *(f"{figures[name]:.3f}" for name in names))
        for family, figures in baselines.items()
    ]
    highest = max(figures["laplacian_variance"] for figures in baselines.values())
    return f"""\
### Trivial detectors

AUROC of one number per picture, in its better direction, on the same clean test pictures. The pairs
are built so that none of these tells them apart; sharpness reaches at most {highest:.3f} (cap
{BASELINE_CAP:.2f}).

{_table(("family", *(name.replace("_", " ") for name in names)), rows)}"""


def _cost(metrics: Mapping[str, Any]) -> str:
    cost = metrics["cost"]
    rows = [(stage, f"{seconds:.0f}") for stage, seconds in cost["seconds"].items()]
    rows.append(("**together**", f"{sum(cost['seconds'].values()):.0f}"))
    return f"""\
## Making it again

`{COMMAND.format(seed=metrics["seed"])}`

One command, no downloads, no GPU. This run: {cost["cores"]} cores ({cost["processor"]}), Python
{cost["python"]}, torch {cost["torch"]}. The same seed on the same machine and versions gives the
same weights; elsewhere floating-point sums differ and the figures with them, a little.

{_table(("stage", "seconds"), rows)}"""


def _table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(header)]
    lines.append(["---"] * len(lines[0]))
    lines.extend(list(row) for row in rows)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
