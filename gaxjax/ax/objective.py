"""What AX computes of one image: its classification, the heatmaps, and their CO scores.

Every function here is pure and about one image; the engine vmaps them. Network weights come
first, so that nothing is closed over.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from gaxjax import ops
from gaxjax.ax.graph_rules import needs_pairs, with_softmax_modules
from gaxjax.ax.layers import (
    check_features,
    check_layers,
    first_convolution,
    graph_features,
    tap,
)
from gaxjax.ax.methods import (
    Forward,
    Outputs,
    Probes,
    attributions,
    completeness_gap,
    divide_by_max_abs,
)
from gaxjax.ax.nonlinearities import check_nonlinearities
from gaxjax.ax.rules import Winners
from gaxjax.ax.suitable import suitable_methods
from gaxjax.common import Image, Scalar, UserError, at_least_float32, matmul_precision
from gaxjax.config import AxConfig, Operation, Wanted
from gaxjax.models import Classifier, GraphNetwork
from gaxjax.score import (
    AX_SPACES,
    Confidence,
    Reading,
    ScoreSpace,
    augment,
    confidence,
    read,
    score,
    weighted,
)

__all__ = ["AxObjective", "AxScored", "Explained", "wanted_of"]


class Explained(NamedTuple):
    """The classification of a plain image, and the heatmaps of its prediction.

    Attributes:
        reading: of f(z).
        confidence: of f(z).
        weighted_at_prediction: the reading's `weighted`, with κ at the prediction: no label is
            used.
        heatmaps: by method and layer, in the stored type; zero where the attribution is.
        scales: the largest magnitude of each attribution.
        gaps: how far DeepLift's attribution is from complete, of 1; see `completeness_gap`.
    """

    reading: Reading
    confidence: Confidence
    weighted_at_prediction: Scalar
    heatmaps: dict[Wanted, Image]
    scales: dict[Wanted, Scalar]
    gaps: dict[Wanted, Scalar]


class AxScored(NamedTuple):
    """What a heatmap as stored achieves, in float32 at the highest matmul precision.

    Attributes:
        co_score: s(z, h).
        prediction, probability: of the augmented image.
        co_score_predicted: s(z, h) with κ at the plain image's prediction: no label is used. It
            is `co_score`, to the bit, where the prediction is the label.
    """

    co_score: Scalar
    prediction: Int[Array, ""]
    probability: Scalar
    co_score_predicted: Scalar


def wanted_of(
    config: AxConfig, classifier: Classifier, image: jax.ShapeDtypeStruct
) -> tuple[Wanted, ...]:
    """Return the methods of `config`, with one entry per layer of layer_grad_cam.

    Raises:
        UserError: there is no such layer, or the network has nonlinear operations whose gradients
            a method cannot change.
    """
    pixels = jax.ShapeDtypeStruct((1, *image.shape), jnp.float32)
    graph = classifier.graph
    if graph is None:
        check_nonlinearities(
            lambda pixels: classifier.apply(classifier.weights, pixels),
            pixels,
            config.chosen_methods,
        )
    else:  # whose operations are known
        config = replace(config, methods=suitable_methods(config, graph))
    layers: tuple[str, ...] = ()
    if "layer_grad_cam" in config.chosen_methods:
        if classifier.module is None:
            raise UserError(
                f"layer_grad_cam looks for a layer by name, and {classifier.name} is no Flax NNX "
                "module: leave that method out"
            )
        network = classifier.module(classifier.weights)
        check_layers(network, config.layers)
        layers = config.layers or (first_convolution(network, image),)
        check_features(network, layers, pixels)
    return config.wanted(layers)


@dataclass(frozen=True)
class AxObjective:
    """The AX computation for a classifier under a config.

    Attributes:
        classifier: its `weights` are not used here: they are passed to each function. Batch norm
            must not be folded where a layer before one is wanted.
        config: score space, baseline, pooling rule.
        wanted: methods and layers, from `wanted_of`.
        precision: arithmetic of the attributions, highest or float32.
        heatmap_dtype: type in which heatmaps are stored, and with it scored.
    """

    classifier: Classifier
    config: AxConfig
    wanted: tuple[Wanted, ...]
    precision: str = "highest"
    heatmap_dtype: Any = jnp.float32

    @property
    def space(self) -> ScoreSpace:
        """Where the network sees normalised pixels."""
        return AX_SPACES[self.config.score_space]

    def explain(self, network: PyTree, image: Image, label: Int[Array, ""]) -> Explained:
        """Classify an image in [0, 1], and attribute its prediction by every method."""
        z = self.space.to_space(self.classifier, image)

        def forward(z: Image, probes: Probes) -> tuple[Float[Array, " C"], Outputs]:
            return self.logits(network, z, probes)

        with jax.default_matmul_precision("highest"), ops.backward_rules(Winners()):
            logits, _ = forward(z, {})
        reading = read(logits, label, self.config.score)
        graph, config = self.classifier.graph, self.config
        curves, pooling = config.deep_lift_curves, config.deep_lift_pooling
        with matmul_precision(self.precision):
            found = attributions(
                forward,
                z,
                reading.prediction,
                self.wanted,
                baseline=config.deep_lift_baseline,
                pooling=pooling,
                curves=curves,
                paired=graph is not None and needs_pairs(graph, curves, pooling),
                features=None if graph is None else partial(graph_features, graph),
            )
            gaps = {
                key: self._gap(forward, z, reading.prediction, attribution)
                for key, attribution in found.items()
                if key[0] == "deep_lift"
            }
        divided = {key: divide_by_max_abs(value) for key, value in found.items()}
        return Explained(
            reading=reading,
            confidence=confidence(logits),
            weighted_at_prediction=weighted(logits, reading.prediction, self.config.score),
            heatmaps={key: h.astype(self.heatmap_dtype) for key, (h, _) in divided.items()},
            scales={key: scale for key, (_, scale) in divided.items()},
            gaps=gaps,
        )

    def _gap(
        self, forward: Forward, z: Image, target: Int[Array, ""], attribution: Image
    ) -> Scalar:
        plain = jnp.full_like(z, self.config.deep_lift_baseline)
        with ops.backward_rules(Winners()):  # as DeepLift's own passes, for XLA to see them once
            rise = forward(z, {})[0][target] - forward(plain, {})[0][target]
        return completeness_gap(attribution, rise)

    def score(
        self,
        operation: Operation,
        network: PyTree,
        image: Image,
        heatmap: Image,
        label: Int[Array, ""],
        baseline: Scalar,
        predicted: Int[Array, ""],
        predicted_baseline: Scalar,
    ) -> AxScored:
        """Score a heatmap as it is stored, in float32 at the highest matmul precision.

        Args:
            operation: sum or mult.
            network: the weights.
            image: in [0, 1].
            heatmap: in the stored type.
            label: the groundtruth class.
            baseline: κ·f(z), or κ·softmax(f(z)).
            predicted: the class that f(z) predicts.
            predicted_baseline: the same with κ there.
        """
        z = self.space.to_space(self.classifier, image)
        augmented = augment(z, heatmap.astype(z.dtype), operation)
        with jax.default_matmul_precision("highest"):
            logits = self.space.augmented_logits(self.classifier, network, augmented[None])[0]
        scored = score(logits, label, baseline, self.config.score)
        at_prediction = weighted(logits, predicted, self.config.score)
        return AxScored(*scored, at_prediction - predicted_baseline)

    def logits(
        self, network: PyTree, z: Image, probes: Probes
    ) -> tuple[Float[Array, " C"], Outputs]:
        """Return f(z), with `probes` added to layers' outputs, and those outputs."""
        # As in `network_logits`, to the order of operations, for XLA to see one forward pass.
        pixels = self.classifier.normalize(z[None]) if self.space.plain else z[None]
        module = None if self.classifier.module is None else self.classifier.module(network)
        if isinstance(module, GraphNetwork):
            module.graph = with_softmax_modules(module.graph)
            logits, outputs = module.run(pixels, probes)
            return at_least_float32(logits)[0], outputs
        if not probes:
            return self.space.logits(self.classifier, network, z[None])[0], {}
        assert module is not None
        outputs = tap(module, probes)
        return at_least_float32(module(pixels))[0], outputs
