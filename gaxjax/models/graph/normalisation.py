"""Normalisations and softmax: statistics in at least float32, the variance in two passes."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from gaxjax.models.graph.promotion import wide
from gaxjax.models.graph.table import operation
from gaxjax.models.graph.tensor import Tensor, aligned, of_last, without

__all__ = ["wide"]


def _along(function: Callable[..., Array], x: Tensor, dim: int) -> Tensor:
    return x.like(function(wide(x.array), axis=x.axis(dim)).astype(x.dtype))


@operation("softmax", "_softmax")
def _softmax(self: Tensor, dim: int, *_: Any, **__: Any) -> Tensor:
    return _along(jax.nn.softmax, self, dim)


@operation("log_softmax", "_log_softmax")
def _log_softmax(self: Tensor, dim: int, *_: Any, **__: Any) -> Tensor:
    return _along(jax.nn.log_softmax, self, dim)


def _normalised(x: Array, axes: Sequence[int], eps: float | int) -> tuple[Array, Array, Array]:
    """Return ``(x - mean) / sqrt(var + eps)``, the mean and the factor, these with their axes."""
    mean = jnp.mean(x, axes, keepdims=True)
    centred = x - mean
    factor = lax.rsqrt(jnp.mean(jnp.square(centred), axes, keepdims=True) + eps)
    return centred * factor, mean, factor


def _scaled(y: Array, weight: Array | None, bias: Array | None) -> Array:
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def _last_axes(x: Tensor, shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(x.axis(dim) for dim in range(-len(shape), 0))


@operation("native_layer_norm")
def _native_layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float | int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Normalise over the last axes; also the means and ``1 / sqrt(var + eps)``."""
    axes = _last_axes(input, normalized_shape)
    y, mean, factor = _normalised(wide(input.array), axes, eps)
    y = _scaled(y, aligned(weight, input), aligned(bias, input)).astype(input.dtype)
    return input.like(y), input.like(mean), input.like(factor)


@operation("layer_norm")
def _layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float | int = 1e-5,
    cudnn_enable: bool = False,
) -> Tensor:
    return _native_layer_norm(input, normalized_shape, weight, bias, eps)[0]


@operation("_fused_rms_norm")
def _fused_rms_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    eps: float | int | None = None,
) -> tuple[Tensor, Tensor]:
    """Divide by the root of the mean square over the last axes; also the factor."""
    axes = _last_axes(input, normalized_shape)
    x = wide(input.array)
    small = jnp.finfo(x.dtype).eps if eps is None else eps
    factor = lax.rsqrt(jnp.mean(jnp.square(x), axes, keepdims=True) + small)
    y = _scaled(x * factor, aligned(weight, input), None).astype(input.dtype)
    return input.like(y), input.like(factor)


@operation("rms_norm")
def _rms_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    eps: float | int | None = None,
) -> Tensor:
    return _fused_rms_norm(input, normalized_shape, weight, eps)[0]


def _grouped(x: Array, groups: int, eps: float | int) -> tuple[Array, Array, Array]:
    """Normalise groups of the channels, the last axis, of each image."""
    split = wide(x).reshape(*x.shape[:-1], groups, x.shape[-1] // groups)
    axes = (*range(1, split.ndim - 2), split.ndim - 1)
    y, mean, factor = _normalised(split, axes, eps)
    batch = x.shape[0]
    return y.reshape(x.shape), mean.reshape(batch, groups), factor.reshape(batch, groups)


@operation("group_norm")
def _group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float | int = 1e-5,
    cudnn_enabled: bool = True,
) -> Tensor:
    return _native_group_norm(input, weight, bias, 0, 0, 0, num_groups, eps)[0]


@operation("native_group_norm")
def _native_group_norm(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    N: int,
    C: int,
    HxW: int,
    group: int,
    eps: float | int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Normalise groups of channels; also the means and ``1 / sqrt(var + eps)``, [B, groups]."""
    y, mean, factor = _grouped(input.last(), group, eps)
    arrays = (None if value is None else value.array for value in (weight, bias))
    order = (0, 1)
    normed = of_last(_scaled(y, *arrays).astype(input.dtype))
    return normed, Tensor(mean, order), Tensor(factor, order)


@operation("instance_norm")
def _instance_norm(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    use_input_stats: bool,
    momentum: float | int,
    eps: float | int,
    cudnn_enabled: bool,
) -> Tensor:
    """Normalise each channel of each image, or by statistics kept from training."""
    if not use_input_stats:
        assert running_mean is not None
        assert running_var is not None
        return _batch_norm(input, weight, bias, running_mean, running_var, eps)
    return _group_norm(input, input.shape[1], weight, bias, eps)


@operation("batch_norm")
def _batch_norm(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor,
    running_var: Tensor,
    eps: float | int,
) -> Tensor:
    """Scale and shift each channel by statistics kept from training."""
    shape = [1] * input.ndim
    shape[input.axis(1)] = -1

    def channels(values: Tensor) -> Array:
        return wide(values.array)

    factor = lax.rsqrt(channels(running_var) + eps)
    factor = factor if weight is None else factor * channels(weight)
    shift = -channels(running_mean) * factor
    shift = shift if bias is None else shift + channels(bias)
    y = wide(input.array) * factor.reshape(shape) + shift.reshape(shape)
    return input.like(y.astype(input.dtype))


@operation("glu")
def _glu(self: Tensor, dim: int = -1) -> Tensor:
    """Return the first half of an axis times the sigmoid of the second."""
    a, b = jnp.split(wide(self.array), 2, self.axis(dim))
    return self.like((a * jax.nn.sigmoid(b)).astype(self.dtype))


@operation("cdist")
def _cdist(x1: Tensor, x2: Tensor, p: float | int = 2, compute_mode: int | None = None) -> Tensor:
    """Return the distance of every row of one matrix from every row of another."""
    apart = jnp.abs(wide(x1.plain())[..., :, None, :] - wide(x2.plain())[..., None, :, :])
    total = (apart**p).sum(-1)
    # The derivative at 0 is 0, as in torch.
    root = jnp.where(total == 0, 0, jnp.where(total == 0, 1, total) ** (1 / p))
    return Tensor(root.astype(x1.dtype), without(range(root.ndim), ()))
