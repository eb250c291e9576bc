"""How far the CO scores of correct and of wrong predictions lie apart, from a finished run's table.

The paper's finding (§4.1) is a gap between the two, and its advice is to pick the method with the
largest; here the gap gets a size and an interval. A CO score needs the groundtruth class, so these
figures compare distributions; none is the error rate of a detector for images without a label.
"""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import scipy.stats
from jaxtyping import Float

from gaxjax.common import UserError
from gaxjax.config import METHODS, from_text
from gaxjax.results.columns import numbers, texts
from gaxjax.results.method_statistics import (
    KEYS,
    Comparison,
    Completeness,
    Effect,
    Gap,
    MethodStatistics,
    ScoreSummary,
    Statistics,
    StepSummary,
)
from gaxjax.results.separation import (
    Interval,
    Resampling,
    auroc,
    auroc_within,
    checked,
    cohens_d,
    percentile_interval,
    resampled_auroc,
)

__all__ = ["run_statistics"]

_Key = tuple[str, str | None, str, str | None]  # method, layer, operation, setting
_Columns = Mapping[str, np.ndarray]  # of one key, ordered by image_id

_METHODS = (*METHODS, "gax")
_TEXTS = ("image_id", "outcome")
_NUMBERS = (
    "co_score",
    "label",
    "correct",
    "correct_after",
    "prediction",
    "prediction_after",
    "probability_before",
    "probability_after",
    "steps",
)
_GAP = "completeness_gap"
_LATER = {_GAP: pa.float32(), "setting": pa.string()}  # columns that older runs lack
_EXACT_PAIRS = 10_000  # below this product of sample sizes R's ks.test counts every path, too


def run_statistics(
    scores: pa.Table, *, num_resamples: int = 1000, confidence: float = 0.95, seed: int = 0
) -> Statistics:
    """Compute a run's statistics from its score table, per method, layer and operation.

    Neither the order of the rows nor the other methods in the table change a method's figures.

    Args:
        scores: `gaxjax.Run.scores`, of an AX or a GAX run.
        num_resamples: bootstrap resamples behind each interval.
        confidence: of the intervals, in (0, 1).
        seed: of the resampling.

    Raises:
        UserError: a column is missing, an image has two rows for one method, or a setting is
            impossible.

    Example:
        >>> from gaxjax.results.reading import read_scores
        >>> statistics = run_statistics(read_scores("ax-run"))  # doctest: +SKIP
    """
    resampling = checked(Resampling(num_resamples, confidence, seed))
    groups = _split(scores)
    methods = [_method(key, columns, resampling) for key, columns in groups.items()]
    pairs = zip(methods, groups.values(), strict=True)
    ranked = sorted(  # stable: of equals the first stays first
        (pair for pair in pairs if pair[0].gap.separation is not None),
        key=lambda pair: -(pair[0].gap.separation or 0),
    )
    separates = bool(ranked and ranked[0][0].gap.separation)
    compared = separates and len(ranked) > 1
    return Statistics(
        methods=tuple(methods),
        best=ranked[0][0].name if separates else None,
        comparison=_compare(ranked[0], ranked[1], resampling) if compared else None,
        resampling=resampling,
    )


def _split(scores: pa.Table) -> dict[_Key, _Columns]:
    """Return the columns of each method, ordered by image; a null number becomes NaN."""
    wanted = (*KEYS, *_TEXTS, *_NUMBERS)
    for name, kind in _LATER.items():
        if name not in scores.column_names:
            scores = scores.append_column(name, pa.nulls(len(scores), kind))
    missing = [name for name in wanted if name not in scores.column_names]
    if missing:
        raise UserError(
            f"the score table has no column {', '.join(missing)}; expected the columns of "
            "gaxjax.Run.scores"
        )
    # In the images' order, so that the order of the rows cannot reach the resampling.
    table = scores.select((*wanted, _GAP)).sort_by("image_id")
    columns = {name: numbers(table, name) for name in (*_NUMBERS, _GAP)}
    columns |= {name: texts(table, name) for name in _TEXTS}
    places: dict[_Key, list[int]] = {}
    keys = zip(*(table[name].to_pylist() for name in KEYS), strict=True)
    for place, key in enumerate(keys):
        places.setdefault(key, []).append(place)
    groups: dict[_Key, _Columns] = {}
    for key in sorted(places, key=_order):
        groups[key] = {name: column[places[key]] for name, column in columns.items()}
        images = groups[key]["image_id"]
        for image in images[1:][images[1:] == images[:-1]][:1]:
            raise UserError(
                f"image {image} has two rows of {key[0]} [{key[2]}]; expected one per image, "
                "method, layer and operation: give the rows of one run and one backend"
            )
    return groups


def _order(key: _Key) -> tuple[Any, ...]:
    method, layer, operation, setting = key
    rank = _METHODS.index(method) if method in _METHODS else len(_METHODS)
    # Every other part is a number: layer10 comes after layer2.
    parts = re.split(r"(\d+)", layer or "")
    counted = [int(part) if odd % 2 else part for odd, part in enumerate(parts)]
    values = list(from_text(setting or "").values())
    return rank, method, counted, operation != "sum", operation, values


def _method(key: _Key, columns: _Columns, resampling: Resampling) -> MethodStatistics:
    score, outcomes = columns["co_score"], columns["outcome"]
    correct, wrong = _by_kind(score, columns["correct"])
    steps = columns["steps"][(outcomes == "reached") & np.isfinite(columns["steps"])]
    method, layer, operation, setting = key
    return MethodStatistics(
        method,
        layer,
        operation,
        num_images=len(score),
        num_scored=len(correct) + len(wrong),
        outcomes=dict(sorted(Counter(outcomes).items())),
        correct=_summary(correct),
        wrong=_summary(wrong),
        gap=_gap(columns, correct, wrong, resampling),
        effect=_effect(columns),
        steps=_step_summary(steps) if len(steps) else None,
        completeness=_completeness(columns[_GAP]),
        setting=setting,
    )


