"""How well a classifier does on an image set: the figures of the paper's Table 1."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int

from gaxjax.classifier import Classifier, check_image_size
from gaxjax.config import GaxConfig, ScoreSpace
from gaxjax.data import ImageSet, batches
from gaxjax.heatmap import as_unit_range
from gaxjax.objective import Baseline, Objective

__all__ = ["Evaluation", "baselines", "evaluate"]

_BATCH = 16


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


def evaluate(classifier: Classifier, images: ImageSet, *, threads: int = 4) -> Evaluation:
    """Classify an image set in float32, normalised as the classifier was trained.

    Raises:
        UserError: the images are too small for the classifier.
    """
    labels: list[np.ndarray] = []
    found: list[Baseline] = []
    for _, wanted, baseline in baselines(classifier, images, threads=threads):
        labels.append(wanted)
        found.append(baseline)
    count = sum(map(len, labels))
    return Evaluation(
        num_classes=classifier.num_classes,
        num_unreadable=len(images.records) - count,
        labels=np.concatenate([np.zeros(0, np.int32), *labels]),
        predictions=np.concatenate([np.zeros(0, np.int32), *(one.prediction for one in found)]),
        probabilities=np.concatenate([np.zeros(0, np.float32), *(b.probability for b in found)]),
    )


def baselines(
    classifier: Classifier,
    images: ImageSet,
    *,
    threads: int = 4,
    score_space: ScoreSpace = "normalized",
) -> Iterator[tuple[np.ndarray, np.ndarray, Baseline]]:
    """Yield positions, labels and baselines of the images that can be decoded, in record order.

    Args:
        classifier: the model.
        images: the image set.
        threads: decoding threads.
        score_space: `raw` classifies the pixels as they are; the others normalise them.

    Raises:
        UserError: the images are too small for the classifier.
    """
    check_image_size(classifier, images.size)
    objective = Objective(classifier, GaxConfig(score_space=score_space), "float32")

    @jax.jit
    def classify(weights: Any, pixels: Any, labels: Any) -> Baseline:
        return jax.vmap(objective.baseline, in_axes=(None, 0, 0))(
            weights, as_unit_range(pixels), labels
        )

    for batch in batches(images, batch_size=_BATCH, threads=threads):
        count = len(batch.labels)
        if not count:
            continue
        # One shape for all batches, so that there is one program.
        pixels = np.pad(batch.images, ((0, _BATCH - count), (0, 0), (0, 0), (0, 0)))
        padded = np.pad(batch.labels, (0, _BATCH - count))
        baseline = jax.device_get(classify(classifier.weights, pixels, padded))
        yield batch.indices, batch.labels, Baseline(*(leaf[:count] for leaf in baseline))
