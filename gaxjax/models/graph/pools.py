"""Pools, channels last: maxima and averages over fixed windows or to a fixed size."""

import math
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

from gaxjax import ops
from gaxjax.models.graph.spatial import Steps, per_axis, rebatched, unbatched
from gaxjax.models.graph.table import operation
from gaxjax.models.graph.tensor import Tensor

__all__: list[str] = []

_Pairs = Sequence[tuple[int, int]]

_MOST_CELLS = 254  # of a window, whose winner `ops.max_pool` keeps as a uint8


@operation("max_pool1d")
def _max_pool1d(
    input: Tensor,
    kernel_size: Steps,
    stride: Steps = (),
    padding: Steps = 0,
    dilation: Steps = 1,
    ceil_mode: bool = False,
) -> Tensor:
    x, new = unbatched(input, 1)
    window = per_axis(kernel_size, 1)
    y = _max_pooled(
        x.last()[:, None],
        (1, *window),
        (1, *(per_axis(stride, 1) or window)),
        (0, *per_axis(padding, 1)),
        (1, *per_axis(dilation, 1)),
        ceil_mode,
    )
    return rebatched(y[:, 0], new)


@operation("max_pool2d")
def _max_pool2d(
    input: Tensor,
    kernel_size: Steps,
    stride: Steps = (),
    padding: Steps = 0,
    dilation: Steps = 1,
    ceil_mode: bool = False,
) -> Tensor:
    x, new = unbatched(input, 2)
    window = per_axis(kernel_size, 2)
    strides = per_axis(stride, 2) or window
    sides, steps = per_axis(padding, 2), per_axis(dilation, 2)
    return rebatched(_max_pooled(x.last(), window, strides, sides, steps, ceil_mode), new)


@operation("max_pool2d_with_indices")
def _max_pool2d_with_indices(*arguments: object, **keywords: object) -> tuple[Tensor]:
    """Return the maxima alone, as the first of the results."""
    return (_max_pool2d(*arguments, **keywords),)  # type: ignore[arg-type]


