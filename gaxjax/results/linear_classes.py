"""Tells classes from small images or heatmaps by a linear classifier, cross-validated."""

import warnings

import numpy as np
from jaxtyping import Float, Int

from gaxjax.common import interruption

__all__ = ["FOLDS", "downsampled", "folds_of", "linear_predictions"]

FOLDS = 5

_PENALTIES = tuple(10.0**power for power in range(-1, 6))


def downsampled(images: Float[np.ndarray, "N H W C"], side: int) -> Float[np.ndarray, "N S T C"]:
    """Average the pixels of S × S equal boxes; a pixel on a border counts by its parts.

    Args:
        images: or heatmaps, of any range.
        side: S; a side that is shorter stays as it is.

    Example:
        >>> downsampled(np.arange(4.0).reshape(1, 2, 2, 1), 1).item()
        1.5
    """
    rows, columns = (_boxes(length, min(side, length)) for length in images.shape[1:3])
    halved = np.einsum("sh,nhwc->nswc", rows, images, optimize=True)
    found: np.ndarray = np.einsum("tw,nswc->nstc", columns, halved, optimize=True)
    return found


def _boxes(length: int, count: int) -> Float[np.ndarray, "count length"]:
    edges = np.linspace(0, length, count + 1)[:, None]
    reach = np.clip(edges - np.arange(length), 0, 1)
    return np.diff(reach, axis=0) * count / length


def linear_predictions(
    features: Float[np.ndarray, "N F"], labels: Int[np.ndarray, " N"], folds: Int[np.ndarray, " N"]
) -> Int[np.ndarray, " N"]:
    """Return the class that a ridge classifier tells of each row, fitted on the other folds alone.

    Features are standardised, and the penalty is chosen of seven powers of ten by leaving one out,
    both on the rows that it is fitted on.

    Args:
        features: a row per image.
        labels: its class.
        folds: its fold.
    """
    from sklearn.linear_model import RidgeClassifierCV  # a second to import
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    found = np.empty(len(labels), labels.dtype)
    for fold in np.unique(folds):
        interruption.check()
        held_out = folds == fold
        model = make_pipeline(StandardScaler(), RidgeClassifierCV(_PENALTIES))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of features that do not vary
            model.fit(features[~held_out], labels[~held_out])
        found[held_out] = model.predict(features[held_out])
    return found


def folds_of(labels: Int[np.ndarray, " N"], seed: int) -> Int[np.ndarray, " N"]:
    """Return a fold of each row, every class spread over all: by its label and the seed alone."""
    folds = np.empty(len(labels), np.int64)
    generator = np.random.default_rng(seed)
    first = 0  # classes begin at different folds, so that these are of about one size
    for label in np.unique(labels):
        mine = generator.permutation(np.flatnonzero(labels == label))
        folds[mine] = (first + np.arange(len(mine))) % FOLDS
        first += len(mine)
    return folds
