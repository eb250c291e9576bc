"""Numbers put elsewhere: joined, repeated, rolled, looked up, written into others."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from gaxjax.models.graph.table import operation
from gaxjax.models.graph.tensor import Tensor, aligned, tensor
from gaxjax.models.graph.views import expanded, slices, unsqueezed

__all__: list[str] = []


@operation("cat", "concat", "concatenate")
def _cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    parts = [part for part in tensors if part.shape != (0,)] or [tensors[0]]
    lead = max(parts, key=lambda part: part.array.size)
    arrays = [aligned(part, lead) for part in parts]
    return lead.like(jnp.concatenate(arrays, lead.axis(dim)))


@operation("stack")
def _stack(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    dim %= tensors[0].ndim + 1
    return _cat([unsqueezed(part, dim) for part in tensors], dim)


@operation("roll")
def _roll(x: Tensor, shifts: Any, dims: Any = ()) -> Tensor:
    dims = (dims,) if isinstance(dims, int) else tuple(dims)
    if not dims:  # counted in torch's order
        shift = shifts if isinstance(shifts, int) else shifts[0]
        return tensor(jnp.roll(x.plain(), shift))
    shifts = (shifts,) if isinstance(shifts, int) else tuple(shifts)
    return x.like(jnp.roll(x.array, shifts, tuple(map(x.axis, dims))))


@operation("flip")
def _flip(x: Tensor, dims: Sequence[int]) -> Tensor:
    return x.like(jnp.flip(x.array, tuple(map(x.axis, dims))))


@operation("repeat", "tile")
def _repeat(x: Tensor, repeats: Sequence[int]) -> Tensor:
    for _ in range(len(repeats) - x.ndim):
        x = unsqueezed(x, 0)
    counts = [1] * x.ndim
    for dim, count in zip(range(-len(repeats), 0), repeats, strict=True):
        counts[x.axis(dim)] = count
    return x.like(jnp.tile(x.array, counts))


@operation("repeat_interleave")
def _repeat_interleave(
    x: Tensor, repeats: int, dim: int | None = None, *, output_size: int | None = None
) -> Tensor:
    del output_size
    if dim is None:
        return tensor(jnp.repeat(x.plain(), repeats))
    return x.like(jnp.repeat(x.array, repeats, x.axis(dim)))


@operation("tril")
def _tril(x: Tensor, diagonal: int = 0) -> Tensor:
    return tensor(jnp.tril(x.plain(), diagonal))


@operation("triu")
def _triu(x: Tensor, diagonal: int = 0) -> Tensor:
    return tensor(jnp.triu(x.plain(), diagonal))


# ---- looked up


@operation("index")
def _index(x: Tensor, indices: Sequence[Tensor | None]) -> Tensor:
    given = [(dim, index) for dim, index in enumerate(indices) if index is not None]
    if len(given) == 1 and given[0][1].ndim == 1 and given[0][1].dtype != bool:
        return _index_select(x, *given[0])
    return tensor(x.plain()[_everything(indices)])


def _everything(indices: Sequence[Tensor | None]) -> tuple[Any, ...]:
    return tuple(slice(None) if index is None else index.plain() for index in indices)


@operation("index_put")
def _index_put(
    x: Tensor, indices: Sequence[Tensor | None], values: Tensor, accumulate: bool = False
) -> Tensor:
    at = x.plain().at[_everything(indices)]
    return tensor(at.add(values.plain()) if accumulate else at.set(values.plain()))


@operation("index_select")
def _index_select(x: Tensor, dim: int, index: Tensor) -> Tensor:
    if not x.ndim:
        return x
    return x.like(jnp.take(x.array, index.array.reshape(-1), x.axis(dim)))


@operation("embedding")
def _embedding(weight: Tensor, indices: Tensor, *_: Any) -> Tensor:
    return tensor(jnp.take(weight.plain(), indices.plain(), 0))


@operation("gather")
def _gather(x: Tensor, dim: int, index: Tensor, *, sparse_grad: bool = False) -> Tensor:
    del sparse_grad
    if not x.ndim:
        return tensor(jnp.broadcast_to(x.array, index.shape))
    dim %= x.ndim
    rows = x.plain()[
        tuple(slice(None) if i == dim else slice(n) for i, n in enumerate(index.shape))
    ]
    return tensor(jnp.take_along_axis(rows, index.plain(), dim))


# ---- written into others


@operation("slice_scatter")
def _slice_scatter(
    x: Tensor,
    src: Tensor,
    dim: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: int = 1,
) -> Tensor:
    at = x.array.at[slices(x, dim, slice(start, end, step))]
    return x.like(at.set(aligned(src, x).astype(x.dtype)))


@operation("select_scatter")
def _select_scatter(x: Tensor, src: Tensor, dim: int, index: int) -> Tensor:
    return _slice_scatter(x, unsqueezed(src, dim % x.ndim), dim, index, index + 1 or None)


@operation("copy")
def _copy(x: Tensor, src: Tensor, non_blocking: bool = False) -> Tensor:
    del non_blocking
    y = expanded(src, x.shape)
    return y.like(y.array.astype(x.dtype))
