"""When the learning rate falls: after epochs that validated worse, as the authors' code counts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Plateau:
    """The course of the validation accuracy, as far as it decides about the rate.

    The mark to reach is the last accuracy that was not worse than the mark before it by more than
    the tolerance, so it may slide down slowly. A fall of the rate forgets it.

    Attributes:
        patience: worse epochs in a row after which the rate falls.
        tolerance: how far below the mark an accuracy may lie.
        later_tolerance: likewise once the rate has fallen.
        mark: None before the first epoch and after a fall.
        worse: epochs below the mark, in a row.
    """

    patience: int
    tolerance: float
    later_tolerance: float
    mark: float | None = None
    worse: int = 0

    def reached_by(self, accuracy: float) -> bool:
        """Note an epoch's accuracy in [0, 1]; whether the rate is to fall now."""
        if self.mark is None or accuracy >= self.mark - self.tolerance:
            self.mark, self.worse = accuracy, 0
            return False
        self.worse += 1
        if self.worse < self.patience:
            return False
        self.mark, self.worse, self.tolerance = None, 0, self.later_tolerance
        return True
