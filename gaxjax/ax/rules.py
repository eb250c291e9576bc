"""The backward rules by which the attribution methods differ from the gradient.

Each is a `gaxjax.ops.BackwardRules`: the network's values stay as they are, and its code too.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array

from gaxjax import ops
from gaxjax.config import Pooling
from gaxjax.ops import pooling

__all__ = [
    "Deconvolution",
    "GuidedBackprop",
    "Recorder",
    "Rescale",
    "Winners",
    "divided",
    "rescaled",
]

_Pair = tuple[int, int]


class Deconvolution(ops.BackwardRules):
    """At a ReLU only positive gradients pass, whatever its input was (arXiv:1311.2901)."""

    def relu(self, x: Array) -> Array:
        """Return ``max(x, 0)``; its gradient rule is ``g -> max(g, 0)``."""
        return _deconvolved_relu(x)


@jax.custom_vjp
def _deconvolved_relu(x: Array) -> Array:
    return jax.nn.relu(x)


_deconvolved_relu.defvjp(
    lambda x: (jax.nn.relu(x), None), lambda _, gradient: (jax.nn.relu(gradient),)
)


class GuidedBackprop(ops.BackwardRules):
    """At a ReLU only positive gradients of positive inputs pass (arXiv:1412.6806)."""

    def relu(self, x: Array) -> Array:
        """Return ``max(x, 0)``; its gradient rule is ``g -> max(g, 0) * (x > 0)``."""
        return _guided_relu(x)


@jax.custom_vjp
def _guided_relu(x: Array) -> Array:
    return jax.nn.relu(x)


_guided_relu.defvjp(
    lambda x: (jax.nn.relu(x), x > 0),
    lambda active, gradient: (jnp.where(active, jax.nn.relu(gradient), 0),),
)


class Winners(ops.BackwardRules):
    """Compute max pools by the code that the gradients use, for XLA to see one forward pass."""

    def max_pool(self, x: Array, window: _Pair, strides: _Pair, padding: ops.Padding) -> Array:
        """Take the maximum of each window."""
        return pooling.pool_winners(x, window, strides, padding)[0]


class Recorder(Winners):
    """Keep the input of every nonlinear operation, in the order of the calls.

    Attributes:
        inputs: of the calls so far.
    """

    def __init__(self) -> None:
        self.inputs: list[Array] = []

    def relu(self, x: Array) -> Array:
        """Return ``max(x, 0)``."""
        self.inputs.append(x)
        return super().relu(x)

    def curve(self, name: str, function: Callable[[Array], Array], x: Array) -> Array:
        """Return ``function(x)``."""
        self.inputs.append(x)
        return super().curve(name, function, x)

    def max_pool(self, x: Array, window: _Pair, strides: _Pair, padding: ops.Padding) -> Array:
        """Take the maximum of each window."""
        self.inputs.append(x)
        return super().max_pool(x, window, strides, padding)


class Rescale(ops.BackwardRules):
    """DeepLIFT's rescale rule: a slope between input and baseline instead of a derivative.

    A nonlinear operation's multiplier is ``(f(x) - f(x₀)) / (x - x₀)``, elementwise
    (arXiv:1704.02685 §3.5.1), and the gradient where ``|x - x₀| < 1e-10``. For a max pool, which
    is not elementwise, Captum's extension: see `_rescaled_max_pool`.

    Args:
        baseline: The inputs that a `Recorder` kept while the network saw the baseline image.
        pooling: Whether a cell's shares of several windows add up (complete), or the last
            window's counts alone (captum).
        curves: Names of the curves that are rescaled; the others keep their gradients.
    """

    def __init__(
        self, baseline: Sequence[Array], pooling: Pooling, curves: frozenset[str] = frozenset()
    ) -> None:
        self._baseline: Iterator[Array] = iter(baseline)
        self._pooling = pooling
        self._curves = curves

    def _at_baseline(self, x: Array) -> Array:
        """Return the present operation's input while the network saw the baseline image."""
        return next(self._baseline)

    def relu(self, x: Array) -> Array:
        """Return ``max(x, 0)``."""
        return _rescaled_relu(x, self._at_baseline(x))

    def curve(self, name: str, function: Callable[[Array], Array], x: Array) -> Array:
        """Return ``function(x)``."""
        baseline = self._at_baseline(x)
        return _rescaled_curve(function, x, baseline) if name in self._curves else function(x)

    def max_pool(self, x: Array, window: _Pair, strides: _Pair, padding: ops.Padding) -> Array:
        """Take the maximum of each window."""
        return _rescaled_max_pool(
            x, self._at_baseline(x), window, strides, padding, self._pooling == "complete"
        )


