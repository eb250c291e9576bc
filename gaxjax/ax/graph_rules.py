"""What an imported network's graph tells of its nonlinearities, for the attribution methods."""

import dataclasses
from collections import Counter
from collections.abc import Iterator

from gaxjax.ax.graph_layers import softmax_modules
from gaxjax.ax.pairs import SOFTMAX
from gaxjax.config import Curves, Pooling
from gaxjax.models import Graph, Node, Value

__all__ = ["activations", "left_plain", "needs_pairs", "rescaled_curves", "with_softmax_modules"]

_CAPTUMS = frozenset({"elu", "leaky_relu", "sigmoid", "tanh", "softplus"})
"""What Captum 0.9's DeepLift rescales, besides ReLU, max pools and `nn.Softmax`."""

_ACTIVATIONS = _CAPTUMS | {
    *("celu", "clamp", "clamp_max", "clamp_min", "gelu", "hardshrink", "hardsigmoid", "hardswish"),
    *("hardtanh", "log_sigmoid", "mish", "prelu", "relu6", "rrelu", "selu", "silu", "softshrink"),
    "threshold",
}
"""Torch's activations of each element by itself but ReLU; no exponentials and roots of norms."""

_POOLS = frozenset({"max_pool1d", "max_pool2d", "max_pool2d_with_indices", "max_pool3d"})

_LINEAR = frozenset(
    {
        *("adaptive_avg_pool1d", "adaptive_avg_pool2d", "add", "avg_pool1d", "avg_pool2d"),
        *("cat", "channel_shuffle", "constant_pad_nd", "flatten", "getitem", "mean", "neg", "pad"),
        *("permute", "reshape", "rsub", "select", "slice", "split", "squeeze", "stack", "sub"),
        *("sum", "transpose", "unflatten", "unsqueeze", "view"),
    }
)
"""Linear in all that they take."""

_LINEAR_IN_ONE = frozenset(
    {"batch_norm", "conv1d", "conv2d", "conv3d", "div", "linear", "matmul", "mul"}
)
"""Linear in the only value of the image that they take, if it is the first."""


def rescaled_curves(curves: Curves) -> frozenset[str]:
    """Return the names of the curves that DeepLift rescales."""
    return _CAPTUMS if curves == "captum" else _ACTIVATIONS


def activations(graph: Graph) -> Counter[str]:
    """Count the activations by name, ReLU included; ReLU6 goes by its own."""
    names = map(_activation, graph.nodes)
    return Counter(name for name in names if name is not None)


def left_plain(graph: Graph, curves: Curves) -> Counter[str]:
    """Count the activations that DeepLift leaves at their plain gradients, the most first."""
    rescaled = rescaled_curves(curves) | {"relu"}
    if curves == "all":
        rescaled |= {"relu6"}
    counts = activations(graph)
    return Counter({name: n for name, n in counts.most_common() if name not in rescaled})


def needs_pairs(graph: Graph, curves: Curves, pooling: Pooling) -> bool:
    """Tell whether Captum's DeepLift reads gradients of the baseline that are not the image's.

    So it is with an `nn.Softmax`; and, under Captum's rule for pools, with a max pool that anything
    but linear operations and rescaled nonlinearities follows.
    """
    if softmax_modules(graph):
        return True
    pools = [node for node in graph.nodes if node.operation in _POOLS]
    if pooling == "complete" or not pools:
        return False
    same = rescaled_curves(curves) | {"relu"} | _POOLS | _LINEAR
    return any(
        node.operation not in same
        and not (node.operation in _LINEAR_IN_ONE and _takes_one_value(node))
        for node in _after(graph, pools)
    )


def with_softmax_modules(graph: Graph) -> Graph:
    """Return the graph with each `nn.Softmax` as an operation of its own, which has a rule."""
    modules = softmax_modules(graph)
    nodes = tuple(
        dataclasses.replace(node, operation=SOFTMAX) if node.name in modules else node
        for node in graph.nodes
    )
    return dataclasses.replace(graph, nodes=nodes) if modules else graph


def _activation(node: Node) -> str | None:
    bounds = (*node.arguments[1:], *node.keywords.values())
    if node.operation == "hardtanh" and tuple(map(float, bounds)) == (0.0, 6.0):
        return "relu6"
    return node.operation if node.operation in _ACTIVATIONS | {"relu"} else None


def _after(graph: Graph, nodes: list[Node]) -> Iterator[Node]:
    """Yield the nodes that take what some nodes made, or what is made of it."""
    reached = {node.name for node in nodes}
    for node in graph.nodes:
        if not reached.isdisjoint(node.inputs):
            reached.add(node.name)
            yield node


def _takes_one_value(node: Node) -> bool:
    return len(node.inputs) == 1 and isinstance(node.arguments[0], Value)
