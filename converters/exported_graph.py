"""An exported program → a graph of operations and its weights."""

import dataclasses
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import fx
from torch.export.graph_signature import InputKind

from converters.exported_nodes import is_cast, is_random, name_of, needs_shape_alone, same_as
from converters.exported_refusals import BATCH_STATISTICS, fault_of, where
from converters.exported_weights import StoredWeights
from converters.logits_output import LogitsOutput
from gaxjax.common import UserError, counted
from gaxjax.models import IMAGE, OPERATIONS, Graph, Node, Value

__all__ = ["read_program"]

_PROBABILITIES = frozenset(
    (
        *("softmax", "_softmax", "log_softmax", "_log_softmax", "sigmoid", "log_sigmoid"),
        *("log_sigmoid_forward",),
    )
)
_SHAPES_AGAIN = frozenset(
    ("view", "reshape", "_unsafe_view", "squeeze", "unsqueeze", "flatten", "select")
)
_CONVOLUTIONS = frozenset(("conv1d", "conv2d", "conv3d"))
_NORMS = {  # where their arguments say whether they take the batch's statistics, and where eps is
    "_native_batch_norm_legit_no_training": (None, 6),
    "native_batch_norm": (5, 7),
    "batch_norm": (5, 7),
    "instance_norm": (5, 7),
    "_native_batch_norm_legit": (5, 7),
    "_native_batch_norm_legit_functional": (5, 7),
}
_NOT_THEIRS = frozenset(("device", "layout", "pin_memory", "memory_format", "non_blocking", "copy"))
_LEAKY = (1 / 8, 1 / 3)
"""Torch's bounds of a randomised leaky ReLU, which is leaky by their mean in eval mode."""


def read_program(
    program: torch.export.ExportedProgram,
    output: str,
    logits: LogitsOutput,
    *,
    network: str,
    prefix: str,
) -> tuple[Graph, dict[str, np.ndarray], list[str]]:
    """Read a functional program.

    Args:
        program: of one image, without operations in place.
        output: the node that makes the logits.
        logits: what is known of these.
        network: what the module is called.
        prefix: of the modules' paths and the weights' names, to leave out.

    Returns:
        The graph, its weights and notes.

    Raises:
        UserError: it holds what cannot be run in JAX.
    """
    reading = _Reading(program, network, prefix)
    return reading.finished(output, logits)