def _completeness(gaps: Float[np.ndarray, " N"]) -> Completeness | None:
    gaps = gaps[np.isfinite(gaps)]
    if not len(gaps):
        return None
    return Completeness(len(gaps), float(np.median(gaps)), float(gaps.max()))


def _by_kind(
    score: Float[np.ndarray, " N"], correct: Float[np.ndarray, " N"]
) -> tuple[Float[np.ndarray, " C"], Float[np.ndarray, " W"]]:
    finite = np.isfinite(score)
    return score[finite & (correct == 1)], score[finite & (correct == 0)]


def _summary(scores: Float[np.ndarray, " N"]) -> ScoreSummary:
    if not len(scores):
        return ScoreSummary(0)
    lowest, lower, median, upper, highest = np.quantile(scores, [0, 0.25, 0.5, 0.75, 1]).tolist()
    return ScoreSummary(
        count=len(scores),
        minimum=lowest,
        lower_quartile=lower,
        median=median,
        upper_quartile=upper,
        maximum=highest,
        mean=float(scores.mean()),
        share_above_zero=float((scores > 0).mean()),
        share_at_most_ten=float((scores <= 10).mean()),
    )


def _step_summary(steps: Float[np.ndarray, " N"]) -> StepSummary:
    low, median, high = np.quantile(steps, [0.25, 0.5, 0.75]).tolist()
    return StepSummary(len(steps), low, median, high, int(steps.max()))


def _gap(
    columns: _Columns,
    correct: Float[np.ndarray, " C"],
    wrong: Float[np.ndarray, " W"],
    resampling: Resampling,
) -> Gap:
    area = auroc(correct, wrong)
    area_after = auroc(*_by_kind(columns["co_score"], columns["correct_after"]))
    if area is None:
        return Gap(auroc_by_prediction_after=area_after)
    [areas] = resampled_auroc(correct[None], wrong[None], resampling)
    exact = len(correct) * len(wrong) < _EXACT_PAIRS
    test = scipy.stats.ks_2samp(correct, wrong, method="exact" if exact else "asymp")
    return Gap(
        auroc=area,
        auroc_interval=percentile_interval(areas, resampling),
        separation=abs(area - 0.5),
        cohens_d=cohens_d(correct, wrong),
        ks_distance=float(test.statistic),
        ks_p_value=float(test.pvalue),
        auroc_by_prediction_after=area_after,
        auroc_within_classes=auroc_within(
            columns["co_score"], columns["correct"], columns["label"]
        ),
    )


def _effect(columns: _Columns) -> Effect:
    classified = np.isfinite(columns["correct"])
    augmented = classified & np.isfinite(columns["co_score"] + columns["correct_after"])
    right = columns["correct"] == 1
    right_after = np.where(augmented, columns["correct_after"] == 1, right)
    likely, likely_after = columns["probability_before"], columns["probability_after"]
    likely_after = np.where(augmented & np.isfinite(likely_after), likely_after, likely)
    known = classified & np.isfinite(likely)
    return Effect(
        num_classified=int(classified.sum()),
        num_augmented=int(augmented.sum()),
        accuracy_before=_mean(right[classified]),
        accuracy_after=_mean(right_after[classified]),
        num_changed=int((augmented & (columns["prediction"] != columns["prediction_after"])).sum()),
        num_wrong_to_right=int((augmented & ~right & right_after).sum()),
        num_right_to_wrong=int((augmented & right & ~right_after).sum()),
        probability_before=_mean(likely[known]),
        probability_after=_mean(likely_after[known]),
    )


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None


def _compare(
    best: tuple[MethodStatistics, _Columns],
    second: tuple[MethodStatistics, _Columns],
    resampling: Resampling,
) -> Comparison:
    (first, columns), (other, other_columns) = best, second
    _, here, there = np.intersect1d(
        columns["image_id"], other_columns["image_id"], assume_unique=True, return_indices=True
    )
    scores = np.stack([columns["co_score"][here], other_columns["co_score"][there]])
    kind = columns["correct"][here]
    usable = np.isfinite(scores).all(axis=0) & (kind == other_columns["correct"][there])
    correct, wrong = scores[:, usable & (kind == 1)], scores[:, usable & (kind == 0)]
    # The direction is set once, by all images: folding each resample would favour noise.
    directions = np.array([first.gap.direction, other.gap.direction])
    difference = interval = None
    if correct.size and wrong.size:
        areas = np.array([auroc(*pair) for pair in zip(correct, wrong, strict=True)], float)
        difference = float(np.subtract(*(directions * (areas - 0.5))))
        resampled = resampled_auroc(correct, wrong, resampling) - 0.5
        interval = percentile_interval(np.subtract(*(directions[:, None] * resampled)), resampling)
    ends, other_ends = _separation_interval(first.gap), _separation_interval(other.gap)
    return Comparison(
        best=first.name,
        second=other.name,
        num_correct=correct.shape[1],
        num_wrong=wrong.shape[1],
        difference=difference,
        interval=interval,
        told_apart=interval[0] > 0 if interval else None,
        intervals_overlap=ends[0] <= other_ends[1] if ends and other_ends else None,
    )


def _separation_interval(gap: Gap) -> Interval | None:
    if gap.auroc_interval is None:
        return None
    low, high = (end - 0.5 for end in gap.auroc_interval)
    return (low, high) if gap.direction > 0 else (-high, -low)
