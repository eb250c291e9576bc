"""Types of arrays as torch promotes them, and what several files of operations share.

Types are promoted as torch does it. A Python number never widens a floating tensor, and an integer
tensor becomes, where it must be floating, one of JAX's weak type: float32 (float64 under
`jax.enable_x64`) by itself, the other operand's type beside bfloat16.
"""

from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

__all__ = ["cast", "floating", "magnitude", "wide"]


def floating(x: Any) -> Any:
    """Return an array or a number as a floating one; integers of the graph's own floating type."""
    if not isinstance(x, Array):
        return float(x)
    return x if jnp.issubdtype(x.dtype, jnp.floating) else x * 1.0


def cast(x: Array, dtype: Any) -> Array:
    """Change the type of an array; a floating type is the one the graph computes in.

    Args:
        x: any array.
        dtype: torch's type as text, ``"float32"``, or None for no change.
    """
    if dtype is None:
        return x
    if dtype == "bool" or jnp.issubdtype(dtype, jnp.bool_):
        return x != 0
    if jnp.issubdtype(dtype, jnp.floating):
        return floating(x)
    return x.astype("int32" if jnp.dtype(dtype) == "int64" else dtype)


def magnitude(x: Array) -> Array:
    """Return ``|x|`` with torch's derivative at 0, which is 0; JAX's is 1."""
    return x * lax.stop_gradient(jnp.sign(x))


def wide(x: Array) -> Array:
    """Return an array in at least float32."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))
