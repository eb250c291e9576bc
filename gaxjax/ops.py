"""The operations every model is made of: convolution, ReLU, pooling.

Models call these and no others, so a backward rule placed here reaches every model: those of the
attribution methods take the place of the true gradients within `backward_rules`. Paddings are
always explicit ``((top, bottom), (left, right))`` pairs, as torch counts them: ``"SAME"`` pads the
far edge first at stride 2, and torch does not. All arrays are NHWC and keep their dtype.
"""

import contextlib
from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, UInt8

__all__ = [
    "BackwardRules",
    "Padding",
    "adaptive_average_pool",
    "backward_rules",
    "convolution",
    "global_average_pool",
    "max_pool",
    "pool_winners",
    "relu",
    "unpool",
]

Padding = tuple[tuple[int, int], tuple[int, int]]
"""Rows added above and below, columns added left and right."""

_Pair = tuple[int, int]


class BackwardRules:
    """How the nonlinear operations compute and differentiate; here, by their true gradients.

    A subclass overrides a method with one of the same values and another derivative.
    """

    def relu(self, x: Array) -> Array:
        """Return ``max(x, 0)``."""
        return jax.nn.relu(x)

    def max_pool(self, x: Array, window: _Pair, strides: _Pair, padding: Padding) -> Array:
        """Take the maximum of each window of ``x``, padded with -inf."""
        return _max_pool(x, window, strides, padding)


_TRUE_GRADIENTS = BackwardRules()
# Part of the key of JAX's trace caches, so that a jitted block inside a network follows it as well.
_rules = jax.make_user_context(_TRUE_GRADIENTS)


@contextlib.contextmanager
def backward_rules(rules: BackwardRules) -> Iterator[None]:
    """Let every operation called in the block follow ``rules``.

    It acts while JAX traces: enter it inside the function that is differentiated or jitted.

    Example:
        >>> def logit(image):
        ...     with backward_rules(GuidedBackprop()):
        ...         return network(image)[0, target]
        >>> heatmap = jax.grad(logit)(image)
    """
    with _rules(rules):
        yield


