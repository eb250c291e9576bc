"""An imported classifier in torch again: each node by its own operation of ATen, as a yardstick.

Captum changes gradients by hooks on nonlinear modules. Here every use of a nonlinearity that it
knows is a module of its own, with an input that nothing else reads, so that no hook is missed and
none answers for another's tensor. None of the model's own code is needed.
"""

import operator
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from gaxjax.ax import feature_map, first_convolution_of, softmax_modules
from gaxjax.common import UserError, nearest
from gaxjax.models import IMAGE, Graph, Node, Value, Weight

__all__ = ["TorchGraph"]

aten = torch.ops.aten

_CONVOLUTIONS = ("conv1d", "conv2d", "conv3d")


def _pool(kind: type[nn.Module]) -> Callable[..., nn.Module]:
    def module(
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
    ) -> nn.Module:
        return kind(kernel_size, stride or None, padding, dilation, ceil_mode=ceil_mode)

    return module


_MODULES: dict[str, Callable[..., nn.Module]] = {
    "relu": nn.ReLU,
    "elu": nn.ELU,
    "leaky_relu": nn.LeakyReLU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "softplus": nn.Softplus,
    "max_pool1d": _pool(nn.MaxPool1d),
    "max_pool2d": _pool(nn.MaxPool2d),
    "max_pool3d": _pool(nn.MaxPool3d),
    "softmax": nn.Softmax,
}
"""The nonlinearities that Captum's DeepLift hooks: of the arguments after the input, a module.

A softmax is one only where the model had an `nn.Softmax`: Captum sees no function.
"""


def _batch_norm(x: torch.Tensor, scale: Any, shift: Any, mean: Any, var: Any, eps: float) -> Any:
    y = aten.batch_norm(x.contiguous(), scale, shift, mean, var, False, 0.0, eps, False)
    if y.requires_grad:
        # On a CPU torch 2.14 answers a gradient that is [1, C, H, W] by strides of tokens, as what
        # follows a flattening hands it back, with wrong numbers and without a word.
        y.register_hook(torch.Tensor.contiguous)
    return y


_OWN: dict[str, Callable[..., Any]] = {
    "getitem": operator.getitem,
    "batch_norm": _batch_norm,
    "view": aten.reshape,
    "_unsafe_view": aten.reshape,
}
"""What a graph means by a name otherwise than ATen: it has no copies, which a view may need."""


