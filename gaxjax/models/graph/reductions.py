"""Sums, means, extrema, norms and the like over axes, in whatever order these lie.

In bfloat16 sums are accumulated in float32 and rounded once. Where torch's derivative at a tie or
at 0 is a choice, it is torch's: `amax` and the maximum of all share it, `max.dim` gives it to one.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from gaxjax.models.graph.promotion import cast, floating, magnitude, wide
from gaxjax.models.graph.table import operation
from gaxjax.models.graph.tensor import Tensor, reduction, tensor, without

__all__: list[str] = []

Dims = int | Sequence[int] | None
_Number = int | float


def _reduced(
    function: Callable[..., Array], x: Tensor, dim: Dims, keepdim: bool, dtype: Any = None
) -> Tensor:
    """Reduce; a floating tensor in at least float32, whose result is of the type it had."""
    array = cast(x.array, dtype)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        return reduction(function)(x.like(array), dim, keepdim)
    y = reduction(function)(x.like(wide(array)), dim, keepdim)
    return y.like(y.array.astype(array.dtype))


@operation("sum")
def _sum(x: Tensor, dim: Dims = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    return _reduced(jnp.sum, x, dim, keepdim, dtype)


@operation("mean")
def _mean(x: Tensor, dim: Dims = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    return _reduced(jnp.mean, x, dim, keepdim, dtype)


@operation("prod")
def _prod(x: Tensor, dim: Dims = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    return _reduced(jnp.prod, x, dim, keepdim, dtype)


@operation("amax")
def _amax(x: Tensor, dim: Dims = None, keepdim: bool = False) -> Tensor:
    return reduction(jnp.max)(x, dim, keepdim)


@operation("amin")
def _amin(x: Tensor, dim: Dims = None, keepdim: bool = False) -> Tensor:
    return reduction(jnp.min)(x, dim, keepdim)


@operation("max")
def _max(x: Tensor) -> Tensor:
    return reduction(jnp.max)(x)


@operation("min")
def _min(x: Tensor) -> Tensor:
    return reduction(jnp.min)(x)


@operation("any")
def _any(x: Tensor, dim: Dims = None, keepdim: bool = False) -> Tensor:
    return _truth(jnp.any, x, dim, keepdim)


@operation("all")
def _all(x: Tensor, dim: Dims = None, keepdim: bool = False) -> Tensor:
    return _truth(jnp.all, x, dim, keepdim)


def _truth(function: Callable[..., Array], x: Tensor, dim: Dims, keepdim: bool) -> Tensor:
    if dim is not None and not isinstance(dim, int) and not dim:  # torch's no axes are none here
        return x.like(x.array != 0)
    return reduction(function)(x, dim, keepdim)


@operation("max.dim")
def _max_dim(x: Tensor, dim: int, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    return _found(jnp.argmax, x, dim, keepdim)


@operation("min.dim")
def _min_dim(x: Tensor, dim: int, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    return _found(jnp.argmin, x, dim, keepdim)


@operation("argmax")
def _argmax(x: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    return _position(jnp.argmax, x, dim, keepdim)


@operation("argmin")
def _argmin(x: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    return _position(jnp.argmin, x, dim, keepdim)


def _position(function: Callable[..., Array], x: Tensor, dim: int | None, keepdim: bool) -> Tensor:
    if dim is None:  # counted in torch's order
        index = function(x.plain())
        return tensor(index.reshape((1,) * x.ndim) if keepdim else index)
    if not x.ndim:
        return tensor(jnp.zeros((), jnp.int32))
    axis = x.axis(dim)
    index = function(x.array, axis=axis, keepdims=keepdim)
    return Tensor(index, x.order if keepdim else without(x.order, (axis,)))


def _found(
    function: Callable[..., Array], x: Tensor, dim: int, keepdim: bool
) -> tuple[Tensor, Tensor]:
    """Return the extrema and where they are: of equal ones the first."""
    if not x.ndim:
        return x, tensor(jnp.zeros((), jnp.int32))
    axis = x.axis(dim)
    index = function(x.array, axis=axis, keepdims=True)
    values = jnp.take_along_axis(x.array, index, axis)
    if keepdim:
        return x.like(values), x.like(index)
    order = without(x.order, (axis,))
    return Tensor(values.squeeze(axis), order), Tensor(index.squeeze(axis), order)


@operation("logsumexp")
def _logsumexp(x: Tensor, dim: Dims, keepdim: bool = False) -> Tensor:
    return _reduced(jax.nn.logsumexp, x.like(floating(x.array)), dim, keepdim)


@operation("cumsum")
def _cumsum(x: Tensor, dim: int, *, dtype: Any = None) -> Tensor:
    array = cast(x.array, dtype)
    if not x.ndim:
        return x.like(array)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        return x.like(jnp.cumsum(array, x.axis(dim)))
    return x.like(jnp.cumsum(wide(array), x.axis(dim)).astype(array.dtype))


# ---- spread


def _spread(
    x: Tensor, dim: Any, unbiased: bool, keepdim: bool, correction: int | None
) -> tuple[Tensor, Dims]:
    """Return the variance in at least float32, by any overload's arguments, and its axes."""
    if isinstance(dim, bool):  # var(x, unbiased)
        dim, unbiased = None, dim
    less = int(unbiased) if correction is None else correction

    def variance(v: Array, axis: Any, keepdims: bool) -> Array:
        return jnp.var(v, axis, ddof=less, keepdims=keepdims)

    return reduction(variance)(x.like(wide(x.array)), dim, keepdim), dim


