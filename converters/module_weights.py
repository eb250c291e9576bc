"""Weights of a file under the names of a module's own state dict: strictly, faults told together.

A head as people build it, `Sequential(Dropout, Linear)` in place of the last layer, is read as the
layer that it holds; whatever else differs from the module's own keys and shapes is a fault.
"""

from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from converters.blueprint import Blueprint, quietly
from converters.choice import choose, harmless
from converters.tensors import to_arrays
from converters.torch_weights import TorchWeights, normalise_layer
from gaxjax.common import UserError, one_line

__all__ = ["build_with", "fill", "weights_among"]

Arrays = Mapping[str, np.ndarray]

_MAX_FAULTS = 20
_UNCOUNTED = "num_batches_tracked"
"""Counts training batches; inference never reads it."""


def build_with(
    blueprint: Blueprint, loaded: Any, *, ema: bool = False, size: int | None = None
) -> tuple[nn.Module, TorchWeights]:
    """Build a network and fill it with weights, as many classes and channels as these have.

    Args:
        blueprint: which network.
        loaded: what `load_tensors` returns.
        ema: take the averaged weights of a file that holds both.
        size: height and width of the images; the makers' own where None.

    Raises:
        UserError: the weights do not fit, in all that differs.
    """
    probe = _probe(blueprint)
    heads, first = blueprint.heads(probe), blueprint.first(probe)
    names = probe.state_dict().keys()
    weights = weights_among(loaded, names, heads, ema=ema)
    arrays = dict(weights.arrays)
    settings: dict[str, Any] = {"size": size}
    head = next((arrays[f"{name}.weight"] for name in heads if f"{name}.weight" in arrays), None)
    if head is not None and head.ndim in (2, 4):
        settings["num_classes"] = len(head)
    kernel = arrays.get(f"{first}.weight")
    if kernel is not None and kernel.ndim == 4 and kernel.shape[1] == 1:
        settings["channels"] = 1
    shapes = {key: array.shape for key, array in arrays.items()}
    module = built(blueprint, shapes=shapes, **settings)
    for name in heads:
        layer = module.get_submodule(name)
        without = f"{name}.weight" in arrays and f"{name}.bias" not in arrays
        if without and getattr(layer, "bias", None) is not None:
            layer.register_parameter("bias", None)
    fill(module, arrays, blueprint.spoken)
    return module, weights


def built(blueprint: Blueprint, **settings: Any) -> nn.Module:
    """Build a network with random weights, in eval mode; torch's random numbers stay as they are.

    Raises:
        UserError: its library does not build it so.
    """
    try:
        with quietly(), torch.random.fork_rng(devices=[]):
            return blueprint.build(**settings).float().eval()
    except UserError:
        raise
    except Exception as error:  # of a library, on settings that it does not have
        told = ", ".join(
            f"{name} {value}"
            for name, value in settings.items()
            if value is not None and name != "shapes"
        )
        raise UserError(
            f"{blueprint.spoken} cannot be built{f' with {told}' if told else ''}: "
            f"{one_line(error)}"
        ) from error


def _probe(blueprint: Blueprint) -> nn.Module:
    """Build a network for its names and layers alone: as shapes where its library can."""
    try:
        with quietly(), torch.device("meta"):
            return blueprint.build()
    except Exception:  # those that compute with their first weights have none there
        return built(blueprint)


def weights_among(
    loaded: Any, names: Collection[str], heads: Sequence[str], *, ema: bool = False
) -> TorchWeights:
    """Find the weights of a network in what a file holds.

    Args:
        loaded: what `load_tensors` returns.
        names: the keys of the network's own state dict.
        heads: its last layers, by dotted name, which may stand there inside a `Sequential`, or in
            place of one.
        ema: take the averaged weights of a file that holds both.

    Returns:
        The arrays by the network's keys, and any that it does not have; and what the file tells.

    Raises:
        UserError: no state dict, several, tensors without plain values, layers beside the network,
            or a head of several layers.
    """
    network = choose(loaded, ema=ema, names=names)
    assumptions = {"weights": network.assumption} if network.assumption else {}
    notes = [network.note] if network.note else []
    if ema:
        notes.append(f"the averaged weights ({network.place}) were taken, as told")
    mean, std, outside = normalise_layer(network.outside, assumptions)
    left = harmless(outside)
    if len(left) < len(outside):
        told = [f"{key} {tuple(outside[key].shape)}" for key in outside if key not in left][:4]
        raise UserError(
            f"beside the network stands what its logits may depend on: {', '.join(told)}; give the "
            "module itself: gaxjax convert mynet.py:build --weights FILE"
        )
    if left:
        shown = ", ".join(left[:4]) + (", …" if len(left) > 4 else "")
        notes.append(f"left out, as no part of the network: {shown}")
    tensors = network.tensors
    for head in heads:
        tensors = _with_plain_head(tensors, names, head)
    arrays, rounded = to_arrays(tensors)
    if rounded:
        assumptions["rounding"] = rounded
    return TorchWeights(arrays, mean, std, assumptions, tuple(notes))


