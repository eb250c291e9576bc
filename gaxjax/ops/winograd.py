"""3 × 3 convolutions by Winograd's F(4 × 4, 3 × 3): a quarter of the multiplications.

An output tile of 4 × 4 costs 36 multiplications per pair of channels instead of 144: patches of
6 × 6 and the kernel are transformed, multiplied as 36 matrices, and transformed back (Lavin and
Gray, arXiv:1509.09308). The kernels' part is done once, on the host. With the interpolation points
0, ±3/4, ±3/2 and ∞ a float32 result is off by 3e-6 of the largest; with the usual 0, ±1, ±2 and ∞
it is 1e-5, and summed directly 1e-6.
"""

from collections.abc import Sequence
from fractions import Fraction
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

__all__ = ["transformed_kernel", "winograd_convolution"]

_TILE, WINDOW = 4, 3
_PATCH = _TILE + WINDOW - 1
_POINTS = tuple(Fraction(*point) for point in ((0, 1), (3, 4), (-3, 4), (3, 2), (-3, 2)))


@jax.custom_vjp
def winograd_convolution(
    x: Float[Array, "B H W I"], kernel: Float[Array, "36 I O"], flipped: Float[Array, "36 O I"]
) -> Float[Array, "B H W O"]:
    """Cross-correlate ``x``, padded by 1, with a 3 × 3 kernel.

    Its derivative by ``x`` is the convolution with ``flipped``; the kernels count as constants,
    with zero derivatives.

    Args:
        x: Features, NHWC.
        kernel: From `transformed_kernel`.
        flipped: Likewise, of ``kernel[::-1, ::-1]`` with its channels swapped.
    """
    return _convolution(x, kernel)


def _forward(x: Array, kernel: Array, flipped: Array) -> tuple[Array, Array]:
    return _convolution(x, kernel), flipped


def _backward(flipped: Array, gradient: Array) -> tuple[Array, None, None]:
    return _convolution(gradient, flipped), None, None


winograd_convolution.defvjp(_forward, _backward)


@jax.custom_batching.custom_vmap
def _convolution(x: Array, kernel: Array) -> Array:
    """Transform, multiply, transform back; under `vmap` all images' tiles form one matrix."""
    batch, height, width, _ = x.shape
    down, across = -(-height // _TILE), -(-width // _TILE)
    # Without barriers XLA recomputes a transform for every matrix that reads it.
    tiles = lax.optimization_barrier(_patches(x, down, across))
    products = lax.dot_general(tiles, kernel, (((2,), (1,)), ((0,), (0,))))
    products = lax.optimization_barrier(products)
    y = _tiles(products.reshape(_PATCH, _PATCH, batch, down, across, kernel.shape[2]))
    return y[:, :height, :width]


@_convolution.def_vmap
def _fold_images(
    axis_size: int, in_batched: Sequence[bool], x: Array, kernel: Array
) -> tuple[Array, bool]:
    if in_batched[1]:
        in_axes = tuple(0 if batched else None for batched in in_batched)
        return jax.vmap(_convolution.fun, in_axes=in_axes, axis_size=axis_size)(x, kernel), True
    y = _convolution(x.reshape(x.shape[0] * x.shape[1], *x.shape[2:]), kernel)
    return y.reshape(*x.shape[:2], *y.shape[1:]), True


def _patches(x: Array, down: int, across: int) -> Array:
    """Return the transformed 6 × 6 patch of each tile, [36, B · down · across, I]."""
    far = [_TILE * count + 1 - size for count, size in ((down, x.shape[1]), (across, x.shape[2]))]
    x = jnp.pad(x, ((0, 0), (1, far[0]), (1, far[1]), (0, 0)))
    rows = _combinations(_INPUT, [x[:, i : i + _TILE * down : _TILE] for i in range(_PATCH)])
    tiles = x.shape[0] * down * across
    return jnp.stack(
        [
            cell.reshape(tiles, x.shape[-1])
            for row in rows
            for cell in _combinations(
                _INPUT, [row[:, :, j : j + _TILE * across : _TILE] for j in range(_PATCH)]
            )
        ]
    )


def _tiles(products: Array) -> Array:
    """Return outputs [B, 4 · down, 4 · across, O] of products [6, 6, B, down, across, O]."""
    _, _, batch, down, across, channels = products.shape
    rows = _combinations(_OUTPUT, list(products))
    tiles = jnp.stack([jnp.stack(_combinations(_OUTPUT, list(row)), 3) for row in rows], 2)
    return tiles.reshape(batch, _TILE * down, _TILE * across, channels)


def _combinations(matrix: np.ndarray, terms: list[Array]) -> list[Array]:
    """Return the matrix times the terms, written out: most factors are 0, and some are 1."""
    combined = []
    for row in matrix.tolist():
        parts = [
            term if factor == 1 else term * factor
            for factor, term in zip(row, terms, strict=True)
            if factor
        ]
        combined.append(sum(parts[1:], start=parts[0]))
    return combined


def transformed_kernel(kernel: np.ndarray) -> np.ndarray:
    """Return a kernel [3, 3, I, O] as 36 matrices [36, I, O] in its own dtype."""
    matrices = np.kron(_KERNEL, _KERNEL) @ kernel.reshape(WINDOW**2, -1).astype(np.float64)
    return matrices.astype(kernel.dtype).reshape(_PATCH**2, *kernel.shape[2:])


def _toom_cook(points: Sequence[Fraction]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the matrices of output [4, 6], kernel [6, 3] and input [6, 6] for points and ∞."""
    one, zero = Fraction(1), Fraction(0)

    def coefficients(roots: Sequence[Fraction]) -> list[Fraction]:
        """Return those of Π (x - root), the constant first."""
        found = [one]
        for root in roots:
            shifted, scaled = [zero, *found], [*(root * value for value in found), zero]
            found = [a - b for a, b in zip(shifted, scaled, strict=True)]
        return found

    others = [[other for other in points if other != point] for point in points]
    scales = [prod(a - b for b in rest) for a, rest in zip(points, others, strict=True)]
    output = [[a**i for a in points] + [one if i == _TILE - 1 else zero] for i in range(_TILE)]
    kernel = [[a**j / s for j in range(WINDOW)] for a, s in zip(points, scales, strict=True)]
    at_infinity = [zero] * (WINDOW - 1) + [one]
    patch = [[*coefficients(rest), zero] for rest in others] + [coefficients(points)]
    matrices: tuple[Any, ...] = (output, [*kernel, at_infinity], patch)
    found = (np.array(matrix, np.float64) for matrix in matrices)
    return tuple(found)  # type: ignore[return-value]


_OUTPUT, _KERNEL, _INPUT = _toom_cook(_POINTS)
