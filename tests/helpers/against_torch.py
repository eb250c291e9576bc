"""Hold an operation of the graph's table to torch: values, input gradients, types."""

import operator
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import strategies as st

from gaxjax.models.graph.operations import OPERATIONS
from gaxjax.models.graph.tensor import Tensor

__all__ = ["SEEDS", "Stored", "agree", "entered", "normal", "ordinary", "shapes", "stays_bfloat16"]

TOLERANCE = 1e-12
"""Of the largest number of an array: what float64 leaves of the order of summation."""

_QUICK = {"xla_backend_optimization_level": 0}
"""Compiled in a third of the time; what is compared is small."""

SEEDS = st.integers(0, 2**32 - 1)

IN_NETWORKS = frozenset(
    [
        "_unsafe_view",
        "adaptive_avg_pool2d",
        "add",
        "addcmul",
        "amax",
        "avg_pool1d",
        "avg_pool2d",
        "batch_norm",
        "cat",
        "clamp_min",
        "col2im",
        "conv1d",
        "conv2d",
        "conv3d",
        "conv_transpose2d",
        "copy",
        "div",
        "einsum",
        "eq",
        "expand",
        "fill",
        "gelu",
        "getitem",
        "group_norm",
        "hardsigmoid",
        "hardswish",
        "hardtanh",
        "im2col",
        "index",
        "layer_norm",
        "leaky_relu",
        "linalg_vector_norm",
        "linear",
        "lstm",
        "masked_fill",
        "matmul",
        "max.dim",
        "max_pool2d",
        "mean",
        "mul",
        "ne",
        "neg",
        "new_zeros",
        "pad",
        "permute",
        "pow",
        "relu",
        "repeat_interleave",
        "roll",
        "rsqrt",
        "scaled_dot_product_attention",
        "select",
        "sigmoid",
        "silu",
        "slice",
        "slice_scatter",
        "softmax",
        "split",
        "split_with_sizes",
        "square",
        "squeeze",
        "stack",
        "sub",
        "sum",
        "tanh",
        "transpose",
        "type_as",
        "unbind",
        "unfold",
        "unsqueeze",
        "upsample_bicubic2d",
        "upsample_bilinear2d",
        "upsample_nearest2d",
        "view",
    ]
)
"""What the networks of docs/networks.md are made of."""


@dataclass(frozen=True)
class Stored:
    """An array of torch's whose axes the graph stores as ``array.transpose(axes)``: a kernel."""

    array: np.ndarray
    axes: tuple[int, ...]


def shapes(least: int = 0, most: int = 4, side: int = 4) -> st.SearchStrategy[tuple[int, ...]]:
    """Draw shapes of ``least`` to ``most`` axes, of 1 to ``side`` cells each."""
    return st.lists(st.integers(1, side), min_size=least, max_size=most).map(tuple)


