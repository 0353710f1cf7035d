"""The model card, written from the measured figures alone."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from d3.training.starter.evaluate import CONDITIONS, SIDES

AUROC_AIMS = {"clean": 0.85, "jpeg75": 0.70}
"""Of the held-out families."""
FALSE_AIM, FALSE_BOUND = 0.05, 0.08
"""Of photographs called fake, and the upper end of its 95 % interval."""
TEXT_TO_IMAGE = "text-to-image"
COMMAND = "d3 train --recipe starter --photos PHOTOS --seed {seed} --out DIR"

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
    "adversarial": "autoencoder with adversarial training, transposed convolution 3x3",
    "bilinear": "autoencoder, bilinear, then convolution",
    "diffusion": "noised and denoised in three or four steps (DDIM, image to image)",
}


_SIZES_HEADER = (
    "longer side, pixels",
    "images",
    "originals judged fake",
    "recreated, in training",
    "recreated, held out",
)


def write_card(file: Path, metrics: Mapping[str, Any]) -> None:
    """Write `MODEL_CARD.md` from the contents of `metrics.json`."""
    file.write_text(model_card(metrics), encoding="utf-8")


def headline(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return the few figures a list of models can show: AUROC and photographs called fake."""
    families = metrics["starter"]["families"]
    shown = {
        f"auroc_{group}_{condition}": round(families[condition][group]["auroc"], 4)
        for group in ("seen", "unseen")
        for condition in CONDITIONS
    }
    for condition in CONDITIONS:
        share = metrics["starter"]["photographs"][condition]["all"]["share"]
        shown[f"photographs_called_fake_{condition}"] = round(share, 4)
    return shown


def notice(metrics: Mapping[str, Any]) -> str:
    """Return the sentence every face shows: what was measured on photographs it never saw.

    And on images of text-to-image generators, where a data set held a kind of that name.
    """
    counts = metrics["starter"]["photographs"]["clean"]["all"]
    found = _text_to_image(metrics)
    also = (
        f", and found {found['fake']} of {found['images']} images of text-to-image generators"
        if found
        else ""
    )
    said = f"called {counts['fake']} of {counts['images']} real photographs fake{also}"
    return f"Demo model: {said}. Do not act on it."


