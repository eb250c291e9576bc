"""Torch state dicts, on disk or of a module: read safely, and put under torchvision's names."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch

from converters.choice import choose, harmless
from converters.shards import file_of
from converters.tensors import to_arrays
from converters.torch_file import load_tensors
from converters.torch_weights import TorchWeights, normalise_layer
from gaxjax.common import UserError, path_to_read

__all__ = ["read_state_dict", "read_weights", "weights_of"]

Tensors = dict[str, torch.Tensor]


def read_state_dict(path: Path | str) -> dict[str, np.ndarray]:
    """Read the weights of a ``.pth``, ``.pt`` or ``.safetensors`` file: `read_weights`, bare.

    Example:
        >>> read_state_dict("model.pth")["fc.weight"].shape
        (10, 64)
    """
    return read_weights(path).arrays


def read_weights(path: Path | str, *, ema: bool = False, binary: bool = False) -> TorchWeights:
    """Read one network's weights from a file of torch or safetensors, whatever stands beside them.

    The state dict may be wrapped (``state_dict``, ``model``, a training's checkpoint), its keys may
    share a prefix (``module.``, ``model.``, any other), a loss's weight or a normalise layer may
    stand beside the network, and its head may be a `Sequential` with one linear layer. A
    ``backbone`` with a new head ``fc`` beside it, as the paper's X-ray models have it, becomes one
    network: the backbone's own head, which that network never computes, is left out.

    Args:
        path: the file; or the index of sharded weights, or the folder that these lie in.
        ema: take the averaged weights of a file that holds both; plain ones when not.
        binary: make two logits, [0, z], of a head with one logit z.

    Returns:
        Arrays by torch key. bfloat16, which NumPy lacks, becomes float32, which loses nothing;
        float64 is rounded to float32, which ``assumptions`` tells.

    Raises:
        UserError: missing, truncated or damaged file, a file of another kind, a pickled module
            instead of weights, no state dict inside or several, or tensors without plain values.

    Example:
        >>> read_weights("model.pth").notes
        ()
    """
    path = file_of(path_to_read(path, "the state dict"))
    if not path.is_file():
        raise UserError(f"the state dict {path} does not exist; give a .pth or .safetensors file")
    loaded = load_tensors(path)
    try:
        return weights_of(loaded, ema=ema, binary=binary)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def weights_of(loaded: Any, *, ema: bool = False, binary: bool = False) -> TorchWeights:
    """Find one network's weights in what a file, or a module's `state_dict()`, holds.

    Raises:
        UserError: as for `read_weights`.
    """
    network = choose(loaded, ema=ema)
    assumptions = {"weights": network.assumption} if network.assumption else {}
    notes = [network.note] if network.note else []
    if ema:
        notes.append(f"the averaged weights ({network.place}) were taken, as told")
    mean, std, outside = normalise_layer(network.outside, assumptions)
    tensors, outside = _with_its_head(network.tensors, outside)
    head = _head(tensors)
    left = harmless(outside)
    if head is not None and len(left) < len(outside):
        told = [f"{key} {tuple(outside[key].shape)}" for key in outside if key not in left][:4]
        raise UserError(
            f"beside the network stands what its logits may depend on: {', '.join(told)}; a "
            f"network here is torchvision's own, from its first layer to {head}: save its part of "
            "the weights alone, or see docs/your-model.md for a network of your own"
        )
    if left:
        shown = ", ".join(left[:4]) + (", …" if len(left) > 4 else "")
        notes.append(f"left out, as no part of the network: {shown}")
    if head is not None:
        tensors = _plain_head(tensors, head)
    arrays, rounded = to_arrays(tensors)
    if rounded:
        assumptions["rounding"] = rounded
    if binary:
        arrays = _two_logits(arrays, head)
    return TorchWeights(arrays, mean, std, assumptions, tuple(notes))


def _head(tensors: Tensors) -> str | None:
    """Return the name of the last layer of a network that we know by its first."""
    if "layer1.0.conv1.weight" in tensors:
        return "fc"
    if "features.3.squeeze.weight" in tensors:
        return "classifier.1"
    return "classifier.6" if "features.0.weight" in tensors else None


def _with_its_head(tensors: Tensors, outside: Tensors) -> tuple[Tensors, Tensors]:
    """Put the head of the paper's fine-tuned networks where torchvision's networks have theirs.

    Their keys are ``backbone.*``, ``fc.weight`` (and ``fc.bias``), and ``iter``, a counter.
    """
    named = {key.rpartition("fc.")[2]: key for key in outside if re.search(r"(^|\.)fc\.", key)}
    others = [key for key in outside if key not in named.values()]
    head = _head(tensors)
    fits = "weight" in named and named.keys() <= {"weight", "bias"} and head is not None
    if not fits or len(harmless({key: outside[key] for key in others})) < len(others):
        return tensors, outside
    kept = {key: tensor for key, tensor in tensors.items() if not key.startswith(f"{head}.")}
    heads = {f"{head}.{name}": outside[key] for name, key in named.items()}
    counters = {key: outside[key] for key in others if key.rpartition(".")[2] != "iter"}
    return kept | heads, counters


def _plain_head(tensors: Tensors, head: str) -> Tensors:
    """Read a head `Sequential(Dropout, Linear)` as the linear layer that it is.

    Raises:
        UserError: several layers stand there, or none.
    """
    if f"{head}.weight" in tensors:
        return tensors
    inside = [key for key in tensors if key.startswith(f"{head}.")]
    layers = sorted({key.rpartition(".")[0] for key in inside})
    words = {key.rpartition(".")[2] for key in inside}
    if len(layers) == 1 and "weight" in words and words <= {"weight", "bias"}:
        layer = layers[0]
        return {
            f"{head}{key.removeprefix(layer)}" if key in inside else key: tensor
            for key, tensor in tensors.items()
        }
    if inside:
        shown = ", ".join(f"{key} {tuple(tensors[key].shape)}" for key in inside[:6])
        raise UserError(
            f"{head}, the head, is no single linear layer: {shown}; a network here ends in one "
            f"(a network of your own goes as a JAX function, see docs/your-model.md){_undo(words)}"
        )
    first = head.partition(".")[0]
    near = [key for key in tensors if key.startswith(f"{first}.")] if first != head else []
    near += [key for key in tensors if key.partition(".")[0] not in _BODY and key not in near]
    if not near:
        raise UserError(f"{head}.weight, the head, is not there: these are features, no classifier")
    shown = ", ".join(f"{key} {tuple(tensors[key].shape)}" for key in near[:6])
    raise UserError(
        f"{head}.weight, the head, is expected and not there; what stands beyond the network's own "
        f"layers: {shown}; where one of these is the head, rename it to {head}.weight and .bias"
    )


_BODY = frozenset(
    ["conv1", "bn1", "layer1", "layer2", "layer3", "layer4", "features", "classifier"]
)


def _undo(words: set[str]) -> str:
    if {"weight_g", "weight_v"} <= words:
        return "; its weight norm goes by torch.nn.utils.remove_weight_norm(LAYER) before saving"
    if "weight_orig" in words:
        return "; its spectral norm goes by torch.nn.utils.remove_spectral_norm(LAYER)"
    if words & {"original0", "original"}:
        return "; go back by torch.nn.utils.parametrize.remove_parametrizations(LAYER, 'weight')"
    return ""


def _two_logits(arrays: dict[str, np.ndarray], head: str | None) -> dict[str, np.ndarray]:
    """Put a logit that is always 0 before the one there is: the same probabilities.

    softmax([0, z]) = [1 - sigmoid(z), sigmoid(z)].
    """
    weight = arrays.get(f"{head}.weight")
    if weight is None or len(weight) != 1:
        classes = "no head that is known" if weight is None else f"{len(weight)} logits"
        raise UserError(f"--binary is for a head with one logit; this one has {classes}")
    return arrays | {
        key: np.concatenate([np.zeros_like(arrays[key]), arrays[key]])
        for key in (f"{head}.weight", f"{head}.bias")
        if key in arrays
    }