class TorchGraph(nn.Module):
    """A graph with its weights as a torch module in eval mode: [B, 3, H, W] → logits [B, C].

    Every shape in a graph is for one image. So each image of a batch goes through the nodes by
    itself, and all of them together, along the first axis, only through the nonlinear modules:
    Captum looks there for images and, behind them, their baselines.

    Args:
        graph: from `converters.exported`.
        weights: by name; kernels of convolutions with the output channels last.

    Attributes:
        graph: likewise.
        nonlinearities: by node, the modules that Captum hooks.

    Raises:
        UserError: ATen has no such operation.

    Example:
        >>> graph = Graph((3, 2, 2), (Node("flat", "flatten", (Value("image"), 1)),), "flat")
        >>> TorchGraph(graph, {})(torch.ones(5, 3, 2, 2)).shape
        torch.Size([5, 12])
    """

    def __init__(self, graph: Graph, weights: Mapping[str, np.ndarray]):
        super().__init__()
        self.graph = graph
        self._functions = {node.name: _function(node.operation) for node in graph.nodes}
        kernels = {
            leaf.name
            for node in graph.nodes
            if node.operation in _CONVOLUTIONS and isinstance(leaf := node.arguments[1], Weight)
        }
        for name in graph.weights:
            tensor = torch.from_numpy(np.array(weights[name]))
            if name in kernels:  # … I O → O I …
                tensor = tensor.movedim((-1, -2), (0, 1)).contiguous()
            if tensor.is_floating_point():
                self.register_parameter(_key(name), nn.Parameter(tensor, requires_grad=False))
            else:  # torch's own indices are int64
                tensor = tensor.long() if tensor.dtype == torch.int32 else tensor
                self.register_buffer(_key(name), tensor)
        softmaxes = softmax_modules(graph)
        self.nonlinearities = nn.ModuleDict(
            {
                _key(node.name): _module(node)
                for node in graph.nodes
                if _is_captums(node) and (node.operation != "softmax" or node.name in softmaxes)
            }
        )
        self._taps = nn.ModuleDict()
        last = {name: node.name for node in graph.nodes for name in node.inputs}
        self._read_last: dict[str, list[str]] = {}
        for name, reader in last.items():
            self._read_last.setdefault(reader, []).append(name)
        self.eval()

    def forward(self, images: Float[torch.Tensor, "B 3 H W"]) -> Float[torch.Tensor, "B C"]:
        """Return the logits of images as the network was trained on them.

        Raises:
            UserError: images of another size than the graph's.
        """
        self.graph.require_size(images.shape[2], images.shape[3])
        if self.graph.image[0] == 1:  # a grey network: of an image with equal channels, any of them
            images = images.mean(1, keepdim=True)
        values: dict[str, list[Any]] = {IMAGE: list(images.split(1))}
        for node in self.graph.nodes:
            values[node.name] = self._value(node, values, images.dtype)
            for name in self._read_last.get(node.name, ()):
                if name != self.graph.output:
                    del values[name]  # to free their memory
        return torch.cat(values[self.graph.output])

    def layer(self, name: str) -> nn.Module:
        """Return a module whose output is that of the original's module of this name, for hooks.

        It puts out [B, c, h, w]: tokens are folded to their grid, and those before it left out.

        Args:
            name: torch's path of a module, such as ``features.0.1``.

        Raises:
            UserError: no module of this name runs.
        """
        layers = self.graph.layers
        if name not in layers:
            raise UserError(
                f"no layer {name!r} runs in {type(self).__name__}{nearest(name, layers)}"
            )
        key = _key(layers[name])
        if key not in self._taps:
            self._taps[key] = _Tap(self.graph, name).eval()
        tap = self._taps[key]
        assert isinstance(tap, _Tap)
        return tap.features

    def first_convolution(self) -> str:
        """Return the name, for `layer`, of the convolution that an image meets first.

        Raises:
            UserError: there is none.
        """
        return first_convolution_of(self.graph)

    def _value(self, node: Node, values: Mapping[str, list[Any]], dtype: torch.dtype) -> list[Any]:
        """Return the node's value for each image."""
        key = _key(node.name)
        if key in self.nonlinearities:
            assert isinstance(node.arguments[0], Value)
            made = _together(self.nonlinearities[key], values[node.arguments[0].node])
            if node.operation == "max_pool2d_with_indices":
                return [(value,) for value in made]
        else:
            count = len(next(iter(values.values())))
            made = [self._computed(node, values, image, dtype) for image in range(count)]
        return _together(self._taps[key], made) if key in self._taps else made

    def _computed(
        self, node: Node, values: Mapping[str, list[Any]], image: int, dtype: torch.dtype
    ) -> Any:
        def filled(value: Any) -> Any:
            if isinstance(value, Value):
                return values[value.node][image]
            if isinstance(value, Weight):
                return getattr(self, _key(value.name))
            if isinstance(value, tuple):
                return [filled(item) for item in value]
            named = getattr(torch, value, None) if isinstance(value, str) else None
            if isinstance(named, torch.dtype):
                # In float64 a cast to float32, written for half precision, must lose nothing.
                return torch.promote_types(named, dtype) if named.is_floating_point else named
            return value

        keywords = {name: filled(value) for name, value in node.keywords.items()}
        return self._functions[node.name](*map(filled, node.arguments), **keywords)


class _Tap(nn.Module):
    """Pass a layer's output through `features` in the shape that Captum's Grad-CAM takes.

    Tokens that have no place in the image go around it.
    """

    def __init__(self, graph: Graph, layer: str):
        super().__init__()
        self.graph, self.layer = graph, layer
        self.features = nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = feature_map(self.graph, self.layer, (1, *x.shape[1:]))
        if found.channels == "first":
            return self.features(x)
        if found.grid is None:
            return self.features(x.movedim(-1, 1)).movedim(1, -1)
        before, tokens = x[:, : found.prefix], x[:, found.prefix :]
        folded = tokens.movedim(-1, 1).unflatten(2, found.grid)
        return torch.cat([before, self.features(folded).flatten(2).movedim(1, -1)], 1)


def _together(module: nn.Module, values: list[torch.Tensor]) -> list[torch.Tensor]:
    """Call a module once for all images; the concatenation is a tensor that nothing else reads."""
    return list(module(torch.cat(values)).chunk(len(values)))


def _function(operation: str) -> Callable[..., Any]:
    """Return ATen's operation, whose overload the arguments tell unless the name says it."""
    if operation in _OWN:
        return _OWN[operation]
    found: Any = aten
    for part in operation.split("."):
        found = getattr(found, part, None)
    if found is None:
        raise UserError(f"torch has no operation {operation}")
    return found


def _is_captums(node: Node) -> bool:
    if node.operation == "elu":  # torch's SELU and CELU are scaled ones, which Captum leaves alone
        return all(scale == 1 for scale in node.arguments[2:])
    return node.operation.removesuffix("_with_indices") in _MODULES


def _module(node: Node) -> nn.Module:
    kind = node.operation.removesuffix("_with_indices")
    given = [value[0] if _is_single(value) else value for value in node.arguments[1:]]
    if kind == "softmax":
        given = given[:1]  # without the type to compute in
    if kind == "elu":
        given = given[:1]
    return _MODULES[kind](*given, **node.keywords).eval()


def _is_single(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 1


def _key(name: str) -> str:
    """Return a name under which torch's modules keep weights and modules: no dots in it.

    The prefix keeps it apart from the attributes of `nn.Module`.
    """
    return f"@{name.replace('.', '/')}"
