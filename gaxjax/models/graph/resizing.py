"""Images and features made larger or smaller, and sampled on a grid."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

from gaxjax.common import UserError
from gaxjax.models.graph.table import operation
from gaxjax.models.graph.tensor import Tensor, of_last

__all__: list[str] = []

_Curve = Callable[[np.ndarray], np.ndarray]


def _triangle(distance: np.ndarray) -> np.ndarray:
    return np.maximum(0, 1 - np.abs(distance))


def _cubic(a: float) -> _Curve:
    """Return Keys' kernel (1981): torch's is of a = -3/4, and antialiased of a = -1/2."""

    def curve(distance: np.ndarray) -> np.ndarray:
        d = np.abs(distance)
        near = ((a + 2) * d - (a + 3)) * d * d + 1
        far = ((d - 5) * d + 8) * d * a - 4 * a
        return np.where(d <= 1, near, np.where(d < 2, far, 0))

    return curve


def _places(
    count: int, size: int, corners: bool, factor: float | int | None
) -> tuple[np.ndarray, float]:
    """Return where each of so many cells lies among the old ones, and how far apart they are."""
    if corners:
        step = (size - 1) / (count - 1) if count > 1 else 0.0
        return np.arange(count) * step, step
    step = 1 / factor if factor else size / count
    return (np.arange(count) + 0.5) * step - 0.5, step


def _bilinear(count: int, size: int, corners: bool, factor: float | int | None) -> np.ndarray:
    places, _ = _places(count, size, corners, factor)
    return _gathered(np.maximum(places, 0), size, _triangle, 1)


def _bicubic(count: int, size: int, corners: bool, factor: float | int | None) -> np.ndarray:
    places, _ = _places(count, size, corners, factor)
    return _gathered(places, size, _cubic(-0.75), 2)


def _gathered(places: np.ndarray, size: int, curve: _Curve, reach: int) -> np.ndarray:
    """Return the matrix [count, size] of weights; cells beyond the edge count as the edge's."""
    matrix = np.zeros((len(places), size))
    low = np.floor(places).astype(int)
    for tap in range(1 - reach, reach + 1):
        weights = curve(places - (low + tap))
        np.add.at(matrix, (np.arange(len(places)), np.clip(low + tap, 0, size - 1)), weights)
    return matrix


def _antialiased(curve: _Curve, reach: int) -> Callable[..., np.ndarray]:
    """Return the weights of a curve as wide as the new cells, cut off at the edges."""

    def matrix(count: int, size: int, corners: bool, factor: float | int | None) -> np.ndarray:
        _, step = _places(count, size, corners, factor)
        width = max(step, 1.0)
        centres = step * (np.arange(count) + 0.5)
        lows = np.maximum((centres - reach * width + 0.5).astype(int), 0)
        highs = np.minimum((centres + reach * width + 0.5).astype(int), size)
        cells = np.arange(size)
        weights = curve((cells - centres[:, None] + 0.5) / width)
        weights *= (cells >= lows[:, None]) & (cells < highs[:, None])
        return weights / weights.sum(1, keepdims=True)

    return matrix


def _nearest(count: int, size: int, corners: bool, factor: float | int | None) -> np.ndarray:
    del corners
    # Of features that keep their size torch makes a copy, whatever the factor.
    return _picked(count, size, 1.0 if count == size else factor, 0.0)


def _nearest_exact(count: int, size: int, corners: bool, factor: float | int | None) -> np.ndarray:
    del corners
    return _picked(count, size, factor, 0.5)


def _picked(count: int, size: int, factor: float | int | None, shift: float) -> np.ndarray:
    # In float32, as torch: where a place falls on a whole number the rounding decides.
    step = np.float32(1 / factor) if factor else np.float32(size) / np.float32(count)
    places = (np.arange(count, dtype=np.float32) + np.float32(shift)) * step
    return np.eye(size)[np.minimum(np.floor(places).astype(int), size - 1)]


