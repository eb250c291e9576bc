"""A classifier as a graph of torch's operations: data, without code and without torch.

`converters` makes it with `torch.export`; a checkpoint keeps it as JSON; `network` runs it.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from gaxjax.common import UserError

__all__ = ["IMAGE", "Graph", "Node", "Value", "Weight", "leaves", "replaced"]

FORMAT = 1

IMAGE = "image"
"""The name under which nodes take the image."""


class Value(NamedTuple):
    """What another node made, or the image."""

    node: str


class Weight(NamedTuple):
    """An array of the weights."""

    name: str


@dataclass(frozen=True)
class Node:
    """One operation: ``name = operation(*arguments, **keywords)``.

    Attributes:
        name: unique in its graph.
        operation: ATen's name, as in `torch.ops.aten`: a key of the table of operations.
        arguments: `Value`, `Weight`, plain JSON values, and tuples of these.
        keywords: likewise, by name.
    """

    name: str
    operation: str
    arguments: tuple[Any, ...]
    keywords: Mapping[str, Any] = field(default_factory=dict)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The nodes whose values it takes, or `IMAGE`; as often as it takes them."""
        found = leaves((self.arguments, *self.keywords.values()))
        return tuple(leaf.node for leaf in found if isinstance(leaf, Value))

    @property
    def weights(self) -> tuple[str, ...]:
        """The weights it takes."""
        found = leaves((self.arguments, *self.keywords.values()))
        return tuple(leaf.name for leaf in found if isinstance(leaf, Weight))


@dataclass(frozen=True, eq=False)
class Graph:
    """A classifier of one image: every shape in it is for a batch of one.

    Attributes:
        image: (channels, height, width) of its input, [1, channels, height, width] in torch's
            order; channels is 3, or 1 for a network of grey images.
        nodes: in the order of execution.
        output: the node that makes the logits, [1, C].
        layers: by torch's module path, such as ``features.0.1``, the node that makes its output.
        classes: by torch's module path, the name of its class, such as ``Conv2d``.

    Two graphs are equal where all of that is.
    """

    image: tuple[int, int, int]
    nodes: tuple[Node, ...]
    output: str
    layers: Mapping[str, str] = field(default_factory=dict)
    classes: Mapping[str, str] = field(default_factory=dict)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Graph) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return f"Graph({len(self.nodes)} nodes, {self.digest[:12]})"

    @cached_property
    def digest(self) -> str:
        """SHA-256 of `to_json`, in hexadecimal."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    @cached_property
    def by_name(self) -> dict[str, Node]:
        """The nodes by name."""
        return {node.name: node for node in self.nodes}

    @cached_property
    def users(self) -> dict[str, tuple[Node, ...]]:
        """By node, those that take its value, once each; the logits' node may have none."""
        return self._takers(lambda node: node.inputs)

    @cached_property
    def weight_users(self) -> dict[str, tuple[Node, ...]]:
        """By weight, the nodes that take it, once each."""
        return self._takers(lambda node: node.weights)

    def _takers(self, taken: Callable[[Node], Iterable[str]]) -> dict[str, tuple[Node, ...]]:
        found: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in dict.fromkeys(taken(node)):
                found.setdefault(name, []).append(node)
        return {name: tuple(nodes) for name, nodes in found.items()}

    @property
    def weights(self) -> tuple[str, ...]:
        """The names of all weights, in the order of their first use."""
        return tuple(dict.fromkeys(name for node in self.nodes for name in node.weights))

    def require_size(self, height: int, width: int) -> None:
        """Refuse images of another size than the graph's.

        Raises:
            UserError: names both.
        """
        if (height, width) != self.image[1:]:
            raise UserError(
                f"this network was imported for images of {self.image[1]} × {self.image[2]}, and "
                f"got {height} × {width}"
            )

    def to_json(self) -> str:
        """Return the graph as JSON; `from_json` is the inverse."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        values["layers"], values["classes"] = dict(self.layers), dict(self.classes)
        values["nodes"] = [
            [node.name, node.operation, _plain(node.arguments), _plain(node.keywords)]
            for node in self.nodes
        ]
        return json.dumps({"format": FORMAT, **values}, allow_nan=False, separators=(",", ":"))

    @staticmethod
    def from_json(text: str) -> "Graph":
        """Read what `to_json` wrote.

        Raises:
            ValueError: it is none, or no whole one: of another format, or with nodes that take what
                no node before them makes. In one line.
        """
        values = json.loads(text)
        if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
            raise ValueError(f"no graph of format {FORMAT}")
        try:
            nodes = tuple(
                Node(name, operation, _filled(arguments), _filled(keywords))
                for name, operation, arguments, keywords in values.pop("nodes")
            )
            channels, height, width = map(int, values.pop("image"))
            graph = Graph(image=(channels, height, width), nodes=nodes, **values)
            _check(graph)
        except (TypeError, AttributeError, KeyError) as error:
            raise ValueError(f"no whole graph ({type(error).__name__}: {error})") from error
        return graph


def leaves(value: Any) -> Iterator[Any]:
    """Yield the Values, Weights and plain values inside nested tuples."""
    if isinstance(value, tuple) and not isinstance(value, Value | Weight):
        for item in value:
            yield from leaves(item)
    else:
        yield value


def replaced(node: Node, renamed: Mapping[str, str]) -> Node:
    """Return a node that takes the values of other nodes, by their names."""

    def one(value: Any) -> Any:
        if isinstance(value, Value):
            return Value(renamed.get(value.node, value.node))
        if isinstance(value, tuple) and not isinstance(value, Weight):
            return tuple(one(item) for item in value)
        return value

    keywords = {name: one(value) for name, value in node.keywords.items()}
    return dataclasses.replace(node, arguments=one(node.arguments), keywords=keywords)


def _check(graph: Graph) -> None:
    made = {IMAGE}
    for node in graph.nodes:
        for name in node.inputs:
            if name not in made:
                raise ValueError(f"{node.name} takes {name}, which no node before it makes")
        if node.name in made:
            raise ValueError(f"two nodes are called {node.name}")
        made.add(node.name)
    lacking: Iterable[str] = {graph.output, *graph.layers.values()} - made
    for name in sorted(lacking):
        raise ValueError(f"no node {name}")


def _plain(value: Any) -> Any:
    if isinstance(value, Value):
        return {"node": value.node}
    if isinstance(value, Weight):
        return {"weight": value.name}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, float) and value - value != 0:  # infinite, or no number: not JSON's
        return {"float": str(value)}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{type(value).__name__} is no argument of a node")


def _filled(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_filled(item) for item in value)
    if isinstance(value, dict):
        match value:
            case {"node": str(name)}:
                return Value(name)
            case {"weight": str(name)}:
                return Weight(name)
            case {"float": str(number)}:
                return float(number)
        return {name: _filled(item) for name, item in value.items()}
    return value
