"""How far the CO scores of correct and of wrong predictions lie apart, from a finished run's table.

The paper's finding (§4.1) is a gap between the two, and its advice is to pick the method with the
largest; here the gap gets a size and an interval. A CO score needs the groundtruth class, so these
figures compare distributions; none is the error rate of a detector for images without a label.
"""

import dataclasses
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import scipy.stats
from jaxtyping import Float

from gaxjax.common.errors import UserError
from gaxjax.config.base import METHODS
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

__all__ = [
    "Comparison",
    "Effect",
    "Gap",
    "MethodStatistics",
    "ScoreSummary",
    "Statistics",
    "StepSummary",
    "direction",
    "rows",
    "run_statistics",
    "to_dict",
]

_Key = tuple[str, str | None, str]  # method, layer, operation
_Columns = Mapping[str, np.ndarray]  # of one key, ordered by image_id

_METHODS = (*METHODS, "gax")
_KEYS = ("method", "layer", "operation")
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
_EXACT_PAIRS = 10_000  # below this product of sample sizes R's ks.test counts every path, too


@dataclass(frozen=True)
class ScoreSummary:
    """The distribution of some CO scores; all but `count` are None where there is no score.

    Quartiles interpolate linearly between order statistics; shares are in [0, 1].
    """

    count: int
    minimum: float | None = None
    lower_quartile: float | None = None
    median: float | None = None
    upper_quartile: float | None = None
    maximum: float | None = None
    mean: float | None = None
    share_above_zero: float | None = None
    share_at_most_ten: float | None = None


@dataclass(frozen=True)
class Gap:
    """How far the scores of correct predictions lie from those of wrong ones; None: undefined.

    Attributes:
        auroc: probability that a correct prediction scores higher than a wrong one (`auroc`).
        auroc_interval: percentile bootstrap, correct and wrong images resampled apart. None with
            fewer than two of either, and where no resample differs (complete separation, equal
            scores): the bootstrap then says nothing about the uncertainty.
        separation: |auroc - 0.5|, in [0, 0.5]. An AUROC below 0.5 separates as well, the wrong
            predictions scoring higher; `auroc` keeps the direction.
        cohens_d: difference of the means in pooled standard deviations (`cohens_d`).
        ks_distance: largest distance between the two empirical distribution functions.
        ks_p_value: two-sided, exact below 10,000 pairs of scores and asymptotic from there on;
            for one method, not corrected for testing several.
        auroc_by_prediction_after: AUROC with correct and wrong told by the prediction after AX,
            as the released v2 code splits. Score and split then come from the same augmented
            logits, so it is high partly by construction.
        auroc_within_classes: AUROC over the pairs of images of the same groundtruth class alone
            (`auroc_within`). Where one class holds most of the errors, `auroc` tells the classes
            apart, and this one what the scores add.
    """

    auroc: float | None = None
    auroc_interval: Interval | None = None
    separation: float | None = None
    cohens_d: float | None = None
    ks_distance: float | None = None
    ks_p_value: float | None = None
    auroc_by_prediction_after: float | None = None
    auroc_within_classes: float | None = None


@dataclass(frozen=True)
class Effect:
    """What the heatmaps did to the classifier, over all images with a baseline prediction.

    An image without a finite score was not augmented, so it keeps its plain prediction and
    probability: exact for an all-zero heatmap under `sum`, a convention for one under `mult` and
    for images that are not finite or were not optimised. Before and after so speak of the same
    images.

    Attributes:
        num_classified: images with a baseline prediction.
        num_augmented: of these, those with a finite score and a prediction after.
        accuracy_before, accuracy_after: shares of `num_classified`.
        num_changed: predictions that differ after; besides the next two, from one wrong class to
            another.
        num_wrong_to_right, num_right_to_wrong: of the changed.
        probability_before, probability_after: mean softmax at the groundtruth class.
    """

    num_classified: int
    num_augmented: int
    accuracy_before: float | None
    accuracy_after: float | None
    num_changed: int
    num_wrong_to_right: int
    num_right_to_wrong: int
    probability_before: float | None
    probability_after: float | None


@dataclass(frozen=True)
class StepSummary:
    """Updates behind the heatmaps that reached the target."""

    count: int
    lower_quartile: float
    median: float
    upper_quartile: float
    maximum: int


@dataclass(frozen=True)
class MethodStatistics:
    """One method at one layer under one operation.

    Attributes:
        num_images: rows. num_scored: rows with a finite score and a baseline prediction.
        outcomes: images per outcome; they add up to `num_images`.
        correct, wrong: scores of the images that the plain baseline predicts correctly, wrongly.
        gap, effect: see there.
        steps: of a GAX run; None where no image reached a target.
    """

    method: str
    layer: str | None
    operation: str
    num_images: int
    num_scored: int
    outcomes: dict[str, int]
    correct: ScoreSummary
    wrong: ScoreSummary
    gap: Gap
    effect: Effect
    steps: StepSummary | None

    @property
    def name(self) -> str:
        """As in `layer_grad_cam conv1 [sum]`."""
        return " ".join(filter(None, [self.method, self.layer, f"[{self.operation}]"]))


@dataclass(frozen=True)
class Comparison:
    """The method that separates best against the next, on the images that both scored.

    Each resample draws the same images for both, so what the two share cancels. The interval does
    not allow for both having been picked by the figure that it compares.

    Attributes:
        best, second: names.
        num_correct, num_wrong: images that both scored.
        difference: separation of the best less that of the second, each counted in the direction
            in which it separates over all its images; None without both kinds of images.
        interval: of the difference; None as for an AUROC's.
        told_apart: whether the interval lies above 0.
        intervals_overlap: whether the two methods' own intervals do, a weaker check.
    """

    best: str
    second: str
    num_correct: int
    num_wrong: int
    difference: float | None
    interval: Interval | None
    told_apart: bool | None
    intervals_overlap: bool | None