def _max_pooled(
    x: Array,
    window: tuple[int, ...],
    strides: tuple[int, ...],
    sides: tuple[int, ...],
    dilation: tuple[int, ...],
    ceil_mode: bool,
) -> Array:
    padding = tuple((side, side) for side in sides)
    if any(step > 1 and length > 1 for step, length in zip(dilation, window, strict=True)):
        # The cells of each window side by side, so that any rule for pooling holds here too.
        zipped = zip(x.shape[1:3], window, strides, padding, dilation, strict=True)
        for axis, (size, length, stride, (near, far), step) in enumerate(zipped, 1):
            reach = step * (length - 1) + 1
            far += ops.overhang(size, reach, stride, near, far) if ceil_mode else 0
            starts = np.arange((size + near + far - reach) // stride + 1) * stride
            cells = (starts[:, None] + step * np.arange(length)).ravel()
            pad = [(near, far, 0) if each == axis else (0, 0, 0) for each in range(4)]
            lowest = jnp.array(jnp.finfo(x.dtype).min, x.dtype)
            x = jnp.take(lax.pad(x, lowest, pad), cells, axis)
        strides, padding, ceil_mode = window, ((0, 0), (0, 0)), False
    if math.prod(window) <= _MOST_CELLS:
        return ops.max_pool(
            x,
            window=(window[0], window[1]),
            strides=(strides[0], strides[1]),
            padding=(padding[0], padding[1]),
            ceil_mode=ceil_mode,
        )
    # Columns first: then the first of equal maxima in row order wins, as in torch.
    for axis in (1, 0):

        def one(values: Sequence, other: object, axis: int = axis) -> tuple:
            return tuple(values[axis] if each == axis else other for each in range(2))

        x = ops.max_pool(
            x,
            window=one(window, 1),
            strides=one(strides, 1),
            padding=one(padding, (0, 0)),
            ceil_mode=ceil_mode,
        )
    return x


@operation("avg_pool1d", "avg_pool2d", "avg_pool3d")
def _average_pool(
    input: Tensor,
    kernel_size: Steps,
    stride: Steps = (),
    padding: Steps = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """Average over windows of as many axes as the kernel's size says, or the input has."""
    axes = len(kernel_size) if isinstance(kernel_size, tuple) else input.ndim - 2
    if isinstance(kernel_size, tuple) and axes == 1:
        axes = input.ndim - 2
    x, new = unbatched(input, axes)
    window = per_axis(kernel_size, axes)
    strides = per_axis(stride, axes) or window
    sides = per_axis(padding, axes)
    values = x.last()
    far = [
        side + (ops.overhang(size, length, step, side, side) if ceil_mode else 0)
        for size, length, step, side in zip(values.shape[1:-1], window, strides, sides, strict=True)
    ]
    wide = values.astype(jnp.promote_types(values.dtype, jnp.float32))
    total = _summed(wide, window, strides, list(zip(sides, far, strict=True)))
    if divisor_override:
        return rebatched((total / divisor_override).astype(values.dtype), new)
    for axis, (size, length, step, side) in enumerate(
        zip(values.shape[1:-1], window, strides, sides, strict=True), 1
    ):
        count = _cells(size, length, step, side, total.shape[axis], count_include_pad)
        shape = [-1 if each == axis else 1 for each in range(total.ndim)]
        total = total / count.reshape(shape).astype(total.dtype)
    return rebatched(total.astype(values.dtype), new)


def _summed(x: Array, window: Sequence[int], strides: Sequence[int], padding: _Pairs) -> Array:
    return lax.reduce_window(
        x,
        np.zeros((), x.dtype),
        lax.add,
        (1, *window, 1),
        (1, *strides, 1),
        ((0, 0), *padding, (0, 0)),
    )


def _cells(
    size: int, length: int, step: int, side: int, count: int, with_padding: bool
) -> np.ndarray:
    """Return what torch divides by, along one axis: a window's cells in the image or padding."""
    starts = np.arange(count) * step - side
    ends = np.minimum(starts + length, size + side)
    if not with_padding:
        starts, ends = np.maximum(starts, 0), np.minimum(ends, size)
    return ends - starts


@operation("adaptive_avg_pool2d", "_adaptive_avg_pool2d")
def _adaptive_avg_pool2d(input: Tensor, output_size: Steps) -> Tensor:
    x, new = unbatched(input, 2)
    height, width = per_axis(output_size, 2)
    values = x.last()
    if (height, width) == (1, 1):
        return rebatched(values.mean((1, 2), keepdims=True), new)
    return rebatched(ops.adaptive_average_pool(values, (height, width)), new)


@operation("adaptive_avg_pool1d")
def _adaptive_avg_pool1d(input: Tensor, output_size: Steps) -> Tensor:
    x, new = unbatched(input, 1)
    (length,) = per_axis(output_size, 1)
    return rebatched(ops.adaptive_average_pool(x.last()[:, None], (1, length))[:, 0], new)


@operation("adaptive_max_pool1d")
def _adaptive_max_pool1d(input: Tensor, output_size: Steps) -> tuple[Tensor]:
    """Return the maxima alone, as the first of the results."""
    x, new = unbatched(input, 1)
    y = _adaptive_max_pooled(x.last()[:, None], (1, *per_axis(output_size, 1)))
    return (rebatched(y[:, 0], new),)


@operation("adaptive_max_pool2d")
def _adaptive_max_pool2d(input: Tensor, output_size: Steps) -> tuple[Tensor]:
    """Return the maxima alone, as the first of the results."""
    x, new = unbatched(input, 2)
    return (rebatched(_adaptive_max_pooled(x.last(), per_axis(output_size, 2)), new),)


def _adaptive_max_pooled(x: Array, size: tuple[int, ...]) -> Array:
    """Pool by windows that lie as those of `ops.adaptive_average_pool`."""
    # By true gradients always: Captum has a rule for pools of fixed windows alone.
    with ops.backward_rules(ops.BackwardRules()):
        return _pooled_to(x, size)


def _pooled_to(x: Array, size: tuple[int, ...]) -> Array:
    lengths = x.shape[1:3]
    if all(length % cells == 0 for length, cells in zip(lengths, size, strict=True)):
        window = tuple(length // cells for length, cells in zip(lengths, size, strict=True))
        return _max_pooled(x, window, window, (0, 0), (1, 1), False)
    for axis in (2, 1):  # columns first: see `_max_pooled`
        length, cells = x.shape[axis], size[axis - 1]
        ends = [(i * length // cells, -(-(i + 1) * length // cells)) for i in range(cells)]
        parts = [_maximum(lax.slice_in_dim(x, *end, axis=axis), axis) for end in ends]
        x = jnp.concatenate(parts, axis)
    return x


def _maximum(x: Array, axis: int) -> Array:
    return _max_pooled(
        x,
        tuple(x.shape[each] if each == axis else 1 for each in (1, 2)),
        (1, 1),
        (0, 0),
        (1, 1),
        False,
    )
