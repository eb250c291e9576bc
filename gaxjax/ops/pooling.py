"""Max pooling with a gradient of its own: each window remembers which of its cells won."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, UInt8

__all__ = ["max_pool_by_winners", "pool_winners", "unpool"]

_Pair = tuple[int, int]
_Padding = tuple[_Pair, _Pair]


@partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def max_pool_by_winners(x: Array, window: _Pair, strides: _Pair, padding: _Padding) -> Array:
    """Take the maximum of each window of ``x``, padded with -inf; the gradient goes to winners."""
    return lax.reduce_window(
        x,
        # A Python float: JAX recognises this literal as max pooling.
        -jnp.inf,
        lax.max,
        window_dimensions=(1, *window, 1),
        window_strides=(1, *strides, 1),
        padding=((0, 0), *padding, (0, 0)),
    )


def _forward(
    x: Array, window: _Pair, strides: _Pair, padding: _Padding
) -> tuple[Array, tuple[Array, _Pair]]:
    maximum, winner = pool_winners(x, window, strides, padding)
    # Meant to keep XLA from fusing this search into the backward pass, where every input cell
    # would repeat it for each of its windows: 132 instead of 28 ms (127 × 127 × 96, CPU, alone).
    # Inside larger programs some XLA versions drop it.
    return maximum, (lax.optimization_barrier(winner), (x.shape[1], x.shape[2]))


def _backward(
    window: _Pair,
    strides: _Pair,
    padding: _Padding,
    kept: tuple[Array, _Pair],
    gradient: Array,
) -> tuple[Array]:
    winner, size = kept
    return (unpool(gradient, winner, size, window, strides, padding),)


max_pool_by_winners.defvjp(_forward, _backward)


def pool_winners(
    x: Float[Array, "B H W C"], window: _Pair, strides: _Pair, padding: _Padding
) -> tuple[Float[Array, "B P Q C"], UInt8[Array, "B P Q C"]]:
    """Return each window's maximum, and which of its cells won: its number in row order.

    Of equal cells the first wins, and a NaN counts as the largest, as in torch.
    """
    padded = lax.pad(
        x, jnp.array(-jnp.inf, x.dtype), [(0, 0, 0), *((*side, 0) for side in padding), (0, 0, 0)]
    )
    ends = [
        (size - length) // stride * stride + 1
        for size, length, stride in zip(padded.shape[1:3], window, strides, strict=True)
    ]
    maximum = padded[:, : ends[0] : strides[0], : ends[1] : strides[1]]
    winner = jnp.zeros(maximum.shape, jnp.uint8)
    for cell, (row, column) in enumerate(np.ndindex(*window)):
        candidate = padded[
            :, row : row + ends[0] : strides[0], column : column + ends[1] : strides[1]
        ]
        wins = (candidate > maximum) | jnp.isnan(candidate)
        maximum = jnp.where(wins, candidate, maximum)
        winner = jnp.where(wins, jnp.uint8(cell), winner)
    return maximum, winner


def unpool(
    values: Float[Array, "B P Q C"],
    winner: UInt8[Array, "B P Q C"],
    size: tuple[int, ...],
    window: _Pair,
    strides: _Pair,
    padding: _Padding,
    *,
    accumulate: bool = True,
) -> Float[Array, "B H W C"]:
    """Hand each window's value to the cell that won it; all other cells get 0.

    Every input cell takes what it won in the few windows it lies in. XLA's own rule for max
    pooling, select-and-scatter, visits every window and writes at random: 6 to 20 times slower on
    a CPU.

    Args:
        values: One number per window.
        winner: From `pool_winners`.
        size: Height and width of the pooled features, without padding.
        window: Height and width of the window.
        strides: Steps down and across.
        padding: As given to `pool_winners`.
        accumulate: Add up the values of a cell that won several windows, as gradients do. Else
            the last window's, in row order, counts alone, as in torch's ``max_unpool2d``.
    """
    # By phases: cells whose places are equal modulo the stride lie in the same windows, as seen
    # from them. Each phase is a few shifted slices, where looking each cell up is a gather.
    counts = [-(-length // stride) for length, stride in zip(size, strides, strict=True)]
    reaches = [
        [_windows_of(phase + near, length, stride) for phase in range(stride)]
        for length, stride, (near, _) in zip(window, strides, padding, strict=True)
    ]
    shifts = [[shift for cell in phases for shift, _ in cell] for phases in reaches]
    lowest = [min(found) for found in shifts]

    def padded(x: Array, fill: int) -> Array:
        sides = (
            (-min(found), max(found) + count - length, 0)
            for found, count, length in zip(shifts, counts, x.shape[1:3], strict=True)
        )
        return lax.pad(x, jnp.array(fill, x.dtype), [(0, 0, 0), *sides, (0, 0, 0)])

    # Padded once and for good: XLA would do it anew for each shift, comparing addresses for every
    # value it reads.
    values, winner = lax.optimization_barrier((padded(values, 0), padded(winner, _NO_CELL)))

    def shifted(x: Array, rows: int, columns: int) -> Array:
        top, left = rows - lowest[0], columns - lowest[1]
        return x[:, top : top + counts[0], left : left + counts[1]]

    def phase(down: int, across: int) -> Array:
        total = jnp.zeros((values.shape[0], *counts, values.shape[3]), values.dtype)
        taken = jnp.zeros(total.shape, bool)
        for rows, row in reaches[0][down]:
            for columns, column in reaches[1][across]:
                won = shifted(winner, rows, columns) == row * window[1] + column
                passed = shifted(values, rows, columns)
                if accumulate:
                    total = total + jnp.where(won, passed, 0)
                else:
                    total = jnp.where(won & ~taken, passed, total)
                    taken = taken | won
        return total

    grid = [
        jnp.stack([phase(down, across) for across in range(strides[1])], 3)
        for down in range(strides[0])
    ]
    cells = jnp.stack(grid, 2).reshape(
        values.shape[0], counts[0] * strides[0], counts[1] * strides[1], values.shape[3]
    )
    return cells[:, : size[0], : size[1]]


def _windows_of(place: int, length: int, stride: int) -> list[tuple[int, int]]:
    """Return the windows that a cell lies in, the last first, and its number within each.

    Args:
        place: of the cell in the padded features.
        length: of a window.
        stride: from one window to the next.
    """
    last = place // stride
    return [
        (last - back, place - (last - back) * stride)
        for back in range(-(-length // stride))
        if place - (last - back) * stride < length
    ]


_NO_CELL = 255  # no window has as many cells
