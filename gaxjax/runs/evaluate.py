"""How well a classifier does on an image set: the figures of the paper's Table 1."""

import math
from collections.abc import Callable, Generator
from typing import Any

import jax
import numpy as np

from gaxjax.common import (
    StepProgress,
    counted,
    free_bytes,
    own_numbers,
    pad_rows,
    require_memory,
    yielding_own_numbers,
)
from gaxjax.config import ScoreSpace
from gaxjax.data import ImageSet, batches
from gaxjax.models import (
    Classifier,
    as_unit_range,
    check_image_size,
    checked_first,
    forward_bytes,
)
from gaxjax.results import Evaluation
from gaxjax.score import GAX_SPACES, Reading, classify

__all__ = ["baselines", "evaluate_classifier", "require_room"]

_BATCH = 16


@own_numbers()
def evaluate_classifier(
    classifier: Classifier,
    images: ImageSet,
    *,
    threads: int = 4,
    note: Callable[[str], object] = lambda text: None,
) -> Evaluation:
    """Classify an image set in float32, normalised as the classifier was trained.

    Args:
        classifier: the model.
        images: the image set.
        threads: decoding threads.
        note: is told why an image cannot be read, of the first.

    Raises:
        UserError: as `baselines`.
    """
    labels: list[np.ndarray] = []
    found: list[Reading] = []
    unreadable: list[tuple[int, str]] = []
    for _, wanted, baseline in baselines(
        classifier, images, threads=threads, unreadable=unreadable
    ):
        labels.append(wanted)
        found.append(baseline)
    if unreadable:
        position, reason = unreadable[0]
        note(f"{images.records[position].image_id} cannot be read: {reason}")
    count = sum(map(len, labels))
    return Evaluation(
        num_classes=classifier.num_classes,
        num_unreadable=len(images.records) - count,
        labels=np.concatenate([np.zeros(0, np.int32), *labels]),
        predictions=np.concatenate([np.zeros(0, np.int32), *(one.prediction for one in found)]),
        probabilities=np.concatenate([np.zeros(0, np.float32), *(b.probability for b in found)]),
    )


@yielding_own_numbers
def baselines(
    classifier: Classifier,
    images: ImageSet,
    *,
    threads: int = 4,
    score_space: ScoreSpace = "normalized",
    unreadable: list[tuple[int, str]] | None = None,
    by_name: bool = False,
) -> Generator[tuple[np.ndarray, np.ndarray, Reading], None, None]:
    """Yield positions, labels and baselines of the images that can be decoded.

    Args:
        classifier: the model.
        images: the image set.
        threads: decoding threads.
        score_space: `raw` classifies the pixels as they are; the others normalise them.
        unreadable: takes the position and the reason of each that cannot be decoded.
        by_name: go in the order of the records, not in that in which reading is cheapest.

    Raises:
        UserError: the images are too small for the classifier, or too large for the memory; it
            returns no logits.
    """
    check_image_size(classifier, images.size)
    require_room(classifier, images.size, _BATCH)
    space = GAX_SPACES[score_space]

    @jax.jit
    def readings(weights: Any, pixels: Any, labels: Any) -> Reading:
        return classify(classifier, space, weights, as_unit_range(pixels), labels)

    read = batches(images, batch_size=_BATCH, threads=threads, by_name=by_name)
    seen = 0
    with StepProgress("Classifying", len(images.records), "images") as progress:
        for batch in checked_first(classifier, read):
            if unreadable is not None:
                unreadable += batch.unreadable
            count = len(batch.labels)
            seen += count + len(batch.unreadable)
            if count:
                # One shape for all batches, so that there is one program.
                pixels, padded = pad_rows(batch.images, _BATCH), pad_rows(batch.labels, _BATCH)
                reading = jax.device_get(readings(classifier.weights, pixels, padded))
                progress.advance(seen, "classified")
                yield batch.indices, batch.labels, Reading(*(leaf[:count] for leaf in reading))


def require_room(classifier: Classifier, size: int, count: int) -> None:
    """Refuse images that the memory does not hold, decoded and on their way through a classifier.

    Args:
        classifier: the model.
        size: height and width of the images, in pixels.
        count: how many are there side by side.

    Raises:
        UserError: too little memory is free; says which size would fit.
    """
    shape = (size, size, 3)
    needed = count * (forward_bytes(classifier, shape) + math.prod(shape))
    free = free_bytes(jax.local_devices()[:1])
    fits = 2 ** int(math.log2(max(1, size * math.sqrt(free / 2 / needed))))
    what = f"--size {size}, {counted(count, 'image')} side by side,"
    require_memory(needed, free, what, f"--size {fits} would fit")
