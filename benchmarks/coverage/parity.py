"""One network against torch: logits and input gradients, in float64, float32 and bfloat16."""

import contextlib
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.coverage.zoo import CLASSES, ZooModel, module_of
from benchmarks.measure.rows import Row

__all__ = ["EXACT", "compare", "compare_module", "float64_throughout"]

EXACT = 1e-12
"""Relative: what float64 leaves of another order of summation."""

LEAST_EFFORT = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
"""A graph of hundreds of nodes compiles for minutes otherwise; it is run once."""

_MANY_NUMBERS = 4e8
_SEED = 0


def compare(model: ZooModel) -> Row:
    """Compare a network of a library, with random weights that are the same in every run."""
    return compare_module(module_of(model), model.size)


def compare_module(
    module: Any, size: int, dtypes: tuple[str, ...] = ("float64", "float32", "bfloat16")
) -> Row:
    """Import a network and hold it to torch in float64; needs JAX with 64 bits switched on.

    Args:
        module: in eval mode, of `CLASSES` classes; it is cast to float64.
        size: height and width of the image.
        dtypes: in which to compute; float64 first.

    Returns:
        Of the graph its nodes, weights and operations; of each arithmetic the largest difference
        of logits, and but for bfloat16 of the gradient of a random combination of logits by the
        image, over the largest number of torch's in float64; how many products of bfloat16's
        program are float32; seconds. Where float64 differs by more than 1e-12, also the difference
        from torch with its own float32 constants and casts replaced, from torch with the
        image twice in a batch, and what becomes of torch's own numbers when every pixel moves by
        one rounding; a network of more than 4e8 numbers is freed before that could be asked.
    """
    from converters import import_module

    started = time.monotonic()
    module = module.double()
    imported = import_module(module, size=size)
    seconds = {"import": time.monotonic() - started}
    rng = np.random.default_rng(_SEED)
    image = rng.normal(size=(1, size, size, imported.graph.image[0]))
    weights = rng.normal(size=(1, CLASSES))
    wanted = _torch(module, image, weights)
    freed = sum(each.numel() for each in module.parameters()) > _MANY_NUMBERS
    if freed:
        module.to("meta")  # its weights in float64 would fill the memory beside ours
    row: Row = {
        "nodes": len(imported.graph.nodes),
        "numbers": sum(array.size for array in imported.weights.values()),
        "operations": dict(Counter(node.operation for node in imported.graph.nodes).most_common()),
        "spread_of_logits": float(wanted[0].std()),
        "notes": list(imported.notes),
    }
    for dtype in dtypes:
        started = time.monotonic()
        given, products = _jax(imported, image, weights, dtype)
        row[dtype] = _differences(given, wanted)
        seconds[dtype] = time.monotonic() - started
        if dtype == "float64":
            if max(row[dtype].values()) > EXACT and not freed:
                with float64_throughout():
                    row["float64_throughout"] = _differences(given, _torch(module, image, weights))
                row["of_two_images"] = _differences(given, _torch(module, image, weights, times=2))
                nearly = np.nextafter(image, np.inf)
                row["one_rounding"] = _differences(_torch(module, nearly, weights), wanted)
        elif dtype == "bfloat16":
            row["products"], row["float32_products"] = products
    return row | {"seconds": seconds}


@contextlib.contextmanager
def float64_throughout() -> Iterator[None]:
    """Let torch compute in float64 where its code has a float32 constant, or models cast to it.

    Its gradients of hardsigmoid and hardswish hold 1/6 in float32.
    """
    import torch
    from torch.nn import functional

    def to(self: Any, *given: Any, **named: Any) -> Any:
        def wide(value: Any) -> Any:
            return torch.float64 if value is torch.float32 else value

        return cast(self, *map(wide, given), **{name: wide(each) for name, each in named.items()})

    cast = torch.Tensor.to
    replaced: list[tuple[Any, str, Any]] = [
        (functional, "hardsigmoid", lambda x, inplace=False: functional.relu6(x + 3) / 6),
        (functional, "hardswish", lambda x, inplace=False: x * (functional.relu6(x + 3) / 6)),
        (torch.Tensor, "float", torch.Tensor.double),
        (torch.Tensor, "to", to),
    ]
    kept = [(owner, name, getattr(owner, name)) for owner, name, _ in replaced]
    for owner, name, value in replaced:
        setattr(owner, name, value)
    try:
        yield
    finally:
        for owner, name, value in kept:
            setattr(owner, name, value)


def _torch(
    module: Any, image: np.ndarray, weights: np.ndarray, *, times: int = 1
) -> list[np.ndarray]:
    import torch

    x = torch.from_numpy(image.transpose(0, 3, 1, 2).copy()).repeat(times, 1, 1, 1).requires_grad_()
    logits = module(x)
    (gradient,) = torch.autograd.grad((logits * torch.from_numpy(weights)).sum(), x)
    return [logits[:1].detach().double().numpy(), gradient[:1].numpy().transpose(0, 2, 3, 1)]


def _jax(
    imported: Any, image: np.ndarray, weights: np.ndarray, dtype: str
) -> tuple[list[np.ndarray], tuple[int, int]]:
    import jax
    import jax.numpy as jnp
    from flax import nnx

    from gaxjax.models import GraphNetwork

    arrays = {
        name: jnp.asarray(array, dtype) if array.dtype.kind == "f" else jnp.asarray(array)
        for name, array in imported.weights.items()
    }
    structure, state = nnx.split(GraphNetwork(imported.graph, arrays))

    def run(state: Any, x: Any) -> list[Any]:
        if dtype == "bfloat16":
            return [nnx.merge(structure, state)(x)]
        logits, backward = jax.vjp(nnx.merge(structure, state), x)
        return [logits, backward(jnp.asarray(weights, logits.dtype))[0]]

    x = jnp.asarray(image, dtype)
    with jax.default_matmul_precision("highest"):
        traced = jax.jit(run).trace(state, x)
        given = traced.lower().compile(LEAST_EFFORT)(state, x)
    return [np.asarray(each, np.float64) for each in given], _products(traced.jaxpr.jaxpr)


def _products(jaxpr: Any) -> tuple[int, int]:
    """Return how many products and convolutions there are, and how many of operands in float32."""
    total, wide = 0, 0
    for equation in jaxpr.eqns:
        if equation.primitive.name in ("dot_general", "conv_general_dilated"):
            total += 1
            wide += any(each.aval.dtype.itemsize > 2 for each in equation.invars)
        for inner in _inner(equation):
            more = _products(inner)
            total, wide = total + more[0], wide + more[1]
    return total, wide


def _inner(equation: Any) -> list[Any]:
    found = []
    for value in equation.params.values():
        for each in value if isinstance(value, tuple | list) else [value]:
            inner = getattr(each, "jaxpr", each)
            if hasattr(inner, "eqns"):
                found.append(inner)
    return found


def _differences(given: list[np.ndarray], wanted: list[np.ndarray]) -> dict[str, float]:
    names = ("logits", "gradient")
    found = {}
    for name, mine, theirs in zip(names, given, wanted, strict=False):
        gap = float(np.abs(mine - theirs).max() / np.abs(theirs).max())
        found[name] = gap if np.isfinite(gap) else float("inf")
    return found
