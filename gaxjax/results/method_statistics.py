"""A run's statistics as data: per method, layer and operation, and as rows for a file.

`gaxjax.results.statistics` computes them.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

from gaxjax.results.separation import Interval, Resampling

__all__ = [
    "KEYS",
    "Comparison",
    "Completeness",
    "Effect",
    "Gap",
    "MethodStatistics",
    "ScoreSummary",
    "Statistics",
    "StepSummary",
]

KEYS = ("method", "layer", "operation", "setting")
"""Columns that tell one method's rows from another's."""


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

    @property
    def direction(self) -> int:
        """1 where correct predictions score higher, -1 where wrong ones do."""
        return -1 if self.auroc is not None and self.auroc < 0.5 else 1


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
class Completeness:
    """How far attributions are from summing to the rise of the logit, of 1 (deep_lift alone).

    Attributes:
        count: images whose attribution has a gap.
        median, maximum: of |Σ attribution - rise| / |rise|.
    """

    count: int
    median: float
    maximum: float


@dataclass(frozen=True)
class MethodStatistics:
    """One method at one layer under one operation, of a sweep with one setting.

    Attributes:
        num_images: rows. num_scored: rows with a finite score and a baseline prediction.
        outcomes: images per outcome; they add up to `num_images`.
        correct, wrong: scores of the images that the plain baseline predicts correctly, wrongly.
        gap, effect: see there.
        steps: of a GAX run; None where no image reached a target.
        completeness: of deep_lift; None for others, and where a run did not record it.
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
    completeness: Completeness | None = None
    setting: str | None = None

    @property
    def name(self) -> str:
        """As in `layer_grad_cam conv1 [sum]`, or `gax [sum] learning-rate=0.1`."""
        words = [self.method, self.layer, f"[{self.operation}]", self.setting]
        return " ".join(filter(None, words))


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
    """A run in figures, as `run_statistics` computes them.

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

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON: no NaN, no infinity; None is an undefined figure."""

        def plain(value: Any) -> Any:
            if isinstance(value, dict):
                return {name: plain(item) for name, item in value.items()}
            return [plain(item) for item in value] if isinstance(value, tuple) else value

        return {name: plain(value) for name, value in dataclasses.asdict(self).items()}

    def rows(self) -> list[dict[str, Any]]:
        """Return one flat row per method, layer and operation, all with the same columns.

        Example:
            >>> frame = pandas.DataFrame(run.statistics.rows())  # doctest: +SKIP
        """
        outcomes = sorted({outcome for method in self.methods for outcome in method.outcomes})
        steps = [field.name for field in dataclasses.fields(StepSummary)]
        flat = []
        for method in self.methods:
            low, high = method.gap.auroc_interval or (None, None)
            gap = vars(method.gap) | {"auroc_low": low, "auroc_high": high}
            del gap["auroc_interval"]
            flat.append(
                {name: getattr(method, name) for name in (*KEYS, "num_images", "num_scored")}
                | {f"outcome_{outcome}": method.outcomes.get(outcome, 0) for outcome in outcomes}
                | {f"correct_{name}": value for name, value in vars(method.correct).items()}
                | {f"wrong_{name}": value for name, value in vars(method.wrong).items()}
                | gap
                | vars(method.effect)
                | {f"steps_{name}": getattr(method.steps, name, None) for name in steps}
                | {
                    f"completeness_gap_{name}": getattr(method.completeness, name, None)
                    for name in ("median", "maximum")
                }
                | {"best": method.name == self.best}
            )
        return flat
