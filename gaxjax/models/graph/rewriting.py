"""Faster graphs of the same function: features flattened channels last, norms folded, gradients."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from gaxjax import ops
from gaxjax.models.graph.form import Graph, Node, Value, Weight, replaced
from gaxjax.models.graph.table import OPERATIONS, operation
from gaxjax.models.graph.tensor import Tensor, of_last, without

__all__ = ["flatten_channels_last", "fold_batch_norm", "use_fast_operations"]

Weights = dict[str, Any]
"""Arrays by name."""

_CONVOLUTIONS = ("conv1d", "conv2d", "conv3d")


_FLATTENING = ("view", "reshape", "_unsafe_view", "flatten")
_KEEPING_CHANNELS = frozenset(
    (
        *("relu", "relu6", "hardtanh", "leaky_relu", "prelu", "elu", "gelu", "silu", "hardswish"),
        *("sigmoid", "tanh", "softplus", "mish", "batch_norm", "group_norm", "max_pool2d"),
        *("avg_pool2d", "adaptive_avg_pool2d", "_adaptive_avg_pool2d", "constant_pad_nd"),
    )
)


def flatten_channels_last(graph: Graph, weights: Mapping[str, Any]) -> tuple[Graph, Weights]:
    """Flatten features height by width by channel where a linear layer takes them; permute that.

    Features lie in memory with their channels last. Flattened as torch does it, channels first,
    either they or the layer's weights (VGG's are 400 MB) were transposed in every step.

    Args:
        graph: as it was imported.
        weights: by name, on the host.
    """
    rewritten = dict(weights)
    changed: dict[str, Node] = {}
    before: dict[str, Node] = {}
    for node in graph.nodes:
        channels, linear = _flattened_channels(graph, weights, node), graph.users.get(node.name, ())
        if channels is None or len(linear) != 1 or linear[0].operation != "linear":
            continue
        weight = linear[0].arguments[1]
        if not isinstance(weight, Weight) or graph.weight_users[weight.name] != (linear[0],):
            continue
        kernel = np.asarray(weights[weight.name])
        outputs, inputs = kernel.shape
        if inputs % channels or inputs == channels:
            continue
        permuted = kernel.reshape(outputs, channels, -1).swapaxes(1, 2).reshape(outputs, inputs)
        rewritten[weight.name] = np.ascontiguousarray(permuted)
        last = Node(f"{node.name}_channels_last", "permute", (node.arguments[0], (0, 2, 3, 1)))
        before[node.name] = last
        changed[node.name] = dataclasses.replace(
            node, operation="view", arguments=(Value(last.name), (1, inputs)), keywords={}
        )
    nodes = []
    for node in graph.nodes:
        nodes += [before[node.name], changed[node.name]] if node.name in before else [node]
    return dataclasses.replace(graph, nodes=tuple(nodes)), rewritten


def _flattened_channels(graph: Graph, weights: Mapping[str, Any], node: Node) -> int | None:
    """Return the channels of the features [1, C, H, W] that a node makes [1, F]; else None."""
    if node.operation not in _FLATTENING or node.keywords:
        return None
    shape = node.arguments[1:]
    flat = shape in ((1,), (1, -1)) if node.operation == "flatten" else _is_row(shape[0])
    source = node.arguments[0]
    while flat and isinstance(source, Value) and source.node in graph.by_name:
        made = graph.by_name[source.node]
        if made.operation == "conv2d" and isinstance(made.arguments[1], Weight):
            return int(weights[made.arguments[1].name].shape[-1])
        if made.operation not in _KEEPING_CHANNELS:
            return None
        source = made.arguments[0]
    return None


def _is_row(shape: Any) -> bool:
    return isinstance(shape, tuple) and len(shape) == 2 and shape[0] == 1


def fold_batch_norm(graph: Graph, weights: Mapping[str, Any]) -> tuple[Graph, Weights]:
    """Fold each batch norm into the convolution before it, where nothing else reads that.

    ``kernel' = kernel * f`` and ``bias' = (bias - mean) * f + shift``, where
    ``f = scale / sqrt(var + eps)`` per output channel: computed in float64 and rounded once.

    Args:
        graph: as it was imported; the weights of its convolutions have the output channels last.
        weights: by name.

    Returns:
        The graph, in which the name of a folded norm's layer means the convolution, and its weights
        alone.
    """
    rewritten = dict(weights)
    changed: dict[str, Node] = {}
    renamed: dict[str, str] = {}
    for norm in graph.nodes:
        conv = _convolution_before(graph, norm)
        if conv is None:
            continue
        scale, shift, mean, var = (
            None if leaf is None else np.asarray(weights[leaf.name]).astype(np.float64)
            for leaf in norm.arguments[1:5]
        )
        assert mean is not None
        assert var is not None
        kernel = np.asarray(weights[conv.arguments[1].name])
        factor = (1.0 if scale is None else scale) / np.sqrt(var + norm.arguments[5])
        old = conv.arguments[2] if len(conv.arguments) > 2 else None
        bias = 0.0 if old is None else np.asarray(weights[old.name]).astype(np.float64)
        new = (bias - mean) * factor + (0.0 if shift is None else shift)
        names = f"{conv.name}.folded_kernel", f"{conv.name}.folded_bias"
        rewritten[names[0]] = (kernel.astype(np.float64) * factor).astype(kernel.dtype)
        rewritten[names[1]] = new.astype(kernel.dtype)
        taken = (conv.arguments[0], *map(Weight, names), *conv.arguments[3:])
        changed[conv.name] = dataclasses.replace(conv, arguments=taken)
        renamed[norm.name] = conv.name
    return _rewritten(graph, rewritten, changed, renamed)


def _convolution_before(graph: Graph, norm: Node) -> Node | None:
    """Return the convolution that a node, being its batch norm, can be folded into."""
    if norm.operation != "batch_norm" or not isinstance(norm.arguments[0], Value):
        return None
    conv = graph.by_name.get(norm.arguments[0].node)
    if conv is None or conv.operation not in _CONVOLUTIONS or conv.keywords:
        return None
    kernel = conv.arguments[1]
    if not isinstance(kernel, Weight) or graph.users[conv.name] != (norm,):
        return None
    bias = conv.arguments[2] if len(conv.arguments) > 2 else None
    known = [leaf is None or isinstance(leaf, Weight) for leaf in (bias, *norm.arguments[1:5])]
    return conv if all(known) and conv.name != graph.output else None


_FEWEST_CHANNELS = 48  # with fewer, transforming takes longer than the multiplications it saves


def use_fast_operations(graph: Graph, weights: Mapping[str, Any]) -> tuple[Graph, Weights]:
    """Compute by the operations of the fastest input gradients.

    Wide 3 × 3 convolutions of stride 1 become `gaxjax.ops.winograd_convolution`, linear layers
    `two_way_product`. It is for frozen weights: every such kernel is kept twice, those of the
    convolutions transformed, at eight times the memory.

    Args:
        graph: as it was imported, or folded.
        weights: by name.
    """
    rewritten = dict(weights)
    changed: dict[str, Node] = {}
    for node in graph.nodes:
        if _is_linear(node, weights):
            operation, two = "two_way_linear", _two_ways
        elif _pays(node, weights):
            operation, two = "winograd", _two_transformed
        else:
            continue
        names = f"{node.name}.{operation}", f"{node.name}.{operation}_back"
        kernel = np.asarray(weights[node.arguments[1].name])
        rewritten |= zip(names, two(kernel), strict=True)
        bias = node.arguments[2] if len(node.arguments) > 2 else None
        taken = (node.arguments[0], *map(Weight, names), bias)
        changed[node.name] = dataclasses.replace(node, operation=operation, arguments=taken)
    return _rewritten(graph, rewritten, changed, {})


def _two_transformed(kernel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    flipped = kernel[::-1, ::-1].swapaxes(2, 3)
    return ops.transformed_kernel(kernel), ops.transformed_kernel(flipped)


def _two_ways(kernel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.ascontiguousarray(kernel.T), kernel


def _is_linear(node: Node, weights: Mapping[str, Any]) -> bool:
    if node.operation != "linear" or node.keywords or not isinstance(node.arguments[1], Weight):
        return False
    return weights[node.arguments[1].name].ndim == 2


def _pays(node: Node, weights: Mapping[str, Any]) -> bool:
    if node.operation != "conv2d" or node.keywords or not isinstance(node.arguments[1], Weight):
        return False
    defaults = (None, 1, 0, 1, 1)  # bias, stride, padding, dilation, groups
    given: tuple[Any, ...] = node.arguments[2:]
    stride, padding, dilation, groups = (given + defaults[len(given) :])[1:]
    same = padding == "same" or _pair(padding) == (1, 1)
    plain = _pair(stride) == (1, 1) and _pair(dilation) == (1, 1) and groups == 1 and same
    shape = weights[node.arguments[1].name].shape
    return plain and shape[:2] == (ops.WINDOW,) * 2 and min(shape[2:]) >= _FEWEST_CHANNELS


def _pair(value: Any) -> tuple[Any, Any]:
    return (value, value) if not isinstance(value, tuple) else (value[0], value[-1])


@operation("winograd")
def _winograd(x: Tensor, kernel: Tensor, flipped: Tensor, bias: Tensor | None) -> Tensor:
    """Convolve by kernels that were transformed; an operation of gaxjax's own."""
    y = ops.winograd_convolution(x.last(), kernel.array, flipped.array)
    return of_last(y if bias is None else y + bias.array)


