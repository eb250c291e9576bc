"""What an exported program's nodes are: the image's way, what no image reaches, and what is left.

Torch's export holds much that changes nothing in inference: clones, casts to the type a tensor has,
views of the same shape. These stand for the node before them.
"""

import operator
from typing import Any

import torch
from torch import fx

__all__ = ["evaluated", "is_cast", "is_random", "name_of", "needs_shape_alone", "same_as"]

_SAME = frozenset(
    (
        *("clone", "alias", "detach", "contiguous", "lift", "lift_fresh"),
        *("lift_fresh_copy", "lift_copy", "item", "_local_scalar_dense"),
        *("feature_dropout", "alpha_dropout", "feature_alpha_dropout", "dropout"),
        *("native_dropout",),
    )
)
_SAME_IF_SHAPE_IS = frozenset(
    (
        *("view", "reshape", "_unsafe_view", "expand", "expand_as", "squeeze", "flatten"),
        *("unflatten", "repeat", "adaptive_avg_pool2d", "_adaptive_avg_pool2d", "slice"),
        *("narrow",),
    )
)
_PADS = frozenset(
    (
        *("pad", "constant_pad_nd", "reflection_pad1d", "reflection_pad2d"),
        *("replication_pad2d",),
    )
)
_RESIZED = frozenset(
    (
        *("upsample_nearest2d", "_upsample_nearest_exact2d", "upsample_bilinear2d"),
        *("upsample_bicubic2d", "_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa"),
    )
)
_CASTS = frozenset(("_to_copy", "to", "type_as", "_to_dtype"))
_SHAPE_ALONE = frozenset(
    (
        *("zeros_like", "ones_like", "full_like", "empty_like", "new_zeros", "new_ones"),
        *("new_full", "new_empty", "new_empty_strided", "zero"),
    )
)
_EMPTY = frozenset(("empty", "empty_like", "new_empty", "empty_permuted", "empty_strided"))
_RANDOM_IN_TRAINING = {  # the position of their dropout, or of whether they train
    "scaled_dot_product_attention": 4,
    "lstm": 6,
    "gru": 6,
    "rnn_tanh": 6,
    "rnn_relu": 6,
    "rrelu": 3,
    "dropout": 2,
    "native_dropout": 2,
    "feature_dropout": 2,
    "alpha_dropout": 2,
    "feature_alpha_dropout": 2,
}
_TOLD_APART = frozenset(("max.dim", "max.other", "min.dim", "min.other"))


def name_of(node: fx.Node) -> str:
    """Return ATen's name of an operation, with the overload where arguments cannot tell; else "".

    ``add`` of ``aten.add.Tensor``, ``max.dim``, ``getitem``; "" for what is not ATen's.
    """
    if node.target is operator.getitem:
        return "getitem"
    target = node.target
    if not isinstance(target, torch._ops.OpOverload) or target.namespace != "aten":
        return ""
    name = str(target._opname)
    full = f"{name}.{target._overloadname}"
    return full if full in _TOLD_APART else name


def is_random(node: fx.Node) -> bool:
    """Tell whether a node draws random numbers when it runs."""
    name, arguments = name_of(node), node.args
    if name in _RANDOM_IN_TRAINING:
        position = _RANDOM_IN_TRAINING[name]
        given = arguments[position] if len(arguments) > position else None
        if given is None:
            given = node.kwargs.get("dropout_p", node.kwargs.get("train", False))
        return bool(given)
    tags = getattr(node.target, "tags", ())
    return torch.Tag.nondeterministic_seeded in tags


def is_cast(node: fx.Node) -> bool:
    """Tell whether a node casts a tensor to another type than it has."""
    if name_of(node) not in _CASTS or not isinstance(node.args[0], fx.Node):
        return False
    into, out = _value(node.args[0]), _value(node)
    return bool(into.dtype != out.dtype)


def needs_shape_alone(node: fx.Node) -> bool:
    """Tell whether a node reads no number of its first argument, only its shape and type."""
    name = name_of(node)
    fills = name == "fill" and len(node.args) > 1 and not isinstance(node.args[1], fx.Node)
    return name in _SHAPE_ALONE or fills


