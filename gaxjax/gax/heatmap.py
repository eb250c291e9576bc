"""From trainable weights to a heatmap, an augmented image, and the similarity loss: one image.

Section 3 and equation 6 of Tjoa et al. (2022). All arithmetic here is float32, whatever
precision the network runs in (float64 where the image is).
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from gaxjax.common import Image, Scalar, UserError
from gaxjax.config import GaxConfig
from gaxjax.gax.generator import Generator

Weights = dict[str, PyTree]
"""What is trained of an image: `w`, and `b` where there is a bias. Shaped like x, of the coarse
generator [grid, grid, 3]; of a `Generator` of one's own whatever its first `w` is."""


def initial_weights(image: Image, config: GaxConfig, generator: Generator | None = None) -> Weights:
    """Return `w` = 1 everywhere and, with a bias, `b` = 0.01; or a generator's own first `w`."""
    if generator is not None:
        return {"w": generator.first(image)}
    coarse = config.generator == "coarse"
    shape = (config.grid, config.grid, 3) if coarse else image.shape
    weights = {"w": jnp.full(shape, config.initial_weight, image.dtype)}
    if config.bias:
        weights["b"] = jnp.full(shape, config.initial_bias, image.dtype)
    return weights


def heatmap(
    weights: Weights, image: Image, config: GaxConfig, generator: Generator | None = None
) -> Image:
    """Return h = tanh(G w * x), or tanh(G w * x + G b): values in (-1, 1).

    G is the config's generator, of the paper nothing; see `spread`. Without a bias a pixel with
    x = 0 never moves. A generator of one's own makes h itself.
    """
    if generator is not None:
        return generator.heatmap(weights["w"], image)
    product = spread(weights["w"], image, config) * image
    return jnp.tanh(product + spread(weights["b"], image, config) if "b" in weights else product)


def spread(values: Float[Array, "h w 3"], image: Image, config: GaxConfig) -> Image:
    """Return G w: `w` itself, blurred, or resized to the image. A constant stays what it is.

    Along each axis a product with a matrix whose rows sum to one.
    """
    height, width = image.shape[:2]
    match config.generator:
        case "pixel":
            return values
        case "smooth":
            down, across = (blur_matrix(side, config.sigma) for side in (height, width))
        case "coarse":
            down, across = (resize_matrix(side, config.grid) for side in (height, width))
    down, across = (matrix.astype(image.dtype) for matrix in (down, across))
    return jnp.einsum("ij,jkc,lk->ilc", down, values, across, precision="highest")


def blur_matrix(side: int, sigma: float) -> Float[np.ndarray, "side side"]:
    """Return a Gaussian of `sigma` pixels, cut off at 4 sigma and at the edges, as a matrix.

    Where it is cut off the rest weighs the more: rows sum to one.
    """
    pixel = np.arange(side)
    distance = np.abs(pixel[:, None] - pixel)
    with np.errstate(over="ignore"):  # of a sigma next to nothing
        weight = np.exp(-0.5 * (distance / sigma) ** 2) * (distance <= 4 * sigma)
    return weight / weight.sum(axis=1, keepdims=True)


def resize_matrix(side: int, cells: int) -> Float[np.ndarray, "side cells"]:
    """Return linear interpolation from `cells` cells to `side` pixels, between their centres.

    Pixels outside of the first and the last centre have that cell's value, as in torch's
    `interpolate` with align_corners=False.
    """
    place = np.clip((np.arange(side) + 0.5) * cells / side - 0.5, 0, cells - 1)
    return np.maximum(0.0, 1 - np.abs(place[:, None] - np.arange(cells)))


def check_generator(config: GaxConfig, image_shape: tuple[int, ...]) -> None:
    """Hold the generator against the images' size, once that is known.

    Raises:
        UserError: a Gaussian wider than the image, or a grid finer than it.
    """
    height, width = image_shape[:2]
    flag, value = {
        "pixel": ("", 0),
        "smooth": ("--sigma", config.sigma),
        "coarse": ("--grid", config.grid),
    }[config.generator]
    if value > min(height, width):
        raise UserError(
            f"{flag} {value} is more than the images have pixels, {height} × {width}: give at "
            f"most {min(height, width)}"
        )


def similarity_loss(heatmap: Image, image: Image, config: GaxConfig) -> Scalar:
    """Return l_s / mean((h - x + ε)² / (x + ε)): large while the heatmap copies the image.

    The mean runs over all pixels and channels (second term of paper eq. 6).
    """
    eps = config.similarity_eps
    distance = jnp.mean((heatmap - image + eps) ** 2 / (image + eps))
    return config.similarity_factor / distance


def total_variation(heatmap: Image) -> Scalar:
    """Return the sum of |h(p) - h(q)| over neighbours p, q in a column or row, by h's numbers.

    The mean over pixels and channels of the differences to the pixels below and to the right
    (anisotropic; Rudin et al. 1992). Its gradient is the sign's, 0 where neighbours are equal.
    """

    def magnitude(difference: Array) -> Array:  # jnp.abs has a slope of 1 at 0
        return difference * jax.lax.stop_gradient(jnp.sign(difference))

    down, right = heatmap[1:] - heatmap[:-1], heatmap[:, 1:] - heatmap[:, :-1]
    return (jnp.sum(magnitude(down)) + jnp.sum(magnitude(right))) / heatmap.size
