"""Matrix products and attention: operands keep their type, which XLA adds up as it sees fit."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from gaxjax.models.graph.promotion import wide
from gaxjax.models.graph.table import operation
from gaxjax.models.graph.tensor import Tensor, tensor, without

__all__: list[str] = []


@operation("linear")
def _linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return ``input @ weight.T + bias``, with the other axes where they lie."""
    axis = input.axis(-1)
    y = lax.dot_general(input.array, weight.plain(), (((axis,), (weight.ndim - 1,)), ((), ())))
    y = y if bias is None else y + bias.array
    order = without(input.order, (axis,))
    return Tensor(y, (*order, y.ndim - 1) if weight.ndim == 2 else order)


@operation("matmul", "mm", "bmm", "dot", "mv")
def _matmul(self: Tensor, other: Tensor) -> Tensor:
    return tensor(jnp.matmul(self.plain(), other.plain()))


@operation("outer", "ger")
def _outer(self: Tensor, vec2: Tensor) -> Tensor:
    return tensor(jnp.outer(self.array, vec2.array))


@operation("addmm", "baddbmm", "addmv")
def _added_product(
    self: Tensor, first: Tensor, second: Tensor, *, beta: float | int = 1, alpha: float | int = 1
) -> Tensor:
    """Return ``beta · self + alpha · first @ second``."""
    y = jnp.matmul(first.plain(), second.plain())
    y = y if alpha == 1 else alpha * y
    if beta == 0:
        return tensor(y)
    return tensor(y + (self.plain() if beta == 1 else beta * self.plain()))


@operation("einsum")
def _einsum(equation: str, tensors: Sequence[Tensor], *, path: Any = None) -> Tensor:
    return tensor(jnp.einsum(equation, *(each.plain() for each in tensors)))


@operation("bilinear")
def _bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return a bilinear form of the last axes for each output."""
    operands = (value.plain() for value in (input1, weight, input2))
    y = jnp.einsum("...i,oij,...j->...o", *operands)
    return tensor(y if bias is None else y + bias.array)


@operation("scaled_dot_product_attention")
def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float | int = 0.0,
    is_causal: bool = False,
    *,
    scale: float | int | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Return ``softmax(query @ key.T · scale + mask) @ value``, per head.

    Args:
        query: [..., heads, L, d].
        key: [..., heads, S, d]; with `enable_gqa` fewer heads, each for several of the query's.
        value: [..., heads, S, e]; likewise.
        attn_mask: which pairs count, or numbers to add; broadcasts with [..., heads, L, S].
        dropout_p: of training; nothing is dropped here.
        is_causal: whether the i-th query sees the first i keys alone.
        scale: or 1 / sqrt(d).
        enable_gqa: see `key`.
    """
    q, k, v = query.plain(), key.plain(), value.plain()
    if enable_gqa:
        k, v = (jnp.repeat(each, q.shape[-3] // each.shape[-3], axis=-3) for each in (k, v))
    factor = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    scores = jnp.matmul(q * factor, jnp.swapaxes(k, -1, -2))
    mask = None if attn_mask is None else attn_mask.plain()
    if is_causal:
        mask = jnp.tri(scores.shape[-2], scores.shape[-1], dtype=bool)
    return tensor(jnp.matmul(_shares(scores, mask).astype(v.dtype), v))


def _shares(scores: Array, mask: Array | None) -> Array:
    scores = wide(scores)
    if mask is None:
        return jax.nn.softmax(scores)
    if mask.dtype != bool:
        return jax.nn.softmax(scores + mask)
    # A query that sees nothing gets nothing, as in torch.
    shares = jax.nn.softmax(jnp.where(mask, scores, jnp.finfo(scores.dtype).min))
    return jnp.where(mask, shares, 0)
