"""The model card, written from the measured figures alone."""

from __future__ import annotations

import textwrap
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

_CONDITION_NAMES = {
    "clean": "clean",
    "jpeg90": "JPEG 90",
    "jpeg75": "JPEG 75",
    "jpeg50": "JPEG 50",
}

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


def headline(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return the few figures a list of models can show: AUROC by group and condition."""
    return {
        f"auroc_{group}_{condition}": round(metrics["starter"][condition][group]["auroc"], 4)
        for group in AUROC_AIMS
        for condition in CONDITIONS
    }


def model_card(metrics: Mapping[str, Any]) -> str:
    """Return the card as Markdown."""
    sections = (
        _PURPOSE,
        _data(metrics),
        _figures(metrics),
        _baselines(metrics),
        _cost(metrics),
    )
    return "\n\n".join(sections) + "\n"


_PURPOSE = """\
# The starter model

**For trying the software. Not for judging real photographs.** This small D3 was trained on rendered
scenes and toy generators. It has never seen a photograph or the output of a real image generator;
what it says of one means nothing. For real images, bring the published weights or your own.

It is there so that a fresh installation answers at once, offline, and so that training, evaluation
and serving can be tried in full. The pictures in `examples/images` are what it is meant for: the
first of the test scenes, not picked, at the 224x224 pixels it was trained on.

Licence: Apache-2.0, weights and rendered pictures alike. Nothing in it comes from elsewhere."""


_START = (
    "Start: the patch embedding begins as cosine filters, the first block takes absolute values, "
    "the second averages over the patches: a crude spectrum analyser, from which everything goes "
    "on learning. Without it, two cores would need far longer."
)
_CALIBRATION = (
    "Calibration: fitted on the seen families' validation scenes and folded into `fc`, so "
    "`sigmoid(logit)` is a probability for pictures like these, half of them generated. Within a "
    "tenth of the threshold the verdict is `uncertain`; the figures below count every picture."
)
_STORAGE = (
    "Storage: float16. The figures below were computed from the stored weights in float32, with "
    "the first of the model's permutations (`views=1`)."
)


def _pictures(plan: Mapping[str, Any]) -> str:
    side = plan["encoder"]["image_size"]
    return (
        f"Pictures: {side}x{side} pixels. {plan['training_scenes']} training scenes with "
        f"{plan['forgeries_per_scene']} forgeries each, {plan['validation_scenes']} scenes for the "
        f"calibration, {plan['test_scenes']} test scenes, each redrawn by every family, and "
        f"{plan['generator_scenes']} for the generators' own training. No scene is in two of these."
    )


def _network(plan: Mapping[str, Any]) -> str:
    encoder, fit = plan["encoder"], plan["fit"]
    return (
        f"Network: CLIP's vision transformer with {encoder['layers']} layers of width "
        f"{encoder['width']} (patch {encoder['patch_size']}, MLP {encoder['mlp_width']}), and the "
        f"discrepancy head. Both were trained together, {fit['steps']} steps of "
        f"{fit['pairs_per_batch']} pairs, with a fresh permutation for each picture; "
        f"{plan['augmentation']['jpeg']:.0%} of the pairs were compressed once more."
    )


def _data(metrics: Mapping[str, Any]) -> str:
    plan = metrics["plan"]
    rows = [
        (name, "yes" if group == "seen" else "held out", _FAMILIES[name])
        for group in ("seen", "unseen")
        for name in metrics["families"][group]
    ]
    facts = (
        _pictures(plan),
        _network(plan),
        _START,
        _CALIBRATION,
        _STORAGE,
    )
    return f"""\
## What it learned

A procedural scene is photographed by a rendered camera: lens blur, colour fringes, vignette, Bayer
mosaic, shot and read noise, demosaicing, tone, sharpening. Its counterpart is the same picture
redrawn by a small generator, which was itself trained on such pictures. The counterpart is brought
to its partner's colour, contrast, noise level and sharpness (give or take a random factor), and
both leave with the same size, format and quality. What remains to be learned is finer: what the
upsampling imprints, and how neighbouring pixels' noise hangs together.

{_table(("family", "in training", "generator"), rows)}

{_bullets(facts)}"""


def _figures(metrics: Mapping[str, Any]) -> str:
    parts = [
        "## Measured figures",
        _LEGEND,
        _against_aims(metrics),
        "### The starter model",
        _figure_table(metrics, "starter"),
        "### The same network without the shuffled branch",
        _without_shuffle(metrics),
        _figure_table(metrics, "without_shuffle"),
    ]
    return "\n\n".join(parts)


def _against_aims(metrics: Mapping[str, Any]) -> str:
    sentences = []
    for group, aim in AUROC_AIMS.items():
        area = metrics["starter"]["clean"][group]["auroc"]
        met = "met" if area >= aim else "not met"
        sentences.append(f"{group} families {area:.3f} (aim {aim:.2f}, {met})")
    return f"AUROC, clean: {'; '.join(sentences)}."


def _without_shuffle(metrics: Mapping[str, Any]) -> str:
    changes = []
    for condition in CONDITIONS:
        added = [
            metrics["starter"][condition][group]["auroc"]
            - metrics["without_shuffle"][condition][group]["auroc"]
            for group in AUROC_AIMS
        ]
        pair = "/".join(f"{change:+.3f}" for change in added)
        changes.append(f"{_CONDITION_NAMES[condition]} {pair}")
    return _fill(
        "Same shape, start, data and number of steps; both branches see the original picture. "
        f"The shuffled branch adds to the AUROC on seen/unseen families: {', '.join(changes)}. "
        f"With {metrics['plan']['test_scenes']} test scenes and one training run of each, "
        "differences of a hundredth are chance."
    )


def _figure_table(metrics: Mapping[str, Any], network: str) -> str:
    names = [*metrics["families"]["seen"], "seen", *metrics["families"]["unseen"], "unseen"]
    rows = []
    for name in names:
        label = f"**all {name}**" if name in AUROC_AIMS else name
        cells = [metrics[network][condition][name] for condition in CONDITIONS]
        rows.append((label, *(f"{c['auroc']:.3f} ({c['balanced_accuracy']:.3f})" for c in cells)))
    return _table(("family", *(_CONDITION_NAMES[name] for name in CONDITIONS)), rows)


def _baselines(metrics: Mapping[str, Any]) -> str:
    baselines = metrics["baselines"]
    names = list(next(iter(baselines.values())))
    rows = [
        (family, *(f"{figures[name]:.3f}" for name in names))
        for family, figures in baselines.items()
    ]
    highest = max(figures["laplacian_variance"] for figures in baselines.values())
    text = (
        "AUROC of one number per picture, in its better direction, on the same clean test "
        "pictures. The pairs are built so that none of these tells them apart; sharpness (the "
        f"Laplacian's variance) reaches at most {highest:.3f} (cap {BASELINE_CAP:.2f})."
    )
    return f"""\
### Trivial detectors

{_fill(text)}

{_table(("family", *(name.replace("_", " ") for name in names)), rows)}"""


def _cost(metrics: Mapping[str, Any]) -> str:
    cost = metrics["cost"]
    rows = [(stage, f"{seconds:.0f}") for stage, seconds in cost["seconds"].items()]
    rows.append(("**together**", f"{sum(cost['seconds'].values()):.0f}"))
    facts = (
        f"One command, no downloads, no GPU. This run: {cost['cores']} cores "
        f"({cost['processor']}), Python {cost['python']}, torch {cost['torch']}. Everything is "
        "seeded, and the work is done on one core per thread; with another processor or other "
        "versions floating-point sums differ, and the figures with them, a little."
    )
    return f"""\
## Making it again

`{COMMAND.format(seed=metrics["seed"])}`

{_fill(facts)}

{_table(("stage", "seconds"), rows)}"""


def _table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(header)]
    lines.append(["---"] * len(lines[0]))
    lines.extend(list(row) for row in rows)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _bullets(sentences: Iterable[str]) -> str:
    return "\n".join(
        textwrap.fill(sentence, 100, initial_indent="- ", subsequent_indent="  ")
        for sentence in sentences
    )


def _fill(sentences: str) -> str:
    return textwrap.fill(sentences, 100)