@operation("two_way_linear")
def _two_way_linear(x: Tensor, matrix: Tensor, turned: Tensor, bias: Tensor | None) -> Tensor:
    """Multiply by a matrix that is kept both ways round; an operation of gaxjax's own."""
    axis = x.axis(-1)
    y = ops.two_way_product(jnp.moveaxis(x.array, axis, -1), matrix.array, turned.array)
    y = y if bias is None else y + bias.array
    return Tensor(y, (*without(x.order, (axis,)), y.ndim - 1))


@operation("softmax_module")
def _softmax_module(self: Tensor, *arguments: Any, **keywords: Any) -> Tensor:
    """Return the softmax of an `nn.Softmax`, which has a backward rule; of whole rows, not of each
    element by itself. It stands in graphs that attribution rewrote.
    """

    def softmax(x: Array) -> Array:
        return OPERATIONS["softmax"](self.like(x), *arguments, **keywords).array

    return self.like(ops.curve("softmax_module", softmax, self.array))


def _rewritten(
    graph: Graph, weights: Weights, changed: Mapping[str, Node], renamed: Mapping[str, str]
) -> tuple[Graph, Weights]:
    """Return a graph with nodes changed in place, others left out for those that they became."""
    nodes = tuple(
        replaced(changed.get(node.name, node), renamed)
        for node in graph.nodes
        if node.name not in renamed
    )
    new = dataclasses.replace(
        graph,
        nodes=nodes,
        output=renamed.get(graph.output, graph.output),
        layers={path: renamed.get(name, name) for path, name in graph.layers.items()},
    )
    return new, {name: weights[name] for name in new.weights}
