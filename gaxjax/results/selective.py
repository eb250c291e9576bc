"""How well a score tells right from wrong predictions: how a classifier that may refuse is judged.

A higher score is meant to be a surer prediction. Images of equal scores count as if they came in
random order, so no figure depends on the order of the images.

References:
    Hendrycks and Gimpel (2017), arXiv:1610.02136: AUROC, AUPR of errors, maximum softmax.
    Liang et al. (2018), arXiv:1706.02690: false positives at 95% true positives.
    Geifman and El-Yaniv (2017), arXiv:1705.08500: the risk-coverage curve and its area.
    Efron and Tibshirani (1993), chapters 8 and 13: the paired bootstrap, percentile intervals.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from gaxjax.results.separation import Interval, Resampling, percentile_interval

__all__ = [
    "HIGHER_IS_BETTER",
    "MEASURES",
    "Difference",
    "Measure",
    "compared",
    "judged",
    "measures",
    "risk_coverage",
    "roc",
]

MEASURES = ("auroc", "aupr_error", "fpr_at_95", "aurc")
"""AUROC of right above wrong; area under precision and recall of errors, looked for from the lowest
score up; share of errors accepted where 95% of the right are; mean risk over all coverages."""

HIGHER_IS_BETTER = {"auroc": True, "aupr_error": True, "fpr_at_95": False, "aurc": False}

_AT_ONCE = 4_000_000  # numbers of a block of resamples

_Blocks = dict[str, Float[np.ndarray, " B"]]


@dataclass(frozen=True)
class Measure:
    """A figure with its interval; None is undefined: of one kind of predictions alone.

    The interval is also None with fewer than two right or wrong predictions, and where no resample
    differs.
    """

    value: float | None
    interval: Interval | None = None


@dataclass(frozen=True)
class Difference:
    """A score's figure less another's on the same images, each resample the same for both.

    Attributes:
        value, interval: as of a `Measure`.
        better: whether the first score is the better one by this figure, True or False where the
            interval leaves out 0, None where the two are not told apart.
    """

    value: float | None
    interval: Interval | None
    better: bool | None


def measures(
    score: Float[np.ndarray, " N"],
    right: Bool[np.ndarray, " N"],
    counts: Int[np.ndarray, "B N"] | None = None,
) -> _Blocks:
    """Return each of `MEASURES`, NaN where it is undefined, for one draw of the images or several.

    Args:
        score: higher is surer; -inf where there is none.
        right: whether the prediction is.
        counts: how often each draw has each image; each once when not given.

    Example:
        >>> found = measures(np.array([3.0, 2.0, 1.0]), np.array([True, False, True]))
        >>> found["auroc"].tolist()
        [0.5]
    """
    drawn = np.ones((1, len(score)), np.int64) if counts is None else counts
    _, hit, miss = _accumulated(score, right, drawn)
    hits, misses = np.diff(hit, prepend=0), np.diff(miss, prepend=0)  # of each group of equals
    total, rights, wrongs = hit[:, -1:] + miss[:, -1:], hit[:, -1:], miss[:, -1:]
    with np.errstate(divide="ignore", invalid="ignore"):
        beaten = (hits * (wrongs - miss) + hits * misses / 2).sum(1, keepdims=True)
        # From the lowest score up: an error is what is looked for.
        found, seen = wrongs - miss + misses, total - (hit + miss) + hits + misses
        precision = found / np.maximum(seen, 1)
        enough = (100 * hit >= 95 * rights).argmax(1)[:, None]
        measured = {
            "auroc": beaten / (rights * wrongs),
            "aupr_error": (misses * precision).sum(1, keepdims=True) / wrongs,
            "fpr_at_95": np.take_along_axis(miss, enough, 1) / np.where(rights, wrongs, 0),
            "aurc": _area_of_risk(hits, misses) / total,
        }
    return {name: np.asarray(values[:, 0], float) for name, values in measured.items()}


def _area_of_risk(
    hits: Int[np.ndarray, "B G"], misses: Int[np.ndarray, "B G"]
) -> Float[np.ndarray, "B 1"]:
    """Sum the risk over all numbers of accepted images, of equals the expected one.

    With E errors among N images above a group, and a share r of errors in it, the risk after j of
    its images is (E + j r) / (N + j) = r + (E - r N) / (N + j): harmonic numbers sum it up.
    """
    size = hits + misses
    ends = size.cumsum(1)
    before, errors_before = ends - size, misses.cumsum(1) - misses
    share = misses / np.maximum(size, 1)
    harmonic = np.append(0, np.cumsum(1 / np.arange(1, ends.max() + 1)))
    sums = size * share + (errors_before - share * before) * (harmonic[ends] - harmonic[before])
    area: np.ndarray = sums.sum(1, keepdims=True)
    return area


def _accumulated(
    score: Float[np.ndarray, " N"], right: Bool[np.ndarray, " N"], counts: Int[np.ndarray, "B N"]
) -> tuple[Float[np.ndarray, " G"], Int[np.ndarray, "B G"], Int[np.ndarray, "B G"]]:
    """Return the scores that occur, the highest first, and how many of either kind reach each."""
    order = np.argsort(-score, kind="stable")
    ordered, kind = score[order], right[order]
    ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
    drawn = counts[:, order]
    hit = np.cumsum(drawn * kind, axis=1)[:, ends]
    miss = np.cumsum(drawn * ~kind, axis=1)[:, ends]
    return ordered[ends], hit, miss


def risk_coverage(
    score: Float[np.ndarray, " N"], right: Bool[np.ndarray, " N"]
) -> tuple[Float[np.ndarray, " N"], Float[np.ndarray, " N"]]:
    """Return coverages k / N, and the risk of the k surest images: the share of errors among them.

    Example:
        >>> risk_coverage(np.array([3.0, 2.0]), np.array([True, False]))[1].tolist()
        [0.0, 0.5]
    """
    _, hit, miss = _accumulated(score, right, np.ones((1, len(score)), np.int64))
    ends = np.append(0, (hit + miss)[0])
    errors = np.interp(np.arange(1, len(score) + 1), ends, np.append(0, miss[0]))
    accepted = np.arange(1, len(score) + 1)
    return accepted / len(score), errors / accepted


def roc(
    score: Float[np.ndarray, " N"], right: Bool[np.ndarray, " N"]
) -> tuple[Float[np.ndarray, " G"], Float[np.ndarray, " G"]]:
    """Return the shares of wrong and of right predictions accepted at each threshold, from none.

    There is at least one of either kind.
    """
    _, hit, miss = _accumulated(score, right, np.ones((1, len(score)), np.int64))
    return np.append(0, miss[0] / miss[0, -1]), np.append(0, hit[0] / hit[0, -1])


# --- With intervals ------------------------------------------------------------------------------


def judged(
    scores: Mapping[str, Float[np.ndarray, " N"]],
    right: Bool[np.ndarray, " N"],
    resampling: Resampling,
) -> tuple[dict[str, dict[str, Measure]], dict[str, _Blocks]]:
    """Return each score's measures with intervals, and their values in each resample.

    A resample draws as many images with replacement, the same for every score.
    """
    drawn = _resampled(scores, right, resampling)
    found = {}
    for name, score in scores.items():
        exact = measures(score, right)
        found[name] = {
            measure: Measure(
                _finite(exact[measure][0]), _interval(drawn[name][measure], resampling)
            )
            for measure in MEASURES
        }
    return found, drawn


def compared(
    values: tuple[Measure, Measure],
    resampled: tuple[Float[np.ndarray, " B"], Float[np.ndarray, " B"]],
    resampling: Resampling,
    *,
    higher_is_better: bool,
) -> Difference:
    """Return the first score's measure less the second's, from what `judged` gave."""
    first, second = (measure.value for measure in values)
    if first is None or second is None:
        return Difference(None, None, None)
    interval = _interval(np.subtract(*resampled), resampling)
    better = None
    if interval is not None and not interval[0] <= 0 <= interval[1]:
        better = (interval[0] > 0) == higher_is_better
    return Difference(first - second, interval, better)


def _resampled(
    scores: Mapping[str, Float[np.ndarray, " N"]],
    right: Bool[np.ndarray, " N"],
    resampling: Resampling,
) -> dict[str, _Blocks]:
    size, left = len(right), resampling.num_resamples
    if min(right.sum(), (~right).sum()) < 2:
        return {name: dict.fromkeys(MEASURES, np.empty(0)) for name in scores}
    generator = np.random.default_rng(resampling.seed)
    blocks: dict[str, list[_Blocks]] = {name: [] for name in scores}
    while left:
        number = min(left, max(1, _AT_ONCE // size))
        counts = generator.multinomial(size, np.full(size, 1 / size), size=number)
        for name, score in scores.items():
            blocks[name].append(measures(score, right, counts))
        left -= number
    return {
        name: {measure: np.concatenate([b[measure] for b in found]) for measure in MEASURES}
        for name, found in blocks.items()
    }


def _interval(values: Float[np.ndarray, " B"], resampling: Resampling) -> Interval | None:
    return percentile_interval(values[np.isfinite(values)], resampling)


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