def _spread_as(finish: Callable[[Tensor, Tensor, Dims, bool], Any]) -> Callable[..., Any]:
    """Return an operation: what ``finish`` makes of x, its variance, the axes and ``keepdim``."""

    def call(
        x: Tensor,
        dim: Any = None,
        unbiased: bool = True,
        keepdim: bool = False,
        *,
        correction: int | None = None,
    ) -> Any:
        return finish(x, *_spread(x, dim, unbiased, keepdim, correction), keepdim)

    return call


def _typed_as(x: Tensor, y: Tensor) -> Tensor:
    return y.like(y.array.astype(x.dtype))


operation("var")(_spread_as(lambda x, y, dims, keepdim: _typed_as(x, y)))
operation("std")(_spread_as(lambda x, y, dims, keepdim: _typed_as(x, y.like(_root(y.array)))))
operation("var_mean")(
    _spread_as(lambda x, y, dims, keepdim: (_typed_as(x, y), _mean(x, dims, keepdim)))
)


def _root(x: Array) -> Array:
    """Return the square root, with torch's derivative of a norm or a deviation at 0, which is 0."""
    zero = x == 0
    return jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, x)))


# ---- norms


@operation("linalg_vector_norm")
def _vector_norm(
    x: Tensor, ord: _Number = 2, dim: Dims = None, keepdim: bool = False, *, dtype: Any = None
) -> Tensor:
    def norm(v: Array, axis: Any, keepdims: bool) -> Array:
        return _norm(v, ord, axis, keepdims)

    return _reduced(norm, x, dim, keepdim, dtype)


@operation("norm")
def _any_norm(
    x: Tensor,
    p: _Number | None = 2,
    dim: Dims = None,
    keepdim: bool = False,
    *,
    dtype: Any = None,
) -> Tensor:
    return _vector_norm(x, 2 if p is None else p, dim, keepdim, dtype=dtype)


def _norm(x: Array, power: _Number, axis: Any, keepdims: bool) -> Array:
    if power == 2:
        return _root(jnp.sum(x * x, axis, keepdims=keepdims))
    if power == 0:
        return jnp.sum(x != 0, axis, keepdims=keepdims).astype(x.dtype)
    size = magnitude(x)
    if power == jnp.inf:
        return jnp.max(size, axis, keepdims=keepdims)
    if power == -jnp.inf:
        return jnp.min(size, axis, keepdims=keepdims)
    if power == 1:
        return jnp.sum(size, axis, keepdims=keepdims)
    zero = size == 0
    powers = jnp.where(zero, 0 if power > 0 else jnp.inf, jnp.where(zero, 1, size) ** power)
    total = jnp.sum(powers, axis, keepdims=keepdims)
    nothing = (total == 0) | jnp.isinf(total)  # the norm is 0
    return jnp.where(nothing, 0, jnp.where(nothing, 1, total) ** (1 / power))
