"""What one image's optimisation ends in: exactly one outcome, never dropped in silence."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from html import escape
from typing import overload

import numpy as np
from jaxtyping import Float, Int

from gaxjax.common import Column, Table
from gaxjax.config import Operation
from gaxjax.results.display import panels_png

__all__ = ["Outcome", "Solution", "Solutions"]

_SHOWN = 10  # rows of a table in a notebook


class Outcome(StrEnum):
    """How an image ended; `meaning` says it in words.

    Example:
        >>> Outcome("unreadable").meaning
        'the file could not be decoded'
    """

    meaning: str

    def __new__(cls, value: str, meaning: str) -> "Outcome":  # noqa: D102
        member = str.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member

    REACHED = "reached", "the verified score of the stored heatmap is at least the target"
    STEP_LIMIT = (
        "step_limit",
        "not reached within the allowed updates; the best heatmap so far is stored",
    )
    NOT_FINITE = (
        "not_finite",
        "a score stopped being a finite number; the best finite heatmap is stored, if any",
    )
    MISCLASSIFIED = (
        "misclassified",
        "the classifier is wrong about the plain image, so it was not optimised",
    )
    UNREADABLE = "unreadable", "the file could not be decoded"
    SCORED = "scored", "the heatmap of an existing method has its verified score"
    ZERO_HEATMAP = (
        "zero_heatmap",
        "the attribution is zero at every pixel, so there is no heatmap to score",
    )


@dataclass(frozen=True)
class Solution:
    """The result of one image; in AX of one image, method and operation.

    Attributes:
        index: the image's position in what was given.
        outcome: how it ended.
        label: the groundtruth class, for which the score is taken.
        prediction: class of the plain image; None where it could not be read.
        probability_before: softmax of f(x) at the label, in [0, 1].
        method: gax, or the name of the existing method that made the heatmap.
        layer: of layer_grad_cam.
        operation: how the heatmap met the image, sum or mult.
        backend: jax, or captum where torch computed heatmap and score.
        steps: updates behind the stored heatmap: it belongs to `w` after this many.
        co_score: score of the heatmap as stored, in float32 at the highest precision.
        co_score_start: score at the first `w`, as measured while optimising: `curve[0]`.
        similarity_loss: of the heatmap as stored.
        probability_after, prediction_after: of the augmented image.
        curve: scores while optimising, float32 [T]: `curve[t]` is the score of `w` after `t`
            updates, in the engine's precision. For `reached`, T = steps + 1, and `steps` is the
            first step whose score reaches the target here and when verified.
        heatmap: [H, W, 3] in (-1, 1), in AX in [-1, 1], in the stored type; None where there is
            none.
        heatmap_scale: the attribution's largest magnitude, by which an AX heatmap was divided.
        completeness_gap: of deep_lift: |Σ attribution - rise| / |rise|, where the predicted class's
            logit rises so far over that of the baseline image; None where it does not rise.
        co_score_predicted: of AX: the score for the plain image's prediction in the place of the
            label, so that no label is used; `co_score` itself where the prediction is right.
        max_probability, entropy, logit_margin, logsumexp: of AX: how sure the classifier is of the
            plain image, see `gaxjax.score.Confidence`.
        reason: why an image is unreadable.
        setting: of a sweep, as in `learning-rate=0.01 operation=sum`; None without one.
    """

    index: int
    outcome: Outcome
    label: int
    prediction: int | None = None
    probability_before: float | None = None
    method: str = "gax"
    layer: str | None = None
    operation: Operation = "sum"
    backend: str = "jax"
    steps: int | None = None
    co_score: float | None = None
    co_score_start: float | None = None
    similarity_loss: float | None = None
    probability_after: float | None = None
    prediction_after: int | None = None
    curve: Float[np.ndarray, " T"] | None = None
    heatmap: Float[np.ndarray, "H W 3"] | None = None
    heatmap_scale: float | None = None
    completeness_gap: float | None = None
    co_score_predicted: float | None = None
    max_probability: float | None = None
    entropy: float | None = None
    logit_margin: float | None = None
    logsumexp: float | None = None
    reason: str | None = None
    setting: str | None = None

    def _repr_png_(self) -> bytes | None:
        """Show itself in a notebook: heatmap, curve and scores."""
        steps, score = self.steps, self.co_score
        stored = None if steps is None or score is None else (steps, score)
        return panels_png(_caption(self), self.heatmap, self.curve, stored)


@dataclass(frozen=True)
class Solutions(Sequence[Solution]):
    """The results of many images, in the order in which the images were given.

    Indexing gives one image's `Solution`; the properties stack a field over all of them, with
    NaN (or -1 for steps) where an image has no such value.
    """

    items: tuple[Solution, ...]

    def __len__(self) -> int:
        return len(self.items)

    @overload
    def __getitem__(self, index: int) -> Solution: ...

    @overload
    def __getitem__(self, index: slice) -> "Solutions": ...

    def __getitem__(self, index: int | slice) -> "Solution | Solutions":
        """Return one solution, or a slice as `Solutions`."""
        return Solutions(self.items[index]) if isinstance(index, slice) else self.items[index]

    def __iter__(self) -> Iterator[Solution]:
        return iter(self.items)

    @property
    def outcome(self) -> list[Outcome]:
        """One outcome per image."""
        return [item.outcome for item in self.items]

    @property
    def co_score(self) -> Float[np.ndarray, " N"]:
        """Verified scores."""
        return _stack([item.co_score for item in self.items])

    @property
    def probability_before(self) -> Float[np.ndarray, " N"]:
        """Softmax of the plain image at the label."""
        return _stack([item.probability_before for item in self.items])

    @property
    def probability_after(self) -> Float[np.ndarray, " N"]:
        """Softmax of the augmented image at the label."""
        return _stack([item.probability_after for item in self.items])

    @property
    def steps(self) -> Int[np.ndarray, " N"]:
        """Updates behind each stored heatmap; -1 where there is none."""
        return np.array([-1 if item.steps is None else item.steps for item in self.items])

    @property
    def curve(self) -> list[Float[np.ndarray, " T"] | None]:
        """One curve per image; their lengths differ."""
        return [item.curve for item in self.items]

    @property
    def heatmap(self) -> Float[np.ndarray, "N H W 3"]:
        """All heatmaps; NaN for an image without one."""
        found = [item.heatmap for item in self.items if item.heatmap is not None]
        if not found:
            return np.empty((len(self), 0, 0, 3), np.float32)
        blank = np.full_like(found[0], np.nan)
        return np.stack([blank if item.heatmap is None else item.heatmap for item in self.items])

    def __repr__(self) -> str:
        counts = {outcome: self.outcome.count(outcome) for outcome in Outcome}
        said = ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count)
        return f"Solutions({len(self)} images: {said or 'none'})"

    def _repr_html_(self) -> str:
        """Show itself in a notebook: how many images ended how, and the first ten of them."""
        counts = {outcome: self.outcome.count(outcome) for outcome in sorted(set(self.outcome))}
        said = ", ".join(f"{count:,} {outcome}" for outcome, count in counts.items())
        summary = escape(f"{len(self):,} images: {said or 'none'}")
        left = len(self) - _SHOWN
        more = f"<p>… and {left:,} more</p>" if left > 0 else ""
        return f"<p>{summary}</p>{_table(self.items[:_SHOWN]).to_html()}{more}"


# --- In words ------------------------------------------------------------------------------------


def _caption(solution: Solution) -> str:
    parts = [f"image {solution.index}", str(solution.outcome), f"label {solution.label}"]
    if solution.method != "gax":
        method = (solution.method, solution.layer, solution.operation)
        parts.insert(1, " ".join(filter(None, method)))
    if solution.prediction is not None:
        parts.append(f"predicted {solution.prediction}")
    if solution.co_score is not None:
        parts.append(f"CO score {solution.co_score:.2f}")
    if solution.steps is not None:
        parts.append(f"after {solution.steps} steps")
    if solution.probability_before is not None and solution.probability_after is not None:
        parts.append(f"p {solution.probability_before:.3f} → {solution.probability_after:.3f}")
    return " · ".join(parts)


def _table(items: Sequence[Solution]) -> Table:
    rows = [
        {
            "image": str(item.index),
            "outcome": str(item.outcome),
            "label": str(item.label),
            "prediction": _number(item.prediction, "d"),
            "probability before": _number(item.probability_before, ".3f"),
            "after": _number(item.probability_after, ".3f"),
            "CO score": _number(item.co_score, ".2f"),
            "steps": _number(item.steps, "d"),
        }
        | ({"reason": item.reason or ""} if any(item.reason for item in items) else {})
        for item in items
    ]
    columns = tuple(map(Column, rows[0])) if rows else ()
    return Table(columns, tuple(tuple(row.values()) for row in rows))


def _number(value: int | float | None, kind: str) -> str:
    return "–" if value is None else format(value, kind)


def _stack(values: list[float | None]) -> Float[np.ndarray, " N"]:
    return np.array([np.nan if value is None else value for value in values], np.float32)
