"""Applies an indicator to a run that it was not fitted on, and judges it there by the labels."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.stats
from jaxtyping import Bool, Float

from gaxjax.common import UserError, counted
from gaxjax.results.indicator import SCORERS, Indicator
from gaxjax.results.label_free import BASELINES, LabelFree, label_free, what_it_was_made_by
from gaxjax.results.selective import (
    HIGHER_IS_BETTER,
    MEASURES,
    Difference,
    Measure,
    compared,
    judged,
)
from gaxjax.results.separation import Interval, Resampling, checked
from gaxjax.results.stored_run import Run

__all__ = ["Acceptance", "Judgement", "apply_indicator"]


@dataclass(frozen=True)
class Acceptance:
    """What one of `SCORERS` accepts at its threshold.

    Attributes:
        threshold: as it was fitted; None accepts nothing.
        num_accepted: images.
        num_errors: wrong predictions among them; None without labels.
        error, error_interval: their share, with Wilson's interval; None where none is accepted.
    """

    threshold: float | None
    num_accepted: int
    num_errors: int | None = None
    error: float | None = None
    error_interval: Interval | None = None


@dataclass(frozen=True)
class Judgement:
    """What `apply_indicator` found.

    Attributes:
        indicator: what was applied.
        run, data: to which.
        images: that were judged.
        scores: of each of `SCORERS`, higher is surer, -inf where there is none.
        accepted: by name, of `SCORERS`.
        num_left_out: images that it was fitted on.
        measures: by name and `MEASURES`; empty without labels.
        differences: of indicator and together, less each baseline, by `MEASURES`.
        resampling: how the intervals were made.
        labelled: whether the labels were to be believed.
    """

    indicator: Indicator
    run: str
    data: str
    images: LabelFree
    scores: Mapping[str, Float[np.ndarray, " N"]]
    accepted: Mapping[str, Acceptance]
    num_left_out: int
    measures: Mapping[str, Mapping[str, Measure]]
    differences: Mapping[str, Mapping[str, Mapping[str, Difference]]]
    resampling: Resampling
    labelled: bool

    @property
    def right(self) -> Bool[np.ndarray, " N"]:
        """Whether each prediction is the label."""
        return self.images.right

    @property
    def num_wrong(self) -> int | None:
        """Wrong predictions; None without labels."""
        return int((~self.right).sum()) if self.labelled else None

    @property
    def has_both_kinds(self) -> bool:
        """Whether there are right and wrong predictions to be told apart."""
        return self.labelled and 0 < int((~self.right).sum()) < len(self.images)

    def accepts(self, name: str) -> Bool[np.ndarray, " N"]:
        """Tell which images one of `SCORERS` accepts."""
        threshold = self.accepted[name].threshold
        found: np.ndarray = self.scores[name] >= (np.inf if threshold is None else threshold)
        return found

    def verdicts(self, by: str = "indicator") -> dict[str, list[Any]]:
        """Return a row per image as columns: its verdict, its numbers, and its label if known.

        Args:
            by: whose verdict, of `SCORERS`.
        """
        images, chosen = self.images, self.indicator.chosen
        accepts = self.accepts(by).tolist()
        columns: dict[str, list[Any]] = {
            "image_id": list(images.image_ids),
            "prediction": images.prediction.astype(int).tolist(),
            "verdict": ["accept" if accept else "reject" for accept in accepts],
            "reason": [None if known else "no score" for known in np.isfinite(self.scores[by])],
            "co_score_predicted": _plain(images.scores[chosen.key]),
            "together": _plain(self.scores["together"]),
            **{name: _plain(images.baselines[name]) for name in BASELINES},
        }
        if self.labelled:
            columns["label"] = images.label.astype(int).tolist()
            columns["correct"] = self.right.tolist()
        of_unreadable = {"verdict": "reject", "reason": "unreadable"}
        for image_id in images.unreadable:
            for name, column in columns.items():
                column.append(image_id if name == "image_id" else of_unreadable.get(name))
        return columns

    def to_dict(self) -> dict[str, Any]:
        """Return all figures as plain JSON values; None is undefined."""

        def plain(value: Any) -> Any:
            if isinstance(value, Mapping):
                return {name: plain(item) for name, item in value.items()}
            if isinstance(value, tuple):
                return [plain(item) for item in value]
            if isinstance(value, Acceptance | Measure | Difference | Resampling):
                return plain(vars(value))
            return value

        fitted = self.indicator
        return {
            "run": self.run,
            "data": self.data,
            "model": fitted.model,
            "made_by": fitted.made_by,
            "fitted_on": {
                "run": fitted.run,
                "images": len(fitted.images),
                "wrong": fitted.num_wrong,
                "split": fitted.split,
                "versions": fitted.versions,
            },
            "indicator": vars(fitted.chosen),
            "candidates": [vars(each) for each in fitted.candidates],
            "best_baseline": fitted.best_baseline,
            "wanted": fitted.wanted,
            "num_images": len(self.images),
            "num_wrong": self.num_wrong,
            "num_without_score": int((~np.isfinite(self.scores["indicator"])).sum()),
            "num_unreadable": len(self.images.unreadable),
            "num_left_out": self.num_left_out,
            "accepted": plain(self.accepted),
            "measures": plain(self.measures),
            "differences": plain(self.differences),
            "resampling": plain(self.resampling),
        }


def apply_indicator(
    indicator: Indicator,
    run: Run,
    *,
    labelled: bool = True,
    num_resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Judgement:
    """Score a run's images by an indicator, and judge it and the baselines where labels are known.

    Of the run that it was fitted on in part, the others alone.

    Args:
        indicator: from `fit_indicator`.
        run: of `gaxjax ax`, with the same model and settings.
        labelled: whether the run's labels are the images' own.
        num_resamples: bootstrap resamples behind each interval.
        confidence: of the intervals, in (0, 1).
        seed: of the resampling.

    Raises:
        UserError: another model, other settings, no such method, or images that it was fitted on.
    """
    resampling = checked(Resampling(num_resamples, confidence, seed))
    images = label_free(run)
    _refuse_another(indicator, run, images)
    images, num_left_out = _unseen(indicator, run, images)
    scores = indicator.scores(images)
    right = images.right if labelled else None
    both = right is not None and 0 < right.sum() < len(right)
    found, drawn = judged(scores, right, resampling) if right is not None and both else ({}, {})
    differences = {
        ours: {
            name: {
                measure: compared(
                    (found[ours][measure], found[name][measure]),
                    (drawn[ours][measure], drawn[name][measure]),
                    resampling,
                    higher_is_better=HIGHER_IS_BETTER[measure],
                )
                for measure in MEASURES
            }
            for name in BASELINES
        }
        for ours in ("indicator", "together")
        if found
    }
    thresholds = {name: indicator.fits[name].threshold for name in SCORERS}
    return Judgement(
        indicator=indicator,
        run=str(run.path),
        data=run.header["data"]["name"],
        images=images,
        scores=scores,
        accepted={
            name: _acceptance(scores[name], thresholds[name], right, confidence) for name in SCORERS
        },
        num_left_out=num_left_out,
        measures=found,
        differences=differences,
        resampling=resampling,
        labelled=labelled,
    )


def _refuse_another(indicator: Indicator, run: Run, images: LabelFree) -> None:
    here, there = what_it_was_made_by(run), indicator.made_by
    if here["model"] != there.get("model"):
        raise UserError(
            f"{run.path} was made with another model than the indicator was fitted on: "
            f"{run.header['model']['name']} {here['model'][:16]} here, {indicator.model} "
            f"{str(there.get('model'))[:16]} there: fit one on a run of this model"
        )
    differing = [
        f"{name} is {there.get(name)} there and {here.get(name)} here"
        for name in {**there, **here}
        if there.get(name) != here.get(name)
    ]
    if differing:
        raise UserError(
            f"{run.path} was made otherwise than the run that the indicator was fitted on: "
            f"{'; '.join(differing)}. Make it anew with the same settings"
        )
    if indicator.chosen.key not in images.scores:
        method, layer, operation = indicator.chosen.key
        wanted = f"--methods {method}" + (f" --layers {layer}" if layer else "")
        raise UserError(
            f"{run.path} has no {indicator.chosen.name}, which the indicator takes: make it with "
            f"{wanted} --operation {operation}"
        )


def _unseen(indicator: Indicator, run: Run, images: LabelFree) -> tuple[LabelFree, int]:
    """Return the images that the indicator was not fitted on, and how many others there were."""
    sizes = dict(indicator.images)

    def was_fitted_on(image_id: str, size: int | None) -> bool:
        # Files of one name in two folders are two images where their sizes differ.
        return image_id in sizes and (None in (size, sizes[image_id]) or size == sizes[image_id])

    pairs = zip(images.image_ids, images.sizes, strict=True)
    seen = np.array([was_fitted_on(*pair) for pair in pairs], bool)
    shared = int(seen.sum())
    if not shared:
        return images, 0
    same = run.header["data"]["fingerprint"] == indicator.data_fingerprint
    if not same or shared == len(images):
        first = images.image_ids[int(seen.argmax())]
        raise UserError(
            f"{run.path} has {counted(shared, 'image')} that the indicator was fitted on (first: "
            f"{first}), by which it cannot be judged: give a run of others, or fit on a part of "
            "it by gaxjax indicator fit --split 0.5"
        )
    return images.only(~seen), shared


def _acceptance(
    score: Float[np.ndarray, " N"],
    threshold: float | None,
    right: Bool[np.ndarray, " N"] | None,
    confidence: float,
) -> Acceptance:
    accepts = score >= (np.inf if threshold is None else threshold)
    number = int(accepts.sum())
    if right is None:
        return Acceptance(threshold, number)
    errors = int((~right[accepts]).sum())
    if not number:
        return Acceptance(threshold, 0, 0)
    ends = scipy.stats.binomtest(errors, number).proportion_ci(confidence, method="wilson")
    interval = float(ends.low), float(ends.high)
    return Acceptance(threshold, number, errors, errors / number, interval)


def _plain(values: Float[np.ndarray, " N"]) -> list[float | None]:
    return [value if np.isfinite(value) else None for value in values.tolist()]
