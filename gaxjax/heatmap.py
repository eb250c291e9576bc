"""From trainable weights to a heatmap, an augmented image, and the similarity loss: one image.

Section 3 and equation 6 of Tjoa et al. (2022). All arithmetic here is float32, whatever
precision the network runs in (float64 where the image is).
"""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from gaxjax.config import GaxConfig, Operation
from gaxjax.types import Image, Scalar, at_least_float32

Weights = dict[str, Float[Array, "H W 3"]]
"""What is trained for one image: `w`, and `b` where there is a bias; both shaped like x."""


def initial_weights(image: Image, config: GaxConfig) -> Weights:
    """Return `w` = 1 everywhere and, with a bias, `b` = 0.01."""
    weights = {"w": jnp.full(image.shape, config.initial_weight, image.dtype)}
    if config.bias:
        weights["b"] = jnp.full(image.shape, config.initial_bias, image.dtype)
    return weights


def heatmap(weights: Weights, image: Image) -> Image:
    """Return h = tanh(w * x), or tanh(w * x + b): values in (-1, 1).

    Without a bias a pixel with x = 0 never moves.
    """
    product = weights["w"] * image
    return jnp.tanh(product + weights["b"] if "b" in weights else product)


def augment(image: Image, heatmap: Image, operation: Operation) -> Image:
    """Return g(x, h): x + h for `sum`, x * h for `mult`."""
    return image + heatmap if operation == "sum" else image * heatmap


def similarity_loss(heatmap: Image, image: Image, config: GaxConfig) -> Scalar:
    """Return l_s / mean((h - x + ε)² / (x + ε)): large while the heatmap copies the image.

    The mean runs over all pixels and channels (second term of paper eq. 6).
    """
    eps = config.similarity_eps
    distance = jnp.mean((heatmap - image + eps) ** 2 / (image + eps))
    return config.similarity_factor / distance


def as_unit_range(pixels: Any) -> Float[Array, "..."]:
    """Return float32 pixels in [0, 1]: uint8 is divided by 255, floats are taken as they are."""
    if pixels.dtype == jnp.uint8:
        return pixels.astype(jnp.float32) / 255.0
    return at_least_float32(pixels)
