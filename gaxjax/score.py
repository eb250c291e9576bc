"""The CO score: how much a heatmap raises a classifier's confidence in the correct class.

Equation 5 of Tjoa et al. (2022), "Improving Deep Neural Network Classification Confidence using
Heatmap-based eXplainable AI":

    s(x, h) = κ · [f(g(x, h)) - f(x)],    κ_c = 1,    κ_i = -1 / (C - 1) for i ≠ c

with `f` the raw logits of C classes, `c` the groundtruth class, and `g` the augmentation; or the
same of their softmax. Only the number κ·f(x) of the baseline matters, so callers keep one float per
image.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from gaxjax.common import Images, Logits, Scalar, UserError, at_least_float32, described
from gaxjax.config import Operation, ScoreName
from gaxjax.models import Classifier, network_logits


def score_constants(label: Int[Array, ""] | int, num_classes: int) -> Float[Array, " C"]:
    """Return κ: 1 at `label`, -1 / (C - 1) elsewhere; its entries sum to zero.

    Example:
        >>> score_constants(1, 3).tolist()
        [-0.5, 1.0, -0.5]
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


def weighted(
    logits: Float[Array, " C"], label: Int[Array, ""] | int, score: ScoreName = "logits"
) -> Scalar:
    """Return κ·φ(f), with φ what the score is of: nothing, log_softmax or softmax.

    κ sums to zero, so log_softmax, which takes one number from all logits, changes nothing; and of
    probabilities p it leaves (C p_c - 1) / (C - 1), from -1 / (C - 1) to 1.

    Args:
        logits: as for `weighted_logits`.
        label: likewise.
        score: names φ.
    """
    if score != "softmax":
        return weighted_logits(logits, label)
    count = logits.shape[0]
    return (count * jax.nn.softmax(at_least_float32(logits))[label] - 1) / (count - 1)


def check_reachable(target: float, score: ScoreName, num_classes: int) -> None:
    """Refuse a target that no heatmap can reach.

    κ·softmax runs from -1 / (C - 1) to 1, both never reached: a rise is below C / (C - 1).

    Raises:
        UserError: the score is softmax, and the target at or above that bound.
    """
    if score != "softmax":
        return
    bound = num_classes / (num_classes - 1)
    if target >= bound:
        raise UserError(
            f"--target {target:g} cannot be reached with --score softmax, which stays below "
            f"{bound:.4g} with {num_classes} classes: give one below, such as --target 0.9"
        )


def co_score(
    augmented_logits: Float[Array, " C"],
    baseline_logits: Float[Array, " C"],
    label: Int[Array, ""] | int,
    score: ScoreName = "logits",
) -> Scalar:
    """Return s(x, h) (paper eq. 5) from the logits of the augmented and the plain image.

    Adding a constant to all logits changes nothing: κ sums to zero. With `score` "softmax" it is of
    the probabilities; "log_softmax" is the same as "logits".

    Raises:
        UserError: they are no logits of the same classes, or the label is none of them.

    Example:
        >>> float(co_score(jnp.array([3.0, 0.0]), jnp.array([1.0, 0.0]), 0))
        2.0
    """
    given = {"augmented_logits": augmented_logits, "baseline_logits": baseline_logits}
    _check_logits(given, label)
    augmented, baseline = map(jnp.asarray, given.values())
    return weighted(augmented, label, score) - weighted(baseline, label, score)


def _check_logits(given: Mapping[str, Any], label: Any) -> None:
    shapes = []
    for name, logits in given.items():
        try:
            shapes.append(np.shape(logits))
            jnp.asarray(logits).astype(jnp.float32)
        except Exception as error:  # of whatever was given
            raise UserError(f"{name}: {described(logits)}; expected logits [C]") from error
    shaped = zip(given, shapes, strict=True)
    said = " and ".join(f"{name} of shape {shape}" for name, shape in shaped)
    if shapes[0] != shapes[1] or len(shapes[0]) != 1:
        raise UserError(f"{said}; expected [C] of one image: jax.vmap(co_score) takes several")
    count = shapes[0][0]
    if count < 2:
        raise UserError(f"{said}; a CO score compares at least two classes")
    if isinstance(label, jax.core.Tracer):
        return
    whole = isinstance(label, int | np.integer) or (
        getattr(label, "shape", None) == () and jnp.issubdtype(label.dtype, jnp.integer)
    )
    if not whole or isinstance(label, bool) or not 0 <= int(label) < count:
        shown = int(label) if whole else described(label)
        raise UserError(f"label: {shown}; expected a class from 0 to {count - 1}")


class Reading(NamedTuple):
    """What is read off one image's logits for a label.

    Attributes:
        weighted: κ·f, or κ·softmax(f) where the score is of that: the only number of the plain
            image that a score needs.
        prediction: argmax of f.
        probability: softmax of f at the label, in [0, 1].
    """

    weighted: Scalar
    prediction: Int[Array, ""]
    probability: Scalar


