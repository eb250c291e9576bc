"""Nonlinear operations on each element: through `gaxjax.ops`, where their backward rules are.

Values and derivatives are torch's, at the kinks as well, and at ±inf where torch has a number.
What is smooth is computed in at least float32 and rounded once; torch does so with bfloat16.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from gaxjax import ops
from gaxjax.models.graph.promotion import floating, magnitude
from gaxjax.models.graph.table import operation
from gaxjax.models.graph.tensor import Tensor, aligned, elementwise

_Curve = Callable[..., Array]
_Number = int | float


def _wide(function: _Curve, *, from_input: bool = False) -> _Curve:
    """Compute in at least float32 and return the type that came in; see `_from_input`."""

    def call(x: Array, *arguments: Any, **keywords: Any) -> Array:
        wide = jnp.promote_types(x.dtype, jnp.float32)
        if x.dtype == wide:  # a weak type stays one
            return function(x, *arguments, **keywords)

        def narrow(x: Array) -> Array:
            return function(x.astype(wide), *arguments, **keywords).astype(x.dtype)

        return _from_input(narrow, x) if from_input else narrow(x)

    return call


def _from_input(function: Callable[[Array], Array], x: Array) -> Array:
    """Return ``function(x)``, of which the gradient keeps ``x`` alone.

    Else it keeps intermediate results, of a GELU in float32: twice the bytes of bfloat16 features.
    Not for a sigmoid, whose result is all that its gradient needs.
    """

    @jax.custom_vjp
    def call(x: Array) -> Array:
        return function(x)

    def backward(x: Array, gradient: Array) -> tuple[Array]:
        # Or XLA finds the forward pass's results again, and keeps those.
        x = lax.optimization_barrier(x)
        (by_x,) = jax.vjp(function, x)[1](gradient)
        return (by_x,)

    call.defvjp(lambda x: (function(x), x), backward)
    return call(x)


def _clamp(x: Array, min: _Number | None = None, max: _Number | None = None) -> Array:
    """Clip; at a bound, and at a NaN, torch's derivative is 0."""
    inside = jnp.ones_like(x, bool)
    clipped = x
    if min is not None:
        inside &= x > min
        clipped = jnp.maximum(clipped, min)
    if max is not None:
        inside &= x < max
        clipped = jnp.minimum(clipped, max)
    return jnp.where(inside, x, lax.stop_gradient(clipped))


def _hardtanh(x: Array, min_val: _Number = -1.0, max_val: _Number = 1.0) -> Array:
    """Clip; at a bound the derivative is 0, and at a NaN 1."""
    return jnp.where(x <= min_val, min_val, jnp.where(x >= max_val, max_val, x)).astype(x.dtype)


def _hardsigmoid(x: Array) -> Array:
    return jnp.where(x <= -3, 0, jnp.where(x >= 3, 1, (x + 3) / 6)).astype(x.dtype)


def _hardswish(x: Array) -> Array:
    return jnp.where(x <= -3, 0, jnp.where(x >= 3, x, x * (x + 3) / 6)).astype(x.dtype)


def _leaky_relu(x: Array, negative_slope: _Number = 0.01) -> Array:
    return jnp.where(x > 0, x, x * negative_slope)


def _rrelu(
    x: Array,
    lower: _Number = 1 / 8,
    upper: _Number = 1 / 3,
    training: bool = False,
    generator: None = None,
) -> Array:
    assert not training, "a random operation"
    return _leaky_relu(x, (lower + upper) / 2)


def _elu(x: Array, alpha: _Number = 1, scale: _Number = 1, input_scale: _Number = 1) -> Array:
    below = jnp.where(x > 0, 0, x)  # so that no derivative overflows where it does not count
    return jnp.where(x > 0, x * scale, jnp.expm1(below * input_scale) * (alpha * scale))


_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946


def _softplus(x: Array, beta: _Number = 1, threshold: _Number = 20) -> Array:
    linear = x * beta > threshold
    below = jnp.where(linear, 0, x)
    return jnp.where(linear, x, jnp.logaddexp(below * beta, 0) / beta)


def _threshold(x: Array, threshold: _Number, value: _Number) -> Array:
    return jnp.where(x <= threshold, value, x).astype(x.dtype)


def _hardshrink(x: Array, lambd: _Number = 0.5) -> Array:
    return jnp.where((x >= -lambd) & (x <= lambd), 0, x).astype(x.dtype)


def _softshrink(x: Array, lambd: _Number = 0.5) -> Array:
    return jnp.where(x > lambd, x - lambd, jnp.where(x < -lambd, x + lambd, x * 0))


def _logit(x: Array, eps: _Number | None = None) -> Array:
    x = x if eps is None else _clamp(x, eps, 1 - eps)
    return jnp.log(x / (1 - x))


