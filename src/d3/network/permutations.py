"""Orders of an image's patches: drawn once for a model and written into its manifest."""

from __future__ import annotations

import numpy as np


def draw_permutations(seed: int, count: int, patches: int) -> tuple[tuple[int, ...], ...]:
    """``count`` orders of ``patches`` patches.

    Drawn by sorting raw 64-bit words of PCG64, whose stream NumPy guarantees for ever (the stream
    of ``Generator.permutation`` it does not).
    """
    words = np.random.PCG64(seed).random_raw(count * patches).reshape(count, patches)
    return tuple(tuple(map(int, np.argsort(row, kind="stable"))) for row in words)
