"""What one image's optimisation computes: loss with score, and the verified score.

Every function here is pure and about one image; the engine vmaps them. Network weights come
first, so that nothing is closed over.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from gaxjax.common import Image, Scalar, matmul_precision
from gaxjax.config import GaxConfig, Precision
from gaxjax.gax.heatmap import Weights, heatmap, similarity_loss
from gaxjax.models import Classifier
from gaxjax.score import (
    GAX_SPACES,
    Reading,
    Scored,
    ScoreSpace,
    augment,
    classify,
    score,
    weighted_logits,
)


class Verified(NamedTuple):
    """What a heatmap as stored achieves, and how close it is to the image."""

    scored: Scored
    similarity_loss: Scalar


@dataclass(frozen=True)
class Objective:
    """The GAX objective of a classifier under a config.

    Attributes:
        classifier: its `weights` are not used here: they are passed to each function.
        config: score space, operation, loss.
        precision: arithmetic of the network in `loss_and_score`; never `auto`.
        fast: the classifier as `loss_and_score` computes it, where that differs: the same function
            in a form that is faster or less exact.
    """

    classifier: Classifier
    config: GaxConfig
    precision: Precision
    fast: Classifier | None = None

    @property
    def space(self) -> ScoreSpace:
        """Where the network sees normalised pixels."""
        return GAX_SPACES[self.config.score_space]

    def fast_weights(self) -> PyTree:
        """Return the network weights as `loss_and_score` wants them."""
        weights = (self.fast or self.classifier).weights
        if self.precision != "bfloat16":
            return weights
        return jax.tree.map(
            lambda leaf: (
                leaf.astype(jnp.bfloat16) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf
            ),
            weights,
        )

    def baseline(self, network: PyTree, image: Image, label: Int[Array, ""]) -> Reading:
        """Classify the plain image, in float32 at the highest precision."""
        return classify(self.classifier, self.space, network, image, label)

    def loss_and_score(
        self,
        weights: Weights,
        network: PyTree,
        image: Image,
        label: Int[Array, ""],
        baseline: Scalar,
    ) -> tuple[Scalar, Scalar]:
        """Return the GAX loss (paper eq. 6) to differentiate by `weights`, and the CO score."""
        h = heatmap(weights, image)
        logits = self._augmented_logits(network, image, h, self.fast or self.classifier)
        score = weighted_logits(logits, label) - baseline
        return -score + similarity_loss(h, image, self.config), score

    def score_and_gradients(
        self,
        weights: Weights,
        network: PyTree,
        image: Image,
        label: Int[Array, ""],
        baseline: Scalar,
    ) -> tuple[Scalar, Weights]:
        """Return the CO score, and the loss's gradients by `weights`: what a step computes."""
        with matmul_precision(self.precision):  # of the backward pass as well
            (_, score), gradients = jax.value_and_grad(self.loss_and_score, has_aux=True)(
                weights, network, image, label, baseline
            )
        return score, gradients

    def verify(
        self,
        network: PyTree,
        image: Image,
        heatmap: Image,
        label: Int[Array, ""],
        baseline: Scalar,
    ) -> Verified:
        """Score a finished heatmap, as it is stored, in float32 at the highest precision."""
        logits = self.verified_logits(network, image, heatmap)
        return Verified(
            scored=score(logits, label, baseline),
            similarity_loss=similarity_loss(heatmap, image, self.config),
        )

    def verified_logits(self, network: PyTree, image: Image, heatmap: Image) -> Float[Array, " C"]:
        """Return the augmented image's logits, in float32 at the highest precision."""
        with jax.default_matmul_precision("highest"):
            return self._augmented_logits(network, image, heatmap, self.classifier)

    def _augmented_logits(
        self, network: PyTree, image: Image, h: Image, classifier: Classifier
    ) -> Float[Array, " C"]:
        augmented = augment(image, h, self.config.operation)
        return self.space.augmented_logits(classifier, network, augmented)