class _Reading:
    """One reading of a program; each node is looked at once.

    Attributes:
        image: the node of the image.
        constants: the nodes that no image reaches.
        same: by node, the one whose value it has.
    """

    def __init__(self, program: torch.export.ExportedProgram, network: str, prefix: str):
        self.nodes = list(program.graph.nodes)
        self.by_name = {node.name: node for node in self.nodes}
        self.network = network
        self.prefix = prefix
        self.image: fx.Node | None = None
        self.constants: set[fx.Node] = set()
        self.same: dict[fx.Node, fx.Node] = {}
        self.weights = StoredWeights(program, prefix)
        self.given = {spec.arg.name: spec for spec in program.graph_signature.input_specs}
        mutated = program.graph_signature.buffers_to_mutate
        if mutated:
            names = ", ".join(sorted(self.plain_path(each) for each in mutated.values())[:3])
            raise UserError(
                f"{network} changes its buffers when it runs ({names}); a network to explain must "
                "not change: is a batch norm in training mode?"
            )
        for node in self.nodes:
            self._sort(node)

    def _sort(self, node: fx.Node) -> None:
        if node.op == "placeholder":
            spec = self.given[node.name]
            if spec.kind == InputKind.USER_INPUT:
                self.image = node
            else:
                self.constants.add(node)
        elif node.op == "call_function" and not is_random(node):
            inputs = list(node.all_input_nodes)
            if needs_shape_alone(node):
                inputs = [each for each in inputs if each is not node.args[0]]
            if all(each in self.constants for each in inputs):
                self.constants.add(node)
            elif (passed := same_as(node)) is not None and passed not in self.constants:
                self.same[node] = passed

    def resolved(self, node: fx.Node) -> fx.Node:
        """Return the node that makes a node's value."""
        while node in self.same:
            node = self.same[node]
        return node

    def plain_path(self, path: str) -> str:
        """Return a module's path, or a weight's name, as the user knows it."""
        path = path.replace("_orig_mod.", "")
        return path.removeprefix(self.prefix) if f"{path}." != self.prefix else ""

    def modules_of(self, node: fx.Node) -> Iterator[tuple[str, str]]:
        """Yield path and class of the modules that a node is in, from the outermost."""
        for path, kind in (node.meta.get("nn_module_stack") or {}).values():
            name = kind if isinstance(kind, str) else kind.__name__
            yield self.plain_path(path), name.rpartition(".")[2].removeprefix("Parametrized")

    def module_of(self, node: fx.Node) -> tuple[str, str]:
        """Return path and class of the innermost module that a node is in."""
        return [("", ""), *self.modules_of(node)][-1]

    def finished(
        self, output: str, logits: LogitsOutput
    ) -> tuple[Graph, dict[str, np.ndarray], list[str]]:
        """Return the graph of what the logits need, its weights, and notes."""
        last = self.resolved(self.by_name[output])
        if last in self.constants or last is self.image:
            raise UserError(
                f"{self.network}'s logits do not depend on the image; give a network that was "
                "built for images"
            )
        live = self._live(last)
        self._refuse_faults(live)
        self._refuse_probabilities(last)
        taken = {each for node in live for each in _inputs(node)}
        kernels: set[Any] = {node.args[1] for node in live if name_of(node) in _CONVOLUTIONS}
        self.weights.compute(taken & self.constants, kernels & self.constants)
        names: dict[fx.Node, str] = {}
        nodes, seen = [], Counter[str]()
        for node in live:
            operation, arguments, keywords = _normalised(node)
            number = seen[operation]
            seen[operation] += 1
            names[node] = f"{operation}_{number}" if number else operation
            made = self._node(node, names, operation, arguments, keywords)
            nodes += _kernel_laid(made) if operation in _CONVOLUTIONS else [made]
        final = _ending(nodes, names[last], logits)
        layers, classes = self._layers(names)
        assert self.image is not None
        _, channels, height, width = self.image.meta["val"].shape
        graph = Graph((channels, height, width), tuple(nodes), final, layers, classes)
        return graph, self.weights.arrays, self._notes(live)

    def _live(self, last: fx.Node) -> list[fx.Node]:
        """Return the nodes that the logits need, but for constants and the image, in order."""
        needed, order = {last}, []
        for node in reversed(self.nodes):
            if node not in needed:
                continue
            order.append(node)
            for each in _inputs(node):
                source = self.resolved(each)
                if source not in self.constants and source is not self.image:
                    needed.add(source)
        return order[::-1]

    def _refuse_faults(self, live: list[fx.Node]) -> None:
        faults: dict[str, list[str]] = {}
        for node in live:
            place = where(node, *self.module_of(node))
            if is_random(node):
                raise UserError(
                    f"{self.network} draws random numbers in eval mode ({_shown(node)}{place}); "
                    "let dropout follow self.training, and draw nothing else"
                )
            fault = fault_of(node, _normalised(node)[0], OPERATIONS)
            if fault:
                faults.setdefault(fault, []).append(place)
        if faults:
            found = [
                f"{fault}{places[0]}" + f" and {len(places) - 1} more" * (len(places) > 1)
                for fault, places in faults.items()
            ]
            raise UserError(
                f"{self.network} cannot be imported: gaxjax has no way to run "
                f"{'; '.join(found[:4])}{f'; and {len(found) - 4} more' if len(found) > 4 else ''}"
            )

    def _refuse_probabilities(self, last: fx.Node) -> None:
        node = last
        while name_of(node) in _SHAPES_AGAIN and isinstance(node.args[0], fx.Node):
            node = self.resolved(node.args[0])
        if name_of(node) in _PROBABILITIES:
            place = where(node, *self.module_of(node))
            raise UserError(
                f"{self.network} ends in {name_of(node).strip('_')}{place}, so its outputs are "
                "probabilities; give the network without it, to logits"
            )

    def _node(
        self,
        node: fx.Node,
        names: dict[fx.Node, str],
        operation: str,
        arguments: tuple[Any, ...],
        keywords: dict[str, Any],
    ) -> Node:
        path, _ = self.module_of(node)

        def one(value: Any, word: str, kernel: bool) -> Any:
            if isinstance(value, fx.Node):
                source = self.resolved(value)
                if source is self.image:
                    return Value(IMAGE)
                if source in names:
                    return Value(names[source])
                return self.weights.leaf(source, path, word, kernel=kernel)
            if isinstance(value, list | tuple):
                return tuple(one(item, word, kernel) for item in value)
            return _plain(value)

        words = _argument_names(node)
        return Node(
            names[node],
            operation,
            tuple(
                one(each, words.get(i, "constant"), operation in _CONVOLUTIONS and i == 1)
                for i, each in enumerate(arguments)
            ),
            {key: one(each, key, False) for key, each in keywords.items()},
        )

    def _layers(self, names: dict[fx.Node, str]) -> tuple[dict[str, str], dict[str, str]]:
        """Return by module the last node that its last call made, and its class."""
        layers: dict[str, str] = {}
        classes: dict[str, str] = {}
        for node in self.nodes:
            name = names.get(self.resolved(node))
            if name is None or not isinstance(node.meta.get("val"), torch.Tensor):
                continue
            for path, kind in self.modules_of(node):
                if path:
                    layers[path], classes[path] = name, kind
        return layers, classes

    def _notes(self, live: list[fx.Node]) -> list[str]:
        """Say what was left aside of what the image reaches."""
        needed = {*live}
        dead, casts, detached = 0, 0, 0
        for node in self.nodes:
            if node.op != "call_function" or node in self.constants:
                continue
            source = self.resolved(node)
            if source not in needed:
                dead += source is not self.image and bool(node.users)
                continue
            casts += is_cast(node) and node in self.same
            detached += name_of(node) == "detach"
        return [
            f"{counted(number, what)} {words}"
            for number, what, words in (
                (dead, "operation", "that the logits do not need left out"),
                (casts, "cast", "to another floating type left out"),
                (detached, "detach()", "left out: gradients go through"),
            )
            if number
        ]


