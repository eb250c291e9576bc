"""A network's layers by name, and what comes out of them on the way to the logits."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from gaxjax.ax.feature_maps import feature_map
from gaxjax.ax.graph_layers import check_graph_layers, first_convolution_of
from gaxjax.common import UserError, nearest
from gaxjax.models import Conv, Graph, GraphNetwork

__all__ = ["check_features", "check_layers", "first_convolution", "graph_features", "tap"]


def first_convolution(network: nnx.Module, image: jax.ShapeDtypeStruct) -> str:
    """Return the name of the convolution that an image meets first: `conv1`, or `features.0`.

    `network` is changed: give a copy.

    Raises:
        UserError: it has none.
    """
    if isinstance(network, GraphNetwork):
        return first_convolution_of(network.graph)
    names = [name for name, module in _modules(network) if isinstance(module, Conv | nnx.Conv)]
    if not names:
        raise UserError(
            f"{type(network).__name__} has no convolution for layer_grad_cam: give --layers"
        )
    outputs = tap(network, dict.fromkeys(names))
    jax.eval_shape(network, jax.ShapeDtypeStruct((1, *image.shape), jnp.float32))
    return next(iter(outputs))


def check_layers(network: nnx.Module, layers: Sequence[str]) -> None:
    """Check that `network` has all `layers`.

    Raises:
        UserError: it has not; the nearest name is suggested.
    """
    if isinstance(network, GraphNetwork):
        check_graph_layers(network.graph, layers)
        return
    known = [name for name, _ in _modules(network)]
    for layer in layers:
        if layer not in known:
            raise UserError(
                f"{type(network).__name__} has no layer {layer!r}{nearest(layer, known)} "
                f"(it has, among others, {', '.join(known[:6])})"
            )


def check_features(
    network: nnx.Module, layers: Sequence[str], images: jax.ShapeDtypeStruct
) -> None:
    """Check that layers of an imported network have height and width.

    Raises:
        UserError: one has not, or its graph does not tell.
    """
    if isinstance(network, GraphNetwork):
        probes = dict.fromkeys(layers)
        _, outputs = jax.eval_shape(lambda images: network.run(images, probes), images)
        for layer, output in outputs.items():
            jax.eval_shape(partial(graph_features, network.graph, layer), output)


def graph_features(
    graph: Graph, layer: str, output: Float[Array, "1 ..."]
) -> Float[Array, "1 P Q C"]:
    """Return a layer's output with height and width, tokens folded to their grid.

    Args:
        graph: of an imported network.
        layer: torch's path of a module.
        output: its output, as `GraphNetwork.run` gives it, or a gradient by it.

    Raises:
        UserError: it has no height and width.
    """
    # With four axes `run` takes torch's axis 1 for the channels and puts it last.
    shape = output.shape if output.ndim != 4 else tuple(output.shape[i] for i in (0, 3, 1, 2))
    found = feature_map(graph, layer, shape)
    if found.grid is not None:
        return output[:, found.prefix :].reshape(1, *found.grid, output.shape[-1])
    return output if found.channels == "first" else output.transpose(0, 3, 1, 2)


def tap(
    network: nnx.Module, probes: Mapping[str, Float[Array, "..."] | None]
) -> dict[str, Float[Array, "..."]]:
    """Have layers of `network` report their output, and add a probe to it.

    The gradient by a probe of zeros is the gradient by the layer's output. `network` is changed:
    give a copy of your own, such as `nnx.merge` makes.

    Args:
        network: The network whose layers are tapped.
        probes: By layer, an array of the output's shape, or None to add nothing. The output of a
            list of layers is that of its last.

    Returns:
        A dictionary that each call of `network` fills with the outputs, before their probe.
    """
    outputs: dict[str, Any] = {}
    for layer, probe in probes.items():
        module: Any = network
        for part in layer.split("."):
            module = _child(module, part)
        while isinstance(module, nnx.List):
            module = module[-1]
        _report(module, layer, probe, outputs)
    return outputs


def _report(module: nnx.Module, layer: str, probe: Array | None, outputs: dict[str, Any]) -> None:
    """Give the module a class of its own whose call reports; all else about it stays."""
    kind = type(module)

    def call(self: Any, *args: Any, **kwargs: Any) -> Array:
        if layer in outputs:
            raise UserError(f"layer {layer!r} runs several times: give another to layer_grad_cam")
        y = kind.__call__(self, *args, **kwargs)
        outputs[layer] = y
        return y if probe is None else y + probe

    object.__setattr__(module, "__class__", type(kind.__name__, (kind,), {"__call__": call}))


def _child(holder: Any, name: str) -> Any:
    return holder[int(name)] if isinstance(holder, nnx.List) else getattr(holder, name)


def _modules(network: nnx.Module, prefix: str = "") -> Iterator[tuple[str, nnx.Module]]:
    """Walk the layers by name, an outer one before its inner."""
    children = enumerate(network) if isinstance(network, nnx.List) else vars(network).items()
    for name, child in children:
        if isinstance(child, nnx.Module):
            yield f"{prefix}{name}", child
            yield from _modules(child, f"{prefix}{name}.")
