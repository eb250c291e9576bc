"""Parts of long lists, and numbers as a page carries them."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["rounded", "spread", "thinned"]

_CURVE_POINTS = 200


def spread(items: Sequence[Any], count: int) -> list[Any]:
    """Take so many items, evenly from the first to the last."""
    places = np.unique(np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int))
    return [items[place] for place in places] if len(items) else []


def rounded(value: float | None) -> float | None:
    """Shorten a number to five digits; None where it is not finite, which JSON cannot carry."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.5g}")


def thinned(curve: Sequence[float], kept: int) -> list[list[int | float | None]]:
    """Return [step, score] pairs of a curve: some evenly, the last, and that of a step to keep.

    Example:
        >>> thinned([0.0, 20.0, 48.5], 2)
        [[0, 0.0], [1, 20.0], [2, 48.5]]
    """
    steps = {int(step) for step in spread(range(len(curve)), _CURVE_POINTS)} | {kept}
    return [[step, rounded(curve[step])] for step in sorted(steps)]
