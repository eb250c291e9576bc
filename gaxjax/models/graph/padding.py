"""Paddings, pixels moved between channels and space, and windows laid side by side."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

from gaxjax.models.graph.spatial import Steps, per_axis
from gaxjax.models.graph.table import operation
from gaxjax.models.graph.tensor import Tensor, of_last, tensor

__all__: list[str] = []

_MODES = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}


@operation("pad")
def _pad(
    input: Tensor, pad: Sequence[int], mode: str = "constant", value: float | int | None = None
) -> Tensor:
    """Pad the last axes; ``pad`` begins with the near and far side of the last one."""
    sides = [(0, 0)] * input.ndim
    for place, dim in zip(range(0, len(pad), 2), range(input.ndim - 1, -1, -1), strict=False):
        sides[input.axis(dim)] = (pad[place], pad[place + 1])
    if mode == "constant":
        fill = jnp.array(value or 0, input.dtype)
        return input.like(lax.pad(input.array, fill, [(*side, 0) for side in sides]))
    return input.like(jnp.pad(input.array, sides, _MODES[mode]))


@operation("constant_pad_nd")
def _constant_pad(input: Tensor, pad: Sequence[int], value: float | int = 0) -> Tensor:
    return _pad(input, pad, "constant", value)


@operation("reflection_pad1d", "reflection_pad2d", "reflection_pad3d")
def _reflection_pad(input: Tensor, padding: Sequence[int]) -> Tensor:
    return _pad(input, padding, "reflect")


@operation("replication_pad1d", "replication_pad2d", "replication_pad3d")
def _replication_pad(input: Tensor, padding: Sequence[int]) -> Tensor:
    return _pad(input, padding, "replicate")


@operation("pixel_shuffle")
def _pixel_shuffle(input: Tensor, upscale_factor: int) -> Tensor:
    """Make r × r pixels of the r² channels of one."""
    r, x = upscale_factor, input.last()
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height, width, channels // r**2, r, r).transpose(0, 1, 4, 2, 5, 3)
    return of_last(x.reshape(batch, height * r, width * r, channels // r**2))


@operation("pixel_unshuffle")
def _pixel_unshuffle(input: Tensor, downscale_factor: int) -> Tensor:
    """Make the channels of one pixel of r × r pixels."""
    r, x = downscale_factor, input.last()
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // r, r, width // r, r, channels).transpose(0, 1, 3, 5, 2, 4)
    return of_last(x.reshape(batch, height // r, width // r, channels * r**2))


@operation("channel_shuffle")
def _channel_shuffle(input: Tensor, groups: int) -> Tensor:
    """Deal the channels of each group out in turn."""
    x = input.last()
    split = x.reshape(*x.shape[:-1], groups, x.shape[-1] // groups)
    return of_last(split.swapaxes(-1, -2).reshape(x.shape))


def _windows(
    x: Array,
    window: Sequence[int],
    dilation: Sequence[int],
    padding: Sequence[int],
    strides: Sequence[int],
) -> Array:
    """Return the windows of features [B, H, W, C], side by side: [B, P · Q, C · h · w]."""
    x = jnp.pad(x, ((0, 0), *((side, side) for side in padding), (0, 0)))
    rows, columns = (
        (size - step * (length - 1) - 1) // stride + 1
        for size, length, step, stride in zip(x.shape[1:3], window, dilation, strides, strict=True)
    )
    cells = [
        x[
            :,
            dilation[0] * i : dilation[0] * i + strides[0] * (rows - 1) + 1 : strides[0],
            dilation[1] * j : dilation[1] * j + strides[1] * (columns - 1) + 1 : strides[1],
        ]
        for i, j in np.ndindex(*window)
    ]
    return jnp.stack(cells, -1).reshape(x.shape[0], rows * columns, -1)


@operation("im2col")
def _im2col(
    input: Tensor, kernel_size: Steps, dilation: Steps, padding: Steps, stride: Steps
) -> Tensor:
    settings = (per_axis(value, 2) for value in (kernel_size, dilation, padding, stride))
    return of_last(_windows(input.last(), *settings))


@operation("col2im")
def _col2im(
    input: Tensor,
    output_size: Steps,
    kernel_size: Steps,
    dilation: Steps,
    padding: Steps,
    stride: Steps,
) -> Tensor:
    """Add the windows up where they lie: the transpose of `im2col`."""
    window, *settings = (per_axis(value, 2) for value in (kernel_size, dilation, padding, stride))
    channels = input.shape[1] // (window[0] * window[1])
    shape = (input.shape[0], *per_axis(output_size, 2), channels)
    transpose = jax.linear_transpose(
        lambda x: _windows(x, window, *settings), jax.ShapeDtypeStruct(shape, input.dtype)
    )
    return of_last(transpose(input.last())[0])


@operation("unfold")
def _unfold(input: Tensor, dimension: int, size: int, step: int) -> Tensor:
    """Lay windows along one axis side by side; the places within a window become the last axis."""
    dim = dimension % max(input.ndim, 1)
    x = input.plain()
    count = (x.shape[dim] - size) // step + 1
    if size == step:  # no window overlaps another
        x = lax.slice_in_dim(x, 0, count * size, axis=dim)
        x = x.reshape(*x.shape[:dim], count, size, *x.shape[dim + 1 :])
        return tensor(jnp.moveaxis(x, dim + 1, -1))
    last = (count - 1) * step + 1
    cells = [lax.slice_in_dim(x, i, i + last, step, axis=dim) for i in range(size)]
    return tensor(jnp.stack(cells, -1))
