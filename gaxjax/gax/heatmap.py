"""From trainable weights to a heatmap, an augmented image, and the similarity loss: one image.

Section 3 and equation 6 of Tjoa et al. (2022). All arithmetic here is float32, whatever
precision the network runs in (float64 where the image is).
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from gaxjax.common import Image, Scalar
from gaxjax.config import GaxConfig

Weights = dict[str, Float[Array, "*B H W 3"]]
"""What is trained, for one image or several: `w`, and `b` where there is a bias; shaped like x."""


def initial_weights(image: Float[Array, "*B H W 3"], config: GaxConfig) -> Weights:
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


def similarity_loss(heatmap: Image, image: Image, config: GaxConfig) -> Scalar:
    """Return l_s / mean((h - x + ε)² / (x + ε)): large while the heatmap copies the image.

    The mean runs over all pixels and channels (second term of paper eq. 6).
    """
    eps = config.similarity_eps
    distance = jnp.mean((heatmap - image + eps) ** 2 / (image + eps))
    return config.similarity_factor / distance
