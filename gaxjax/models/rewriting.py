"""Networks rewritten: batch norm folded into convolutions, and the layers of the fast form."""

from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from gaxjax.models.classifier import Classifier, as_classifier
from gaxjax.models.graph import rewriting as graph_rewriting
from gaxjax.models.graph.network import GraphNetwork
from gaxjax.models.layers import BatchNorm, Conv, Identity, Linear
from gaxjax.ops import WINDOW, transformed_kernel, two_way_product, winograd_convolution

__all__ = ["TwoWayLinear", "WinogradConv", "fast_form", "fold_batch_norm", "use_fast_layers"]


def fold_batch_norm(model: nnx.Module) -> nnx.Module:
    """Return a copy of ``model`` without batch norm whose logits agree with ``model.eval()``.

    ``kernel' = kernel * f`` and ``bias' = (bias - mean) * f + shift``, where
    ``f = scale / sqrt(var + eps)`` per output channel. It is computed in float64 on the host and
    rounded once, so folding costs no more accuracy than one rounding of each weight.

    Args:
        model: Any model of `gaxjax.models`. It is left as it is.

    Returns:
        The copy, in inference mode; each `BatchNorm` became an `Identity`, so layer names stay. Of
        an imported network, batch norms with no convolution of their own before them stay.

    Example:
        >>> from gaxjax.models.registry import build
        >>> net = build("small_resnet", num_classes=10, rngs=nnx.Rngs(0))
        >>> folded = fold_batch_norm(net)
    """
    if isinstance(model, GraphNetwork):
        return GraphNetwork(*graph_rewriting.fold_batch_norm(model.graph, _host(model)))
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


def _host(model: GraphNetwork) -> dict[str, np.ndarray]:
    return {name: np.asarray(variable[...]) for name, variable in model.weights.items()}


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


_FEWEST_CHANNELS = 48  # with fewer, transforming takes longer than the multiplications it saves


def use_fast_layers(model: nnx.Module) -> nnx.Module:
    """Return a copy of ``model`` whose layers are those of the fastest input gradients.

    3 × 3 convolutions of stride 1 become `WinogradConv`, and linear layers `TwoWayLinear`. It is
    for frozen weights: every such kernel is kept twice, those of the convolutions transformed, at
    eight times the memory. Layer names stay.

    Example:
        >>> from gaxjax.models.checkpoint import load
        >>> fast = use_fast_layers(fold_batch_norm(load("model.ckpt")[0]))
    """
    if isinstance(model, GraphNetwork):
        return GraphNetwork(*graph_rewriting.use_fast_operations(model.graph, _host(model)))
    copy = nnx.clone(model)
    for _, holder in list(nnx.iter_modules(copy)):
        if isinstance(holder, nnx.List):
            for position, layer in enumerate(holder):
                holder[position] = _fast(layer)
        else:
            for name, layer in list(vars(holder).items()):
                if (fast := _fast(layer)) is not layer:
                    setattr(holder, name, fast)
    return copy


def _fast(layer: Any) -> Any:
    if isinstance(layer, Linear):
        return TwoWayLinear(layer)
    return WinogradConv(layer) if _pays(layer) else layer


def _pays(layer: Any) -> bool:
    if not isinstance(layer, Conv):
        return False
    window, channels = layer.kernel[...].shape[:2], layer.kernel[...].shape[2:]
    same_size = (layer.stride, layer.padding, layer.groups) == (1, 1, 1)
    return window == (WINDOW, WINDOW) and same_size and min(channels) >= _FEWEST_CHANNELS


class WinogradConv(nnx.Module):
    """The same function as a 3 × 3 convolution of stride 1 and padding 1, with frozen weights.

    Attributes:
        kernel: transformed, [36, I, O].
        flipped: likewise, of the convolution that is the input gradient, [36, O, I].
        bias: [O], or None.
    """

    def __init__(self, conv: Conv):
        kernel = np.asarray(conv.kernel[...])
        self.kernel = nnx.Param(jnp.asarray(transformed_kernel(kernel)))
        flipped = kernel[::-1, ::-1].swapaxes(2, 3)
        self.flipped = nnx.Param(jnp.asarray(transformed_kernel(flipped)))
        self.bias = conv.bias

    def __call__(self, x: Float[Array, "B H W I"]) -> Float[Array, "B H W O"]:
        """Convolve ``x`` and add the bias, where there is one."""
        y = winograd_convolution(x, self.kernel[...], self.flipped[...])
        return y if self.bias is None else y + self.bias[...]


class TwoWayLinear(nnx.Module):
    """The same function as a linear layer, with frozen weights.

    Attributes:
        kernel: [I, O].
        turned: its transpose.
        bias: [O], or None.
    """

    def __init__(self, linear: Linear):
        self.kernel = linear.kernel
        self.turned = nnx.Param(jnp.asarray(np.asarray(linear.kernel[...]).T.copy()))
        self.bias = linear.bias

    def __call__(self, x: Float[Array, "B I"]) -> Float[Array, "B O"]:
        """Multiply ``x`` and add the bias, where there is one."""
        y = two_way_product(x, self.kernel[...], self.turned[...])
        return y if self.bias is None else y + self.bias[...]


def fast_form(classifier: Classifier, precision: str, platform: str) -> Classifier | None:
    """Return a form of the classifier that a platform computes faster, None where there is none.

    The one place where it is chosen. On a CPU `float32` means Winograd's convolutions, with five
    times the rounding error of direct ones (`highest` means direct); on a GPU `float32` is TF32,
    which is less exact than that, and faster.
    """
    if platform != "cpu" or precision != "float32" or classifier.module is None:
        return None
    network = use_fast_layers(classifier.module(classifier.weights))
    return as_classifier(
        network,
        num_classes=classifier.num_classes,
        mean=classifier.mean,
        std=classifier.std,
        fingerprint=classifier.fingerprint,
    )
