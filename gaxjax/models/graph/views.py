"""Other views of the same numbers: most only rename axes, and cost nothing.

An array is transposed only where a view merges axes that are not neighbours, in order, in it.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from gaxjax.models.graph.table import operation
from gaxjax.models.graph.tensor import Tensor, without

__all__ = ["expanded", "slices", "unsqueezed"]


def slices(x: Tensor, dim: int, part: Any) -> tuple[Any, ...]:
    """Return the index of ``x.array`` that takes a part along torch's ``dim``."""
    at: list[Any] = [slice(None)] * x.ndim
    at[x.axis(dim)] = part
    return tuple(at)


@operation("permute")
def _permute(x: Tensor, dims: Sequence[int]) -> Tensor:
    return Tensor(x.array, tuple(x.order[dim] for dim in dims))


@operation("transpose", "swapaxes", "swapdims")
def _transpose(x: Tensor, dim0: int, dim1: int) -> Tensor:
    if not x.ndim:
        return x
    order = list(x.order)
    order[dim0], order[dim1] = order[dim1], order[dim0]
    return Tensor(x.array, tuple(order))


@operation("t", "numpy_T")
def _t(x: Tensor) -> Tensor:
    return Tensor(x.array, x.order[::-1])


@operation("mT", "adjoint")
def _matrix_transpose(x: Tensor) -> Tensor:
    return _transpose(x, -1, -2)


@operation("movedim", "moveaxis")
def _movedim(x: Tensor, source: Any, destination: Any) -> Tensor:
    sources = [source] if isinstance(source, int) else source
    places = [destination] if isinstance(destination, int) else destination
    sources, places = ([dim % x.ndim for dim in dims] for dims in (sources, places))
    left = iter(dim for dim in range(x.ndim) if dim not in sources)
    moved = dict(zip(places, sources, strict=True))
    return _permute(x, [moved[dim] if dim in moved else next(left) for dim in range(x.ndim)])


# ---- axes of one cell


def unsqueezed(x: Tensor, dim: int) -> Tensor:
    """Insert an axis of one cell at ``dim``, in the array before the one that follows in torch."""
    dim %= x.ndim + 1
    place = x.order[dim] if dim < x.ndim else x.order[-1] + 1 if dim else 0
    order = [axis + (axis >= place) for axis in x.order]
    return Tensor(jnp.expand_dims(x.array, place), (*order[:dim], place, *order[dim:]))


@operation("unsqueeze")
def _unsqueeze(x: Tensor, dim: int) -> Tensor:
    return unsqueezed(x, dim)


@operation("squeeze")
def _squeeze(x: Tensor, dim: int | Sequence[int] | None = None) -> Tensor:
    dims = range(x.ndim) if dim is None else [dim] if isinstance(dim, int) else dim
    axes = tuple({x.axis(each) for each in dims if x.ndim and x.shape[each] == 1})
    return Tensor(jnp.squeeze(x.array, axes), without(x.order, axes))


# ---- views of another shape


@operation("view", "_unsafe_view", "reshape")
def _view(x: Tensor, size: Sequence[int]) -> Tensor:
    sizes = list(size)
    if -1 in sizes:
        known = -math.prod(sizes)
        sizes[sizes.index(-1)] = math.prod(x.shape) // known
    if tuple(sizes) == x.shape:
        return x
    return _reshaped(x, sizes)


def _reshaped(x: Tensor, sizes: Sequence[int]) -> Tensor:
    """Reshape as torch counts the cells, moving as few axes of the array as that allows.

    Axes of one cell are left aside. What remains falls into groups: runs of old axes of as many
    cells as a run of new ones. A run whose axes are neighbours in the array, and in order, is
    reshaped where it lies; of another, all are moved to where the last one of them lies.
    """
    old = [dim for dim, length in enumerate(x.shape) if length != 1]
    new = [dim for dim, length in enumerate(sizes) if length != 1]
    groups = _groups([x.shape[dim] for dim in old], [sizes[dim] for dim in new])
    pairs = [([old[i] for i in before], [new[i] for i in after]) for before, after in groups]
    pairs.sort(key=lambda pair: max(map(x.axis, pair[0])))
    axes = [x.axis(dim) for before, _ in pairs for dim in before]
    # The axes of one cell lie anywhere; where nothing else moves, neither do they.
    array = x.array
    if axes != sorted(axes):
        array = jnp.transpose(array, [*axes, *(a for a in range(x.ndim) if a not in axes)])
    placed = [dim for _, after in pairs for dim in after]
    for dim in reversed(range(len(sizes))):
        if sizes[dim] == 1:
            placed.insert(_place(placed, dim), dim)
    array = array.reshape([sizes[dim] for dim in placed])
    return Tensor(array, tuple(placed.index(dim) for dim in range(len(sizes))))


