"""Arrays whose axes need not lie in torch's order, so that features stay channels-last.

Torch's operations count axes as N, C, H, W. XLA's CPU backend computes an EfficientNet three times
as fast with N, H, W, C in memory. So every value of a graph is an array and the order in which
torch sees its axes: a permutation costs nothing, and an array is transposed only where an operation
needs it.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

__all__ = ["Tensor", "aligned", "elementwise", "of_last", "reduction", "tensor", "without"]


class Tensor(NamedTuple):
    """A tensor of torch's: its axis ``i`` is axis ``order[i]`` of `array`."""

    array: Array
    order: tuple[int, ...]

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.order)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape as torch sees it."""
        return tuple(self.array.shape[axis] for axis in self.order)

    @property
    def dtype(self) -> Any:
        """The type of the array."""
        return self.array.dtype

    def axis(self, dim: int) -> int:
        """Return the axis of `array` that torch calls ``dim``, which may be negative."""
        return self.order[dim]

    def plain(self) -> Array:
        """Return the array with its axes in torch's order."""
        return _moved(self.array, self.order)

    def last(self) -> Array:
        """Return the array with torch's axis 1, the channels, at the end: NHWC of NCHW."""
        return _moved(self.array, (self.order[0], *self.order[2:], self.order[1]))

    def like(self, array: Array) -> "Tensor":
        """Return a tensor of an array whose axes lie as this one's."""
        return Tensor(array, self.order)


def tensor(array: Any) -> Tensor:
    """Wrap an array whose axes are in torch's order."""
    array = jnp.asarray(array)
    return Tensor(array, tuple(range(array.ndim)))


def of_last(array: Array) -> Tensor:
    """Wrap an array whose channels, torch's axis 1, are at the end."""
    return Tensor(array, (0, array.ndim - 1, *range(1, array.ndim - 1)))


def without(order: Sequence[int], axes: Sequence[int]) -> tuple[int, ...]:
    """Return the order of what is left when some axes of the array go."""
    left = [axis for axis in order if axis not in axes]
    return tuple(sorted(left).index(axis) for axis in left)


def aligned(value: Any, lead: Tensor) -> Any:
    """Return a value's array with its axes where `lead` has them, ready to broadcast with it.

    Args:
        value: a tensor of at most as many axes, which broadcasts with `lead` as torch does it; or
            anything else, which is returned as it is.
        lead: the tensor whose order counts.
    """
    if not isinstance(value, Tensor):
        return value
    if value.order == lead.order or value.ndim == 0:
        return value.array
    # By axis of the array, which of torch's it is.
    dims = sorted(range(lead.ndim), key=lead.order.__getitem__)
    missing = lead.ndim - value.ndim
    if missing:
        return _moved(value.plain().reshape((1,) * missing + value.shape), dims)
    return _moved(value.array, [value.order[dim] for dim in dims])


def elementwise(function: Callable[..., Array]) -> Callable[..., Tensor]:
    """Return the function of tensors in any order, and of numbers, broadcast as torch does."""

    def call(*arguments: Any, **keywords: Any) -> Tensor:
        tensors = [value for value in arguments if isinstance(value, Tensor)]
        lead = max(tensors, key=lambda each: (each.ndim, math.prod(each.shape)))
        arrays = (aligned(value, lead) for value in arguments)
        return lead.like(function(*arrays, **keywords))

    return call


def reduction(function: Callable[..., Array]) -> Callable[..., Tensor]:
    """Return the reduction ``function(array, axis=, keepdims=)`` over torch's ``dim``.

    ``dim`` is a number, several, or None for all.
    """

    def call(
        x: Tensor, dim: int | Sequence[int] | None = None, keepdim: bool = False, **keywords: Any
    ) -> Tensor:
        keywords.pop("dtype", None)
        dims = [dim] if isinstance(dim, int) else list(dim or range(x.ndim))
        axes = tuple(x.axis(each) for each in dims)
        y = function(x.array, axis=axes, keepdims=keepdim, **keywords)
        return Tensor(y, x.order if keepdim else without(x.order, axes))

    return call


def _moved(array: Array, order: Sequence[int]) -> Array:
    if tuple(order) == tuple(range(array.ndim)):
        return array
    return jnp.transpose(array, tuple(order))
