"""Array aliases with their shapes: N images, B batch, H height, W width, C classes."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Float32, Int, UInt8
from numpy import ndarray

__all__ = [
    "HostImages",
    "Image",
    "Images",
    "Labels",
    "Logits",
    "Scalar",
    "at_least_float32",
]

Scalar = Float[Array, ""]
"""One float32 number."""

Image = Float[Array, "H W 3"]
"""One RGB image, float32 in [0, 1]."""

Images = Float[Array, "B H W 3"]
"""A batch of RGB images."""

HostImages = UInt8[ndarray, "B H W 3"] | Float32[ndarray, "B H W 3"]
"""Images on the host: uint8, 0 to 255, or float32 in [0, 1]."""

Labels = Int[Array, " B"]
"""Class indices in [0, C)."""

Logits = Float[Array, "B C"]
"""Raw classifier outputs: no softmax."""


def at_least_float32(values: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Widen bfloat16 and float16 to float32; leave float64, which parity tests use, as it is."""
    return values.astype(jnp.promote_types(values.dtype, jnp.float32))
