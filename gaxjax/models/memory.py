"""How much memory an image takes in a network, told from shapes: nothing is computed."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from gaxjax.common import own_numbers
from gaxjax.models.classifier import Classifier

__all__ = ["forward_bytes", "gradient_bytes"]


@own_numbers()
def forward_bytes(classifier: Classifier, shape: tuple[int, ...]) -> int:
    """Return the bytes of one image's logits at work, at least: its pixels and the largest layer.

    Args:
        classifier: the model.
        shape: of the image, (H, W, 3).
    """
    pixels = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    traced = jax.make_jaxpr(classifier.apply)(classifier.weights, pixels)
    largest = max((_size(each) for each in _outputs(traced.jaxpr)), default=0)
    # Values that do not depend on the image, such as a kernel made ready, are as large for many.
    most_of_weights = max(map(_size, jax.tree.leaves(classifier.weights)), default=0)
    return _size(pixels) + (largest if largest > most_of_weights else 0)


@own_numbers()
def gradient_bytes(classifier: Classifier, shape: tuple[int, ...]) -> int:
    """Return the bytes that one image's gradient keeps of its way through the network, at least.

    Args:
        classifier: the model.
        shape: of the image, (H, W, 3).
    """
    pixels = jax.ShapeDtypeStruct((1, *shape), jnp.float32)

    def kept(weights: Any, pixels: Any) -> Any:
        return jax.vjp(lambda pixels: classifier.apply(weights, pixels), pixels)[1]

    leaves = jax.tree.leaves(jax.eval_shape(kept, classifier.weights, pixels))
    weights = sum(map(_size, jax.tree.leaves(classifier.weights)))
    return _size(pixels) + max(0, sum(map(_size, leaves)) - weights)


def _size(leaf: Any) -> int:
    shape, dtype = getattr(leaf, "shape", None), getattr(leaf, "dtype", None)
    if shape is None or dtype is None:
        return 0
    count = 1
    for length in shape:
        count *= int(length)
    return count * getattr(dtype, "itemsize", 0)


def _outputs(jaxpr: Any) -> Iterator[Any]:
    """Yield what every step of a traced function makes, of the functions in it too."""
    for step in jaxpr.eqns:
        yield from (variable.aval for variable in step.outvars)
        for inner in jax.tree.leaves(list(step.params.values()), is_leaf=_is_function):
            if _is_function(inner):
                yield from _outputs(getattr(inner, "jaxpr", inner))


def _is_function(value: Any) -> bool:
    return hasattr(getattr(value, "jaxpr", value), "eqns")
