"""Run a graph in JAX: a Flax NNX module of images, whose weights are parameters."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from gaxjax.common import UserError, nearest
from gaxjax.models.graph.form import IMAGE, Graph, Node, Value, Weight
from gaxjax.models.graph.operations import OPERATIONS
from gaxjax.models.graph.tensor import Tensor, of_last, tensor

__all__ = ["GraphNetwork"]


class GraphNetwork(nnx.Module):
    """A network imported from torch, in inference mode: [B, H, W, 3] → logits [B, C].

    Args:
        graph: the operations.
        weights: by name, as the graph calls them.

    Attributes:
        graph: likewise.
        weights: likewise, as parameters.

    Raises:
        UserError: operations that are not in the table.
    """

    def __init__(self, graph: Graph, weights: Mapping[str, Any]):
        unknown = sorted({node.operation for node in graph.nodes} - OPERATIONS.keys())
        if unknown:
            raise UserError(f"operations that gaxjax does not have: {', '.join(unknown)}")
        assert set(graph.weights) <= weights.keys()
        self.graph = graph
        self.weights = nnx.Dict(
            {name: nnx.Param(jnp.asarray(weights[name])) for name in graph.weights}
        )

    def __call__(self, images: Float[Array, "B H W 3"]) -> Float[Array, "B C"]:
        """Return the logits of images as the network was trained on them."""
        if len(images) == 1:
            return self.run(images)[0]
        # Every shape in the graph is for one image; XLA merges the batch into the operations.
        return jax.vmap(lambda image: self.run(image[None])[0][0])(images)

    def run(
        self, image: Float[Array, "1 H W 3"], probes: Mapping[str, Any] | None = None
    ) -> tuple[Float[Array, "1 C"], dict[str, Array]]:
        """Return the logits of an image, and the outputs of layers.

        Args:
            image: one, in a batch.
            probes: by layer, an array to add to its output, or None to add nothing; the gradient by
                a probe of zeros is the gradient by the layer's output.

        Returns:
            The logits; and by layer its output before the probe, [1, P, Q, C] where it has four
            axes, else in torch's order.

        Raises:
            UserError: no such layer; an image of another size than the graph's.
        """
        self.graph.require_size(image.shape[1], image.shape[2])
        tapped: dict[str, list[str]] = {}
        for layer in probes or {}:
            if layer not in self.graph.layers:
                raise UserError(f"no layer {layer!r}{nearest(layer, self.graph.layers)}")
            tapped.setdefault(self.graph.layers[layer], []).append(layer)
        if self.graph.image[0] == 1:  # a grey network: of an image with equal channels, any of them
            image = image.mean(axis=-1, keepdims=True)
        values: dict[str, Any] = {IMAGE: of_last(image)}
        outputs: dict[str, Array] = {}
        for node in self.graph.nodes:
            value = self._value(node, values)
            for layer in tapped.get(node.name, ()):
                value, outputs[layer] = _probed(value, (probes or {})[layer])
            values[node.name] = value
        return values[self.graph.output].plain(), outputs

    def _value(self, node: Node, values: Mapping[str, Any]) -> Any:
        def filled(value: Any) -> Any:
            if isinstance(value, Value):
                return values[value.node]
            if isinstance(value, Weight):
                return tensor(self.weights[value.name][...])
            if isinstance(value, tuple):
                return tuple(filled(item) for item in value)
            return value

        keywords = {name: filled(value) for name, value in node.keywords.items()}
        return OPERATIONS[node.operation](*filled(node.arguments), **keywords)


def _probed(value: Tensor, probe: Array | None) -> tuple[Tensor, Array]:
    last = value.ndim == 4
    output = value.last() if last else value.plain()
    if probe is not None:
        value = (of_last if last else tensor)(output + probe)
    return value, output
