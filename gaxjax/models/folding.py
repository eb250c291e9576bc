"""Folding batch norm into the convolution before it: the same function with fewer operations."""

from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from gaxjax.models.layers import BatchNorm, Conv, Identity

__all__ = ["fold_batch_norm"]


def fold_batch_norm(model: nnx.Module) -> nnx.Module:
    """Return a copy of ``model`` without batch norm whose logits agree with ``model.eval()``.

    ``kernel' = kernel * f`` and ``bias' = (bias - mean) * f + shift``, where
    ``f = scale / sqrt(var + eps)`` per output channel. It is computed in float64 on the host and
    rounded once, so folding costs no more accuracy than one rounding of each weight.

    Args:
        model: Any model of `gaxjax.models`. It is left as it is.

    Returns:
        The copy, in inference mode; each `BatchNorm` became an `Identity`, so layer names stay.

    Example:
        >>> net = build("small_resnet", num_classes=10, rngs=nnx.Rngs(0))
        >>> folded = fold_batch_norm(net)
    """
    folded = nnx.clone(model)
    folded.eval()
    for holder, conv_name, norm_name in list(_pairs(folded)):
        conv, norm = _get(holder, conv_name), _get(holder, norm_name)
        kernel, bias = _folded(conv, norm)
        dtype = conv.kernel[...].dtype
        conv.kernel = nnx.Param(jnp.asarray(kernel.astype(dtype)))
        conv.bias = nnx.data(nnx.Param(jnp.asarray(bias.astype(dtype))))
        if isinstance(norm_name, int):
            holder[norm_name] = Identity()
        else:
            setattr(holder, norm_name, Identity())
    left = [path for path, module in nnx.iter_modules(folded) if isinstance(module, BatchNorm)]
    assert not left, f"batch norm without a convolution before it: {left}"
    return folded


def _folded(conv: Conv, norm: BatchNorm) -> tuple[np.ndarray, np.ndarray]:
    def exact(variable: nnx.Variable) -> np.ndarray:
        return np.asarray(variable[...]).astype(np.float64)

    factor = exact(norm.scale) / np.sqrt(exact(norm.var) + norm.eps)
    bias = 0.0 if conv.bias is None else exact(conv.bias)
    return exact(conv.kernel) * factor, (bias - exact(norm.mean)) * factor + exact(norm.bias)


def _pairs(model: nnx.Module) -> Iterator[tuple[Any, str | int, str | int]]:
    """Find each convolution and its batch norm: ``conv1``/``bn1``, or neighbours in a list."""
    for _, module in nnx.iter_modules(model):
        if isinstance(module, nnx.List):
            for i in range(len(module) - 1):
                if isinstance(module[i], Conv) and isinstance(module[i + 1], BatchNorm):
                    yield module, i, i + 1
        else:
            for name, norm in vars(module).items():
                if isinstance(norm, BatchNorm):
                    yield module, name.replace("bn", "conv"), name


def _get(holder: Any, name: str | int) -> Any:
    return holder[name] if isinstance(name, int) else getattr(holder, name)
