"""The CO score: how much a heatmap raises a classifier's confidence in the correct class.

Equation 5 of Tjoa et al. (2022), "Improving Deep Neural Network Classification Confidence using
Heatmap-based eXplainable AI":

    s(x, h) = κ · [f(g(x, h)) - f(x)],    κ_c = 1,    κ_i = -1 / (C - 1) for i ≠ c

with `f` the raw logits of C classes, `c` the groundtruth class, and `g` the augmentation.
Only the number κ·f(x) of the baseline matters, so callers keep one float per image.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from gaxjax.common.types import Image, Scalar, at_least_float32
from gaxjax.config.base import Operation


def score_constants(label: Int[Array, ""] | int, num_classes: int) -> Float[Array, " C"]:
    """Return κ: 1 at `label`, -1 / (C - 1) elsewhere; its entries sum to zero.

    Example:
        >>> score_constants(1, 3)
        Array([-0.5,  1. , -0.5], dtype=float32)
    """
    return jnp.full((num_classes,), -1.0 / (num_classes - 1)).at[label].set(1.0)


def weighted_logits(logits: Float[Array, " C"], label: Int[Array, ""] | int) -> Scalar:
    """Return κ·f: how far the label's logit stands above the mean of the others.

    Args:
        logits: raw outputs of one image, shape [C]; summed in float32, or wider if they are.
        label: the groundtruth class, in [0, C).
    """
    logits = at_least_float32(logits)
    kappa = score_constants(label, logits.shape[0]).astype(logits.dtype)
    return jnp.dot(kappa, logits, precision="highest")


def co_score(
    augmented_logits: Float[Array, " C"],
    baseline_logits: Float[Array, " C"],
    label: Int[Array, ""] | int,
) -> Scalar:
    """Return s(x, h) (paper eq. 5) from the logits of the augmented and the plain image.

    Adding a constant to all logits changes nothing: κ sums to zero.

    Example:
        >>> float(co_score(jnp.array([3.0, 0.0]), jnp.array([1.0, 0.0]), 0))
        2.0
    """
    return weighted_logits(augmented_logits, label) - weighted_logits(baseline_logits, label)


class Baseline(NamedTuple):
    """What is kept of the plain image.

    Attributes:
        weighted_logits: κ·f(x), the only number of the baseline that a score needs.
        prediction: argmax of f(x).
        probability: softmax of f(x) at the label, in [0, 1].
    """

    weighted_logits: Scalar
    prediction: Int[Array, ""]
    probability: Scalar


def augment(image: Image, heatmap: Image, operation: Operation) -> Image:
    """Return g(x, h): x + h for `sum`, x * h for `mult`."""
    return image + heatmap if operation == "sum" else image * heatmap


class Verified(NamedTuple):
    """What a heatmap as stored achieves, in float32 at the highest matmul precision."""

    co_score: Scalar
    similarity_loss: Scalar
    probability: Scalar
    prediction: Int[Array, ""]
