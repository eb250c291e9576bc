"""Stored scores, predictions and probabilities against torch's: what differs by more than rounding.

Tolerances follow from the logits, since that is where rounding happens; see `RELATIVE_TOLERANCE`.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from statistics import median
from typing import NamedTuple

import numpy as np
import scipy.special
import torch
from jaxtyping import Float, Int

from gaxjax.config import ScoreName
from gaxjax.reference.consistency import Faults, Row
from gaxjax.reference.torch_classifier import TorchLogits, weighted
from gaxjax.results import Outcome

__all__ = ["RELATIVE_TOLERANCE", "Comparison", "Seen", "Tally", "see"]

RELATIVE_TOLERANCE = 2e-5
"""What a score may differ by, as a part of the largest absolute logit of the plain and the
augmented image.

Rounding grows with a network's activations, so with its logits, whereas κ·f may cancel to nothing.
Largest measured on a CPU, float32 in JAX against float32 in torch: 9.8e-7 over 524 GAX and 260 AX
scores in all score spaces, real SqueezeNet 1.0 weights and images; 1.8e-6 with random weights on
real images (VGG 16 with batch norm, the worst of AlexNet, five ResNets, SqueezeNet and VGG 16).
The rest is room for other processors, of which none has been measured."""

_PROBABILITY_ROUNDING = 1e-6
"""What the softmax itself, its entropy or the sum of exponentials may add, in float32."""

SIMILARITY_TOLERANCE = 1e-5
"""What a similarity loss may differ by, as a part of itself. Largest measured: 2.4e-7, over 60
images of 256 x 256, float32 in JAX against float32 in torch."""


class Seen(NamedTuple):
    """What torch makes of one image, plain or augmented.

    Attributes:
        logits: float64 [C].
        weighted: κ·f, or κ·softmax(f) where the score is of that.
        probability: softmax at the label.
        similarity_loss: of GAX's heatmap; None without one.
        score: of what the score is taken.
    """

    logits: Float[np.ndarray, " C"]
    weighted: float
    probability: float
    similarity_loss: float | None = None
    score: ScoreName = "logits"

    def weighted_at(self, label: int) -> float:
        """Return `weighted` with κ at a class."""
        found = weighted(torch.from_numpy(self.logits)[None], torch.tensor([label]), self.score)
        return float(found[0])

    @property
    def confidence(self) -> dict[str, float]:
        """The numbers of `gaxjax.score.Confidence`."""
        likely = scipy.special.softmax(self.logits)
        second, largest = np.sort(self.logits)[-2:]
        return {
            "max_probability": float(likely.max()),
            "entropy": float(scipy.special.entr(likely).sum()),
            "logit_margin": float(largest - second),
            "logsumexp": float(scipy.special.logsumexp(self.logits)),
        }


def see(
    logits: TorchLogits, labels: Int[torch.Tensor, " B"], score: ScoreName = "logits"
) -> list[Seen]:
    """Take apart the logits of a batch; all but the network is computed in float64."""
    logits = logits.double()
    at_labels = weighted(logits, labels, score)
    probabilities = logits.softmax(1).gather(1, labels[:, None])[:, 0]
    return [
        Seen(*values, score=score)
        for values in zip(logits.numpy(), at_labels.tolist(), probabilities.tolist(), strict=True)
    ]


@dataclass(frozen=True)
class Comparison:
    """Stored numbers of one method, layer and operation against torch's.

    Attributes:
        method, layer, operation, setting: as in the rows.
        scores: how many were compared.
        worst, median: absolute differences of scores; None without scores, or not finite.
        worst_image: id of the image of the worst.
        worst_relative: largest difference as a part of the largest logit, which
            `RELATIVE_TOLERANCE` bounds.
        worst_probability: largest absolute difference of probabilities, before or after.
        predictions: how many were compared, before and after.
        differing: how many of them differ, ties apart.
        ties: how many differ between logits closer to each other than the tolerance.
    """

    method: str
    layer: str | None
    operation: str
    scores: int
    worst: float | None
    median: float | None
    worst_image: str | None
    worst_relative: float | None
    worst_probability: float | None
    predictions: int
    differing: int
    ties: int
    setting: str | None = None


@dataclass
class _Differences:
    """Of one method, layer and operation, as they come."""

    scores: list[tuple[float, float, str]] = field(default_factory=list)
    """Absolute, relative to the largest logit, and the image's id."""
    probabilities: list[float] = field(default_factory=list)
    predictions: int = 0
    differing: int = 0
    ties: int = 0


