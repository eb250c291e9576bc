"""Convolutions and transposed convolutions, channels last."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from gaxjax import ops
from gaxjax.models.graph.table import operation
from gaxjax.models.graph.tensor import Tensor, of_last

__all__ = ["Steps", "per_axis", "unbatched"]

Steps = int | tuple[int, ...]
"""One number for every spatial axis, or one each."""


def per_axis(value: Steps, count: int) -> tuple[int, ...]:
    """Return a number for each of so many axes; an empty tuple stands for none and stays empty."""
    values = (value,) if isinstance(value, int) else tuple(value)
    return values * count if len(values) == 1 else values


def unbatched(x: Tensor, axes: int) -> tuple[Tensor, bool]:
    """Return features with a batch axis, for so many spatial axes, and whether it is new."""
    if x.ndim == axes + 2:
        return x, False
    assert x.ndim == axes + 1, f"features of {x.ndim} axes"
    return Tensor(x.array[None], (0, *(axis + 1 for axis in x.order))), True


def rebatched(y: Array, new: bool) -> Tensor:
    """Wrap channels-last results, without the batch axis that `unbatched` gave."""
    if not new:
        return of_last(y)
    return Tensor(y[0], (y.ndim - 2, *range(y.ndim - 2)))


def _same(window: tuple[int, ...], dilation: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """Return torch's ``padding="same"``: of an odd number the far side gets one more."""
    reaches = [step * (length - 1) for step, length in zip(dilation, window, strict=True)]
    return tuple((reach // 2, reach - reach // 2) for reach in reaches)


@operation("conv1d", "conv2d", "conv3d")
def _convolved(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Steps = 1,
    padding: Steps | str = 0,
    dilation: Steps = 1,
    groups: int = 1,
) -> Tensor:
    """Cross-correlate; the weight has the axes (spatial…, I / groups, O)."""
    kernel = weight.plain()
    window = kernel.shape[:-2]
    strides, dilations = (per_axis(value, len(window)) for value in (stride, dilation))
    sides: tuple[tuple[int, int], ...]
    if isinstance(padding, str):
        sides = _same(window, dilations) if padding == "same" else ((0, 0),) * len(window)
    else:
        sides = tuple((side, side) for side in per_axis(padding, len(window)))
    x, new = unbatched(input, len(window))
    shift = None if bias is None else bias.array
    return rebatched(_of_any_rank(x.last(), kernel, shift, strides, sides, dilations, groups), new)


def _of_any_rank(
    x: Array,
    kernel: Array,
    bias: Array | None,
    strides: tuple[int, ...],
    padding: tuple[tuple[int, int], ...],
    dilation: tuple[int, ...],
    groups: int,
) -> Array:
    if len(strides) == 1:  # as an image of one row
        y = _of_any_rank(
            x[:, None],
            kernel[None],
            bias,
            (1, *strides),
            ((0, 0), *padding),
            (1, *dilation),
            groups,
        )
        return y[:, 0]
    if len(strides) == 2:
        return ops.convolution(
            x,
            kernel,
            bias,
            strides=(strides[0], strides[1]),
            padding=(padding[0], padding[1]),
            dilation=(dilation[0], dilation[1]),
            groups=groups,
        )
    y = lax.conv_general_dilated(
        x,
        kernel,
        strides,
        padding,
        rhs_dilation=dilation,
        dimension_numbers=("NDHWC", "DHWIO", "NDHWC"),
        feature_group_count=groups,
    )
    return y if bias is None else y + bias


@operation("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def _transposed(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Steps = 1,
    padding: Steps = 0,
    output_padding: Steps = 0,
    groups: int = 1,
    dilation: Steps = 1,
) -> Tensor:
    """Convolve with holes between the inputs; the weight is torch's [I, O / groups, spatial…]."""
    kernel = weight.plain()
    inputs, outputs, *window = kernel.shape
    axes = len(window)
    strides, sides, extras, dilations = (
        per_axis(value, axes) for value in (stride, padding, output_padding, dilation)
    )
    kernel = jnp.flip(kernel, range(2, kernel.ndim))
    kernel = kernel.reshape(groups, inputs // groups, outputs, *window)
    kernel = jnp.moveaxis(kernel, (1, 0, 2), (-3, -2, -1))
    kernel = kernel.reshape(*window, inputs // groups, groups * outputs)
    spaces = "DHW"[3 - axes :]
    x, new = unbatched(input, axes)
    y = lax.conv_general_dilated(
        x.last(),
        kernel,
        (1,) * axes,
        [
            (step * (length - 1) - side, step * (length - 1) - side + extra)
            for length, step, side, extra in zip(window, dilations, sides, extras, strict=True)
        ],
        lhs_dilation=strides,
        rhs_dilation=dilations,
        dimension_numbers=(f"N{spaces}C", f"{spaces}IO", f"N{spaces}C"),
        feature_group_count=groups,
    )
    return rebatched(y if bias is None else y + bias.array, new)


@operation("convolution", "_convolution")
def _general(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Steps,
    padding: Steps,
    dilation: Steps,
    transposed: bool,
    output_padding: Steps,
    groups: int,
    *_: bool,
) -> Tensor:
    """Convolve either way; the weight is torch's in both."""
    if transposed:
        return _transposed(input, weight, bias, stride, padding, output_padding, groups, dilation)
    order = (*weight.order[2:], weight.order[1], weight.order[0])
    kernel = Tensor(weight.array, order)
    return _convolved(input, kernel, bias, stride, padding, dilation, groups)