def relu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Return ``max(x, 0)``; its derivative at 0 is 0, as in torch."""
    return _rules.value.relu(x)


def convolution(
    x: Float[Array, "B H W I"],
    kernel: Float[Array, "h w i O"],
    bias: Float[Array, " O"] | None = None,
    *,
    strides: tuple[int, int] = (1, 1),
    padding: Padding = ((0, 0), (0, 0)),
    groups: int = 1,
) -> Float[Array, "B P Q O"]:
    """Cross-correlate ``x`` with ``kernel``, as ``torch.nn.functional.conv2d`` does.

    Args:
        x: Images or features, NHWC.
        kernel: HWIO; ``i = I / groups``. Same dtype as ``x``.
        bias: One number per output channel, or None.
        strides: Steps down and across.
        padding: Zeros around ``x``.
        groups: Input and output channels are split into this many independent groups.

    Returns:
        Features in the dtype of ``x``. Matmul precision is the caller's
        (``jax.default_matmul_precision``).

    Example:
        >>> convolution(jnp.ones((1, 4, 4, 3)), jnp.ones((3, 3, 3, 8))).shape
        (1, 2, 2, 8)
    """
    if x.shape[-1] <= _FEW_CHANNELS and groups == 1 and strides[0] == strides[1] > 1:
        x, kernel, strides, padding = _blocks_as_channels(x, kernel, strides[0], padding)
    y = lax.conv_general_dilated(
        x,
        kernel,
        window_strides=strides,
        padding=padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )
    return y if bias is None else y + bias


_FEW_CHANNELS = 4  # images, not features: only a network's first layer


def _blocks_as_channels(
    x: Array, kernel: Array, stride: int, padding: Padding
) -> tuple[Array, Array, _Pair, Padding]:
    """Turn a strided convolution of an image into an equal one of stride 1 with more channels.

    Each stride × stride block of pixels becomes one pixel (space to depth), and the kernel,
    zero-padded to whole blocks, likewise. XLA's input gradient of a strided convolution with 3
    channels runs at a twentieth of a CPU's speed; that of the equal one does not.
    """
    window = kernel.shape[0], kernel.shape[1]
    blocks = [-(-length // stride) for length in window]
    outputs = [
        (size + near + far - length) // stride + 1
        for size, length, (near, far) in zip(x.shape[1:3], window, padding, strict=True)
    ]
    zero = jnp.zeros((), x.dtype)
    # Whole blocks, as many as the windows reach; a remainder that no window reaches is cut off.
    sides = [
        (near, (count + block - 1) * stride - size - near, 0)
        for size, count, block, (near, _) in zip(
            x.shape[1:3], outputs, blocks, padding, strict=True
        )
    ]
    x = lax.pad(x, zero, [(0, 0, 0), *sides, (0, 0, 0)])
    grown = [(0, block * stride - length, 0) for block, length in zip(blocks, window, strict=True)]
    kernel = lax.pad(kernel, jnp.zeros((), kernel.dtype), [*grown, (0, 0, 0), (0, 0, 0)])

    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // stride, stride, width // stride, stride, channels)
    x = x.transpose(0, 1, 3, 2, 4, 5)
    x = x.reshape(*x.shape[:3], stride * stride * channels)
    kernel = kernel.reshape(blocks[0], stride, blocks[1], stride, channels, -1)
    kernel = kernel.transpose(0, 2, 1, 3, 4, 5)
    kernel = kernel.reshape(*blocks, stride * stride * channels, -1)
    return x, kernel, (1, 1), ((0, 0), (0, 0))


def max_pool(
    x: Float[Array, "B H W C"],
    *,
    window: tuple[int, int],
    strides: tuple[int, int],
    padding: Padding = ((0, 0), (0, 0)),
    ceil_mode: bool = False,
) -> Float[Array, "B P Q C"]:
    """Take the maximum of each window, as ``torch.nn.functional.max_pool2d`` does.

    Args:
        x: Features, NHWC.
        window: Height and width of the window.
        strides: Steps down and across.
        padding: Cells of -inf around ``x``; torch allows at most half a window.
        ceil_mode: Let a last window hang over the far edge. As in torch, a window that would
            start beyond the input and its near padding is left out.

    Returns:
        Maxima in the dtype of ``x``. Of equal maxima the first in row order gets the gradient; a
        NaN counts as the largest.

    Example:
        >>> max_pool(jnp.ones((1, 4, 4, 3)), window=(3, 3), strides=(2, 2), ceil_mode=True).shape
        (1, 2, 2, 3)
    """
    top, left = (
        (near, far + (_overhang(size, length, stride, near, far) if ceil_mode else 0))
        for size, length, stride, (near, far) in zip(
            x.shape[1:3], window, strides, padding, strict=True
        )
    )
    return _rules.value.max_pool(x, window, strides, (top, left))


@partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _max_pool(x: Array, window: _Pair, strides: _Pair, padding: Padding) -> Array:
    return lax.reduce_window(
        x,
        # A Python float: JAX recognises this literal as max pooling.
        -jnp.inf,
        lax.max,
        window_dimensions=(1, *window, 1),
        window_strides=(1, *strides, 1),
        padding=((0, 0), *padding, (0, 0)),
    )


def _max_pool_forward(
    x: Array, window: _Pair, strides: _Pair, padding: Padding
) -> tuple[Array, tuple[Array, _Pair]]:
    maximum, winner = pool_winners(x, window, strides, padding)
    # Meant to keep XLA from fusing this search into the backward pass, where every input cell
    # would repeat it for each of its windows: 132 instead of 28 ms (127 × 127 × 96, CPU, alone).
    # Inside larger programs some XLA versions drop it.
    return maximum, (lax.optimization_barrier(winner), (x.shape[1], x.shape[2]))


def _max_pool_backward(
    window: _Pair,
    strides: _Pair,
    padding: Padding,
    kept: tuple[Array, _Pair],
    gradient: Array,
) -> tuple[Array]:
    winner, size = kept
    return (unpool(gradient, winner, size, window, strides, padding),)


_max_pool.defvjp(_max_pool_forward, _max_pool_backward)


def pool_winners(
    x: Float[Array, "B H W C"], window: _Pair, strides: _Pair, padding: Padding
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
    padding: Padding,
    *,
    accumulate: bool = True,
) -> Float[Array, "B H W C"]:
    """Hand each window's value to the cell that won it; all other cells get 0.

    Every input cell looks up the few windows it lies in, and takes what it won there. XLA's own
    rule for max pooling, select-and-scatter, visits every window and writes at random: 6 to 20
    times slower on a CPU.

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
    rows = _windows_of_cells(size[0], window[0], strides[0], padding[0][0], values.shape[1])
    columns = _windows_of_cells(size[1], window[1], strides[1], padding[1][0], values.shape[2])
    total = jnp.zeros((values.shape[0], *size, values.shape[3]), values.dtype)
    taken = jnp.zeros(total.shape, bool)
    for row_windows, row_offsets in rows:  # from a cell's last window to its first
        for column_windows, column_offsets in columns:
            inside = (row_offsets >= 0)[:, None] & (column_offsets >= 0)[None]
            cell = np.where(inside, row_offsets[:, None] * window[1] + column_offsets, _NO_CELL)
            won = winner[:, row_windows][:, :, column_windows] == cell[..., None].astype(np.uint8)
            passed = values[:, row_windows][:, :, column_windows]
            if accumulate:
                total = total + jnp.where(won, passed, 0)
            else:
                total = jnp.where(won & ~taken, passed, total)
                taken = taken | won
    return total