def _resized(x: Tensor, sizes: Sequence[int], matrices: Sequence[np.ndarray]) -> Tensor:
    values = x.last()
    for axis, (count, matrix) in enumerate(zip(sizes, matrices, strict=True), 1):
        size = values.shape[axis]
        if matrix.shape == (size, size) and (matrix == np.eye(size)).all():
            continue
        if count % size == 0 and (matrix == np.repeat(np.eye(size), count // size, 0)).all():
            values = jnp.repeat(values, count // size, axis)
            continue
        weights = jnp.asarray(matrix, values.dtype)
        values = jnp.moveaxis(
            lax.dot_general(
                values,
                weights,
                (((axis,), (1,)), ((), ())),
                precision=lax.Precision.HIGHEST,  # few products, and the image itself among them
            ),
            -1,
            axis,
        )
    return of_last(values)


_KINDS: dict[str, tuple[Callable[..., np.ndarray], bool]] = {
    "upsample_nearest": (_nearest, False),
    "_upsample_nearest_exact": (_nearest_exact, False),
    "upsample_linear": (_bilinear, True),
    "upsample_bilinear": (_bilinear, True),
    "upsample_bicubic": (_bicubic, True),
    "_upsample_bilinear_aa": (_antialiased(_triangle, 1), True),
    "_upsample_bicubic_aa": (_antialiased(_cubic(-0.5), 2), True),
}
"""By ATen's name, the weights along an axis and whether ``align_corners`` is among the arguments"""


def _upsample(weights: Callable[..., np.ndarray], takes_corners: bool) -> Callable[..., Tensor]:
    def call(
        input: Tensor, output_size: Sequence[int] | None, *arguments: Any, **keywords: Any
    ) -> Tensor:
        given = list(arguments)
        corners = False
        if takes_corners:
            corners = given.pop(0) if given else keywords.get("align_corners", False)
        # Two overloads: `scale_factors` as one list, or `scales_h, scales_w` (or `scales`).
        named = [keywords[key] for key in ("scales", "scales_h", "scales_w") if key in keywords]
        factors = keywords.get("scale_factors") or given or named
        if len(factors) == 1 and isinstance(factors[0], tuple | None):
            factors = factors[0]
        sizes = input.shape[2:]
        factors = list(factors or [None] * len(sizes))
        factors += [None] * (len(sizes) - len(factors))
        counts = output_size or [
            math.floor(size * factor) for size, factor in zip(sizes, factors, strict=True)
        ]
        matrices = [
            weights(count, size, corners, factor)
            for count, size, factor in zip(counts, sizes, factors, strict=True)
        ]
        return _resized(input, counts, matrices)

    return call


for _name, _kind in _KINDS.items():
    _stem, _aa, _tail = _name.partition("_aa")
    _ranks = {"nearest": (1, 2, 3), "exact": (1, 2, 3), "linear": (1,)}.get(
        _stem.rsplit("_", 1)[-1], (2,)
    )
    for _rank in _ranks:
        operation(f"{_stem}{_rank}d{_aa}")(_upsample(*_kind))


@operation("grid_sampler", "grid_sampler_2d")
def _grid_sampler(
    input: Tensor,
    grid: Tensor,
    interpolation_mode: int,
    padding_mode: int,
    align_corners: bool,
) -> Tensor:
    """Sample features at places [B, P, Q, (x, y)] between -1 and 1.

    Args:
        input: the features.
        grid: the places.
        interpolation_mode: 0 bilinear, 1 nearest.
        padding_mode: beyond the edge 0 zeros, 1 the edge's cell, 2 mirrored.
        align_corners: whether -1 and 1 mean the centres of the outermost cells, not their edges.

    Raises:
        UserError: another interpolation.
    """
    if interpolation_mode not in (0, 1) or input.ndim != 4:
        raise UserError("grid_sample: gaxjax has it of images, bilinear or nearest, alone")
    values, places = input.last(), grid.plain()

    def coordinate(place: Array, size: int) -> Array:
        at = (place + 1) / 2 * (size - 1) if align_corners else ((place + 1) * size - 1) / 2
        if padding_mode == 2:
            at = _mirrored(at, 0.0 if align_corners else -0.5, size - 1 if align_corners else size)
        return at if padding_mode == 0 else _clipped(at, size - 1)

    height, width = values.shape[1:3]
    across, down = coordinate(places[..., 0], width), coordinate(places[..., 1], height)

    def cell(row: Array, column: Array) -> Array:
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        rows = jnp.clip(row, 0, height - 1).astype(jnp.int32)
        columns = jnp.clip(column, 0, width - 1).astype(jnp.int32)
        picked = jax.vmap(lambda image, i, j: image[i, j])(values, rows, columns)
        return jnp.where(inside[..., None], picked, 0)

    if interpolation_mode == 1:
        return of_last(cell(jnp.round(down), jnp.round(across)))
    top, left = jnp.floor(down), jnp.floor(across)
    below, right = (down - top)[..., None], (across - left)[..., None]
    y = cell(top, left) * (1 - below) * (1 - right) + cell(top, left + 1) * (1 - below) * right
    y = y + cell(top + 1, left) * below * (1 - right) + cell(top + 1, left + 1) * below * right
    return of_last(y)


def _clipped(at: Array, last: int) -> Array:
    # Where it is clipped, also at the edges themselves, torch's derivative is 0.
    return jnp.where((at > 0) & (at < last), at, lax.stop_gradient(jnp.clip(at, 0, last)))


def _mirrored(at: Array, low: float, span: int) -> Array:
    if span == 0:
        return jnp.zeros_like(at)
    distance = jnp.abs(at - low)
    flips, extra = jnp.floor(distance / span), jnp.mod(distance, span)
    return jnp.where(flips % 2 == 0, extra, span - extra) + low
