"""AX's two device functions with the shapes that they are compiled for; nothing is computed.

A plan needs no device that is there: XLA compiles for one that is only described.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import PyTree

from gaxjax.ax.objective import AxObjective, AxScored, Explained
from gaxjax.common import compiled_once, compiler_options, placed_shapes, weight_places
from gaxjax.config import Operation
from gaxjax.models import as_unit_range


class AxPlan:
    """What is compiled for one objective, image shape and batch size.

    Args:
        objective: what is computed.
        devices: over which a batch is spread.
        batch_size: images per batch, over all devices.
        image: one image as it is given.

    Attributes:
        spread, places: where a batch, and each of the network's weights, go on the devices.
    """

    def __init__(
        self,
        objective: AxObjective,
        *,
        devices: list[jax.Device],
        batch_size: int,
        image: jax.ShapeDtypeStruct,
    ) -> None:
        self.objective = objective
        self._mesh = Mesh(np.array(devices), ("images",))
        self.spread = NamedSharding(self._mesh, P("images"))
        ours = objective.classifier.structure is not None
        self.places = weight_places(
            objective.classifier.weights, NamedSharding(self._mesh, P()), kernels=ours
        )
        self._options = compiler_options(devices[0])
        self._images = self._rows(batch_size, image.dtype, *image.shape)
        self._heatmaps = self._rows(batch_size, objective.heatmap_dtype, *image.shape)
        self._labels = self._rows(batch_size, jnp.int32)
        self._numbers = self._rows(batch_size, jnp.float32)

    def explain(self) -> Callable[..., Explained]:
        """Compile what makes all heatmaps of a batch: of weights, images and labels."""
        objective = self.objective

        def explain(network: PyTree, image: Any, label: Any) -> Explained:
            return objective.explain(network, as_unit_range(image), label)

        return self._compiled("explain", explain, self._images, self._labels)

    def score(self, operation: Operation) -> Callable[..., AxScored]:
        """Compile what scores a batch's heatmaps.

        It takes weights, images, heatmaps, labels, κ·f(z), and predictions with their κ·f(z).
        """
        objective = self.objective

        def score(operation: Operation, network: PyTree, image: Any, *rest: Any) -> AxScored:
            return objective.score(operation, network, as_unit_range(image), *rest)

        classes = self._labels, self._numbers
        arguments = self._images, self._heatmaps, *classes, *classes
        return self._compiled(operation, partial(score, operation), *arguments)

    def _compiled(self, name: str, function: Callable, *arguments: Any) -> Callable:
        """Compile a one-image function for a batch over all devices, without collectives."""
        specs = (P(), *(P("images") for _ in arguments))
        mapped = jax.shard_map(
            jax.vmap(function, in_axes=(None, *(0 for _ in arguments))),
            mesh=self._mesh,
            in_specs=specs,
            out_specs=P("images"),
            check_vma=False,
        )
        classifier, objective = self.objective.classifier, self.objective
        same = None  # a function of the user's may read what has changed since: it is traced
        if classifier.structure is not None:
            normalization = classifier.mean, classifier.std
            settings = objective.config, objective.wanted, objective.precision, name
            same = classifier.structure, normalization, settings, str(objective.heatmap_dtype)
        weights = placed_shapes(classifier.weights, self.places)
        return compiled_once(
            jax.jit(mapped), *(weights, *arguments), same=same, options=self._options
        )

    def _rows(self, count: int, dtype: Any, *shape: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((count, *shape), dtype, sharding=self.spread)