def _normalised(node: fx.Node) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
    """Return a node's operation and arguments as the graph has them."""
    name = name_of(node)
    arguments: tuple[Any, ...] = tuple(node.args)
    keywords = {key: each for key, each in node.kwargs.items() if key not in _NOT_THEIRS}
    if name in _NORMS:
        training, eps = _NORMS[name]
        if training is None or not (arguments[training] or arguments[3] is None):
            return "batch_norm", (*arguments[:5], arguments[eps]), {}
        return name if name == "instance_norm" else BATCH_STATISTICS, arguments, keywords
    if name == "rrelu":
        slopes = tuple(arguments[1:3])
        slopes += _LEAKY[len(slopes) :]
        return "leaky_relu", (arguments[0], sum(slopes) / 2), {}
    if name == "copy":
        return "expand", (arguments[1], tuple(node.meta["val"].shape)), {}
    return name, arguments, keywords


def _kernel_laid(convolution: Node) -> list[Node]:
    """Return a convolution whose kernel has its output channels last, computed or not."""
    images, kernel, *rest = convolution.arguments
    if not isinstance(kernel, Value):
        return [convolution]
    spatial = int(convolution.operation[4])
    axes = (*range(2, 2 + spatial), 1, 0)
    laid = Node(f"{convolution.name}_kernel", "permute", (kernel, axes))
    arguments = (images, Value(laid.name), *rest)
    return [laid, dataclasses.replace(convolution, arguments=arguments)]


def _inputs(node: fx.Node) -> list[fx.Node]:
    """Return the nodes that a node takes, as the graph has it."""
    _, arguments, keywords = _normalised(node)
    found: list[fx.Node] = []
    fx.map_arg((arguments, keywords), found.append)
    return found


def _argument_names(node: fx.Node) -> dict[int, str]:
    schema = getattr(node.target, "_schema", None)
    return {} if schema is None else {i: each.name for i, each in enumerate(schema.arguments)}


def _plain(value: Any) -> Any:
    if isinstance(value, torch.dtype):
        return str(value).removeprefix("torch.")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise UserError(f"an operation takes {value!r}, which cannot be imported")


def _ending(nodes: list[Node], name: str, logits: LogitsOutput) -> str:
    """Append what makes [1, C] of the logits, [0, z] of a single one; return the last name."""
    taken = {node.name for node in nodes}

    def append(operation: str, *arguments: Any) -> str:
        made = f"logits_{operation}"
        assert made not in taken
        nodes.append(Node(made, operation, (Value(name), *arguments)))
        return made

    if logits.shape != (1, logits.count):
        name = append("view", (1, logits.count))
    if logits.count == 1:
        name = append("constant_pad_nd", (1, 0), 0.0)
    return name


def _shown(node: fx.Node) -> str:
    return name_of(node) or str(node.target)