def _text_to_image(metrics: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The verdicts on images of text-to-image generators, if any were measured."""
    for dataset in metrics["starter"]["others"]:
        if TEXT_TO_IMAGE in dataset["kinds"]:
            counts: Mapping[str, Any] = dataset["kinds"][TEXT_TO_IMAGE]
            return counts
    return None


def model_card(metrics: Mapping[str, Any]) -> str:
    """Return the card as Markdown."""
    sections = (
        _purpose(metrics),
        _photographs(metrics),
        _families(metrics),
        _others(metrics),
        _making(metrics),
        _baselines(metrics),
        _cost(metrics),
        _credits(metrics),
    )
    return "\n\n".join(one for one in sections if one) + "\n"


def _purpose(metrics: Mapping[str, Any]) -> str:
    counts = metrics["starter"]["photographs"]["clean"]["all"]
    unseen = metrics["starter"]["families"]["clean"]["unseen"]
    found = _text_to_image(metrics)
    also = (
        (
            f"Of {found['images']} images of text-to-image generators, it judged {found['fake']} "
            f"fake (AUROC {found['auroc']:.2f}, where 0.5 is chance). "
        )
        if found
        else ""
    )
    first = (
        f"**A small demo model. Of {counts['images']} photographs from packages it never saw, it "
        f"judged {counts['fake']} fake ({_percent(counts)}) and {counts['uncertain']} uncertain. "
        f"{also}Do not act on its verdicts.**"
    )
    rest = (
        f"It detects {unseen['true_positive_rate']:.0%} of the images that small generators it was "
        "not trained on made from such photographs, at sizes of 224 to 512 pixels (AUROC "
        f"{unseen['auroc']:.2f}). It was never trained on images of text-to-image generators. It "
        "ships with D3 so that a fresh installation works at once and offline, and so that you "
        "can try training, evaluation and serving. For real work, use the published weights or "
        "your own."
    )
    return f"# The starter model\n\n{_fill(first)}\n\n{_fill(rest)}"


def _percent(counts: Mapping[str, Any]) -> str:
    """A share with its interval, in per cent."""
    low, share, high = (100 * counts[name] for name in ("low", "share", "high"))
    return f"{share:.1f} %, 95 % interval {low:.1f} to {high:.1f}"


def _photographs(metrics: Mapping[str, Any]) -> str:
    shares = metrics["starter"]["photographs"]
    rows = [
        (
            f"**{package}**" if package == "all" else package,
            str(counts["images"]),
            *(f"{counts[verdict]}" for verdict in ("fake", "uncertain", "real")),
            *(f"{shares[name][package]['fake']}" for name in CONDITIONS if name != "clean"),
        )
        for package, counts in shares["clean"].items()
    ]
    header = (
        *("package", "photographs", "fake", "uncertain", "real"),
        *(f"fake at {_CONDITION_NAMES[name]}" for name in CONDITIONS if name != "clean"),
    )
    counts = shares["clean"]["all"]
    met = counts["share"] <= FALSE_AIM and counts["high"] <= FALSE_BOUND
    text = (
        "Whole photographs, byte for byte as in their packages. None of these packages was used "
        "for training or for choosing the threshold. The last columns compress each photograph "
        f"once more. Judged fake: {_percent(counts)}. The goal, at most {FALSE_AIM:.0%} with an "
        f"interval up to {FALSE_BOUND:.0%}, is {'met' if met else 'not met'}. Most of the "
        "photographs come from one package and were stored in the same way, so results on other "
        "collections can be worse."
    )
    return f"## Photographs judged fake\n\n{_fill(text)}\n\n{_table(header, rows)}"


def _families(metrics: Mapping[str, Any]) -> str:
    figures = metrics["starter"]["families"]
    plan = metrics["plan"]
    verdicts = []
    for condition, aim in AUROC_AIMS.items():
        area = figures[condition]["unseen"]["auroc"]
        met = "met" if area >= aim else "not met"
        verdicts.append(f"{_CONDITION_NAMES[condition]} {area:.3f} (goal {aim:.2f}, {met})")
    text = (
        f"{plan['test_pictures']} images were cropped from the photographs of those packages and "
        "recreated by every family. Each pair has the same size, format and quality. "
        f"{plan['cutting']['matched']:.0%} of the generated images were first matched to the "
        "colour, noise and sharpness of their originals. The values are the AUROC with its 95 % "
        "interval and, in brackets, the share judged fake. AUROC of the held-out families: "
        f"{'; '.join(verdicts)}. Of the {plan['test_pictures']} crops themselves, which are "
        "smaller and softer than whole photographs, "
        f"{figures['clean']['seen']['false_positive_rate']:.0%} were judged fake."
    )
    names = [*metrics["families"]["seen"], "seen", *metrics["families"]["unseen"], "unseen"]
    rows = []
    for name in names:
        label = {"seen": "**all in training**", "unseen": "**all held out**"}.get(name, name)
        rows.append((label, *(_cell(figures[condition][name]) for condition in CONDITIONS)))
    header = ("family", *(_CONDITION_NAMES[name] for name in CONDITIONS))
    sizes = [
        (
            f"{low} to {high - 1}",
            f"{figures['clean'][f'seen {low}-{high}']['camera']:.0f}",
            f"{figures['clean'][f'seen {low}-{high}']['false_positive_rate']:.0%}",
            *(_cell(figures["clean"][f"{group} {low}-{high}"]) for group in ("seen", "unseen")),
        )
        for low, high in SIDES
        if f"seen {low}-{high}" in figures["clean"]
    ]
    smaller = (
        "The detector sees every image at 224 x 224 pixels. These generators leave fine traces, "
        "and shrinking an image removes them. The larger an image, the less the detector sees. "
        "Above 512 pixels it does not work."
    )
    return f"""\
## Images recreated by generators

{_fill(text)}

{_table(header, rows)}

{_fill(smaller)}

{_table(_SIZES_HEADER, sizes)}"""


def _cell(figures: Mapping[str, float]) -> str:
    return (
        f"{figures['auroc']:.3f} [{figures['auroc_low']:.2f}, {figures['auroc_high']:.2f}] "
        f"({figures['true_positive_rate']:.0%})"
    )


def _others(metrics: Mapping[str, Any]) -> str:
    rows = []
    for dataset in metrics["starter"]["others"]:
        for name, counts in dataset["kinds"].items():
            area = (
                f"{counts['auroc']:.3f} [{counts['auroc_low']:.2f}, {counts['auroc_high']:.2f}]"
                if "auroc" in counts
                else ""
            )
            said = (str(counts[verdict]) for verdict in ("fake", "uncertain", "real"))
            rows.append((dataset["name"], name, str(counts["images"]), *said, area))
    if not rows:
        return ""
    text = (
        "Images of kinds that were not used for training, from real generators and made by "
        "people. The AUROC compares them with the real images of the same set, which have the "
        "same size and format. `benchmarks/starter_sets.py` creates the sets."
    )
    header = ("set", "kind", "images", "fake", "uncertain", "real", "AUROC")
    return f"## Other images\n\n{_fill(text)}\n\n{_table(header, rows)}"


def _listed(packages: Mapping[str, int]) -> str:
    return ", ".join(f"{name} ({count})" for name, count in packages.items())


def _parts(parts: Mapping[str, Mapping[str, int]]) -> str:
    return (
        f"Photographs, by package. Training: {_listed(parts['train'])}. Threshold: "
        f"{_listed(parts['calibrate'])}. Test: {_listed(parts['test'])}."
    )


def _pictures(plan: Mapping[str, Any]) -> str:
    low, high = plan["cutting"]["sides"]
    return (
        f"Images: {plan['training_pairs']} pairs with {low} to {high} pixels on the longer side, "
        f"{plan['cutting']['scenes']:.0%} of them cropped from rendered scenes, and "
        f"{plan['training_photographs']} unpaired images of up to {plan['photograph_sides'][1]} "
        "pixels. All were stored as JPEG, WebP or PNG at many qualities, some of them twice, and "
        "resized to 224 x 224 as the detector does."
    )


def _making(metrics: Mapping[str, Any]) -> str:
    plan, parts = metrics["plan"], metrics["photographs"]
    encoder, fit, fitted = plan["encoder"], plan["fit"], metrics["calibration"]
    rows = [
        (name, "yes" if group == "seen" else "held out", _FAMILIES[name])
        for group in ("seen", "unseen")
        for name in metrics["families"][group]
    ]
    facts = (
        _parts(parts),
        _pictures(plan),
        (
            "Generators: one per family, with a latent of a quarter of the image's side, trained "
            f"on {plan['generator_pictures']} images of the training part."
        ),
        (
            f"Network: CLIP's vision transformer with {encoder['layers']} layers of width "
            f"{encoder['width']} (patch {encoder['patch_size']}, MLP {encoder['mlp_width']}), and "
            f"the discrepancy head. Both were trained together for {fit['steps']} steps of "
            f"{fit['pairs_per_batch']} pairs and {fit['alone_per_batch']} unpaired images, with a "
            "new permutation for each step."
        ),
        (
            "Initialisation: the patch embedding starts as cosine filters, the first block takes "
            "absolute values and the second averages over the patches. Training starts from this "
            "simple spectrum analyser."
        ),
        (
            f"Threshold: 0.5. {plan['max_false']:.0%} of the threshold's photographs lie above it: "
            "whole photographs, unchanged and as JPEG of quality 75, and the crops of "
            f"{plan['calibration_pairs']} pairs. Below the threshold the verdict is `uncertain` "
            f"down to {fitted['threshold'] - fitted['band']['below']:.3f}; "
            f"{plan['max_missed']:.0%} of the recreated images lie below that. Probabilities are "
            f"calibrated for images like these, {fitted['generated_share']:.0%} of them recreated."
        ),
        (
            "Storage: float16. The values were computed from the stored weights in float32, with "
            "the first of the model's permutations (`views=1`)."
        ),
    )
    return f"""\
## How it was made

An image is cropped from a photograph at a random size and shape. Its counterpart is the same image
recreated by a small generator, which was itself trained on such images. Both are stored with the
same size, format and quality. The model can only learn the traces that a generator leaves.

{_table(("family", "in training", "generator"), rows)}

{_bullets(facts)}"""


def _baselines(metrics: Mapping[str, Any]) -> str:
    baselines = metrics["baselines"]
    names = list(next(iter(baselines.values())))
    rows = [
        (family, *(f"{figures[name]:.3f}" for name in names))
        for family, figures in baselines.items()
    ]
    highest = max(figures["laplacian_variance"] for figures in baselines.values())
    text = (
        "AUROC of a single number per image, in its better direction, on the same clean test "
        f"images. Sharpness (the variance of the Laplacian) alone reaches up to {highest:.3f}. So "
        "part of what the model sees is that these generators soften images."
    )
    return f"""\
## Trivial detectors

{_fill(text)}

{_table(("family", *(name.replace("_", " ") for name in names)), rows)}"""


def _cost(metrics: Mapping[str, Any]) -> str:
    cost = metrics["cost"]
    rows = [(stage, f"{seconds:.0f}") for stage, seconds in cost["seconds"].items()]
    rows.append(("**together**", f"{sum(cost['seconds'].values()):.0f}"))
    facts = (
        "PHOTOS is a folder with the photographs. Run `python -m tests.real.fetch PHOTOS photos` "
        f"in D3's repository to download them. No GPU is needed. This run used {cost['cores']} "
        f"shared cores ({cost['processor']}), Python {cost['python']} and torch {cost['torch']}. "
        "Everything is seeded, and each thread uses one core. On another processor or with other "
        "versions, floating-point sums and therefore the results differ slightly."
    )
    return f"""\
## Reproducing the model

`{COMMAND.format(seed=metrics["seed"])}`

{_fill(facts)}

{_table(("stage", "seconds"), rows)}"""


def _credits(metrics: Mapping[str, Any]) -> str:
    rows = [
        (one["name"], one["package"], one["author"], one["licence"]) for one in metrics["credits"]
    ]
    text = (
        "The weights are licensed under Apache-2.0. They were derived from these photographs, "
        "whose licences allow it. We thank their authors. No photograph is part of the model."
    )
    header = ("photograph", "package", "author", "licence")
    return f"## Licence and credits\n\n{_fill(text)}\n\n{_table(header, rows)}"


def _table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(header)]
    lines.append(["---"] * len(lines[0]))
    lines.extend(list(row) for row in rows)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _bullets(sentences: Iterable[str]) -> str:
    return "\n".join(_fill(sentence, "- ", "  ") for sentence in sentences)


def _fill(sentences: str, first: str = "", others: str = "") -> str:
    return textwrap.fill(
        sentences, 100, break_on_hyphens=False, initial_indent=first, subsequent_indent=others
    )