def fill(module: nn.Module, arrays: Arrays, what: str) -> None:
    """Load weights into a module of float32, every key of either once.

    Args:
        module: changed in place.
        arrays: by its keys.
        what: what the module is, for the message.

    Raises:
        UserError: all missing, unexpected and mis-shaped keys, and weights that are not finite.
    """
    _check_fit(module, arrays, what)
    own: Any = module.state_dict()
    tensors: Any = OrderedDict(
        (key, torch.from_numpy(np.array(value))) for key, value in arrays.items()
    )
    tensors._metadata = own._metadata  # versions of its layers, which some ask for
    module.load_state_dict(tensors, strict=False)  # as checked; but for counts of batches


def _check_fit(module: nn.Module, arrays: Arrays, what: str) -> None:
    """Refuse weights that are not a module's own: see `fill`."""
    wanted = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    parameters = {name for name, _ in module.named_parameters()}
    faults = [
        f"{key} has shape {arrays[key].shape}; {what} needs {shape}"
        for key, shape in wanted.items()
        if key in arrays and arrays[key].shape != shape
    ]
    faults += [
        f"{key} holds NaN or infinity"
        for key, array in arrays.items()
        if key in parameters and not np.isfinite(array).all()
    ]
    faults += [
        f"{key} is {array.dtype}; a weight is a floating-point number"
        for key, array in arrays.items()
        if key in parameters and not np.issubdtype(array.dtype, np.floating)
    ]
    faults += [
        f"{key} {array.shape} has no place in {what}"
        for key, array in arrays.items()
        if key not in wanted and not key.endswith(_UNCOUNTED)
    ]
    faults += [
        f"nothing fills {key} {shape}"
        for key, shape in wanted.items()
        if key not in arrays and not key.endswith(_UNCOUNTED)
    ]
    if not faults:
        return
    noun = "fault" if len(faults) == 1 else "faults"
    common = sum(key in arrays and arrays[key].shape == shape for key, shape in wanted.items())
    lead = f"this state dict does not fit {what} ({len(faults)} {noun})"
    if 2 * common < len(wanted):
        lead = (
            f"this is no state dict of {what}: {common} of its {len(wanted)} keys and shapes are "
            f"there ({len(faults)} {noun})"
        )
    lines = [lead, *(f"  {fault}" for fault in faults[:_MAX_FAULTS])]
    if len(faults) > _MAX_FAULTS:
        lines.append(f"  and {len(faults) - _MAX_FAULTS} more")
    raise UserError("\n".join(lines))


def _with_plain_head(
    tensors: dict[str, torch.Tensor], names: Collection[str], head: str
) -> dict[str, torch.Tensor]:
    """Read a head of one layer as that layer, wherever in its place it stands."""
    if f"{head}.weight" in tensors:
        return tensors
    for place in _places(names, head):
        inside = [key for key in tensors if key.startswith(f"{place}.")]
        layers = sorted({key.rpartition(".")[0] for key in inside})
        words = {key.rpartition(".")[2] for key in inside}
        if len(layers) == 1 and "weight" in words and words <= {"weight", "bias"}:
            renamed = {key: f"{head}{key.removeprefix(layers[0])}" for key in inside}
            return {renamed.get(key, key): tensor for key, tensor in tensors.items()}
        if inside:
            shown = ", ".join(f"{key} {tuple(tensors[key].shape)}" for key in inside[:6])
            raise UserError(
                f"{place}, the head, is no single linear layer: {shown}; what lies between is not "
                "in a file: give the module itself, gaxjax convert mynet.py:build --weights FILE"
            )
    return tensors  # which the check of keys names as missing


def _places(names: Collection[str], head: str) -> list[str]:
    """Return where a head may stand: itself, and a container that holds no other layer."""
    places = [head]
    while "." in places[-1]:
        parent = places[-1].rpartition(".")[0]
        if any(name.startswith(f"{parent}.") and not name.startswith(f"{head}.") for name in names):
            break
        places.append(parent)
    return places