def normal(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Return normal numbers in float64."""
    return np.random.default_rng(seed).normal(size=shape)


def entered(module: Any) -> set[str]:
    """Return the names that a file entered into the table of operations."""
    return {name for name, made in OPERATIONS.items() if made.__module__ == module.__name__}


def ordinary(names: Iterable[str]) -> list[Any]:
    """Return names of operations to be tested, in order; slowly those that are seldom met."""
    return [
        name if name in IN_NETWORKS else pytest.param(name, marks=pytest.mark.slow)
        for name in sorted(names)
    ]


def agree(
    name: str,
    arguments: tuple[Any, ...],
    keywords: Mapping[str, Any] | None = None,
    *,
    seed: int = 0,
    tolerance: float = TOLERANCE,
    gradients: bool = True,
    bfloat16: bool = False,
    theirs: Callable[..., Any] | None = None,
) -> None:
    """Assert that an operation gives torch's values, shapes, types and gradients in float64.

    Args:
        name: in the table; `torch.ops.aten` has it under the same one, unless ``theirs`` is given.
        arguments: as a node's, with arrays of numpy (or `Stored`) for tensors, tuples for lists,
            types as text.
        keywords: likewise.
        seed: of the axis orders in which our tensors lie, and of the cotangents.
        tolerance: of the largest number in an array.
        gradients: compare these too, for every floating array.
        bfloat16: assert as well that the floating arrays in bfloat16 give results in bfloat16, with
            no NaN where torch has none.
        theirs: torch's function, of the same arguments.
    """
    keywords = dict(keywords or {})
    arrays = [leaf for leaf in _leaves((arguments, keywords)) if _is_array(leaf)]
    differentiable = [gradients and _given(leaf).dtype.kind == "f" for leaf in arrays]

    inputs = [torch.tensor(_given(leaf)) for leaf in arrays]
    for each, wanted in zip(inputs, differentiable, strict=True):
        each.requires_grad_(wanted)
    given, named = _filled((arguments, keywords), iter(inputs), torch_types=True)
    torch.set_default_dtype(torch.float64)  # what integers become, as under `enable_x64`
    try:
        expected = _results((theirs or _of_torch(name))(*given, **named))
    finally:
        torch.set_default_dtype(torch.float32)

    with jax.enable_x64(True):
        draw = random.Random(f"{name} {seed}")
        laid = [_laid(leaf, draw) for leaf in arrays]

        def ours(moving: list[Any]) -> list[Any]:
            new = iter(moving)
            tensors = [
                Tensor(next(new) if wanted else each.array, each.order)
                for each, wanted in zip(laid, differentiable, strict=True)
            ]
            given, named = _filled((arguments, keywords), iter(tensors))
            return [value.plain() for value in _results(OPERATIONS[name](*given, **named))]

        rng = np.random.default_rng(seed)
        cotangents = [rng.normal(size=tuple(right.shape)) for right in expected]

        def compiled(moving: list[Any]) -> tuple[list[Any], list[Any], list[Any]]:
            got, backward = jax.vjp(ours, moving)
            assert len(got) == len(expected), f"{len(got)} results, not {len(expected)}"
            pulled = [
                jnp.asarray(given, mine.dtype).reshape(mine.shape)
                if jnp.issubdtype(mine.dtype, jnp.floating)
                else np.zeros(mine.shape, jax.dtypes.float0)
                for given, mine in zip(cotangents, got, strict=True)
            ]
            low = ours([each.astype(jnp.bfloat16) for each in moving]) if bfloat16 else []
            return got, backward(pulled)[0], low

        moving = [each.array for each, wanted in zip(laid, differentiable, strict=True) if wanted]
        got, pulled, low = jax.jit(compiled, compiler_options=_QUICK)(moving)
    if bfloat16 and moving:
        _no_worse(name, low, expected)
    for mine, right in zip(got, expected, strict=True):
        _same(name, np.asarray(mine), right.detach().numpy(), tolerance)
    leaves = [each for each, wanted in zip(inputs, differentiable, strict=True) if wanted]
    right = _torch_gradients(expected, cotangents, leaves)
    moved = [
        (each.order, leaf)
        for each, leaf, wanted in zip(laid, arrays, differentiable, strict=True)
        if wanted
    ]
    for mine, (order, leaf), gradient in zip(pulled, moved, right, strict=True):
        wanted = gradient.numpy(force=True)
        wanted = wanted.transpose(leaf.axes) if isinstance(leaf, Stored) else wanted
        _same(f"{name}'s gradient", np.asarray(mine).transpose(order), wanted, tolerance)


def _no_worse(name: str, low: list[Any], expected: list[Any]) -> None:
    for mine, right in zip(low, expected, strict=True):
        if right.is_floating_point():
            assert mine.dtype == jnp.bfloat16, f"{name}: {mine.dtype} of bfloat16"
            new = np.isnan(np.asarray(mine, np.float64)) & ~right.isnan().numpy()
            assert not new.any(), f"{name}: NaN in bfloat16"


def stays_bfloat16(
    name: str,
    arguments: tuple[Any, ...],
    keywords: Mapping[str, Any] | None = None,
    *,
    seed: int = 0,
    tolerance: float = 0.05,
) -> None:
    """Assert that bfloat16 gives bfloat16, no NaN, no product in float32, and the value of float32.

    Args:
        name: in the table.
        arguments: as `agree` takes them, finite.
        keywords: likewise.
        seed: of the axis orders.
        tolerance: of the largest number in an array, against the same in float32: bfloat16 keeps
            8 bits, and an operation may round several times.
    """
    draw = random.Random(f"{name} {seed}")
    named = dict(keywords or {})
    arrays = [leaf for leaf in _leaves((arguments, named)) if _is_array(leaf)]
    laid = [_laid(leaf, draw) for leaf in arrays]

    def run(dtype: Any) -> Callable[[list[Any]], list[Any]]:
        def ours(values: list[Any]) -> list[Any]:
            tensors = iter(
                lies.like(value.astype(dtype) if value.dtype == jnp.bfloat16 else value)
                for lies, value in zip(laid, values, strict=True)
            )
            given, kept = _filled((arguments, named), tensors)
            return [value.plain() for value in _results(OPERATIONS[name](*given, **kept))]

        return ours

    rounded = [
        each.array.astype(jnp.bfloat16 if each.array.dtype.kind == "f" else each.array.dtype)
        for each in laid
    ]
    program = str(jax.make_jaxpr(run(jnp.bfloat16))(rounded))
    for line in program.splitlines():
        product = "dot_general[" in line or "conv_general_dilated[" in line
        assert not (product and ":f32" in line.split("=")[0]), f"{name}: a product in float32"
    for mine, right in zip(run(jnp.bfloat16)(rounded), run(jnp.float32)(rounded), strict=True):
        if not jnp.issubdtype(right.dtype, jnp.floating):
            continue
        assert mine.dtype == jnp.bfloat16, f"{name}: {mine.dtype} of bfloat16"
        wide, right = np.asarray(mine, np.float64), np.asarray(right, np.float64)
        assert np.isnan(wide).sum() == np.isnan(right).sum(), f"{name}: NaN in bfloat16"
        _close(f"{name} in bfloat16", wide, right, tolerance)


def _of_torch(name: str) -> Callable[..., Any]:
    if name == "getitem":
        return operator.getitem
    function = torch.ops.aten
    for part in name.split("."):
        function = getattr(function, part)
    return function


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray | np.generic | Stored)


def _given(leaf: Any) -> np.ndarray:
    return np.asarray(leaf.array if isinstance(leaf, Stored) else leaf)


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        value = tuple(value.values())
    if isinstance(value, tuple):
        return [leaf for item in value for leaf in _leaves(item)]
    return [value]


def _filled(value: Any, arrays: Any, torch_types: bool = False) -> Any:
    """Return arguments with the arrays in them replaced, in turn."""
    if isinstance(value, dict):
        return {key: _filled(item, arrays, torch_types) for key, item in value.items()}
    if isinstance(value, tuple):
        items = [_filled(item, arrays, torch_types) for item in value]
        return items if torch_types else tuple(items)
    if _is_array(value):
        return next(arrays)
    if torch_types and isinstance(value, str) and isinstance(getattr(torch, value, 0), torch.dtype):
        return getattr(torch, value)
    return value


def _laid(leaf: Any, draw: random.Random) -> Tensor:
    """Return a tensor that lies in some order; integers as int32, as a graph's."""
    array = _given(leaf)
    array = array.astype(np.int32) if array.dtype == np.int64 else array
    if isinstance(leaf, Stored):
        return Tensor(jnp.asarray(array.transpose(leaf.axes)), tuple(range(array.ndim)))
    order = list(range(array.ndim))
    if draw.random() < 0.75:
        draw.shuffle(order)
    back = sorted(range(array.ndim), key=order.__getitem__)
    return Tensor(jnp.asarray(array.transpose(back)), tuple(order))


def _results(value: Any) -> list[Any]:
    if isinstance(value, Tensor | torch.Tensor):
        return [value]
    return [result for item in value if item is not None for result in _results(item)]


def _torch_gradients(expected: Any, cotangents: Any, leaves: Any) -> list[torch.Tensor]:
    total = sum(
        (result * torch.tensor(each)).sum()
        for result, each in zip(expected, cotangents, strict=True)
        if result.requires_grad
    )
    if not isinstance(total, torch.Tensor):
        return [torch.zeros_like(leaf) for leaf in leaves]
    return list(torch.autograd.grad(total, leaves, allow_unused=True, materialize_grads=True))


def _same(name: str, mine: Any, right: np.ndarray, tolerance: float) -> None:
    assert mine.shape == right.shape, f"{name}: shape {mine.shape}, not {right.shape}"
    kinds = {"i": "integer", "u": "integer", "b": "bool", "f": "floating"}
    assert kinds[mine.dtype.kind] == kinds[right.dtype.kind], f"{name}: {mine.dtype}"
    assert mine.dtype.kind != "f" or mine.dtype == np.float64, f"{name}: {mine.dtype}"
    _close(name, mine.astype(np.float64), right.astype(np.float64), tolerance)


def _close(name: str, mine: np.ndarray, right: np.ndarray, tolerance: float) -> None:
    finite = np.abs(right[np.isfinite(right)])
    scale = finite.max() if finite.size and finite.max() > 0 else 1.0
    np.testing.assert_allclose(mine, right, rtol=0, atol=tolerance * scale, err_msg=name)
