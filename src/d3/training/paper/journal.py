"""The record of a training: a CSV log, its curves as a picture, and the model card."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from d3.domain.files import put
from d3.evaluation.charts import HEIGHT, WIDTH, Axis, Line, line_chart
from d3.training.paper.augmentation import Codec


@dataclass(frozen=True, slots=True)
class Epoch:
    """One epoch's figures.

    Attributes:
        number: counts from 1.
        loss: of training, BCE in nats.
        figures: accuracy, ap and auroc of all validation images.
        generators: the same of each validation set: a generator's images and the real ones beside.
    """

    number: int
    rate: float
    loss: float
    validation_loss: float
    figures: dict[str, float]
    generators: dict[str, dict[str, float]]

    @property
    def score(self) -> float:
        """The mean of the validation sets' accuracies, in [0, 1]; decides about the rate."""
        sets = [one["accuracy"] for one in self.generators.values()]
        return sum(sets) / len(sets)

    @property
    def rank(self) -> tuple[float, float]:
        """For the best epoch: the score, then the smaller loss."""
        return self.score, -self.validation_loss


def write_journal(folder: Path, journal: Sequence[Epoch]) -> None:
    """Write ``log.csv`` and ``curves.svg``, each whole or not at all."""
    names = list(journal[-1].generators)
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    measures = ("accuracy", "ap", "auroc")
    rows.writerow(
        ["epoch", "rate", "loss", "validation_loss", "mean_accuracy", *measures]
        + [f"{measure} {name}" for name in names for measure in measures]
    )
    for one in journal:
        rows.writerow(
            [one.number, f"{one.rate:g}", f"{one.loss:.6f}", f"{one.validation_loss:.6f}"]
            + [f"{one.score:.6f}"]
            + [f"{one.figures[measure]:.6f}" for measure in measures]
            + [f"{one.generators[name][measure]:.6f}" for name in names for measure in measures]
        )
    put(folder / "log.csv", text.getvalue().encode("utf-8", "surrogateescape"))
    put(folder / "curves.svg", curves(journal).encode("utf-8", "replace"))


def curves(journal: Sequence[Epoch]) -> str:
    """Losses above, AUROC below, as one SVG file that needs nothing else."""
    last = max(journal[-1].number, 2)
    ticks = sorted({1 + round(n * (last - 1) / 4) for n in range(5)})
    across = Axis("epoch", 1, last, [(n, str(n)) for n in ticks])
    top = max(max(one.loss, one.validation_loss) for one in journal) * 1.05 or 1.0
    losses = [
        Line("training", [(one.number, one.loss) for one in journal], marks=True),
        Line("validation", [(one.number, one.validation_loss) for one in journal], marks=True),
    ]
    areas = [
        Line(name, [(one.number, one.generators[name]["auroc"]) for one in journal], faint=True)
        for name in list(journal[-1].generators)[:7]
    ]
    areas.append(Line("all", [(one.number, one.figures["auroc"]) for one in journal], marks=True))
    charts = (
        line_chart(
            "Loss",
            across,
            Axis("loss: training and validation", 0, top, [(top, f"{top:.3f}"), (0.0, "0")]),
            losses,
        ),
        line_chart("AUROC", across, Axis("validation AUROC"), areas),
    )
    style = (resources.files("d3.evaluation.report") / "report.css").read_text(encoding="utf-8")
    drawn = [
        chart.svg(f'y="{n * HEIGHT}" width="{WIDTH}" height="{HEIGHT}"')
        for n, chart in enumerate(charts)
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {2 * HEIGHT}">'
        f"<style><![CDATA[{style}]]></style>{''.join(drawn)}</svg>\n"
    )


def paper_card(
    *,
    name: str,
    encoder: str,
    counts: tuple[int, int],
    unreadable: int,
    codecs: Sequence[Codec],
    best: Epoch,
    command: str,
    notice: str,
) -> str:
    """The model card of a trained head, from the measured figures alone."""
    jpeg = " or ".join({"cv2": "OpenCV's", "pil": "Pillow's"}[codec] for codec in codecs)
    rows = "\n".join(
        f"| {title} | "
        + " | ".join(f"{one[key]:.4f}" for key in ("accuracy", "ap", "auroc"))
        + " |"
        for title, one in [("**all**", best.figures), *best.generators.items()]
    )
    return f"""\
# {name}

{f"**{notice}**{chr(10)}{chr(10)}" if notice else ""}A D3 head trained on the frozen encoder of \
{encoder}, by the recipe of Yang et al. (CVPR 2025).

- Images: {counts[0]:,} for training, {counts[1]:,} for validation; {unreadable:,} were unreadable.
- Training images were augmented as in the authors' code; JPEG was {jpeg}.
- The best epoch, {best.number}, was chosen by the mean accuracy on the validation sets below,
  {best.score:.4f}. The values are therefore slightly too good. Run `d3 evaluate` on other images to
  see what to expect.
- Created by `{command}`.

| validation | accuracy | AP | AUROC |
|---|---|---|---|
{rows}
"""
