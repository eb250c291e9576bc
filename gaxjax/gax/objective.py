"""What the optimisation computes of a batch: losses with scores, and verified scores.

Every function here is pure, and each image of a batch is by itself: only the network is given them
together. Network weights are arguments, so that nothing is closed over.
"""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from gaxjax.common import Image, Images, Logits, Scalar, matmul_precision
from gaxjax.config import GaxConfig, Precision
from gaxjax.gax.generator import Generator
from gaxjax.gax.heatmap import Weights, heatmap, similarity_loss, total_variation
from gaxjax.gax.setting import UNSWEPT, LaneSetting, for_lane
from gaxjax.models import Classifier
from gaxjax.score import (
    GAX_SPACES,
    Reading,
    Scored,
    ScoreSpace,
    augment,
    classify,
    score,
    weighted,
)


class Verified(NamedTuple):
    """What heatmaps as stored achieve, and how close they are to their images."""

    scored: Scored
    similarity_loss: Float[Array, " B"]


@dataclass(frozen=True)
class Objective:
    """The GAX objective of a classifier under a config.

    Attributes:
        classifier: its `weights` are not used here: they are passed to each function.
        config: score space, operation, loss.
        precision: arithmetic of the network in `losses_and_scores`; never `auto`.
        fast: the classifier as `losses_and_scores` computes it, where that differs: the same
            function in a form that is faster or less exact.
        swept: fields of the config that each lane has a value of its own of: its `setting`.
        generator: what makes heatmaps, in place of the config's.
    """

    classifier: Classifier
    config: GaxConfig
    precision: Precision
    fast: Classifier | None = None
    swept: tuple[str, ...] = ()
    generator: Generator | None = None

    @property
    def space(self) -> ScoreSpace:
        """Where the network sees normalised pixels."""
        return GAX_SPACES[self.config.score_space]

    def fast_weights(self) -> PyTree:
        """Return the network weights as `losses_and_scores` wants them."""
        weights = (self.fast or self.classifier).weights
        if self.precision != "bfloat16":
            return weights
        return jax.tree.map(
            lambda leaf: (
                leaf.astype(jnp.bfloat16) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf
            ),
            weights,
        )

    def baseline(self, network: PyTree, images: Images, labels: Int[Array, " B"]) -> Reading:
        """Classify the plain images, in float32 at the highest precision."""
        return classify(self.classifier, self.space, network, images, labels, self.config.score)

    def weighted(self, logits: Logits, labels: Int[Array, " B"]) -> Float[Array, " B"]:
        """Return of each image what its score is a rise of: κ·f, or κ·softmax(f)."""
        return jax.vmap(partial(weighted, score=self.config.score))(logits, labels)

    def heatmaps(self, weights: Weights, images: Images) -> Images:
        """Return the heatmaps that weights make of their images."""

        def one(weights: Weights, image: Image) -> Image:
            return heatmap(weights, image, self.config, self.generator)

        return jax.vmap(one)(weights, images)

    def losses_and_scores(
        self,
        weights: Weights,
        network: PyTree,
        images: Images,
        labels: Int[Array, " B"],
        baselines: Float[Array, " B"],
        setting: LaneSetting = UNSWEPT,
    ) -> tuple[Float[Array, " B"], Float[Array, " B"]]:
        """Return the GAX losses (paper eq. 6, and the total variation), and the CO scores."""
        h = self.heatmaps(weights, images)
        logits = self._augmented_logits(network, images, h, setting, self.fast or self.classifier)
        scores = self.weighted(logits, labels) - baselines
        losses = self._similarity(h, images, setting) - scores
        factor = setting.get("total_variation_factor", self.config.total_variation_factor)
        if "total_variation_factor" in setting or factor:
            losses = losses + factor * jax.vmap(total_variation)(h)
        return losses, scores

    def scores_and_gradients(
        self,
        weights: Weights,
        network: PyTree,
        images: Images,
        labels: Int[Array, " B"],
        baselines: Float[Array, " B"],
        setting: LaneSetting = UNSWEPT,
    ) -> tuple[Float[Array, " B"], Weights]:
        """Return the CO scores, and each loss's gradient by its own `weights`: what a step needs.

        The gradient of the losses' sum: no loss depends on another image's weights.
        """

        def total(weights: Weights) -> tuple[Scalar, Float[Array, " B"]]:
            losses, scores = self.losses_and_scores(
                weights, network, images, labels, baselines, setting
            )
            return jnp.sum(losses), scores

        with matmul_precision(self.precision):  # of the backward pass as well
            (_, scores), gradients = jax.value_and_grad(total, has_aux=True)(weights)
        return scores, gradients

    def verify(
        self,
        network: PyTree,
        images: Images,
        heatmaps: Images,
        labels: Int[Array, " B"],
        baselines: Float[Array, " B"],
        setting: LaneSetting = UNSWEPT,
    ) -> Verified:
        """Score finished heatmaps, as they are stored, in float32 at the highest precision."""
        logits = self.verified_logits(network, images, heatmaps, setting)
        return Verified(
            scored=jax.vmap(partial(score, name=self.config.score))(logits, labels, baselines),
            similarity_loss=self._similarity(heatmaps, images, setting),
        )

    def verified_logits(
        self, network: PyTree, images: Images, heatmaps: Images, setting: LaneSetting = UNSWEPT
    ) -> Logits:
        """Return the augmented images' logits, in float32 at the highest precision."""
        with jax.default_matmul_precision("highest"):
            return self._augmented_logits(network, images, heatmaps, setting, self.classifier)

    def _similarity(self, h: Images, images: Images, setting: LaneSetting) -> Float[Array, " B"]:
        def one(h: Image, image: Image, setting: LaneSetting) -> Scalar:
            return similarity_loss(h, image, for_lane(self.config, setting))

        return jax.vmap(one)(h, images, setting)

    def _augmented_logits(
        self,
        network: PyTree,
        images: Images,
        h: Images,
        setting: LaneSetting,
        classifier: Classifier,
    ) -> Logits:
        if "operation" in setting:
            adds = setting["operation"][:, None, None, None]
            augmented = jnp.where(adds, augment(images, h, "sum"), augment(images, h, "mult"))
        else:
            augmented = augment(images, h, self.config.operation)
        return self.space.augmented_logits(classifier, network, augmented)
