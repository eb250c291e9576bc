"""Which axes of a layer's output are rows, columns and channels, by an imported network's graph.

Grad-CAM needs features with height and width. Convolutions put out [1, C, H, W]; a Swin transformer
[1, H, W, C], and a vision transformer tokens [1, N, C], with a class token and others before the
grid's. Shapes alone do not tell these apart: the operations around a layer do.
"""

import math
from collections.abc import Mapping
from typing import Literal, NamedTuple

from gaxjax.common import UserError
from gaxjax.models import Graph, Node

__all__ = ["FeatureMap", "feature_map"]

Channels = Literal["first", "last"]
"""Where a value's channels are: axis 1, or the last axis."""


class FeatureMap(NamedTuple):
    """How a layer's output becomes features with height and width.

    Attributes:
        channels: first, [1, C, P, Q], or last, [1, P, Q, C] or, with a grid, tokens [1, N, C].
        grid: (P, Q) of tokens in row order; None where the output has both axes.
        prefix: tokens before those of the grid: of the class, of distillation, registers.
    """

    channels: Channels
    grid: tuple[int, int] | None = None
    prefix: int = 0


def feature_map(graph: Graph, layer: str, shape: tuple[int, ...]) -> FeatureMap:
    """Return how the output of a layer is to be read.

    Args:
        graph: of the network.
        layer: torch's path of a module.
        shape: of its output, as torch has it.

    Raises:
        UserError: it has no height and width, or nothing tells which axes these are.

    Example:
        >>> from gaxjax.models import Value
        >>> relu = Node("relu", "relu", (Value("image"),))
        >>> feature_map(Graph((3, 2, 2), (relu,), "relu", {"act": "relu"}), "act", (1, 3, 2, 2))
        FeatureMap(channels='first', grid=None, prefix=0)
    """
    channels = _channels(graph).get(graph.layers[layer])
    if shape[0] == 1 and len(shape) == 4 and channels is not None:
        return FeatureMap(channels)
    if shape[0] == 1 and len(shape) == 3 and channels == "last":
        found = _grid(shape[1], graph.image[1:])
        if found is not None:
            return found
    if len(shape) == 4 and channels is None:
        raise UserError(
            f"layer_grad_cam cannot tell the channels of {layer} from its rows and columns (it "
            f"gives {list(shape)}): give a layer that ends in a convolution or a norm"
        )
    raise UserError(
        f"layer_grad_cam needs a layer with height and width, or one token per place of the image; "
        f"{layer} gives {list(shape)}: give another layer"
    )


_MOST_PREFIXED = 16
"""Tokens before the grid's, at most: of the class, distillation and registers."""


def _grid(count: int, size: tuple[int, ...]) -> FeatureMap | None:
    """Return the grid of so many tokens, with the fewest left out before it.

    It is the image's in equal patches, or else any of the image's ratio of height to width.
    """
    height, width = size
    step = math.gcd(height, width)
    down, across = height // step, width // step
    patches = [each for each in range(1, step + 1) if step % each == 0]
    for scales in (patches, range(1, step + 1)):
        grids = {down * across * scale**2: (down * scale, across * scale) for scale in scales}
        for prefix in range(min(_MOST_PREFIXED, count - 1) + 1):
            if count - prefix in grids:
                return FeatureMap("last", grids[count - prefix], prefix)
    return None


# --- Where the channels are ----------------------------------------------------------------------

_FIRST = frozenset(
    {
        *("adaptive_avg_pool2d", "adaptive_max_pool2d", "avg_pool2d", "batch_norm"),
        *(
            "channel_shuffle",
            "col2im",
            "conv1d",
            "conv2d",
            "conv_transpose2d",
            "group_norm",
            "instance_norm",
        ),
        *("max_pool1d", "max_pool2d", "max_pool2d_with_indices", "native_group_norm"),
        *("pixel_shuffle", "pixel_unshuffle", "upsample_bicubic2d", "upsample_bilinear2d"),
        "upsample_nearest2d",
    }
)
"""Operations whose input and output have their channels first."""

_LAST = frozenset({"layer_norm", "linear", "native_layer_norm", "rms_norm"})
"""Operations whose input and output have them last; a norm, where it is over one axis."""

_LOSING = frozenset(
    {
        *("baddbmm", "bmm", "einsum", "expand", "gather", "im2col", "index", "index_select"),
        *("matmul", "mm", "movedim", "repeat", "reshape", "scaled_dot_product_attention"),
        *("select", "squeeze", "stack", "t", "unbind", "unflatten", "unsqueeze", "view"),
    }
)
"""Operations that move axes about, after which nothing is known. All others leave them."""

_FLIPPED: Mapping[Channels, Channels] = {"first": "last", "last": "first"}


def _channels(graph: Graph) -> dict[str, Channels]:
    """Return, by node, where its channels are: by what made it, else by what reads it."""
    found: dict[str, Channels] = {"image": "first"}
    for node in graph.nodes:
        own = _own(node)
        taken = (_through(node, found[name]) for name in node.inputs if name in found)
        known = own or next((each for each in taken if each is not None), None)
        if known is not None:
            found[node.name] = known
    for node in reversed(graph.nodes):
        for name in node.inputs[:1] if _own(node) else node.inputs:
            wanted = _own(node) or (
                _through(node, found[node.name], back=True) if node.name in found else None
            )
            if wanted is not None:
                found.setdefault(name, wanted)
    return found


def _own(node: Node) -> Channels | None:
    if node.operation in _FIRST:
        return "first"
    if node.operation in _LAST:
        over_one = node.operation == "linear" or len(node.arguments[1]) == 1
        return "last" if over_one else None
    return None


def _through(node: Node, channels: Channels, *, back: bool = False) -> Channels | None:
    """Return where the channels are in an operation's result, or, going back, in its input."""
    match node.operation, node.arguments[1:]:
        case "permute", ((0, 2, 3, 1),):
            return _FLIPPED[channels] if (channels == "last") == back else None
        case "permute", ((0, 3, 1, 2),):
            return _FLIPPED[channels] if (channels == "first") == back else None
        case "permute", ((0, 2, 1),):
            return _FLIPPED[channels]
        case "transpose", (1, 2) | (2, 1) | (-1, -2) | (-2, -1):
            return _FLIPPED[channels]
        case "flatten", (2, *_):
            return "first" if channels == "first" else None
        case (("permute" | "transpose" | "flatten"), _):
            return None
    return None if node.operation in _LOSING else channels