class Tally:
    """Compares rows with what torch makes of them, one by one.

    Args:
        rows: all rows of the run, for the order of the comparisons.
        target: what a row's score must be for the outcome `reached`; None in AX.
        faults: takes what differs by more than rounding.
    """

    def __init__(
        self, rows: Iterable[Row], target: Callable[[Row], float | None], faults: Faults
    ) -> None:
        self._differences = {_key(row): _Differences() for row in rows}
        self._target = target
        self._faults = faults

    def add(self, row: Row, before: Seen, after: Seen | None) -> None:
        """Compare a row with the logits of its plain image and, where it has one, the augmented."""
        if row["outcome"] == Outcome.UNREADABLE:
            self._faults.add("image unreadable in the run, but not here", row)
            return
        largest = max(float(np.abs(seen.logits).max()) for seen in (before, after) if seen)
        tolerance = RELATIVE_TOLERANCE * largest
        self._compare_prediction(row, "prediction", before, tolerance)
        self._compare_probability(row, "probability_before", before, tolerance)
        self._compare_confidence(row, before, tolerance)
        if after is None:
            return
        self._compare_prediction(row, "prediction_after", after, tolerance)
        self._compare_probability(row, "probability_after", after, tolerance)
        self._compare_similarity(row, after)
        score = after.weighted - before.weighted
        if before.score == "softmax":  # whose probabilities move as below, and the score by both
            count = len(before.logits)
            tolerance = count / (count - 1) * (tolerance + 2 * _PROBABILITY_ROUNDING)
        self._compare_score(row, score, tolerance, largest)
        self._compare_predicted(row, before, after, tolerance)
        target = self._target(row)
        if (
            row["outcome"] == Outcome.REACHED
            and target is not None
            and not score >= target - tolerance
        ):
            self._faults.add("reached, but not in torch", row, f"{score} in torch")

    def comparisons(self) -> tuple[Comparison, ...]:
        """Sum up what was compared so far."""
        return tuple(_comparison(key, found) for key, found in self._differences.items())

    def _of(self, row: Row) -> _Differences:
        return self._differences[_key(row)]

    def _compare_score(self, row: Row, score: float, tolerance: float, largest: float) -> None:
        stored = row["co_score"]
        if stored is None or not (math.isfinite(stored) or math.isfinite(score)):
            return
        difference = abs(score - stored)
        relative = difference / largest if largest else difference
        self._of(row).scores.append((difference, relative, row["image_id"]))
        if not difference <= tolerance:
            self._faults.add("co_score that is not torch's", row, f"{stored}, {score} in torch")

    def _compare_predicted(self, row: Row, before: Seen, after: Seen, tolerance: float) -> None:
        """Compare the score for the prediction that is stored, which rounding may have chosen."""
        stored, label = row["co_score_predicted"], row["prediction"]
        if stored is None or label is None or not 0 <= label < len(before.logits):
            return
        score = after.weighted_at(label) - before.weighted_at(label)
        if not abs(score - stored) <= tolerance:
            figures = f"{stored}, {score} in torch"
            self._faults.add("co_score_predicted that is not torch's", row, figures)

    def _compare_confidence(self, row: Row, seen: Seen, tolerance: float) -> None:
        if row["max_probability"] is None or not np.isfinite(seen.logits).all():
            return
        found = seen.confidence
        # What each moves by at most where every logit moves by the tolerance.
        factors = {
            "max_probability": 0.5,
            "entropy": 1 + 2 * found["entropy"],  # and log p, of float32 logits, by rounding
            "logit_margin": 2.0,
            "logsumexp": 1.0,
        }
        for name, value in found.items():
            stored = row[name]
            allowed = factors[name] * tolerance + _PROBABILITY_ROUNDING
            if stored is not None and not abs(value - stored) <= allowed:
                self._faults.add(f"{name} that is not torch's", row, f"{stored}, {value} in torch")

    def _compare_probability(self, row: Row, name: str, seen: Seen, tolerance: float) -> None:
        stored = row[name]
        if stored is None or not (math.isfinite(stored) or math.isfinite(seen.probability)):
            return
        difference = abs(seen.probability - stored)
        self._of(row).probabilities.append(difference)
        # The softmax moves by at most half of what the logits move by.
        if not difference <= tolerance / 2 + _PROBABILITY_ROUNDING:
            figures = f"{stored}, {seen.probability} in torch"
            self._faults.add(f"{name} that is not torch's", row, figures)

    def _compare_similarity(self, row: Row, seen: Seen) -> None:
        found = seen.similarity_loss
        if found is None:
            return
        stored = row["similarity_loss"]
        if stored is None or not abs(stored - found) <= SIMILARITY_TOLERANCE * abs(found):
            figures = f"{stored}, {found} in torch"
            self._faults.add("similarity_loss that is not torch's", row, figures)

    def _compare_prediction(self, row: Row, name: str, seen: Seen, tolerance: float) -> None:
        stored, prediction = row[name], int(seen.logits.argmax())
        if stored is None:
            return
        found = self._of(row)
        found.predictions += 1
        if stored == prediction:
            return
        in_range = 0 <= stored < len(seen.logits)
        if in_range and seen.logits[prediction] - seen.logits[stored] <= tolerance:
            found.ties += 1
            return
        found.differing += 1
        self._faults.add(f"{name} that is not torch's", row, f"{stored}, {prediction} in torch")


_Key = tuple[str, str | None, str, str | None]


def _key(row: Row) -> _Key:
    return row["method"], row["layer"], row["operation"], row["setting"]


def _comparison(key: _Key, found: _Differences) -> Comparison:
    worst_of = max(found.scores, key=lambda entry: _or_infinity(entry[0]), default=None)
    return Comparison(
        *key[:3],
        setting=key[3],
        scores=len(found.scores),
        worst=_finite(worst_of[0]) if worst_of else None,
        median=_finite(median(entry[0] for entry in found.scores)) if worst_of else None,
        worst_image=worst_of[2] if worst_of else None,
        worst_relative=_largest(entry[1] for entry in found.scores),
        worst_probability=_largest(found.probabilities),
        predictions=found.predictions,
        differing=found.differing,
        ties=found.ties,
    )


def _largest(values: Iterable[float]) -> float | None:
    return _finite(max(map(_or_infinity, values), default=math.inf))


def _or_infinity(value: float) -> float:
    return value if math.isfinite(value) else math.inf


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None  # JSON knows no other numbers
