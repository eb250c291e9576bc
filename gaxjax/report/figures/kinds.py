"""Correct and wrong predictions of a method: their scores, and how a legend tells them apart."""

from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from gaxjax.report.figures.style import CORRECT, WRONG
from gaxjax.results import MethodStatistics, numbers, of_method

__all__ = ["kind_handles", "scores_by_kind"]


def scores_by_kind(
    scores: pa.Table, method: MethodStatistics
) -> dict[str, Float[np.ndarray, " K"]]:
    """Return a method's finite scores of correct and of wrong predictions of the plain image."""
    mine = scores.filter(pa.array(of_method(scores, method)))
    score, correct = numbers(mine, "co_score"), numbers(mine, "correct")
    return {
        kind: score[np.isfinite(score) & (correct == value)]
        for kind, value in (("correct", True), ("wrong", False))
    }


def kind_handles() -> list[Any]:
    """Return the legend's entries: told apart without colour, too, by being filled."""
    from matplotlib.patches import Patch

    return [
        Patch(facecolor=CORRECT, alpha=0.6, label="correct prediction"),
        Patch(facecolor="none", edgecolor=WRONG, linewidth=1.3, label="wrong prediction"),
    ]
