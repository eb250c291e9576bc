"""A network's layers by name, and what comes out of them on the way to the logits."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from gaxjax.errors import UserError, nearest
from gaxjax.models.layers import Conv

__all__ = ["check_layers", "first_convolution", "tap"]


def first_convolution(network: nnx.Module, image: jax.ShapeDtypeStruct) -> str:
    """Return the name of the convolution that an image meets first: `conv1`, or `features.0`.

    `network` is changed: give a copy.

    Raises:
        UserError: it has none.
    """
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
    known = [name for name, _ in _modules(network)]
    for layer in layers:
        if layer not in known:
            raise UserError(
                f"{type(network).__name__} has no layer {layer!r}{nearest(layer, known)} "
                f"(it begins with {', '.join(known[:6])})"
            )


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
    inner_first = sorted(probes, key=lambda layer: -layer.count("."))
    for layer in inner_first:
        probe = probes[layer]
        *path, name = layer.split(".")
        holder: Any = network
        for part in path:
            holder = _child(holder, part)
        module = _child(holder, name)
        while isinstance(module, nnx.List):
            holder, name = module, str(len(module) - 1)
            module = module[-1]
        tapped = _Tapped(module, layer, probe, outputs)
        if isinstance(holder, nnx.List):
            holder[int(name)] = tapped
        else:
            setattr(holder, name, tapped)
    return outputs


class _Tapped(nnx.Module):
    def __init__(
        self, module: nnx.Module, layer: str, probe: Array | None, outputs: dict[str, Any]
    ) -> None:
        self.module = module
        self.after: Callable[[Array], Array] = nnx.static(self._reporting(layer, probe, outputs))

    @staticmethod
    def _reporting(
        layer: str, probe: Array | None, outputs: dict[str, Any]
    ) -> Callable[[Array], Array]:
        def after(y: Array) -> Array:
            outputs[layer] = y
            return y if probe is None else y + probe

        return after

    def __call__(self, x: Array) -> Array:
        return self.after(self.module(x))


def _child(holder: Any, name: str) -> Any:
    return holder[int(name)] if isinstance(holder, nnx.List) else getattr(holder, name)


def _modules(network: nnx.Module, prefix: str = "") -> Iterator[tuple[str, nnx.Module]]:
    """Walk the layers by name, an outer one before its inner."""
    children = enumerate(network) if isinstance(network, nnx.List) else vars(network).items()
    for name, child in children:
        if isinstance(child, nnx.Module):
            yield f"{prefix}{name}", child
            yield from _modules(child, f"{prefix}{name}.")
