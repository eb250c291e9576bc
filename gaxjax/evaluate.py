"""How well a classifier does on an image set, seen as GAX's baseline sees it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from gaxjax.classifier import Classifier, check_image_size
from gaxjax.config import GaxConfig
from gaxjax.data import ImageSet, batches
from gaxjax.heatmap import as_unit_range
from gaxjax.objective import Baseline, Objective


@dataclass(frozen=True)
class Evaluation:
    """How well a classifier does on an image set.

    Attributes:
        num_images, num_correct, num_unreadable: counts.
        mean_probability: softmax at the label, averaged over the readable images.
    """

    num_images: int
    num_correct: int
    num_unreadable: int
    mean_probability: float


def evaluate(classifier: Classifier, images: ImageSet, *, threads: int = 4) -> Evaluation:
    """Classify an image set in float32, each image as GAX's baseline sees it."""
    check_image_size(classifier, images.size)
    objective = Objective(classifier, GaxConfig(), "float32")

    @jax.jit
    def classify(weights: Any, pixels: Any, labels: Any) -> Baseline:
        return jax.vmap(objective.baseline, in_axes=(None, 0, 0))(
            weights, as_unit_range(pixels), labels
        )

    correct, unreadable, probabilities = 0, 0, []
    for pixels, labels, failed in _padded(images, size=16, threads=threads):
        baseline = jax.device_get(classify(classifier.weights, pixels, labels))
        real = labels >= 0
        correct += int((baseline.prediction == labels)[real].sum())
        probabilities.append(baseline.probability[real])
        unreadable += failed
    probability = np.concatenate([np.zeros(0), *probabilities])
    return Evaluation(
        num_images=len(images.records),
        num_correct=correct,
        num_unreadable=unreadable,
        mean_probability=float(probability.mean()) if len(probability) else float("nan"),
    )


def _padded(
    images: ImageSet, *, size: int, threads: int
) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
    """Yield batches of one size; rows past the images have the label -1."""
    for batch in batches(images, batch_size=size, threads=threads):
        missing = size - len(batch.labels)
        yield (
            np.pad(batch.images, ((0, missing), (0, 0), (0, 0), (0, 0))),
            np.pad(batch.labels, (0, missing), constant_values=-1),
            len(batch.unreadable),
        )
