"""New tensors of a shape and a value, and changes of type.

A floating type is the one the graph computes in, whatever torch's name for it; a tensor that no
other one gives it to has JAX's weak type, which yields to that of what it meets.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from gaxjax.models.graph.promotion import cast
from gaxjax.models.graph.table import operation
from gaxjax.models.graph.tensor import Tensor, tensor

__all__: list[str] = []


def _made(size: Sequence[int], value: Any, dtype: Any) -> Tensor:
    return tensor(cast(jnp.full(tuple(size), value), dtype))


def _made_like(x: Tensor, size: Sequence[int], value: Any, dtype: Any) -> Tensor:
    return tensor(cast(jnp.full(tuple(size), value, x.dtype), dtype))


@operation("zeros")
def _zeros(size: Sequence[int], *, dtype: Any = None) -> Tensor:
    return _made(size, 0.0, dtype)


@operation("ones")
def _ones(size: Sequence[int], *, dtype: Any = None) -> Tensor:
    return _made(size, 1.0, dtype)


@operation("full")
def _full(size: Sequence[int], fill_value: Any, *, dtype: Any = None) -> Tensor:
    return _made(size, fill_value, dtype)


@operation("scalar_tensor")
def _scalar_tensor(s: Any, *, dtype: Any = None) -> Tensor:
    return _made((), float(s), dtype)


@operation("arange")
def _arange(*bounds: Any, dtype: Any = None) -> Tensor:
    start, end, step = (*bounds, 1)[:3] if len(bounds) > 1 else (0, *bounds, 1)
    steps = jnp.arange(math.ceil((end - start) / step)) * step + start
    return tensor(cast(steps, dtype))


@operation("new_zeros")
def _new_zeros(x: Tensor, size: Sequence[int], *, dtype: Any = None) -> Tensor:
    return _made_like(x, size, 0, dtype)


@operation("new_ones")
def _new_ones(x: Tensor, size: Sequence[int], *, dtype: Any = None) -> Tensor:
    return _made_like(x, size, 1, dtype)


@operation("new_full")
def _new_full(x: Tensor, size: Sequence[int], fill_value: Any, *, dtype: Any = None) -> Tensor:
    return _made_like(x, size, fill_value, dtype)


# ---- types


@operation("_to_copy", "to", "type_as")
def _to(x: Tensor, *others: Any, dtype: Any = None, **_: Any) -> Tensor:
    """Change the type to that of the first argument that has one: a type or a tensor."""
    for other in others:
        if isinstance(other, Tensor):
            dtype = other.dtype
        elif _is_type(other):
            dtype = other
    return x.like(cast(x.array, dtype))


def _is_type(value: Any) -> bool:
    try:
        return isinstance(value, str) and bool(jnp.dtype(value))
    except TypeError:  # a device
        return False