def _place(placed: Sequence[int], dim: int) -> int:
    """Return where an axis of one cell goes: before the one that torch has next, or at the end."""
    return placed.index(dim + 1) if dim + 1 in placed else len(placed)


def _groups(old: Sequence[int], new: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """Return runs of positions in two shapes without ones that have equally many cells."""
    if 0 in old:
        return [(list(range(len(old))), list(range(len(new))))]
    groups, ends = [], [0, 0]
    while ends[0] < len(old):
        starts = tuple(ends)
        ends = [ends[0] + 1, ends[1] + 1]
        while True:
            before, after = old[starts[0] : ends[0]], new[starts[1] : ends[1]]
            if math.prod(before) == math.prod(after):
                break
            ends[math.prod(before) > math.prod(after)] += 1
        groups.append((list(range(starts[0], ends[0])), list(range(starts[1], ends[1]))))
    return groups


@operation("flatten")
def _flatten(x: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    if not x.ndim:
        return _view(x, (1,))
    start, end = start_dim % x.ndim, end_dim % x.ndim
    run = math.prod(x.shape[start : end + 1])
    return _view(x, [*x.shape[:start], run, *x.shape[end + 1 :]])


@operation("unflatten")
def _unflatten(x: Tensor, dim: int, sizes: Sequence[int]) -> Tensor:
    dim %= x.ndim
    sizes = list(sizes)
    if -1 in sizes:
        sizes[sizes.index(-1)] = x.shape[dim] // -math.prod(sizes)
    return _view(x, [*x.shape[:dim], *sizes, *x.shape[dim + 1 :]])


@operation("view_as", "reshape_as")
def _view_as(x: Tensor, other: Tensor) -> Tensor:
    return _view(x, other.shape)


# ---- repeated without being moved


def expanded(x: Tensor, size: Sequence[int]) -> Tensor:
    """Broadcast to a shape; -1 keeps an axis as it is."""
    for _ in range(len(size) - x.ndim):
        x = unsqueezed(x, 0)
    shape = list(x.array.shape)
    for axis, length in zip(x.order, size, strict=True):
        shape[axis] = shape[axis] if length == -1 else length
    return x.like(jnp.broadcast_to(x.array, shape))


@operation("expand")
def _expand(x: Tensor, size: Sequence[int], implicit: bool = False) -> Tensor:
    del implicit
    return expanded(x, size)


@operation("broadcast_to")
def _broadcast_to(x: Tensor, size: Sequence[int]) -> Tensor:
    return expanded(x, size)


@operation("expand_as")
def _expand_as(x: Tensor, other: Tensor) -> Tensor:
    return expanded(x, other.shape)


# ---- parts


@operation("select")
def _select(x: Tensor, dim: int, index: int) -> Tensor:
    axis = x.axis(dim)
    return Tensor(x.array[slices(x, dim, index)], without(x.order, (axis,)))


@operation("slice")
def _slice(
    x: Tensor, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Tensor:
    return x.like(x.array[slices(x, dim, slice(start, end, step))])


@operation("narrow")
def _narrow(x: Tensor, dim: int, start: int, length: int) -> Tensor:
    start %= max(x.shape[dim], 1)
    return _slice(x, dim, start, start + length)


@operation("split", "split_with_sizes")
def _split(x: Tensor, sizes: Any, dim: int = 0) -> tuple[Tensor, ...]:
    length = x.shape[dim]
    if isinstance(sizes, int):
        sizes = [min(sizes, length - i) for i in range(0, length, sizes)]
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    return tuple(_slice(x, dim, end - size, end) for size, end in zip(sizes, ends, strict=True))


@operation("chunk")
def _chunk(x: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    return _split(x, -(-x.shape[dim] // chunks), dim)


@operation("unbind")
def _unbind(x: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    return tuple(_select(x, dim, i) for i in range(x.shape[dim]))


@operation("diagonal")
def _diagonal(x: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    axes = x.axis(dim1), x.axis(dim2)
    y = jnp.diagonal(x.array, offset, *axes)  # its axis is the last
    return Tensor(y, (*without(x.order, axes), y.ndim - 1))


@operation("getitem")
def _getitem(values: Sequence[Any], index: int) -> Any:
    return values[index]