@dataclass(frozen=True)
class Statistics:
    """A run in figures: `run_statistics` makes it; `to_dict` and `rows` give it out.

    Attributes:
        methods: one per method, layer and operation: methods in the paper's order and GAX last,
            layers by name with numbers counted, sum before mult.
        best: name of the method with the largest `separation`; the first of equals. None where
            none is above 0.
        comparison: the best against the next; None without both.
        resampling: how the intervals were made.
    """

    methods: tuple[MethodStatistics, ...]
    best: str | None
    comparison: Comparison | None
    resampling: Resampling


def run_statistics(
    scores: pa.Table, *, num_resamples: int = 1000, confidence: float = 0.95, seed: int = 0
) -> Statistics:
    """Compute a run's statistics from its score table, per method, layer and operation.

    Neither the order of the rows nor the other methods in the table change a method's figures.

    Args:
        scores: rows of `gaxjax.read_scores`, of an AX or a GAX run.
        num_resamples: bootstrap resamples behind each interval.
        confidence: of the intervals, in (0, 1).
        seed: of the resampling.

    Raises:
        UserError: a column is missing, an image has two rows for one method, or a setting is
            impossible.

    Example:
        >>> run_statistics(gaxjax.read_scores("ax-run")).best
        'saliency [sum]'
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
    wanted = (*_KEYS, *_TEXTS, *_NUMBERS)
    missing = [name for name in wanted if name not in scores.column_names]
    if missing:
        raise UserError(
            f"the score table has no column {', '.join(missing)}; expected the columns of "
            "gaxjax.read_scores"
        )
    # In the images' order, so that the order of the rows cannot reach the resampling.
    table = scores.select(wanted).sort_by("image_id")
    columns = {name: table[name].cast(pa.float64()).to_numpy() for name in _NUMBERS}
    columns |= {name: np.array(table[name].to_pylist(), object) for name in _TEXTS}
    places: dict[_Key, list[int]] = {}
    keys = zip(*(table[name].to_pylist() for name in _KEYS), strict=True)
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
    method, layer, operation = key
    rank = _METHODS.index(method) if method in _METHODS else len(_METHODS)
    # Every other part is a number: layer10 comes after layer2.
    parts = re.split(r"(\d+)", layer or "")
    counted = [int(part) if odd % 2 else part for odd, part in enumerate(parts)]
    return rank, method, counted, operation != "sum", operation


def _method(key: _Key, columns: _Columns, resampling: Resampling) -> MethodStatistics:
    score, outcomes = columns["co_score"], columns["outcome"]
    correct, wrong = _by_kind(score, columns["correct"])
    steps = columns["steps"][(outcomes == "reached") & np.isfinite(columns["steps"])]
    return MethodStatistics(
        *key,
        num_images=len(score),
        num_scored=len(correct) + len(wrong),
        outcomes=dict(sorted(Counter(outcomes).items())),
        correct=_summary(correct),
        wrong=_summary(wrong),
        gap=_gap(columns, correct, wrong, resampling),
        effect=_effect(columns),
        steps=_step_summary(steps) if len(steps) else None,
    )


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
    directions = np.array([direction(first.gap), direction(other.gap)])
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


def direction(gap: Gap) -> int:
    """Return 1 where correct predictions score higher, -1 where wrong ones do."""
    return -1 if gap.auroc is not None and gap.auroc < 0.5 else 1


def _separation_interval(gap: Gap) -> Interval | None:
    if gap.auroc_interval is None:
        return None
    low, high = (end - 0.5 for end in gap.auroc_interval)
    return (low, high) if direction(gap) > 0 else (-high, -low)


def to_dict(statistics: Statistics) -> dict[str, Any]:
    """Return plain values for JSON: no NaN, no infinity; None is an undefined figure."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: plain(item) for name, item in value.items()}
        return [plain(item) for item in value] if isinstance(value, tuple) else value

    return plain(dataclasses.asdict(statistics))


def rows(statistics: Statistics) -> list[dict[str, Any]]:
    """Return one flat row per method, layer and operation, all with the same columns.

    Example:
        >>> statistics = run_statistics(gaxjax.read_scores("ax-run"))
        >>> pandas.DataFrame(rows(statistics)).to_csv("statistics.csv", index=False)
    """
    outcomes = sorted({outcome for method in statistics.methods for outcome in method.outcomes})
    steps = [field.name for field in dataclasses.fields(StepSummary)]
    flat = []
    for method in statistics.methods:
        low, high = method.gap.auroc_interval or (None, None)
        gap = vars(method.gap) | {"auroc_low": low, "auroc_high": high}
        del gap["auroc_interval"]
        flat.append(
            {name: getattr(method, name) for name in (*_KEYS, "num_images", "num_scored")}
            | {f"outcome_{outcome}": method.outcomes.get(outcome, 0) for outcome in outcomes}
            | {f"correct_{name}": value for name, value in vars(method.correct).items()}
            | {f"wrong_{name}": value for name, value in vars(method.wrong).items()}
            | gap
            | vars(method.effect)
            | {f"steps_{name}": getattr(method.steps, name, None) for name in steps}
            | {"best": method.name == statistics.best}
        )
    return flat