def read(logits: Float[Array, " C"], label: Int[Array, ""], score: ScoreName = "logits") -> Reading:
    """Return what a label's score needs of one image's logits, shape [C], raw."""
    return Reading(
        weighted=weighted(logits, label, score),
        prediction=jnp.argmax(logits).astype(jnp.int32),
        probability=jax.nn.softmax(logits)[label],
    )


class Confidence(NamedTuple):
    """How sure a classifier is of one image, by its logits alone: no label is used.

    Attributes:
        max_probability: softmax of f at the prediction, in (0, 1] (Hendrycks and Gimpel 2017).
        entropy: of the softmax, in nats.
        logit_margin: the largest logit less the second.
        logsumexp: ln Σ exp f_i, the negative free energy (Liu et al. 2020).
    """

    max_probability: Scalar
    entropy: Scalar
    logit_margin: Scalar
    logsumexp: Scalar


def confidence(logits: Float[Array, " C"]) -> Confidence:
    """Return how sure a classifier is, from one image's logits, shape [C], raw.

    Example:
        >>> float(confidence(jnp.array([3.0, 1.0])).logit_margin)
        2.0
    """
    logits = at_least_float32(logits)
    logs = jax.nn.log_softmax(logits)
    likely = jnp.exp(logs)
    second, largest = jnp.sort(logits)[-2:]
    return Confidence(
        max_probability=jnp.max(likely),
        entropy=-jnp.sum(jnp.where(likely > 0, likely * logs, 0)),
        logit_margin=largest - second,
        logsumexp=jax.nn.logsumexp(logits),
    )


class Scored(NamedTuple):
    """What a heatmap as stored achieves, in float32 at the highest matmul precision.

    Attributes:
        co_score: s(x, h).
        prediction, probability: of the augmented image.
    """

    co_score: Scalar
    prediction: Int[Array, ""]
    probability: Scalar


def score(
    logits: Float[Array, " C"],
    label: Int[Array, ""],
    baseline: Scalar,
    name: ScoreName = "logits",
) -> Scored:
    """Return the score of an augmented image's logits over `baseline`, the plain `weighted`."""
    reading = read(logits, label, name)
    return Scored(reading.weighted - baseline, reading.prediction, reading.probability)


def augment(
    image: Float[Array, "*B H W 3"], heatmap: Float[Array, "*B H W 3"], operation: Operation
) -> Float[Array, "*B H W 3"]:
    """Return g(x, h), of one image or several: x + h for `sum`, x * h for `mult`."""
    return image + heatmap if operation == "sum" else image * heatmap


class ScoreSpace(NamedTuple):
    """Where pixels are normalised: a choice for `f` that is stored with every result.

    Attributes:
        image: before the heatmap joins it, so that the heatmap belongs to z = (x - mean) / std.
        plain: on the plain image's way into the network.
        augmented: on the augmented image's way into the network.
    """

    image: bool
    plain: bool
    augmented: bool

    def to_space(
        self, classifier: Classifier, images: Float[Array, "*B H W 3"]
    ) -> Float[Array, "*B H W 3"]:
        """Return what the heatmaps belong to: x, or z."""
        return classifier.normalize(images) if self.image else images

    def logits(self, classifier: Classifier, weights: PyTree, z: Images) -> Logits:
        """Return f of plain images of `to_space`."""
        return network_logits(classifier, weights, z, normalized=self.plain)

    def augmented_logits(
        self, classifier: Classifier, weights: PyTree, augmented: Images
    ) -> Logits:
        """Return f of augmented images."""
        return network_logits(classifier, weights, augmented, normalized=self.augmented)


GAX_SPACES = {
    "normalized": ScoreSpace(image=False, plain=True, augmented=True),
    "raw": ScoreSpace(image=False, plain=False, augmented=False),
    "released": ScoreSpace(image=False, plain=True, augmented=False),
}
"""Of GAX by name; `released` is the released ImageNet code's."""

AX_SPACES = GAX_SPACES | {"released": ScoreSpace(image=True, plain=False, augmented=False)}
"""Of AX by name: the released code attributes, and augments, normalised pixels."""


def classify(
    classifier: Classifier,
    space: ScoreSpace,
    weights: PyTree,
    images: Images,
    labels: Int[Array, " B"],
    score: ScoreName = "logits",
) -> Reading:
    """Read plain images, in float32 at the highest matmul precision: B of each number.

    Args:
        classifier: its `weights` are not used: they are passed, so that nothing is closed over.
        space: whether pixels are normalised.
        weights: the network's.
        images: in [0, 1].
        labels: the groundtruth classes.
        score: of what the score is taken.
    """
    with jax.default_matmul_precision("highest"):
        logits = space.logits(classifier, weights, space.to_space(classifier, images))
        return jax.vmap(partial(read, score=score))(logits, labels)
