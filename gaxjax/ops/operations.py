"""The operations every model is made of: convolution, ReLU, pooling.

Models call these and no others, so a backward rule placed here reaches every model: those of the
attribution methods take the place of the true gradients within `backward_rules`. Paddings are
always explicit ``((top, bottom), (left, right))`` pairs, as torch counts them: ``"SAME"`` pads the
far edge first at stride 2, and torch does not. All arrays are NHWC and keep their dtype.
"""

import contextlib
from collections.abc import Callable, Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from gaxjax.ops.grouped import grouped_convolution
from gaxjax.ops.image_convolution import strided_image_convolution
from gaxjax.ops.pooling import max_pool_by_winners

__all__ = [
    "BackwardRules",
    "Padding",
    "adaptive_average_pool",
    "backward_rules",
    "convolution",
    "curve",
    "global_average_pool",
    "max_pool",
    "overhang",
    "relu",
]

Padding = tuple[tuple[int, int], tuple[int, int]]
"""Rows added above and below, columns added left and right."""

_Pair = tuple[int, int]

_ENOUGH_CELLS = 64  # with fewer, a product's bits change with the images beside an image
_FEW_CHANNELS = 4  # images, not features: only a network's first layer


class BackwardRules:
    """How the nonlinear operations compute and differentiate; here, by their true gradients.

    A subclass overrides a method with one of the same values and another derivative.
    """

    def relu(self, x: Array) -> Array:
        """Return ``max(x, 0)``."""
        return _relu(x)

    def curve(self, name: str, function: Callable[[Array], Array], x: Array) -> Array:
        """Return ``function(x)``, a nonlinear function of each element by itself."""
        del name
        return function(x)

    def max_pool(self, x: Array, window: _Pair, strides: _Pair, padding: Padding) -> Array:
        """Take the maximum of each window of ``x``, padded with -inf."""
        return max_pool_by_winners(x, window, strides, padding)

    def rectified_max_pool(
        self, x: Array, window: _Pair, strides: _Pair, padding: Padding
    ) -> Array:
        """Take the maximum of each window of ``max(x, 0)``."""
        return self.max_pool(self.relu(x), window, strides, padding)

    def image_convolution(self, x: Array, kernel: Array, stride: int, padding: Padding) -> Array:
        """Convolve an image at a stride: linear, and only its gradient is computed our way."""
        return strided_image_convolution(x, kernel, stride, padding)

    def grouped_convolution(
        self, x: Array, kernel: Array, settings: tuple[_Pair, Padding, _Pair], groups: int
    ) -> Array:
        """Convolve by groups, as `gaxjax.ops.grouped.grouped_convolution`: linear likewise."""
        return grouped_convolution(x, kernel, settings, groups)


@jax.custom_vjp
def _relu(x: Array) -> Array:
    """Return max(x, 0), with its mask taken from the result.

    Then nothing but the maximum needs the convolution before it, and cuDNN computes both in one
    call. `y > 0` would not do: XLA rewrites it to read x. At a NaN the gradient passes, as in
    torch.
    """
    return jnp.maximum(x, 0)


def _relu_forward(x: Array) -> tuple[Array, Array]:
    y = jnp.maximum(x, 0)
    return y, y


def _relu_backward(y: Array, gradient: Array) -> tuple[Array]:
    return (jnp.where(y != 0, gradient, jnp.zeros_like(gradient)),)


_relu.defvjp(_relu_forward, _relu_backward)


class _TrueGradients(BackwardRules):
    """The rules where nobody asks for others: in the order that computes and keeps least."""

    def rectified_max_pool(
        self, x: Array, window: _Pair, strides: _Pair, padding: Padding
    ) -> Array:
        """Rectify the maxima: the same values and true gradients, a quarter of the cells."""
        return self.relu(self.max_pool(x, window, strides, padding))


_TRUE_GRADIENTS = _TrueGradients()
# Part of the key of JAX's trace caches, so that a jitted block inside a network follows it as well.
_rules = jax.make_user_context(_TRUE_GRADIENTS)


@contextlib.contextmanager
def backward_rules(rules: BackwardRules) -> Iterator[None]:
    """Let every operation called in the block follow ``rules``.

    It acts while JAX traces: enter it inside the function that is differentiated or jitted.

    Example:
        >>> from gaxjax.ax.rules import GuidedBackprop
        >>> def logit(image):
        ...     with backward_rules(GuidedBackprop()):
        ...         return -relu(image).sum()  # whose negative gradient is not let through
        >>> jax.grad(logit)(jnp.ones(2)).tolist()
        [0.0, 0.0]
    """
    with _rules(rules):
        yield


