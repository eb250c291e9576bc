"""How far two samples of scores lie apart: AUROC with a bootstrap interval, and Cohen's d.

References:
    Hanley and McNeil (1982), Radiology 143, 29-36: AUROC as the Mann-Whitney statistic.
    Cohen (1988), Statistical Power Analysis for the Behavioral Sciences, section 2.5: d.
    Efron and Tibshirani (1993), An Introduction to the Bootstrap, chapters 8 and 13: each of two
    samples resampled by itself, and the percentile interval.
"""

import math
from dataclasses import dataclass

import numpy as np
import scipy.stats
from jaxtyping import Float

from gaxjax.common import UserError

__all__ = [
    "Interval",
    "Resampling",
    "auroc",
    "auroc_within",
    "checked",
    "cohens_d",
    "percentile_interval",
    "resampled_auroc",
]

_MOST_RESAMPLES = 100_000

Interval = tuple[float, float]
"""Lower and upper end."""


@dataclass(frozen=True)
class Resampling:
    """How intervals are made: how many resamples, at which confidence, from which seed."""

    num_resamples: int = 1000
    confidence: float = 0.95
    seed: int = 0


def checked(resampling: Resampling) -> Resampling:
    """Return the resampling as given.

    Raises:
        UserError: its settings are impossible.
    """
    if not 0 < resampling.confidence < 1:
        raise UserError(f"confidence must be between 0 and 1; got {resampling.confidence}")
    # With fewer, no resample lies outside the ends of the interval.
    fewest = math.ceil(round(2 / (1 - resampling.confidence), 6))
    if resampling.num_resamples < fewest:
        raise UserError(
            f"num_resamples must be at least {fewest} for a confidence of "
            f"{resampling.confidence}; got {resampling.num_resamples}"
        )
    if resampling.num_resamples > _MOST_RESAMPLES:
        raise UserError(
            f"num_resamples must be at most {_MOST_RESAMPLES:,}; got {resampling.num_resamples:,}"
        )
    if resampling.seed < 0:
        raise UserError(f"seed must be at least 0; got {resampling.seed}")
    return resampling


def auroc(correct: Float[np.ndarray, " C"], wrong: Float[np.ndarray, " W"]) -> float | None:
    """Return the probability that a correct prediction scores higher than a wrong one, ties half.

    `A = (R - C (C + 1) / 2) / (C W)`, with R the sum of the correct ones' ranks among all scores,
    tied scores sharing their mean rank: the Mann-Whitney U over its largest value (Hanley and
    McNeil 1982). None without both kinds of scores.

    Example:
        >>> auroc(np.array([2.0, 3.0]), np.array([1.0, 2.0]))
        0.875
    """
    if not len(correct) or not len(wrong):
        return None
    ranks = scipy.stats.rankdata(np.concatenate([correct, wrong]))[: len(correct)]
    wins = ranks.sum() - len(correct) * (len(correct) + 1) / 2
    return float(wins / (len(correct) * len(wrong)))


def auroc_within(
    scores: Float[np.ndarray, " N"],
    correct: Float[np.ndarray, " N"],
    classes: Float[np.ndarray, " N"],
) -> float | None:
    """Return the AUROC over those pairs of a correct and a wrong prediction that share a class.

    `sum of U_c over sum of C_c W_c`: the Mann-Whitney statistics of the classes, added up. None
    where no class has both kinds. Scores that are not finite do not count.

    Example:
        >>> auroc_within(np.array([9.0, 2.0, 1.0]), np.array([1.0, 1, 0]), np.array([0.0, 1, 1]))
        1.0
    """
    wins = pairs = 0.0
    known = np.isfinite(scores)
    for one in np.unique(classes[known]):
        mine = known & (classes == one)
        right, wrong = scores[mine & (correct == 1)], scores[mine & (correct == 0)]
        area = auroc(right, wrong)
        if area is not None:
            pairs += len(right) * len(wrong)
            wins += area * len(right) * len(wrong)
    return wins / pairs if pairs else None


def resampled_auroc(
    correct: Float[np.ndarray, "M C"], wrong: Float[np.ndarray, "M W"], resampling: Resampling
) -> Float[np.ndarray, "M B"]:
    """Return the AUROC of M methods in B bootstrap resamples, each of the same images for all M.

    The C correct and the W wrong images are drawn with replacement, each kind by itself. With
    fewer than two of either, B is 0: one image tells nothing about its kind's spread.
    """
    (num_methods, num_correct), num_wrong = correct.shape, wrong.shape[1]
    if min(num_correct, num_wrong) < 2:
        return np.empty((num_methods, 0))
    # Sorted once: a resample is then how often each place in either order was drawn. A correct
    # score beats the first `beaten` wrong ones and ties with those from there to `reached`.
    order, wrong_order = np.argsort(correct, axis=1), np.argsort(wrong, axis=1)
    pairs = [
        (there[those], here[these])
        for here, these, there, those in zip(correct, order, wrong, wrong_order, strict=True)
    ]
    beaten = np.stack([np.searchsorted(*pair, side="left") for pair in pairs])
    reached = np.stack([np.searchsorted(*pair, side="right") for pair in pairs])
    generator = np.random.default_rng(resampling.seed)
    areas = np.empty((num_methods, resampling.num_resamples))
    below = np.zeros(num_wrong + 1, np.int64)
    for resample in range(resampling.num_resamples):
        drawn, drawn_wrong = (
            np.bincount(generator.integers(count, size=count), minlength=count)
            for count in (num_correct, num_wrong)
        )
        for method in range(num_methods):
            np.cumsum(drawn_wrong[wrong_order[method]], out=below[1:])
            halves = below[beaten[method]] + below[reached[method]]
            total = np.vdot(drawn[order[method]], halves)
            areas[method, resample] = total / (2 * num_correct * num_wrong)
    return areas


def percentile_interval(values: Float[np.ndarray, " B"], resampling: Resampling) -> Interval | None:
    """Return the percentile interval of resampled values; None where they do not vary."""
    if not len(values) or values.min() == values.max():
        return None
    tail = (1 - resampling.confidence) / 2
    low, high = np.quantile(values, [tail, 1 - tail]).tolist()
    return low, high


def cohens_d(correct: Float[np.ndarray, " C"], wrong: Float[np.ndarray, " W"]) -> float | None:
    """Return the difference of the means in units of the pooled standard deviation.

    `d = (mean_c - mean_w) / sqrt(((C - 1) var_c + (W - 1) var_w) / (C + W - 2))`, variances with
    divisors C - 1 and W - 1 (Cohen 1988). None with fewer than two scores of either kind, and
    where neither kind varies.
    """
    if min(len(correct), len(wrong)) < 2:
        return None
    if np.ptp(correct) == 0 and np.ptp(wrong) == 0:
        return None  # rounding could leave their variance above 0
    squares = len(correct) * correct.var() + len(wrong) * wrong.var()
    pooled = math.sqrt(squares / (len(correct) + len(wrong) - 2))
    return float((correct.mean() - wrong.mean()) / pooled)
