"""The layers the models share: torch's arithmetic on NHWC arrays.

A layer that holds weights mirrors its torch namesake, and the models list parameterless layers
too, so that `features.3.kernel` here is `features.3.weight` there.
"""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from gaxjax import ops

__all__ = [
    "BatchNorm",
    "Conv",
    "Dropout",
    "Identity",
    "Linear",
    "MaxPool",
    "Relu",
    "flatten",
    "run",
]

Features = Float[Array, "B H W C"]


class Conv(nnx.Module):
    """A square convolution with symmetric padding, as torch's ``Conv2d(padding=p)``."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        window: int,
        *,
        stride: int = 1,
        padding: int = 0,
        groups: int = 1,
        use_bias: bool = True,
        rngs: nnx.Rngs,
    ):
        initialise = nnx.initializers.he_normal()
        shape = (window, window, in_channels // groups, out_channels)
        self.kernel = nnx.Param(initialise(rngs.params(), shape, jnp.float32))
        self.bias = nnx.Param(jnp.zeros(out_channels)) if use_bias else nnx.data(None)
        self.stride = stride
        self.padding = padding
        self.groups = groups

    def __call__(self, x: Features) -> Float[Array, "B P Q O"]:
        """Convolve ``x`` and add the bias, where there is one."""
        side = (self.padding, self.padding)
        return ops.convolution(
            x,
            self.kernel[...],
            None if self.bias is None else self.bias[...],
            strides=(self.stride, self.stride),
            padding=(side, side),
            groups=self.groups,
        )


class BatchNorm(nnx.Module):
    """Batch norm as torch counts it: ``scale * (x - mean) / sqrt(var + eps) + bias``.

    In ``eval()`` mode (after `gaxjax.models.build`) it uses the stored statistics; in ``train()``
    mode those of the batch, and moves the stored ones by ``momentum`` towards them, the variance
    as the unbiased estimate. Flax's own BatchNorm moves towards the biased one.
    """

    def __init__(self, channels: int, *, momentum: float = 0.1, eps: float = 1e-5, rngs: nnx.Rngs):
        del rngs  # nothing random; taken so that every layer is made alike
        self.scale = nnx.Param(jnp.ones(channels))
        self.bias = nnx.Param(jnp.zeros(channels))
        self.mean = nnx.BatchStat(jnp.zeros(channels))
        self.var = nnx.BatchStat(jnp.ones(channels))
        self.momentum = momentum
        self.eps = eps
        self.use_running_average = False  # set by .train() and .eval()

    def __call__(self, x: Features) -> Features:
        """Normalise each channel of ``x``."""
        if self.use_running_average:
            mean, var = self.mean[...], self.var[...]
        else:
            mean, var = self._batch_statistics(x)
        factor = self.scale[...] * jax.lax.rsqrt(var + self.eps)
        return (x - mean) * factor + self.bias[...]

    def _batch_statistics(self, x: Features) -> tuple[Float[Array, " C"], Float[Array, " C"]]:
        mean, var = jnp.mean(x, axis=(0, 1, 2)), jnp.var(x, axis=(0, 1, 2))
        count = x.size // x.shape[-1]
        unbiased = var * (count / max(count - 1, 1))
        for stored, seen in ((self.mean, mean), (self.var, unbiased)):
            step = self.momentum * (jax.lax.stop_gradient(seen) - stored[...])
            stored[...] = stored[...] + step.astype(stored[...].dtype)
        return mean, var


class Linear(nnx.Module):
    """``x @ kernel + bias``; ``kernel`` is torch's weight transposed."""

    def __init__(
        self, in_features: int, out_features: int, *, use_bias: bool = True, rngs: nnx.Rngs
    ):
        initialise = nnx.initializers.lecun_normal()
        shape = (in_features, out_features)
        self.kernel = nnx.Param(initialise(rngs.params(), shape, jnp.float32))
        self.bias = nnx.Param(jnp.zeros(out_features)) if use_bias else nnx.data(None)

    def __call__(self, x: Float[Array, "B I"]) -> Float[Array, "B O"]:
        """Multiply ``x`` and add the bias, where there is one."""
        y = x @ self.kernel[...]
        return y if self.bias is None else y + self.bias[...]


class MaxPool(nnx.Module):
    """Max pooling over square windows with symmetric padding."""

    def __init__(self, window: int, stride: int, *, padding: int = 0, ceil_mode: bool = False):
        self.window = window
        self.stride = stride
        self.padding = padding
        self.ceil_mode = ceil_mode

    def __call__(self, x: Features, *, rectify: bool = False) -> Float[Array, "B P Q C"]:
        """Take the maximum of each window; with `rectify`, of ``max(x, 0)``."""
        side = (self.padding, self.padding)
        return ops.max_pool(
            x,
            window=(self.window, self.window),
            strides=(self.stride, self.stride),
            padding=(side, side),
            ceil_mode=self.ceil_mode,
            rectify=rectify,
        )


class Relu(nnx.Module):
    """``max(x, 0)``."""

    def __call__(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Return ``max(x, 0)``."""
        return ops.relu(x)


class Identity(nnx.Module):
    """Leaves ``x`` alone; holds the place of a batch norm that was folded away."""

    def __call__(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Return ``x``."""
        return x


def Dropout(rate: float) -> nnx.Dropout:
    """Return Flax's dropout without a random stream: the identity until ``.train()``.

    Who trains sets each dropout's ``rngs`` first; a classifier at rest carries no random state.
    """
    return nnx.Dropout(rate, deterministic=True)


def run(layers: Iterable[Callable[..., Any]], x: Float[Array, "B ..."]) -> Float[Array, "B ..."]:
    """Send ``x`` through ``layers`` in order; the result is logits after a classifier's."""
    for layer in layers:
        x = layer(x)
    return x


def flatten(x: Features) -> Float[Array, "B F"]:
    """Join height, width and channels, in NHWC order (torch's is NCHW: see `converters`)."""
    return x.reshape(x.shape[0], -1)