_CURVES: dict[str, _Curve] = {
    "hardtanh": _hardtanh,
    "relu6": lambda x: _hardtanh(x, 0, 6),
    "hardsigmoid": _hardsigmoid,
    "hardswish": _hardswish,
    "leaky_relu": _leaky_relu,
    "rrelu": _rrelu,
    "threshold": _threshold,
    "hardshrink": _hardshrink,
    "softshrink": _softshrink,
    "sigmoid": _wide(lambda x: jax.nn.sigmoid(x)),
    "silu": _wide(lambda x: x * jax.nn.sigmoid(x)),
    "gelu": _wide(
        lambda x, approximate="none": jax.nn.gelu(x, approximate=approximate == "tanh"),
        from_input=True,
    ),
    "tanh": _wide(lambda x: jnp.tanh(x)),
    "elu": _wide(_elu),
    "selu": _wide(lambda x: _elu(x, _SELU_ALPHA, _SELU_SCALE)),
    "celu": _wide(lambda x, alpha=1.0: _elu(x, alpha, 1, 1 / alpha)),
    "softplus": _wide(_softplus),
    "mish": _wide(lambda x: x * jnp.tanh(_softplus(x)), from_input=True),
    "log_sigmoid": _wide(lambda x: jax.nn.log_sigmoid(x)),
    "logit": _wide(_logit),
    "exp": _wide(lambda x: jnp.exp(x)),
    "exp2": _wide(lambda x: jnp.exp2(x)),
    "expm1": _wide(lambda x: jnp.expm1(x)),
    "log": _wide(lambda x: jnp.log(x)),
    "log2": _wide(lambda x: jnp.log2(x)),
    "log10": _wide(lambda x: jnp.log10(x)),
    "log1p": _wide(lambda x: jnp.log1p(x)),
    "erf": _wide(lambda x: lax.erf(x)),
    "erfc": _wide(lambda x: lax.erfc(x)),
    "sqrt": _wide(lambda x: jnp.sqrt(x)),
    "rsqrt": _wide(lambda x: lax.rsqrt(x)),
    "reciprocal": _wide(lambda x: 1 / x),
    "square": lambda x: x * x,
    "sin": _wide(lambda x: jnp.sin(x)),
    "cos": _wide(lambda x: jnp.cos(x)),
    "tan": _wide(lambda x: jnp.tan(x)),
    "asin": _wide(lambda x: jnp.arcsin(x)),
    "acos": _wide(lambda x: jnp.arccos(x)),
    "atan": _wide(lambda x: jnp.arctan(x)),
    "sinh": _wide(lambda x: jnp.sinh(x)),
    "cosh": _wide(lambda x: jnp.cosh(x)),
    "asinh": _wide(lambda x: jnp.arcsinh(x)),
    "acosh": _wide(lambda x: jnp.arccosh(x)),
    "atanh": _wide(lambda x: jnp.arctanh(x)),
}


def _entered(name: str, function: _Curve) -> None:
    @operation(name)
    def call(x: Tensor, *arguments: Any, **keywords: Any) -> Tensor:
        curve = ops.curve(name, lambda v: function(v, *arguments, **keywords), floating(x.array))
        return x.like(curve)


for _name, _function in _CURVES.items():
    _entered(_name, _function)


@operation("relu")
def _relu(x: Tensor) -> Tensor:
    return x.like(ops.relu(x.array))


@operation("abs")
def _abs(x: Tensor) -> Tensor:
    if not jnp.issubdtype(x.dtype, jnp.floating):
        return x.like(jnp.abs(x.array))
    return x.like(ops.curve("abs", magnitude, x.array))


@operation("prelu")
def _prelu(x: Tensor, weight: Tensor) -> Tensor:
    shape = [1] * x.ndim
    if x.ndim > 1:
        shape[1] = -1
    slopes = Tensor(weight.array.reshape(shape), tuple(range(x.ndim)))
    slope = aligned(slopes, x)
    return x.like(ops.curve("prelu", lambda v: jnp.where(v > 0, v, v * slope), x.array))


@operation("clamp", "clip")
def _clamped(x: Tensor, min: Any = None, max: Any = None) -> Tensor:
    if isinstance(min, Tensor) or isinstance(max, Tensor):
        return _clamped_between(x, min, max)
    floats = any(isinstance(bound, float) for bound in (min, max))
    if not floats and not jnp.issubdtype(x.dtype, jnp.floating):
        return x.like(jnp.clip(x.array, min, max))
    return x.like(ops.curve("clamp", lambda v: _clamp(v, min, max), floating(x.array)))


@operation("clamp_min")
def _clamp_min(x: Tensor, min: Any) -> Tensor:
    return _clamped(x, min)


@operation("clamp_max")
def _clamp_max(x: Tensor, max: Any) -> Tensor:
    return _clamped(x, None, max)


def _clamped_between(x: Tensor, low: Any, high: Any) -> Tensor:
    """Clip by tensors; a bound that is met shares the gradient with x, as of `maximum`."""
    x = x if low is None else elementwise(jnp.maximum)(x, low)
    return x if high is None else elementwise(jnp.minimum)(x, high)


@operation("pow")
def _pow(x: Any, exponent: Any) -> Tensor:
    if isinstance(x, Tensor) and not isinstance(exponent, Tensor):
        if isinstance(exponent, int) and not jnp.issubdtype(x.dtype, jnp.floating):
            return x.like(x.array**exponent)
        return x.like(ops.curve("pow", lambda v: _power(v, exponent), floating(x.array)))
    return elementwise(lambda base, power: base**power)(x, exponent)


def _power(x: Array, exponent: _Number) -> Array:
    if exponent == int(exponent) and abs(exponent) < 64:
        return lax.integer_pow(x, int(exponent))
    return _wide(lambda v: v**exponent)(x)