_NO_CELL = 255  # no window has as many cells


def _windows_of_cells(
    size: int, window: int, stride: int, near: int, num_windows: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """List the windows that each cell of an axis lies in, and its offset in each, or -1.

    A cell lies in at most ceil(window / stride) windows, so that many pairs of arrays [size].
    """
    cells = np.arange(size) + near
    found = []
    for back in range(-(-window // stride)):
        index = cells // stride - back
        offset = cells - index * stride
        inside = (index >= 0) & (index < num_windows) & (offset < window)
        found.append((np.clip(index, 0, num_windows - 1), np.where(inside, offset, -1)))
    return found


def _overhang(size: int, window: int, stride: int, near: int, far: int) -> int:
    """Cells that torch's ceil_mode adds beyond the far padding, along one axis."""
    padded = size + near + far
    num_windows = -(-(padded - window) // stride) + 1
    if (num_windows - 1) * stride >= size + near:
        num_windows -= 1  # the last window would lie in the far padding alone
    return max(0, (num_windows - 1) * stride + window - padded)


def global_average_pool(x: Float[Array, "B H W C"]) -> Float[Array, "B C"]:
    """Average each channel over all positions, whatever their number.

    bfloat16 features are summed in float32 and rounded once (``jnp.mean`` does so): the same
    result type, without losing the small terms of a long sum.
    """
    return jnp.mean(x, axis=(1, 2))


def adaptive_average_pool(
    x: Float[Array, "B H W C"], size: tuple[int, int]
) -> Float[Array, "B P Q C"]:
    """Average ``x`` down, or repeat it up, to ``size``, as torch's ``adaptive_avg_pool2d`` does.

    Output cell ``i`` of ``n`` averages the input cells from ``floor(i H / n)`` up to
    ``ceil((i + 1) H / n)``; neighbouring windows may overlap, and where ``n > H`` they repeat.

    Args:
        x: Features, NHWC, of any height and width.
        size: Height and width of the result.

    Example:
        >>> adaptive_average_pool(jnp.ones((1, 7, 7, 3)), (6, 6)).shape
        (1, 6, 6, 3)
    """
    for axis, cells in zip((1, 2), size, strict=True):
        length = x.shape[axis]
        if length == cells:
            continue
        x = jnp.stack(
            [
                lax.slice_in_dim(
                    x, i * length // cells, -(-(i + 1) * length // cells), axis=axis
                ).mean(axis)
                for i in range(cells)
            ],
            axis=axis,
        )
    return x
