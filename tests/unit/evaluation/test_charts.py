"""Charts: round numbers at their axes."""

import pytest

from d3.evaluation.charts import Axis, histogram, round_ticks


@pytest.mark.parametrize("top", [0.0007, 0.07, 0.1, 0.25, 0.3, 0.6000001, 0.91, 1, 3, 12.3, 400])
def test_an_axis_has_few_round_ticks_and_reaches_its_top(top: float) -> None:
    ticks = round_ticks(top)
    assert ticks[0] == 0
    assert 3 <= len(ticks) <= 5
    assert ticks[-2] < top <= ticks[-1] * (1 + 1e-8)
    assert all(len(f"{tick:g}".replace("0", "").replace(".", "")) <= 4 for tick in ticks)


def test_shares_are_read_off_at_round_percentages() -> None:
    drawing = histogram("Scores", Axis("score"), {"now": [91, 9]}).drawing
    for tick in ("0%", "25%", "50%", "75%", "100%"):
        assert f">{tick}</text>" in drawing