_SMALL = 1e-10
"""Captum's: a smaller difference from the baseline counts as none."""


def divided(numerator: Array, difference: Array, otherwise: Array) -> Array:
    """Return the quotient, or `otherwise` where the difference counts as none."""
    small = jnp.abs(difference) < _SMALL
    return jnp.where(small, otherwise, numerator / jnp.where(small, 1, difference))


@jax.custom_vjp
def _rescaled_relu(x: Array, baseline: Array) -> Array:
    return jax.nn.relu(x)


def _rescaled_relu_backward(kept: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    x, baseline = kept
    rise = jax.nn.relu(x) - jax.nn.relu(baseline)
    multiplied = divided(gradient * rise, x - baseline, jnp.where(x > 0, gradient, 0))
    return multiplied, jnp.zeros_like(baseline)


_rescaled_relu.defvjp(lambda x, baseline: (jax.nn.relu(x), (x, baseline)), _rescaled_relu_backward)


def _rescaled_curve(function: Callable[[Array], Array], x: Array, baseline: Array) -> Array:
    @jax.custom_vjp
    def curve(x: Array, baseline: Array) -> Array:
        return function(x)

    def forward(x: Array, baseline: Array) -> tuple[Array, tuple[Array, Array]]:
        return function(x), (x, baseline)

    def backward(kept: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
        x, baseline = kept
        return rescaled(function, x, baseline, gradient), jnp.zeros_like(baseline)

    curve.defvjp(forward, backward)
    return curve(x, baseline)


def rescaled(
    function: Callable[[Array], Array], x: Array, baseline: Array, gradient: Array
) -> Array:
    """Return the gradient times ``(f(x) - f(x₀)) / (x - x₀)``, or ``f'(x)`` where x is x₀."""
    y, pull_back = jax.vjp(function, x)
    return divided(gradient * (y - function(baseline)), x - baseline, pull_back(gradient)[0])


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4, 5))
def _rescaled_max_pool(
    x: Array,
    baseline: Array,
    window: _Pair,
    strides: _Pair,
    padding: ops.Padding,
    accumulate: bool,
) -> Array:
    """Max pooling whose rise from the baseline is shared out as Captum does.

    A window's output rises from ``y₀`` to ``y``. What lies above neither goes to the cell that wins
    among the inputs, ``max(y, y₀) - y₀``, the rest to the cell that wins in the baseline,
    ``y - max(y, y₀)``; each cell divides its shares by its own difference.
    """
    return pooling.pool_winners(x, window, strides, padding)[0]


def _rescaled_max_pool_forward(
    x: Array,
    baseline: Array,
    window: _Pair,
    strides: _Pair,
    padding: ops.Padding,
    accumulate: bool,
) -> tuple[Array, tuple[Array, ...]]:
    y, winner = pooling.pool_winners(x, window, strides, padding)
    y0, winner0 = pooling.pool_winners(baseline, window, strides, padding)
    winner, winner0 = jax.lax.optimization_barrier((winner, winner0))  # as in `ops`
    return y, (x, baseline, y, y0, winner, winner0)


def _rescaled_max_pool_backward(
    window: _Pair,
    strides: _Pair,
    padding: ops.Padding,
    accumulate: bool,
    kept: tuple[Array, ...],
    gradient: Array,
) -> tuple[Array, Array]:
    x, baseline, y, y0, winner, winner0 = kept
    size = x.shape[1:3]
    shared = partial(
        pooling.unpool,
        size=size,
        window=window,
        strides=strides,
        padding=padding,
        accumulate=accumulate,
    )
    top = jnp.maximum(y, y0)
    shares = shared(gradient * (top - y0), winner) + shared(gradient * (y - top), winner0)
    plain = pooling.unpool(gradient, winner, size, window, strides, padding)
    return divided(shares, x - baseline, plain), jnp.zeros_like(baseline)


_rescaled_max_pool.defvjp(_rescaled_max_pool_forward, _rescaled_max_pool_backward)
