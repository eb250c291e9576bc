"""DeepLIFT where an image and its baseline go through the network, and back, side by side.

Two of Captum's rules read the gradients of both: a max pool gives the baseline's winner its share
of the baseline's gradient, and a softmax subtracts the mean over both. Behind linear operations and
rescaled nonlinearities the two gradients are equal, and `gaxjax.ax.rules.Rescale` is enough; behind
a product, such as a squeeze-and-excitation block's gate, or a curve left at its own derivative,
they are not.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from gaxjax import ops
from gaxjax.ax.rules import Rescale, divided, rescaled
from gaxjax.common import Image, Scalar
from gaxjax.config import Pooling
from gaxjax.ops import pooling

__all__ = ["SOFTMAX", "PairedRescale", "paired_multipliers"]

SOFTMAX = "softmax_module"
"""The operation, and the curve, that is an `nn.Softmax`; it is of whole rows."""

_PAIR = "image and baseline"
_Pair = tuple[int, int]


def paired_multipliers(
    logit: Callable[[Image], Scalar],
    image: Image,
    baseline: Image,
    rules: "PairedRescale",
) -> Image:
    """Return DeepLIFT's multipliers of an image alone with its baseline, as Captum's batch of one.

    Args:
        logit: the target's; differentiable.
        image: in the units that `logit` takes.
        baseline: likewise.
        rules: its nonlinearities' backward rules.
    """
    # The gradient inside, so that its rules, too, run under the named axis and see both.
    with ops.backward_rules(rules):
        return jax.vmap(jax.grad(logit), axis_name=_PAIR)(jnp.stack([image, baseline]))[0]


class PairedRescale(Rescale):
    """The rescale rule inside `paired_multipliers`.

    Args:
        pooling: As for `Rescale`.
        curves: Likewise.
    """

    def __init__(self, pooling: Pooling, curves: frozenset[str]) -> None:
        super().__init__((), pooling, curves)

    def _at_baseline(self, x: Array) -> Array:
        """Return the other's input: the rule reads the same from either side."""
        return _other(x)

    def curve(self, name: str, function: Callable[[Array], Array], x: Array) -> Array:
        """Return ``function(x)``."""
        if name == SOFTMAX:
            return _softmax(function, x, _other(x))
        return super().curve(name, function, x)

    def max_pool(self, x: Array, window: _Pair, strides: _Pair, padding: ops.Padding) -> Array:
        """Take the maximum of each window."""
        if self._pooling == "complete":  # every share is of the image's own gradient
            return super().max_pool(x, window, strides, padding)
        return _max_pool(x, window, strides, padding)


def _other(x: Array) -> Array:
    return lax.all_gather(lax.stop_gradient(x), _PAIR)[1 - lax.axis_index(_PAIR)]


def _softmax(function: Callable[[Array], Array], x: Array, other: Array) -> Array:
    """Rescale each element by itself, and subtract the mean over all of image and baseline."""

    @jax.custom_vjp
    def softmax(x: Array, other: Array) -> Array:
        return function(x)

    def forward(x: Array, other: Array) -> tuple[Array, tuple[Array, Array]]:
        return function(x), (x, other)

    def backward(kept: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
        x, other = kept
        found = rescaled(function, x, other, gradient)
        mean = lax.pmean(jnp.mean(found), _PAIR)
        return found - mean, jnp.zeros_like(other)

    softmax.defvjp(forward, backward)
    return softmax(x, other)


@partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _max_pool(x: Array, window: _Pair, strides: _Pair, padding: ops.Padding) -> Array:
    """Max pooling whose rise is shared out as `gaxjax.ax.rules` says, each share by its gradient.

    The image's winner gets its share of the image's gradient, the baseline's of the baseline's. A
    cell that equals the baseline's passes on the image's plain gradient, to either.
    """
    return pooling.pool_winners(x, window, strides, padding)[0]


def _max_pool_forward(
    x: Array, window: _Pair, strides: _Pair, padding: ops.Padding
) -> tuple[Array, tuple[Array, ...]]:
    y, winner = pooling.pool_winners(x, window, strides, padding)
    return y, (x, y, lax.optimization_barrier(winner))  # as in `ops`


def _max_pool_backward(
    window: _Pair,
    strides: _Pair,
    padding: ops.Padding,
    kept: tuple[Array, ...],
    gradient: Array,
) -> tuple[Array]:
    x, y, winner = kept
    sign = 1 - 2 * lax.axis_index(_PAIR)  # 1 in the image, -1 in the baseline
    y0 = _other(y)
    share = sign * gradient * (jnp.maximum(y, y0) - y0)
    unpool = partial(
        pooling.unpool,
        winner=winner,
        size=x.shape[1:3],
        window=window,
        strides=strides,
        padding=padding,
    )
    plain = lax.all_gather(unpool(gradient), _PAIR)[0]
    shares = lax.psum(unpool(share, accumulate=False), _PAIR)
    return (divided(shares, sign * (x - _other(x)), plain),)


_max_pool.defvjp(_max_pool_forward, _max_pool_backward)
