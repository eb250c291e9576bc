"""How well a classifier does on labelled images: what an evaluation finds."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int


@dataclass(frozen=True)
class Evaluation:
    """How well a classifier does on an image set.

    Attributes:
        num_classes: of the classifier, C.
        num_unreadable: images that could not be decoded; all else is about the others.
        labels, predictions: of each image, in [0, C).
        probabilities: softmax at the label, in [0, 1].
    """

    num_classes: int
    num_unreadable: int
    labels: Int[np.ndarray, " N"]
    predictions: Int[np.ndarray, " N"]
    probabilities: Float[np.ndarray, " N"]

    @property
    def num_images(self) -> int:
        """Images that could be decoded."""
        return len(self.labels)

    @property
    def num_correct(self) -> int:
        """Images whose prediction is their label."""
        return int((self.predictions == self.labels).sum())

    @property
    def accuracy(self) -> float:
        """Share of the images classified correctly; NaN without images."""
        return self.num_correct / self.num_images if self.num_images else float("nan")

    @property
    def mean_probability(self) -> float:
        """Mean softmax at the label; NaN without images."""
        return float(self.probabilities.mean()) if self.num_images else float("nan")

    @property
    def confusion(self) -> Int[np.ndarray, "C C"]:
        """Images by label (row) and prediction (column)."""
        counts = np.zeros((self.num_classes, self.num_classes), np.int64)
        np.add.at(counts, (self.labels, self.predictions), 1)
        return counts

    @property
    def num_correct_from_1(self) -> int:
        """Images that would be correct if the labels counted the classes from 1, not from 0."""
        return int((self.predictions == self.labels - 1).sum())

    def binary(self) -> dict[str, float | None]:
        """Return precision, recall and AUROC of class 1 against class 0, as the paper's Table 1.

        The positive class is the second: PNEUMONIA of NORMAL and PNEUMONIA. None where a figure is
        not defined: no image was predicted positive, or one class has no image.
        """
        assert self.num_classes == 2, self.num_classes
        from sklearn.metrics import roc_auc_score  # a second to import

        (_, false_positive), (false_negative, true_positive) = self.confusion.tolist()
        positive = np.where(self.labels == 1, self.probabilities, 1 - self.probabilities)
        both = len(np.unique(self.labels)) == 2
        return {
            "precision": _ratio(true_positive, true_positive + false_positive),
            "recall": _ratio(true_positive, true_positive + false_negative),
            "auroc": float(roc_auc_score(self.labels, positive)) if both else None,
        }

    def to_dict(self) -> dict[str, Any]:
        """Return every figure as plain JSON values; the confusion of up to 100 classes."""
        figures: dict[str, Any] = {
            "num_images": self.num_images,
            "num_unreadable": self.num_unreadable,
            "num_correct": self.num_correct,
            "accuracy": self.accuracy if self.num_images else None,
            "mean_probability": self.mean_probability if self.num_images else None,
        }
        if self.num_classes == 2:
            figures |= self.binary()
        if self.num_classes <= 100:
            figures["confusion"] = self.confusion.tolist()
        return figures


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
