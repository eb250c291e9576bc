"""Operations on each element: arithmetic, comparisons, logic; nonlinearities are in `curves`."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from gaxjax.models.graph.promotion import cast, floating
from gaxjax.models.graph.table import operation
from gaxjax.models.graph.tensor import Tensor, elementwise


def _pairwise(function: Callable[..., Array]) -> Callable[..., Tensor]:
    """Return the function of tensors and numbers, in any axis order, as one of this file's own."""
    broadcast = elementwise(function)

    def call(*arguments: Any, **keywords: Any) -> Tensor:
        return broadcast(*arguments, **keywords)

    call.__module__ = function.__module__
    return call


def _scaled(function: Callable[..., Array]) -> Callable[..., Array]:
    """Let the second operand be multiplied by ``alpha`` first, as torch's additions do."""
    return lambda x, y, alpha=1: function(x, y if alpha == 1 else y * alpha)


def _divide(x: Any, y: Any, rounding_mode: str | None = None) -> Array:
    if rounding_mode is None:
        return jnp.true_divide(floating(x), floating(y))
    if rounding_mode == "floor":
        return lax.stop_gradient(jnp.floor_divide(x, y))
    if rounding_mode == "trunc" and not _integers(x, y):
        return lax.stop_gradient(jnp.trunc(jnp.true_divide(x, y)))
    return _truncated(jnp.asarray(x), jnp.asarray(y))


def _integers(*values: Any) -> bool:
    return all(jnp.issubdtype(jnp.result_type(value), jnp.integer) for value in values)


def _truncated(x: Array, y: Array) -> Array:
    down = jnp.floor_divide(x, y)
    return down + ((down < 0) & (down * y != x)).astype(down.dtype)


def _masked_fill(x: Array, mask: Array, value: Any) -> Array:
    return jnp.where(mask, jnp.asarray(value).astype(x.dtype), x)


def _rounding(function: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """Leave integers as they are, which JAX would make floating."""
    return lambda x: function(x) if jnp.issubdtype(x.dtype, jnp.floating) else x


def _round(x: Array, decimals: int = 0) -> Array:
    return _rounding(lambda v: jnp.round(v, decimals))(x)


def _lerp(start: Array, end: Array, weight: Any) -> Array:
    return start + weight * (end - start)


_PAIRS: dict[str, Callable[..., Array]] = {
    "add": _scaled(lambda x, y: x + y),
    "sub": _scaled(lambda x, y: x - y),
    "rsub": lambda x, y, alpha=1: y - (x if alpha == 1 else x * alpha),
    "mul": lambda x, y: x * y,
    "div": _divide,
    "floor_divide": lambda x, y: _divide(x, y, "floor"),
    "remainder": lambda x, y: jnp.remainder(x, y),
    "fmod": lambda x, y: jnp.fmod(x, y),
    "addcmul": lambda x, a, b, value=1: x + (a * b if value == 1 else value * a * b),
    "addcdiv": lambda x, a, b, value=1: x + (a / b if value == 1 else value * (a / b)),
    "lerp": _lerp,
    "maximum": lambda x, y: jnp.maximum(x, y),
    "minimum": lambda x, y: jnp.minimum(x, y),
    "atan2": lambda x, y: jnp.arctan2(x, y),
    "eq": lambda x, y: x == y,
    "ne": lambda x, y: x != y,
    "lt": lambda x, y: x < y,
    "le": lambda x, y: x <= y,
    "gt": lambda x, y: x > y,
    "ge": lambda x, y: x >= y,
    "where": lambda mask, x, y: jnp.where(mask, x, y),
    "masked_fill": _masked_fill,
    "logical_and": lambda x, y: jnp.logical_and(x, y),
    "logical_or": lambda x, y: jnp.logical_or(x, y),
    "logical_xor": lambda x, y: jnp.logical_xor(x, y),
    "logical_not": lambda x: jnp.logical_not(x),
    "bitwise_and": lambda x, y: x & y,
    "bitwise_or": lambda x, y: x | y,
    "bitwise_xor": lambda x, y: x ^ y,
    "bitwise_not": lambda x: ~x,
    "neg": lambda x: -x,
    "floor": _rounding(lambda x: jnp.floor(x)),
    "ceil": _rounding(lambda x: jnp.ceil(x)),
    "trunc": _rounding(lambda x: jnp.trunc(x)),
    "round": _round,
    "sign": lambda x: jnp.sign(x),
    "isnan": lambda x: jnp.isnan(x),
    "isinf": lambda x: jnp.isinf(x),
    "isfinite": lambda x: jnp.isfinite(x),
    "fill": lambda x, value: jnp.broadcast_to(jnp.asarray(value).astype(x.dtype), x.shape),
    "zeros_like": lambda x, dtype=None, **_: cast(jnp.zeros_like(x), dtype),
    "ones_like": lambda x, dtype=None, **_: cast(jnp.ones_like(x), dtype),
    "full_like": lambda x, value, dtype=None, **_: cast(jnp.full_like(x, value), dtype),
}
_ALIASES = {
    "maximum": ("max.other",),
    "minimum": ("min.other",),
    "sign": ("sgn",),
    "sub": ("subtract",),
    "mul": ("multiply",),
    "div": ("divide", "true_divide"),
}

for _name, _function in _PAIRS.items():
    operation(_name, *_ALIASES.get(_name, ()))(_pairwise(_function))