def relu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Return ``max(x, 0)``; its derivative at 0 is 0, as in torch."""
    return _rules.value.relu(x)


def curve(
    name: str, function: Callable[[Array], Array], x: Float[Array, "*shape"]
) -> Float[Array, "*shape"]:
    """Return ``function(x)``, whose backward rule may be replaced: any nonlinearity but ReLU.

    Args:
        name: torch's name of the function, such as ``gelu``; rules go by it.
        function: of each element by itself, differentiable in JAX.
        x: Any array.

    Example:
        >>> curve("tanh", jnp.tanh, jnp.zeros(2)).tolist()
        [0.0, 0.0]
    """
    return _rules.value.curve(name, function, x)


def convolution(
    x: Float[Array, "B H W I"],
    kernel: Float[Array, "h w i O"],
    bias: Float[Array, " O"] | None = None,
    *,
    strides: tuple[int, int] = (1, 1),
    padding: Padding = ((0, 0), (0, 0)),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
) -> Float[Array, "B P Q O"]:
    """Cross-correlate ``x`` with ``kernel``, as ``torch.nn.functional.conv2d`` does.

    Args:
        x: Images or features, NHWC.
        kernel: HWIO; ``i = I / groups``. Same dtype as ``x``.
        bias: One number per output channel, or None.
        strides: Steps down and across.
        padding: Zeros around ``x``.
        dilation: Steps down and across from one cell of a window to the next.
        groups: Input and output channels are split into this many independent groups.

    Returns:
        Features in the dtype of ``x``. Matmul precision is the caller's
        (``jax.default_matmul_precision``).

    Raises:
        ValueError: ``x`` is smaller than the kernel.

    Example:
        >>> convolution(jnp.ones((1, 4, 4, 3)), jnp.ones((3, 3, 3, 8))).shape
        (1, 2, 2, 8)
    """
    plain = groups == 1 and dilation == (1, 1)
    if x.shape[-1] <= _FEW_CHANNELS and plain and strides[0] == strides[1] > 1:
        y = _rules.value.image_convolution(x, kernel, strides[0], padding)
    elif plain and (x.shape[1] < kernel.shape[0] or x.shape[2] < kernel.shape[1]):
        y = _convolution_cell_by_cell(x, kernel, strides, padding)
    elif groups > 1:
        y = _rules.value.grouped_convolution(x, kernel, (strides, padding, dilation), groups)
    else:
        by_xla = partial(
            lax.conv_general_dilated,
            window_strides=strides,
            padding=padding,
            rhs_dilation=dilation,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        cells = -(-x.shape[1] // strides[0]) * -(-x.shape[2] // strides[1])
        if kernel.shape[:2] == (1, 1) and not np.any(padding) and 2 * cells > _ENOUGH_CELLS:
            y = lax.platform_dependent(
                x, kernel, cpu=partial(_pointwise_product, strides=strides), default=by_xla
            )
        else:
            y = by_xla(x, kernel)
    y = _not_empty(y, x)
    return y if bias is None else y + bias


def _pointwise_product(x: Array, kernel: Array, *, strides: tuple[int, int]) -> Array:
    """Convolve by a 1 × 1 kernel as a matrix product.

    On a CPU it takes half the time of XLA's convolution or less: with the input gradient of four
    112 × 112 × 16 by 96 channels 2.5 against 6.5 ms, of 7 × 7 × 960 by 160 0.5 against 0.8 ms.
    """
    x = x[:, :: strides[0], :: strides[1]]
    cells = x.reshape(len(x), -1, x.shape[3])
    missing = max(0, _ENOUGH_CELLS - cells.shape[1])
    y = jnp.pad(cells, ((0, 0), (0, missing), (0, 0))) @ kernel[0, 0]
    return y[:, : cells.shape[1]].reshape(*x.shape[:3], -1)


def _convolution_cell_by_cell(
    x: Array, kernel: Array, strides: tuple[int, int], padding: Padding
) -> Array:
    """Convolve features smaller than the window: a matrix product for each cell of the kernel.

    XLA's CPU backend has no fast convolution of such features: 508 against 7.5 ms for 32 × 2 × 2 ×
    512 and a 3 × 3 kernel.
    """
    x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    counts = [
        (size - length) // stride + 1
        for size, length, stride in zip(x.shape[1:3], kernel.shape[:2], strides, strict=True)
    ]
    rows, columns = (max(count, 0) for count in counts)
    y = jnp.zeros((x.shape[0], rows, columns, kernel.shape[3]), x.dtype)
    for row, column in np.ndindex(*kernel.shape[:2]):
        cells = x[:, row :: strides[0], column :: strides[1]][:, :rows, :columns]
        y = y + cells @ kernel[row, column]
    return y


def max_pool(
    x: Float[Array, "B H W C"],
    *,
    window: tuple[int, int],
    strides: tuple[int, int],
    padding: Padding = ((0, 0), (0, 0)),
    ceil_mode: bool = False,
    rectify: bool = False,
) -> Float[Array, "B P Q C"]:
    """Take the maximum of each window, as ``torch.nn.functional.max_pool2d`` does.

    Args:
        x: Features, NHWC.
        window: Height and width of the window.
        strides: Steps down and across.
        padding: Cells of -inf around ``x``; torch allows at most half a window.
        ceil_mode: Let a last window hang over the far edge. As in torch, a window that would
            start beyond the input and its near padding is left out.
        rectify: Pool ``max(x, 0)``: a ReLU and the pool after it in one.

    Returns:
        Maxima in the dtype of ``x``. Of equal maxima the first in row order gets the gradient; a
        NaN counts as the largest.

    Raises:
        ValueError: ``x`` is smaller than the window.

    Example:
        >>> max_pool(jnp.ones((1, 4, 4, 3)), window=(3, 3), strides=(2, 2), ceil_mode=True).shape
        (1, 2, 2, 3)
    """
    top, left = (
        (near, far + (overhang(size, length, stride, near, far) if ceil_mode else 0))
        for size, length, stride, (near, far) in zip(
            x.shape[1:3], window, strides, padding, strict=True
        )
    )
    rules = _rules.value
    pool = rules.rectified_max_pool if rectify else rules.max_pool
    return _not_empty(pool(x, window, strides, (top, left)), x)


def _not_empty(y: Array, x: Array) -> Array:
    if 0 in y.shape[1:3]:
        raise ValueError(f"a window does not fit into features of {x.shape[1]} × {x.shape[2]}")
    return y


def overhang(size: int, window: int, stride: int, near: int, far: int) -> int:
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
