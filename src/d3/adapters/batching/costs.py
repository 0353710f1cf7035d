"""The cost of a forward pass: ``a + b * n`` seconds for n encodings, learned from past passes."""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from statistics import median

_KEPT = 5
_SIZES = 32
_FADING = 0.9
_FAINTEST = 0.02
_SMOOTHING = 0.2
_GOOD_ENOUGH = 0.98
_REASONABLE = 0.8


@dataclass(slots=True)
class _Size:
    """Passes of one size: their latest durations, and the number of the last pass."""

    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=_KEPT))
    at: int = 0


class CostModel:
    """A line fitted to the median durations of recent passes of each size.

    Medians, because the first pass compiles and any pass may be delayed. Sizes not seen for a while
    count less, but still shape the line.

    Attributes:
        fixed: a, in seconds.
        each: b, seconds an encoding.
        slack: typical error of the line in seconds.
    """

    def __init__(self) -> None:
        self._sizes: OrderedDict[int, _Size] = OrderedDict()
        self._passes = 0
        self.fixed = self.each = self.slack = 0.0

    @property
    def known(self) -> bool:
        """Whether any pass was observed."""
        return bool(self._sizes)

    def observe(self, encodings: int, seconds: float) -> None:
        """Learn from a pass: its encodings and its seconds."""
        if self.known:
            off = abs(seconds - self.seconds(encodings))
            self.slack += _SMOOTHING * (off - self.slack)
        self._passes += 1
        size = self._sizes.setdefault(encodings, _Size())
        size.seconds.append(seconds)
        size.at = self._passes
        self._sizes.move_to_end(encodings)
        if len(self._sizes) > _SIZES:
            self._sizes.popitem(last=False)
        self._fit()

    def seconds(self, encodings: float) -> float:
        """Estimated seconds of a pass; 0 while nothing is known."""
        return self.fixed + self.each * encodings

    def within(self, seconds: float) -> float:
        """The most encodings of a pass that ends in time; infinite while nothing is known."""
        if self.each <= 0:
            return math.inf if seconds >= self.fixed else 0.0
        return max(0.0, (seconds - self.fixed) / self.each)

    def enough(self, most: int) -> int:
        """The fewest encodings at which the device is about as fast per image as with ``most``.

        In larger passes images only wait for each other.
        """
        if len(self._sizes) < 2:  # noqa: PLR2004  one point makes no line
            return most
        return self._fewest(most, _GOOD_ENOUGH)

    def bearable(self, most: int, seconds: float) -> int:
        """The encodings of a pass on a slow device.

        As many as fit into these seconds, or as make the device reasonably fast if that is more: a
        longer pass must gain something for the wait.
        """
        return min(most, max(self._fewest(most, _REASONABLE), int(min(most, self.within(seconds)))))

    def _fewest(self, most: int, share: float) -> int:
        """The fewest encodings with this share of the throughput of ``most``."""
        rate = share * most / self.seconds(most) if self.seconds(most) > 0 else 0.0
        if rate * self.each >= 1 or rate <= 0:
            return most
        return min(most, max(1, math.ceil(rate * self.fixed / (1 - rate * self.each))))

    def _fit(self) -> None:
        """Weighted least squares; neither part is ever negative."""
        points = [
            (n, median(size.seconds), max(_FAINTEST, _FADING ** (self._passes - size.at)))
            for n, size in self._sizes.items()
        ]
        if len(points) == 1:
            # The two parts cannot be told apart yet: equal halves err least.
            n, seconds, _ = points[0]
            self.fixed, self.each = seconds / 2, seconds / 2 / n
            return
        total = sum(w for _, _, w in points)
        mean_n = sum(w * n for n, _, w in points) / total
        mean_s = sum(w * s for _, s, w in points) / total
        spread = sum(w * (n - mean_n) ** 2 for n, _, w in points)
        self.each = max(0.0, sum(w * (n - mean_n) * (s - mean_s) for n, s, w in points) / spread)
        self.fixed = mean_s - self.each * mean_n
        if self.fixed < 0:
            self.fixed = 0.0
            self.each = sum(w * n * s for n, s, w in points) / sum(w * n * n for n, _, w in points)
