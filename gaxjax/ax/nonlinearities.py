"""Whether a network's nonlinear operations are gaxjax.ops's, whose gradients can change."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, get_opaque_trace_state
from jaxtyping import Array

from gaxjax import ops
from gaxjax.common import UserError
from gaxjax.config import Method

__all__ = ["check_nonlinearities"]

_LIKE_RELU = frozenset({"max", "custom_jvp_call"})  # jnp.maximum, jax.nn.relu
_NONLINEAR = _LIKE_RELU | {
    *("abs", "atan", "clamp", "cos", "custom_vjp_call", "erf", "erf_inv", "exp", "exp2"),
    *("expm1", "log", "log1p", "logistic", "min", "reduce_max", "reduce_min", "reduce_window_max"),
    *("reduce_window_min", "sign", "sin", "sort", "tanh", "top_k"),
}


class _Linear(ops.BackwardRules):
    """Leave the known operations out, so that what is left is the network's own."""

    def relu(self, x: Array) -> Array:
        return x

    def curve(self, name: str, function: Callable[[Array], Array], x: Array) -> Array:
        return x

    def max_pool(self, x: Array, window: tuple, strides: tuple, padding: ops.Padding) -> Array:
        return _zeros(super().max_pool, x, window, strides, padding)

    def image_convolution(
        self, x: Array, kernel: Array, stride: int, padding: ops.Padding
    ) -> Array:
        return _zeros(super().image_convolution, x, kernel, stride, padding)

    def grouped_convolution(self, x: Array, kernel: Array, settings: Any, groups: int) -> Array:
        return _zeros(super().grouped_convolution, x, kernel, settings, groups)


def _zeros(operation: Callable[..., Array], x: Array, *arguments: Any) -> Array:
    """Return zeros in the shape of the operation's result, which is not traced into the network."""
    return jnp.zeros(jax.eval_shape(lambda: operation(x, *arguments)).shape, x.dtype)


def check_nonlinearities(
    forward: Callable[[Any], Any], image: jax.ShapeDtypeStruct, methods: Sequence[Method]
) -> None:
    """Trace a network and look for nonlinear operations that are not `gaxjax.ops`'s.

    Raises:
        UserError: deconvolution and guided_backprop are wanted of a network with a ReLU of its
            own; deep_lift of one with any nonlinear operation of its own, or with its ReLUs inside
            a jitted, scanned or vmapped block.
    """
    changing = [m for m in methods if m in ("deconvolution", "guided_backprop", "deep_lift")]
    if not changing:
        return

    def linear(image: Any) -> Any:
        with ops.backward_rules(_Linear()):
            return forward(image)

    found = set(_primitives(jax.make_jaxpr(linear)(image).jaxpr))
    for method in changing:
        own = sorted(found & (_NONLINEAR if method == "deep_lift" else _LIKE_RELU))
        if own:
            raise UserError(
                f"{method} changes the backward rule of ReLU, and this network has nonlinear "
                f"operations that are not gaxjax.ops's ({', '.join(own)}): call gaxjax.ops.relu "
                "and gaxjax.ops.max_pool in it, or leave that method out"
            )
    if "deep_lift" in changing:

        def looked_at(image: Any) -> Any:
            rules = _OneTrace(get_opaque_trace_state(convention="nnx"))
            with ops.backward_rules(rules):
                return forward(image)

        jax.eval_shape(looked_at, image)


class _OneTrace(ops.BackwardRules):
    """Refuse a ReLU or max pool inside a block that JAX traces by itself."""

    def __init__(self, trace: Any) -> None:
        self._trace = trace

    def _check(self) -> None:
        if get_opaque_trace_state(convention="nnx") != self._trace:
            raise UserError(
                "deep_lift compares every ReLU's input with the baseline's, and cannot see those "
                "inside a jitted, checkpointed, scanned or vmapped block: call the block as it is, "
                "or leave that method out"
            )

    def relu(self, x: Array) -> Array:
        self._check()
        return super().relu(x)

    def curve(self, name: str, function: Callable[[Array], Array], x: Array) -> Array:
        self._check()
        return super().curve(name, function, x)

    def max_pool(self, x: Array, window: tuple, strides: tuple, padding: ops.Padding) -> Array:
        self._check()
        return super().max_pool(x, window, strides, padding)


def _primitives(jaxpr: Jaxpr) -> Iterator[str]:
    for equation in jaxpr.eqns:
        yield equation.primitive.name
        for value in equation.params.values():
            for inner in value if isinstance(value, tuple | list) else (value,):
                if isinstance(inner, ClosedJaxpr):
                    yield from _primitives(inner.jaxpr)
                elif isinstance(inner, Jaxpr):
                    yield from _primitives(inner)