def evaluated(node: fx.Node, values: dict[fx.Node, Any]) -> Any:
    """Compute what a node makes of the values of others; of none, where shapes are enough."""

    def filled(each: fx.Node) -> Any:
        if each in values:
            return values[each]
        like = each.meta["val"]
        return torch.zeros(tuple(like.shape), dtype=like.dtype)

    arguments, keywords = fx.map_arg((node.args, node.kwargs), filled)
    assert callable(node.target)
    made = node.target(*arguments, **keywords)
    # What is in fresh memory would differ from run to run.
    return made.zero_() if name_of(node) in _EMPTY else made


def same_as(node: fx.Node) -> fx.Node | None:
    """Return the node whose value a node only passes on, or None."""
    name = name_of(node)
    arguments: Any = node.args
    first = arguments[0] if arguments and isinstance(arguments[0], fx.Node) else None
    if first is None or is_random(node):
        return None
    if name == "getitem":
        return _result(node, first)
    into, out = _value(first), _value(node)
    if name in _SAME:
        return None if name == "native_dropout" else first
    if name == "copy" and len(arguments) > 1 and isinstance(arguments[1], fx.Node):
        source = _value(arguments[1])
        same = _alike(source, into) and tuple(source.shape) == tuple(into.shape)
        return arguments[1] if same else None
    if not isinstance(into, torch.Tensor) or not isinstance(out, torch.Tensor):
        return None
    same_shape = tuple(into.shape) == tuple(out.shape)
    if name in _CASTS:
        return first if same_shape and _alike(into, out) else None
    if name in _SAME_IF_SHAPE_IS and same_shape and into.dtype == out.dtype:
        return None if name == "slice" and not _whole(node) else first
    if name in _PADS:
        return first if not any(arguments[1]) else None
    if name in _RESIZED:
        scales = [value for each in arguments[2:] for value in _numbers(each)]
        return first if same_shape and all(scale == 1 for scale in scales) else None
    if name == "permute":
        axes = [axis % into.ndim for axis in arguments[1]]
        return first if axes == sorted(axes) else None
    if name == "transpose":
        one, other = (int(axis) % into.ndim for axis in arguments[1:3])
        return first if one == other else None
    return None


_NORMS = frozenset(
    (
        *("_native_batch_norm_legit_no_training", "native_batch_norm"),
        *("_batch_norm_no_update",),
    )
)


def _result(node: fx.Node, first: fx.Node) -> fx.Node | None:
    """Return what an item of several results is, where the first is all that counts."""
    maker = name_of(first)
    if node.args[1] != 0:
        return None
    if maker in _NORMS:
        return first
    source = first.args[0] if first.args else None
    if not isinstance(source, fx.Node):
        return None
    if maker == "native_dropout" and not is_random(first):
        return source
    pooled = maker in ("adaptive_max_pool2d", "_adaptive_max_pool2d")
    same = pooled and tuple(_value(source).shape) == tuple(_value(node).shape)
    return source if same else None


def _alike(one: Any, other: Any) -> bool:
    """Tell whether a cast between types is none here: every floating type is the graph's."""
    tensors = isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor)
    if not tensors or one.dtype.is_complex or other.dtype.is_complex:
        return False
    return one.dtype == other.dtype or (
        one.dtype.is_floating_point and other.dtype.is_floating_point
    )


def _numbers(value: Any) -> list[float]:
    """Return the numbers, not truth values, of an argument: scales of a resizing."""
    several = value if isinstance(value, tuple | list) else [value]
    return [each for each in several if isinstance(each, int | float) and each is not bool(each)]


def _whole(node: fx.Node) -> bool:
    step: Any = node.args[4] if len(node.args) > 4 else node.kwargs.get("step", 1)
    return bool(step == 1)


def _value(node: fx.Node) -> Any:
    value = node.meta.get("val")
    return value[0] if isinstance(value, tuple | list) and len(value) else value
