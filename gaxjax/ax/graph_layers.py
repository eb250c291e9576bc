"""Layers of an imported network by torch's module path, read from its graph alone."""

from collections.abc import Sequence

from gaxjax.common import UserError, nearest
from gaxjax.models import Graph

__all__ = ["check_graph_layers", "first_convolution_of", "softmax_modules"]


def first_convolution_of(graph: Graph) -> str:
    """Return the path of the convolution module that an image meets first: `features.0.0`.

    Of modules that end in the same convolution the innermost counts, so that the layer is the
    convolution and not what holds it. A convolution that no module's output is, called as a
    function, is passed over.

    Raises:
        UserError: there is none.
    """
    made: dict[str, str] = {}
    for path, name in graph.layers.items():
        if path.count(".") >= made.get(name, "").count("."):
            made[name] = path
    for node in graph.nodes:
        if node.operation == "conv2d" and node.name in made:
            return made[node.name]
    raise UserError("this network has no convolution module for layer_grad_cam: give --layers")


def check_graph_layers(graph: Graph, layers: Sequence[str]) -> None:
    """Check that a network has all layers.

    Raises:
        UserError: it has not; the nearest path is suggested.
    """
    for layer in layers:
        if layer not in graph.layers:
            known = list(graph.layers)
            raise UserError(
                f"this network has no layer {layer!r}{nearest(layer, known)} "
                f"(it has, among others, {', '.join(known[:6])})"
            )


def softmax_modules(graph: Graph) -> frozenset[str]:
    """Return the nodes that are a module `nn.Softmax`; a softmax as a function is none."""
    modules = (name for path, name in graph.layers.items() if graph.classes.get(path) == "Softmax")
    return frozenset(name for name in modules if graph.by_name[name].operation == "softmax")
